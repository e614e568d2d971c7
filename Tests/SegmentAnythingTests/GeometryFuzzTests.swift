import Foundation
import Imaging
import NeuralNetworks
import SegmentAnything
import Segmentation
import Tensors
import Testing

/// Small models of random odd sizes, in every precision and with every instruction set: each is refused by name when it is
/// opened, or its answers are finite and near those of plain fp32.
///
/// A process reads its limit of instructions once, so each instruction set has a process of its own: this program again.
/// `KIRIE_FUZZ_SEED` repeats a run, whose seed is printed; `KIRIE_FUZZ_GEOMETRIES` is how many models there are.
@Suite struct GeometryFuzzTests {
    private static let environment = ProcessInfo.processInfo.environment
    /// The models' folder, in a process that answers for one instruction set.
    private static let casesVariable = "KIRIE_FUZZ_CASES"

    @Test(.enabled(if: environment[casesVariable] == nil), .timeLimit(.minutes(30)))
    func everyGeometryIsRefusedOrAnswered() throws {
        let seed = Self.environment["KIRIE_FUZZ_SEED"].flatMap(UInt64.init) ?? 20_261_127
        let count = Self.environment["KIRIE_FUZZ_GEOMETRIES"].flatMap(Int.init) ?? 40
        print("fuzz geometries: KIRIE_FUZZ_SEED=\(seed) KIRIE_FUZZ_GEOMETRIES=\(count)")
        let folder = NSTemporaryDirectory() + "kirie-geometries-\(UInt64.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }

        var random = RandomGeometry(seed: seed)
        var descriptions: [String] = []
        for index in 0..<count {
            let geometry = random.next()
            let spoiled = index % 6 == 5 ? random.spoiled(geometry) : geometry
            try RandomCheckpoint.write(
                spoiled, seed: seed &+ UInt64(index), to: "\(folder)/\(index).safetensors")
            descriptions.append("seed \(seed), model \(index): \(spoiled)")
        }

        var worst: [String: Double] = [:]
        var refused = 0
        let answers = try InstructionSet.allCases.map { ($0, try Self.answers(of: folder, within: $0)) }
        for index in 0..<count {
            // All processes are of one opinion, and one that was spoiled is refused.
            let plain = try #require(answers[0].1["\(index) fp32"], "\(descriptions[index])")
            #expect((plain == .refused) == (index % 6 == 5), "\(descriptions[index])")
            if plain == .refused { refused += 1 }
            for (instructionSet, found) in answers {
                for precision in Precision.allCases {
                    guard let answer = found["\(index) \(precision.rawValue)"] else { continue }
                    let difference = answer.difference(from: plain)
                    let name = "\(instructionSet.rawValue) \(precision.rawValue)"
                    worst[name] = max(worst[name] ?? 0, difference)
                    #expect(
                        difference <= Self.tolerance(precision),
                        "\(name): off by \(difference); \(descriptions[index])")
                }
            }
        }
        print("fuzz geometries: \(count) models, \(refused) refused; largest differences from plain fp32:")
        for (name, difference) in worst.sorted(by: { $0.key < $1.key }) { print("    \(name) \(difference)") }
    }

    /// How far answers may be from plain fp32, as a part of their own size: weights are drawn, so that nothing in a model
    /// is robust as it is in a trained one, and the narrow ones have few numbers to average over.
    static func tolerance(_ precision: Precision) -> Double {
        switch precision {
        case .float32: 1e-4
        case .bfloat16: 0.05
        case .int8: 0.2
        }
    }

    /// What a process with that limit answers, by model and precision.
    private static func answers(of folder: String, within limit: InstructionSet) throws -> [String: FuzzAnswer] {
        let output = "\(folder)/\(limit.rawValue)"
        try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
        try InstructionSetProcess.run(
            "GeometryFuzzTests", within: limit, environment: [casesVariable: folder, outputVariable: output])
        var answers: [String: FuzzAnswer] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: output) {
            answers[name] = FuzzAnswer(try Data(contentsOf: URL(fileURLWithPath: "\(output)/\(name)")))
        }
        return answers
    }

    private static let outputVariable = "KIRIE_FUZZ_ANSWERS"

    /// What one such process does.
    @Test(.enabled(if: environment[casesVariable] != nil), .timeLimit(.minutes(30)))
    func answerForOneInstructionSet() throws {
        let folder = try #require(Self.environment[Self.casesVariable])
        let output = try #require(Self.environment[Self.outputVariable])
        let pool = ThreadPool(threadCount: 2)
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) where name.hasSuffix(".safetensors") {
            let index = name.dropLast(".safetensors".count)
            for precision in Precision.allCases where precision.isSupported {
                let answer = try FuzzAnswer(of: "\(folder)/\(name)", precision: precision, pool: pool)
                try answer.data.write(to: URL(fileURLWithPath: "\(output)/\(index) \(precision.rawValue)"))
            }
        }
    }
}

/// What a model says of one picture: its feature maps, and its logits and qualities for two prompts on an embedding that is
/// drawn, so that one half's rounding does not count for the other's.
enum FuzzAnswer: Equatable {
    case refused
    case numbers(embedding: [Float], decoded: [Float])

    init(of path: String, precision: Precision, pool: ThreadPool) throws {
        let model: SamModel
        do {
            model = try SamModel(path: path)
        } catch {
            self = .refused
            return
        }
        let (width, height) = (61, 47)
        let image = Image(
            width: width, height: height,
            pixels: (0..<3 * width * height).map { UInt8(truncatingIfNeeded: $0 &* $0 &* 31 &+ $0 / 7) })
        let embedding = try model.encoder(precision: precision).encode(image, pool: pool)

        let geometry = model.geometry
        let drawn = RandomCheckpoint.features(geometry, seed: 5, width: width, height: height)
        let decoder = try model.decoder(precision: precision)
        let prepared = try decoder.prepare(drawn, pool: pool)
        let side = geometry.maskSide
        let prompts = [
            Prompt(points: [LabeledPoint(x: 20, y: 30)]),
            Prompt(
                points: [LabeledPoint(x: 33.5, y: 8, label: .background)],
                box: BoundingBox(x0: 3, y0: 4, x1: 50, y1: 40),
                mask: LowResolutionLogits(
                    side: side, values: (0..<side * side).map { 4 * sinf(Float($0 % side + $0 / side) / 5) })),
        ]
        let decoded = try prompts.map { try decoder.decode($0, on: prepared, selection: .all, pool: pool) }
        // The picture's mask too, for the kernels that scale it.
        for (prompt, answer) in zip(prompts, decoded) {
            let masks = try decoder.predict(prompt, on: prepared, multimask: true, pool: pool)
            #expect(masks.count == 3 && answer.logits.count == 4)
        }
        self = .numbers(
            embedding: embedding.maps.flatMap(\.tensor.elements),
            decoded: decoded.flatMap { $0.logits.flatMap(\.values) + $0.predictedIoU })
    }

    /// The larger part by which either half differs, the root mean square of the difference over that of the numbers;
    /// infinite where anything is not finite, or one was refused and the other was not.
    func difference(from other: FuzzAnswer) -> Double {
        switch (self, other) {
        case (.refused, .refused): return 0
        case (.numbers(let embedding, let decoded), .numbers(let otherEmbedding, let otherDecoded)):
            return max(Self.difference(embedding, otherEmbedding), Self.difference(decoded, otherDecoded))
        default: return .infinity
        }
    }

    static func difference(_ found: [Float], _ expected: [Float]) -> Double {
        guard found.count == expected.count, found.allSatisfy(\.isFinite), expected.allSatisfy(\.isFinite) else {
            return .infinity
        }
        var (squares, total) = (0.0, 1e-20)
        for (a, b) in zip(found, expected) {
            squares += Double(a - b) * Double(a - b)
            total += Double(b) * Double(b)
        }
        return (squares / total).squareRoot()
    }

    // MARK: - Between processes

    /// Two counts and the numbers; nothing for a refusal.
    var data: Data {
        guard case .numbers(let embedding, let decoded) = self else { return Data() }
        return [embedding, decoded].reduce(into: Data()) { data, numbers in
            withUnsafeBytes(of: numbers.count) { data.append(contentsOf: $0) }
            numbers.withUnsafeBytes { data.append(contentsOf: $0) }
        }
    }

    init(_ data: Data) {
        guard !data.isEmpty else {
            self = .refused
            return
        }
        let halves = data.withUnsafeBytes { bytes in
            var offset = 0
            return (0..<2).map { _ in
                let count = bytes.loadUnaligned(fromByteOffset: offset, as: Int.self)
                defer { offset += 8 + 4 * count }
                return (0..<count).map {
                    bytes.loadUnaligned(fromByteOffset: offset + 8 + 4 * $0, as: Float.self)
                }
            }
        }
        self = .numbers(embedding: halves[0], decoded: halves[1])
    }
}
