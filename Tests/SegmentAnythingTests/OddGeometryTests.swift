import Checkpoints
import Foundation
import JSON
import NeuralNetworks
import SegmentAnything
import Tensors
import Testing

/// Models whose sizes are no whole vectors anywhere against the published PyTorch code; see Fixtures/make_odd_geometries.py.
///
/// The fuzz test holds instruction sets against each other; what is wrong in all of them is seen here.
@Suite struct OddGeometryTests {
    private static func document() throws -> JSONValue {
        let url = try #require(Bundle.module.url(forResource: "Fixtures/odd_geometries", withExtension: "json"))
        return try Data(contentsOf: url).withUnsafeBytes { try JSONValue($0) }
    }

    @Test(arguments: ["vit", "vit_wide_head", "vit_pruned", "vit_pruned_apart", "tiny", "tiny_wide_head"])
    func theAnswersAreThoseOfThePublishedCode(name: String) throws {
        let model = try #require(try Self.document()[name])
        let path = NSTemporaryDirectory() + "kirie-test-\(UInt64.random(in: .min ... .max)).safetensors"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let weights = RandomWeights(seed: 11)
        let entries = try #require(model["shapes"]?.members).map { name, shape in
            SafetensorsWriter.Entry(
                name, weights.tensor(name, shape: shape.elements?.compactMap(\.integer) ?? []))
        }
        let metadata = try #require(model["metadata"]?.members).map { ($0.name, $0.value.string ?? "") }
        try SafetensorsWriter.write(entries, metadata: Dictionary(metadata) { first, _ in first }, to: path)
        for precision in Precision.allCases where precision.isSupported {
            let answer = try FuzzAnswer(of: path, precision: precision, pool: ThreadPool(threadCount: 2))
            guard case .numbers(let embedding, let decoded) = answer else {
                Issue.record("\(name) was refused")
                return
            }
            for (part, found) in [("embedding", embedding), ("decoded", decoded)] {
                let expected = try #require(model[part]?.elements).compactMap(Self.number)
                let sampled = stride(from: 0, to: found.count, by: max(1, found.count / 96)).map { found[$0] }
                let difference = FuzzAnswer.difference(sampled, expected)
                #expect(
                    difference <= GeometryFuzzTests.tolerance(precision), "\(precision), \(part): off by \(difference)")
            }
        }
    }

    private static func number(_ value: JSONValue) -> Float? {
        switch value {
        case .integer(let integer): Float(integer)
        case .number(let number): Float(number)
        default: nil
        }
    }
}
