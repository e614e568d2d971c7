import Checkpoints
import Foundation
import Imaging
import NeuralNetworks
import SegmentAnything
import Segmentation
import Tensors
import Testing

/// Every stage against the published PyTorch code, and Kirie's own against its training program, on small models with random
/// weights, and transformers' SAM 2 and EdgeTAM; see Fixtures/make_golden.py, make_lite.py,
/// make_sam2.py, make_edgetam.py, make_hq.py and make_hq_light.py.
@Suite struct GoldenTests {
    @Test(arguments: GoldenCase.withLevels) func inputIsExact(_ golden: GoldenCase) throws {
        let side = try golden.model().geometry.imageSize
        let (input, frame) = try golden.model().preprocessing.input(try golden.picture())
        let expected = try golden.tensor("input_levels")
        #expect(expected.shape == [frame.inputHeight, frame.inputWidth, 3])
        let mean: [Float] = [123.675, 116.28, 103.53]
        let deviation: [Float] = [58.395, 57.12, 57.375]
        let (levels, values) = (expected.elements, input.elements)
        var differing = 0
        for row in 0..<side {
            for column in 0..<side {
                for channel in 0..<3 {
                    let value = values[(channel * side + row) * side + column]
                    guard row < frame.inputHeight, column < frame.inputWidth else {
                        #expect(value == 0, "the padding at row \(row), column \(column)")
                        continue
                    }
                    let level = levels[(row * frame.inputWidth + column) * 3 + channel]
                    if value != (level - mean[channel]) / deviation[channel] { differing += 1 }
                }
            }
        }
        #expect(differing == 0, "\(differing) values differ")
    }

    @Test(arguments: GoldenCase.all) func embeddingMatches(_ golden: GoldenCase) throws {
        let embedding = try golden.model().encoder(precision: .float32).encode(
            try golden.picture(), pool: ThreadPool(threadCount: 2))
        #expect(try embedding.maps.map(\.name) == golden.model().featureShapes.map(\.name))
        for map in embedding.maps {
            let difference = Difference(map.tensor, try golden.tensor(map.name))
            #expect(difference.mean <= 1e-5 && difference.largest <= 1e-4, "\(map.name): \(difference)")
        }
    }

    @Test(arguments: GoldenCase.all) func logitsAndIoUMatch(_ golden: GoldenCase) throws {
        let decoder = try golden.model().decoder(precision: .float32)
        let image = try golden.preparedImage(decoder)
        for (index, prompt) in try golden.prompts().enumerated() {
            let decoded = try decoder.decode(
                prompt, on: image, selection: .all, pool: ThreadPool(threadCount: 2))
            let logits = Difference(
                decoded.logits.flatMap(\.values), try golden.tensor("p\(index).low_res_logits_all").elements)
            let iou = Difference(decoded.predictedIoU, try golden.tensor("p\(index).iou_all").elements)
            #expect(logits.largest <= 5e-4 && iou.largest <= 5e-4, "prompt \(index): logits \(logits), IoU \(iou)")
        }
    }

    /// Random weights make logits around 0, where bf16's three digits show most.
    @Test(.enabled(if: Precision.bfloat16.isSupported), arguments: GoldenCase.all)
    func narrowDecodingIsClose(_ golden: GoldenCase) throws {
        let decoder = try golden.model().decoder(precision: .bfloat16)
        let image = try golden.preparedImage(decoder)
        for (index, prompt) in try golden.prompts().enumerated() {
            let decoded = try decoder.decode(prompt, on: image, selection: .all, pool: .inline)
            let found = decoded.logits.flatMap(\.values)
            let expected = try golden.tensor("p\(index).low_res_logits_all").elements
            let scale = (expected.reduce(0) { $0 + $1 * $1 } / Float(expected.count)).squareRoot()
            let iou = Difference(decoded.predictedIoU, try golden.tensor("p\(index).iou_all").elements)
            #expect(
                Difference(found, expected).mean <= 0.01 * scale && iou.largest <= 5e-3,
                "prompt \(index): \(Difference(found, expected)) of \(scale), IoU \(iou)")
        }
    }

    @Test(arguments: GoldenCase.all, Precision.allCases.filter(\.isSupported))
    func bitsDoNotDependOnThreadsOrBatch(_ golden: GoldenCase, precision: Precision) throws {
        let encoder = try golden.model().encoder(precision: precision)
        let picture = try golden.picture()
        let alone = encoder.encode(picture, pool: .inline)
        let together = encoder.encode(picture, pool: ThreadPool(threadCount: 3))
        #expect(alone.maps.map(\.tensor.elements) == together.maps.map(\.tensor.elements))

        let decoder = try golden.model().decoder(precision: precision)
        let image = try decoder.prepare(alone, pool: .inline)
        let prompts = try golden.prompts()
        let batch = try decoder.decode(prompts, on: image, selection: .all, pool: ThreadPool(threadCount: 3))
        for (index, prompt) in prompts.enumerated() {
            for threads in [1, 2, 5] {
                let single = try decoder.decode(
                    prompt, on: image, selection: .all, pool: ThreadPool(threadCount: threads))
                #expect(single.logits == batch[index].logits, "prompt \(index), \(threads) threads")
                #expect(single.predictedIoU == batch[index].predictedIoU)
            }
        }
    }

    @Test func oneModelServesManyThreads() async throws {
        let golden = GoldenCase.all[0]
        let decoder = try golden.model().decoder()
        let image = try golden.preparedImage(decoder)
        let prompts = try golden.prompts()
        let pool = ThreadPool(threadCount: 2)
        let expected = try prompts.map { try decoder.decode($0, on: image, selection: .multiple, pool: pool) }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for round in 0..<40 {
                let index = round % prompts.count
                group.addTask {
                    try decoder.decode(prompts[index], on: image, selection: .multiple, pool: pool).logits
                        == expected[index].logits
                }
            }
            for try await isEqual in group { #expect(isEqual) }
        }
    }
}

/// A golden case: a model, a picture, and what the published code made of them.
struct GoldenCase: Sendable, CustomTestStringConvertible {
    /// Those that keep the resized picture.
    static let withLevels = [
        GoldenCase(name: "nano", weights: "sam.pth"), GoldenCase(name: "wide", weights: "sam.safetensors"),
    ]
    /// SAM 2, in Hugging Face's layout and in the published one.
    static let sam2 = ["hiera", "hiera_wide"].map { GoldenCase(name: $0, weights: "sam.safetensors") }
    /// EdgeTAM, in the same two layouts.
    static let edgeTAM = ["edgetam", "edgetam_wide"].map { GoldenCase(name: $0, weights: "sam.safetensors") }
    /// SAM-HQ over a ViT, and its light one over a TinyViT.
    static let highQuality = ["hq", "hq_light"].map { GoldenCase(name: $0, weights: "sam.safetensors") }
    static let all =
        withLevels + [GoldenCase(name: "lite", weights: "sam.safetensors")] + highQuality + sam2 + edgeTAM

    let name: String
    let weights: String
    var testDescription: String { name }

    private struct Description: Decodable {
        struct Prompt: Decodable {
            var points: [[Double]]?
            var labels: [Int]?
            var box: [Double]?
            var mask_from: Int?
            var chosen: Int?
        }
        var image: String
        var width: Int
        var height: Int
        var prompts: [Prompt]
    }

    func file(_ file: String) throws -> String {
        let directory = try #require(Bundle.module.resourceURL).appendingPathComponent("Fixtures/\(name)")
        return directory.appendingPathComponent(file).path
    }

    private func description() throws -> Description {
        try JSONDecoder().decode(
            Description.self, from: Data(contentsOf: URL(fileURLWithPath: try file("case.json"))))
    }

    func model() throws -> SamModel { try SamModel(path: try file(weights)) }

    func picture() throws -> Image { try ImageDecoder().decode(file: try file(try description().image)) }

    func tensor(_ name: String) throws -> Tensor {
        try Checkpoint(path: try file("case.safetensors")).stored(name).tensor()
    }

    /// The reference's own features, as a decoder takes them.
    func features(_ decoder: SamDecoder) throws -> ImageFeatures {
        let description = try description()
        return ImageFeatures(
            try decoder.featureShapes.map { FeatureMap($0.name, try tensor($0.name)) },
            preprocessing: decoder.preprocessing,
            frame: decoder.preprocessing.frame(width: description.width, height: description.height))
    }

    /// The reference's own embedding, prepared.
    func preparedImage(_ decoder: SamDecoder) throws -> SamDecoder.PreparedImage {
        try decoder.prepare(try features(decoder), pool: .inline)
    }

    /// Of each prompt, which of the four masks a caller gets who asks for one.
    func chosen() throws -> [Int] { try description().prompts.map { try #require($0.chosen) } }

    func prompts() throws -> [Prompt] {
        try description().prompts.enumerated().map { index, prompt in
            var mask: LowResolutionLogits?
            if prompt.mask_from != nil {
                let logits = try tensor("p\(index).mask_input")
                mask = LowResolutionLogits(side: try #require(logits.shape.last), values: logits.elements)
            }
            return Prompt(
                points: try zip(prompt.points ?? [], prompt.labels ?? []).map { point, label in
                    LabeledPoint(x: point[0], y: point[1], label: try #require(PointLabel(rawValue: label)))
                },
                box: prompt.box.map { BoundingBox(x0: $0[0], y0: $0[1], x1: $0[2], y1: $0[3]) }, mask: mask)
        }
    }
}

/// How far two arrays are apart.
struct Difference: CustomStringConvertible {
    var largest: Float = 0
    var mean: Float = 0

    init(_ a: Tensor, _ b: Tensor) { self.init(a.elements, b.elements) }

    init(_ a: [Float], _ b: [Float]) {
        guard a.count == b.count, !a.isEmpty else {
            (largest, mean) = (.infinity, .infinity)
            return
        }
        var sum = 0.0
        for index in a.indices {
            let distance = abs(a[index] - b[index])
            largest = distance.isNaN ? .infinity : max(largest, distance)
            sum += Double(distance)
        }
        mean = Float(sum / Double(a.count))
    }

    var description: String { "mean \(mean), largest \(largest)" }
}
