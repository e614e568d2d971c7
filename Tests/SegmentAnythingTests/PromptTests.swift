import NeuralNetworks
import SegmentAnything
import Segmentation
import Tensors
import Testing

@Suite struct PromptTests {
    private static let badPrompts: [(Prompt, PromptError)] = [
        (Prompt(), .empty),
        (
            Prompt(points: [LabeledPoint(x: 302, y: 5)]),
            .outside(part: "point 1", x: 302, y: 5, width: 301, height: 227)
        ),
        (
            Prompt(points: [LabeledPoint(x: 5, y: 5), LabeledPoint(x: -0.5, y: 5)]),
            .outside(part: "point 2", x: -0.5, y: 5, width: 301, height: 227)
        ),
        (Prompt(points: [LabeledPoint(x: .nan, y: 5)]), .notFinite(part: "point 1")),
        (Prompt(points: [LabeledPoint(x: 5, y: .infinity)]), .notFinite(part: "point 1")),
        (
            Prompt(box: BoundingBox(x0: 10, y0: 10, x1: 10, y1: 50)),
            .emptyBox(BoundingBox(x0: 10, y0: 10, x1: 10, y1: 50))
        ),
        (
            Prompt(box: BoundingBox(x0: 50, y0: 50, x1: 10, y1: 90)),
            .emptyBox(BoundingBox(x0: 50, y0: 50, x1: 10, y1: 90))
        ),
        (
            Prompt(box: BoundingBox(x0: 0, y0: 0, x1: 400, y1: 90)),
            .outside(part: "the box's lower right corner", x: 400, y: 90, width: 301, height: 227)
        ),
        (
            Prompt(mask: LowResolutionLogits(side: 32, values: [Float](repeating: 0, count: 1024))),
            .maskSide(found: 32, expected: 64)
        ),
        (
            Prompt(mask: LowResolutionLogits(side: 64, values: [Float](repeating: .nan, count: 4096))),
            .notFinite(part: "the mask prompt")
        ),
        (Prompt(text: "a dog"), .textUnsupported),
    ]

    @Test func badPromptsAreRefusedByName() throws {
        let golden = GoldenCase.all[0]
        let decoder = try golden.model().decoder()
        let image = try golden.preparedImage(decoder)
        for (prompt, expected) in Self.badPrompts {
            #expect(throws: expected) {
                _ = try decoder.predict(prompt, on: image, multimask: true, pool: .inline)
            }
            #expect(!expected.description.isEmpty)
        }
    }

    @Test func oneBadPromptRefusesTheBatch() throws {
        let golden = GoldenCase.all[0]
        let decoder = try golden.model().decoder()
        let image = try golden.preparedImage(decoder)
        let prompts = [Prompt(points: [LabeledPoint(x: 5, y: 5)]), Prompt(points: [LabeledPoint(x: 999, y: 5)])]
        #expect(throws: PromptError.self) {
            _ = try decoder.predict(prompts, on: image, multimask: true, pool: .inline)
        }
    }

    @Test func masksHaveThePicturesSizeAndFallingScores() throws {
        let golden = GoldenCase.all[0]
        let decoder = try golden.model().decoder()
        let image = try golden.preparedImage(decoder)
        let masks = try decoder.predict(try golden.prompts()[0], on: image, multimask: true, pool: .inline)
        #expect(masks.count == 3)
        #expect(masks.allSatisfy { $0.mask.width == 301 && $0.mask.height == 227 })
        #expect(masks.map(\.predictedIoU) == masks.map(\.predictedIoU).sorted(by: >))
        for mask in masks {
            let logits = decoder.fullSizeLogits(mask.lowResolutionLogits, on: image)
            #expect(mask.mask.pixels == logits.map { $0 > 0 ? 1 : 0 })
            let (inner, outer) = (logits.count { $0 > 1 }, logits.count { $0 > -1 })
            #expect(mask.stabilityScore == (outer == 0 ? 0 : Float(inner) / Float(outer)))
        }
    }

    @Test func anEmbeddingOfAnotherModelIsRefused() throws {
        let decoder = try GoldenCase.all[0].model().decoder()
        let expected = try #require(decoder.featureShapes.first)
        func refusal(
            _ name: String = "image_embedding", shape: [Int], layout: FeatureMap.Layout = .channelsFirst,
            _ preprocessing: ImagePreprocessing = decoder.preprocessing
        ) -> FeatureMismatch? {
            let features = ImageFeatures(
                [FeatureMap(name, RandomWeights().tensor("x", shape: shape), layout: layout)],
                preprocessing: preprocessing, frame: preprocessing.frame(width: 10, height: 10))
            return #expect(throws: FeatureMismatch.self) { _ = try decoder.prepare(features, pool: .inline) }
        }
        #expect(
            refusal(shape: [1, 64, 32, 32])
                == .shape(map: "image_embedding", found: [1, 64, 32, 32], expected: expected.shape))
        #expect(
            refusal(shape: expected.shape, layout: .channelsLast)
                == .shape(map: "image_embedding", found: expected.shape, expected: expected.shape))
        #expect(
            refusal("stride_4", shape: expected.shape) == .missing(map: "image_embedding", found: ["stride_4"]))
        let own = decoder.preprocessing
        for other in [
            ImagePreprocessing.segmentAnything(size: own.size * 2),
            ImagePreprocessing(resize: .square, size: own.size, mean: own.mean, deviation: own.deviation),
            ImagePreprocessing(resize: .longestSide, size: own.size, mean: own.mean, deviation: own.deviation * 2),
        ] {
            #expect(refusal(shape: expected.shape, other) == .preprocessing(found: other, expected: own))
            #expect(
                "\(FeatureMismatch.preprocessing(found: other, expected: own))".contains("encode the picture again"))
        }
    }
}
