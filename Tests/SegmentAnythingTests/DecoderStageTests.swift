import Foundation
import NeuralNetworks
import SegmentAnything
import Segmentation
import Tensors
import Testing

/// Every stage of the mask decoder against the plain reference, for random sizes, in every precision and with every
/// instruction set, so that a difference is told by the name of the stage where it begins.
///
/// `KIRIE_STAGE_SEED` repeats a run, whose seed is printed; `KIRIE_STAGE_GEOMETRIES` is how many models there are.
@Suite struct DecoderStageTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let childVariable = "KIRIE_STAGE_PROCESS"
    private static let (seedVariable, countVariable) = ("KIRIE_STAGE_SEED", "KIRIE_STAGE_GEOMETRIES")
    private static let seed = environment[seedVariable].flatMap(UInt64.init) ?? 20_261_128
    private static let count = environment[countVariable].flatMap(Int.init) ?? 8

    @Test(
        .enabled(if: environment[childVariable] == nil), .timeLimit(.minutes(20)), arguments: InstructionSet.allCases)
    func everyStageIsThatOfTheReference(_ limit: InstructionSet) throws {
        print(
            "decoder stages, \(limit.rawValue): \(Self.seedVariable)=\(Self.seed) \(Self.countVariable)=\(Self.count)")
        try InstructionSetProcess.run(
            "DecoderStageTests", within: limit,
            environment: [
                Self.childVariable: "1", Self.seedVariable: "\(Self.seed)", Self.countVariable: "\(Self.count)",
            ])
    }

    /// What the process of one instruction set does.
    @Test(.enabled(if: environment[childVariable] != nil), .timeLimit(.minutes(20)))
    func compareWithTheReference() throws {
        var geometries = RandomGeometry(seed: Self.seed)
        var random = SeededGenerator(seed: Self.seed)
        for index in 0..<Self.count {
            var geometry = geometries.next()
            // The reference is Segment Anything's and SAM 2's; SAM-HQ's token has its tests in HighQualityTests.
            geometry.decoder.isHighQuality = false
            let weights = RandomWeights(seed: Self.seed &+ UInt64(index))
            let embedding = RandomCheckpoint.features(
                geometry, seed: Self.seed &+ UInt64(index), width: 61, height: 47)
            let prompts = Self.prompts(side: geometry.maskSide, &random)
            let selection: MaskSelection = [.all, .single, .multiple][index % 3]
            let reference = ReferenceMaskDecoder(
                weights, imageSize: geometry.imageSize, maskChannels: geometry.maskChannels,
                configuration: geometry.decoder, conventions: geometry.prompts)
            let expected = try prompts.map { try reference.stages($0, on: embedding, selection: selection) }
            for precision in [Precision.float32, .bfloat16] where precision.isSupported {
                let decoder = try SamDecoder(
                    weights, preprocessing: geometry.preprocessing, maskChannels: geometry.maskChannels,
                    configuration: geometry.decoder, conventions: geometry.prompts, precision: precision)
                let prepared = try decoder.prepare(embedding, pool: .inline)
                let found = try decoder.stages(prompts, on: prepared, embedding: embedding, selection: selection)
                // What is recorded is what is answered.
                let answers = try decoder.decode(
                    prompts, on: prepared, selection: selection, pool: ThreadPool(threadCount: 2))
                for prompt in prompts.indices {
                    let difference = Self.firstDifference(
                        expected[prompt], found[prompt], tolerance: Self.tolerance(precision))
                    #expect(
                        difference == nil,
                        """
                        \(difference ?? ""); \(precision.rawValue), prompt \(prompt) of \(prompts.count), \
                        seed \(Self.seed), model \(index): \(geometry)
                        """)
                    #expect(found[prompt][.logits] == answers[prompt].logits.flatMap(\.values))
                    #expect(found[prompt][.predictedIoU] == answers[prompt].predictedIoU)
                }
            }
        }
    }

    /// One to four prompts that go through together: points, boxes, both, with and without a mask.
    private static func prompts(side: Int, _ random: inout SeededGenerator) -> [Prompt] {
        func mask() -> LowResolutionLogits {
            LowResolutionLogits(side: side, values: (0..<side * side).map { _ in .random(in: -8...8, using: &random) })
        }
        func points(_ count: Int) -> [LabeledPoint] {
            (0..<count).map { _ in
                LabeledPoint(
                    x: .random(in: 0...60, using: &random), y: .random(in: 0...46, using: &random),
                    label: Bool.random(using: &random) ? .foreground : .background)
            }
        }
        let box = BoundingBox(
            x0: .random(in: 0...30, using: &random), y0: .random(in: 0...20, using: &random),
            x1: .random(in: 31...60, using: &random), y1: .random(in: 21...46, using: &random))
        let prompts = [
            Prompt(points: points(1)), Prompt(box: box), Prompt(points: points(2), box: box, mask: mask()),
            Prompt(points: points(5)), Prompt(points: points(1), mask: mask()), Prompt(points: points(3), box: box),
        ].shuffled(using: &random)
        return Array(prompts.prefix(.random(in: 1...4, using: &random)))
    }

    private static func tolerance(_ precision: Precision) -> Double { precision == .float32 ? 2e-5 : 0.05 }

    /// The first stage, in the reference's order, that is missing or further away than the tolerance, in words.
    static func firstDifference(
        _ expected: [DecoderStage], _ found: [DecoderStage.Name: [Float]], tolerance: Double
    ) -> String? {
        for stage in expected {
            guard let values = found[stage.name] else { return "the stage \(stage.name) was not recorded" }
            guard values.count == stage.values.count else {
                return "the stage \(stage.name) has \(values.count) numbers, the reference \(stage.values.count)"
            }
            let difference = FuzzAnswer.difference(values, stage.values)
            guard difference > tolerance else { continue }
            let worst = values.indices.max { abs(values[$0] - stage.values[$0]) < abs(values[$1] - stage.values[$1]) }
            let index = worst ?? 0
            return """
                the first difference is at the stage \(stage.name): off by \(difference) of its size, allowed \
                \(tolerance); most at \(index) of \(values.count): \(values[index]) for \(stage.values[index])
                """
        }
        return nil
    }

    @Test func aDifferenceIsToldByTheStageWhereItBegins() throws {
        var geometries = RandomGeometry(seed: 3)
        let geometry = geometries.next()
        let weights = RandomWeights(seed: 3)
        let reference = ReferenceMaskDecoder(
            weights, imageSize: geometry.imageSize, maskChannels: geometry.maskChannels, configuration: geometry.decoder
        )
        let embedding = RandomCheckpoint.features(geometry, seed: 3, width: 61, height: 47)
        let prompt = Prompt(points: [LabeledPoint(x: 20, y: 30)])
        let expected = try reference.stages(prompt, on: embedding, selection: .all)
        #expect(Set(expected.map(\.name)).count == expected.count, "stages have names of their own")
        var found = Dictionary(uniqueKeysWithValues: expected.map { ($0.name, $0.values) })
        #expect(Self.firstDifference(expected, found, tolerance: 1e-9) == nil)
        for name in [DecoderStage.Name.logits, .mlp(layer: 1), .keys(layer: 0)] {
            found[name]?[0] += 1
            let told = try #require(Self.firstDifference(expected, found, tolerance: 2e-5))
            #expect(told.contains("at the stage \(name):"), "\(told)")
        }
        found[.keys(layer: 0)] = nil
        #expect(Self.firstDifference(expected, found, tolerance: 1)?.contains("was not recorded") == true)
    }
}
