import Foundation
import Imaging
import JSON
import NeuralNetworks
import SegmentAnything
import Segmentation
import Tensors
import Testing

/// Everything mode against the published generator, on the model and the picture of Fixtures/nano; see
/// Fixtures/make_everything.py.
@Suite struct EverythingModeTests {
    private static let published: JSONValue = {
        guard
            let url = Bundle.module.url(
                forResource: "everything", withExtension: "json", subdirectory: "Fixtures/nano"),
            let text = try? Data(contentsOf: url), let value = try? JSONValue(parsing: Array(text))
        else { preconditionFailure("Fixtures/nano/everything.json is missing: run make_everything.py") }
        return value
    }()

    private static let nano = GoldenCase(name: "nano", weights: "sam.pth")

    private func generator(
        _ parameters: EverythingParameters, precision: Precision = .float32, runLimit: Int = .max, mostRuns: Int = .max
    ) throws -> AutomaticMaskGenerator {
        let model = try Self.nano.model()
        return AutomaticMaskGenerator(
            encoder: try model.encoder(precision: precision), decoder: try model.decoder(precision: precision),
            parameters: parameters, runLimit: runLimit, mostRuns: mostRuns)
    }

    @Test(arguments: 0..<4) func theMasksAreThePublishedOnes(index: Int) throws {
        let given = try #require(Self.published["cases"]?.elements?[index])
        let parameters = try EverythingParameters(given["settings"] ?? .null)
        let masks = try generator(parameters).generate(try Self.nano.picture(), pool: ThreadPool(threadCount: 2))
        let records = try #require(given["masks"]?.elements)
        #expect(masks.count == records.count)
        for (mask, record) in zip(masks, records) {
            let iou = try #require(record["predicted_iou"]?.double)
            #expect(abs(Double(mask.predictedIoU) - iou) < 5e-4)
            let stability = try #require(record["stability_score"]?.double)
            #expect(abs(Double(mask.stabilityScore) - stability) < 5e-3)
            let area = try #require(record["area"]?.double)
            #expect(abs(Double(mask.encoding.area) - area) <= max(2, 0.01 * area))
            #expect(mask.publishedBox.map(Double.init) == record["bbox"]?.elements?.compactMap(\.double))
            let point = record["point_coords"]?.elements?.first?.elements?.compactMap(\.double)
            #expect(point == [mask.point.x, mask.point.y])
            #expect(
                [mask.crop.x0, mask.crop.y0, mask.crop.width, mask.crop.height].map(Double.init)
                    == record["crop_box"]?.elements?.compactMap(\.double))
            guard let counts = record["segmentation"]?["counts"]?.string else { continue }
            let theirs = try RunLengthEncoding(
                compressed: counts, height: mask.encoding.height, width: mask.encoding.width)
            #expect(mask.encoding.intersectionOverUnion(theirs) >= 0.99)
        }
    }

    @Test func thePlansAreThePublishedOnes() throws {
        for plan in try #require(Self.published["plans"]?.elements) {
            var parameters = EverythingParameters()
            parameters.pointsPerSide = 8
            parameters.cropLayers = try #require(plan["layers"]?.integer)
            parameters.cropOverlapRatio = try #require(plan["ratio"]?.double)
            let made = try MaskGenerationPlan(
                width: try #require(plan["width"]?.integer), height: try #require(plan["height"]?.integer),
                parameters: parameters, modelSize: 256)
            let boxes = try #require(plan["boxes"]?.elements).map { ($0.elements ?? []).compactMap(\.integer) }
            let layers = try #require(plan["of"]?.elements).compactMap(\.integer)
            // Of a picture of a few pixels some published crops are empty; those are none here.
            let full = zip(boxes, layers).filter { $0.0[0] < $0.0[2] && $0.0[1] < $0.0[3] }
            #expect(made.crops.map { [$0.box.x0, $0.box.y0, $0.box.x1, $0.box.y1] } == full.map(\.0))
            #expect(made.crops.map(\.layer) == full.map(\.1))
        }
    }

    /// Masks made in tiles of a region and masks made of whole logits are the same.
    @Test func theQuickWayGivesTheMasksOfTheSlowOne() throws {
        struct Slow: PreparedImage {
            let image: any PreparedImage
            var width: Int { image.width }
            var height: Int { image.height }
            var byteCount: Int { image.byteCount }
            func decode(
                _ prompts: [Prompt], selection: MaskSelection, pool: ThreadPool
            ) throws(PromptError) -> [DecodedMasks] { try image.decode(prompts, selection: selection, pool: pool) }
            func masks(_ decoded: [DecodedMasks], isRanked: Bool, pool: ThreadPool) -> [[PredictedMask]] {
                image.masks(decoded, isRanked: isRanked, pool: pool)
            }
            func fullSizeLogits(_ logits: LowResolutionLogits) -> [Float] { image.fullSizeLogits(logits) }
        }
        let model = try Self.nano.model()
        let decoder = try model.decoder(precision: .float32)
        let image: any PreparedImage = try decoder.prepare(
            try model.encoder(precision: .float32).encode(try Self.nano.picture(), pool: .inline), pool: .inline)
        var parameters = EverythingParameters()
        parameters.predictedIoUThreshold = 0.02
        parameters.stabilityScoreThreshold = 0.2
        parameters.stabilityScoreOffset = 0.002
        let filter = CandidateFilter(parameters)
        let points = (0..<20).map { SIMD2(Double($0) * 15, Double($0) * 11) }
        for threads in [1, 3] {
            let quick = try image.candidates(at: points, filter: filter, pool: ThreadPool(threadCount: threads))
            #expect(quick == (try Slow(image: image).candidates(at: points, filter: filter, pool: .inline)))
            #expect(quick.contains { !$0.isEmpty })
        }
    }

    /// Fewer points are asked for, and what they are answered with is what the plain way finds there.
    @Test func theFastWayFindsAPartOfThePlainOnes() throws {
        var parameters = EverythingParameters()
        parameters.pointsPerSide = 16
        parameters.predictedIoUThreshold = 0
        parameters.stabilityScoreThreshold = 0
        parameters.boxNMSThreshold = 1
        let picture = try Self.nano.picture()
        let plain = try generator(parameters).generate(picture, pool: ThreadPool(threadCount: 2))
        parameters.isFast = true
        var last: AutomaticMaskGenerator.Progress?
        let fast = try generator(parameters).generate(picture, pool: ThreadPool(threadCount: 2)) { last = $0 }
        #expect(last?.done == 256 && last?.total == 256)
        #expect(Set(fast).isSubset(of: Set(plain)) && !fast.isEmpty)
    }

    /// Runs that were let go come back where their masks stay after all.
    @Test(arguments: [(0, false), (20_000, false), (0, true)]) func masksThatAreNotAllHeldAreTheSame(
        limit: Int, isFast: Bool
    ) throws {
        var parameters = EverythingParameters()
        parameters.pointsPerSide = 12
        parameters.cropLayers = 1
        parameters.predictedIoUThreshold = 0
        parameters.stabilityScoreThreshold = 0
        parameters.boxNMSThreshold = 0.3
        parameters.isFast = isFast
        let picture = try Self.nano.picture()
        func masks(_ limit: Int) throws -> [MaskCandidate] {
            try generator(parameters, runLimit: limit).generate(picture, pool: ThreadPool(threadCount: 2))
        }
        let (some, all) = (try masks(limit), try masks(.max))
        #expect(some == all && !all.isEmpty && all.allSatisfy { $0.encoding.area > 0 })
    }

    /// Nothing lies on anything, so all would stay.
    @Test func masksThatNobodyCanHoldAreRefused() throws {
        var parameters = EverythingParameters()
        parameters.pointsPerSide = 12
        parameters.predictedIoUThreshold = 0
        parameters.stabilityScoreThreshold = 0
        parameters.boxNMSThreshold = 1
        let fault = try #require(throws: EverythingFault.self) {
            _ = try generator(parameters, runLimit: 20_000, mostRuns: 100_000)
                .generate(try Self.nano.picture(), pool: ThreadPool(threadCount: 2))
        }
        #expect(fault.parameter == "box_nms_thresh" && fault.description.contains("let fewer stay"))
    }

    @Test func progressCanEndTheWork() throws {
        struct Stop: Error {}
        var calls = 0
        #expect(throws: Stop.self) {
            _ = try generator(EverythingParameters()).generate(try Self.nano.picture(), pool: .inline) { _ in
                calls += 1
                if calls == 2 { throw Stop() }
            }
        }
        #expect(calls == 2)
    }

    @Test(arguments: [(1, 1), (1, 700), (700, 1), (2, 3)]) func picturesOfHardlyAnyPixels(width: Int, height: Int)
        throws
    {
        var parameters = EverythingParameters()
        parameters.pointsPerSide = 3
        parameters.cropLayers = 1
        parameters.predictedIoUThreshold = 0
        parameters.stabilityScoreThreshold = 0
        let picture = Image(
            width: width, height: height, pixels: (0..<width * height * 3).map { UInt8(truncatingIfNeeded: $0 &* 37) })
        let masks = try generator(parameters).generate(picture, pool: .inline)
        #expect(masks.allSatisfy { $0.encoding.width == width && $0.encoding.height == height })
    }
}
