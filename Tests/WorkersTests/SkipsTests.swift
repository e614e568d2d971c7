import Checkpoints
import Cluster
import Embeddings
import Foundation
import Imaging
import Redis
import RedisTesting
import SegmentAnything
import Segmentation
import Tensors
import Testing
import Workers

/// Models whose mask decoders take skips, Kirie's own and SAM 2: they travel in the embedding's record, and the cluster's masks are those of one
/// process, to the bit.
@Suite struct SkipsTests {
    private static func opened(_ name: String) throws -> any SegmentationModel {
        try ModelFamilies.open(
            path: URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .appendingPathComponent("SegmentAnythingTests/Fixtures/\(name)/sam.safetensors").path)
    }

    @Test(arguments: ["lite", "hiera", "hiera_wide", "edgetam", "edgetam_wide"], EmbeddingPrecision.allCases)
    func theClustersMasksAreThoseOfOneProcess(name: String, precision: EmbeddingPrecision) async throws {
        let server = try await RedisServerProcess.start()
        let broker = try await Broker.open(try await RedisClient.connect(server.url))
        let store = EmbeddingStore(broker)
        let model = try Self.opened(name)
        let fingerprint = try model.fingerprint(cache: nil, threads: 1).bytes
        let pictures = PictureEncoder(
            broker, encoder: try model.imageEncoder(), fingerprint: fingerprint, precision: precision, store: store,
            pool: .inline, concurrency: 1)
        let prompts = PromptDecoder(
            broker, decoder: try model.promptDecoder(), modelName: name, store: store, pool: .inline, concurrency: 1,
            byteLimit: 1 << 26)

        let picture = Image(
            width: 90, height: 70, pixels: (0..<90 * 70 * 3).map { UInt8(truncatingIfNeeded: $0 &* $0 / 97 &+ $0) })
        let file = try PNGWriter.encode(picture)
        let digest = file.withUnsafeBytes { ImageDigest(ofFile: $0) }
        let line = """
            {"image":{"sha256":"\(digest.hexadecimal)"},"multimask":true,"prompts":[\
            {"points":[[40,30]],"labels":[1]},{"box":[10,8,70,60]}]}
            """
        let answer = try await SingleJob(broker: broker, pictures: pictures, prompts: prompts)
            .done(file: file, image: digest, line: line).answer

        // In one process, with features that were kept in the same precision.
        let features = try model.imageEncoder().encode(picture, pool: ThreadPool(threadCount: 2))
        let record = try EmbeddingRecord(
            features, fingerprint: fingerprint, image: digest, precision: precision, arithmetic: .fp32,
            encodeTime: .zero)
        #expect(record.version == 2)
        #expect(record.maps().map(\.name) == ["image_embedding", "skips.0", "skips.1"])
        let kept = precision == .fp32 ? features : record.features()
        let masks = try model.promptDecoder().masks(
            of: [
                Prompt(points: [LabeledPoint(x: 40, y: 30)]), Prompt(box: BoundingBox(x0: 10, y0: 8, x1: 70, y1: 60)),
            ], on: kept)
        let expected = masks.enumerated().flatMap { index, masks in masks.map { Answer.Cutout(prompt: index, $0) } }
        #expect(try Self.text(answer.masks) == Self.text(expected))
        #expect(answer.masks.count == 6)
        // Whether there is an object at all is told by models that ask themselves, once for a prompt.
        let scores = answer.masks.map(\.object_score)
        #expect(name == "lite" ? scores == [nil, nil, nil, nil, nil, nil] : !scores.contains(nil))
        #expect(scores[0] == scores[2] && scores[3] == scores[5])

        // And the skips make a difference to them.
        let blank = kept.maps.map { map in
            map.name == "image_embedding"
                ? map
                : FeatureMap(
                    map.name, Tensor(shape: map.tensor.shape, [Float](repeating: 0, count: map.tensor.count)))
        }
        let other = try model.promptDecoder().masks(
            of: [Prompt(points: [LabeledPoint(x: 40, y: 30)])],
            on: ImageFeatures(blank, preprocessing: kept.preprocessing, frame: kept.frame))
        #expect(other[0].map(\.lowResolutionLogits) != masks[0].map(\.lowResolutionLogits))
    }

    @Test(arguments: ["lite", "hiera"]) func featuresWithoutSkipsAreRefused(name: String) throws {
        let model = try Self.opened(name)
        let shape = model.featureShapes[0]
        let count = shape.shape.reduce(1, *)
        let features = ImageFeatures(
            [FeatureMap(shape.name, Tensor(shape: shape.shape, [Float](repeating: 0, count: count)))],
            preprocessing: model.preprocessing, frame: model.preprocessing.frame(width: 4, height: 4))
        #expect(throws: FeatureMismatch.missing(map: "skips.0", found: ["image_embedding"])) {
            _ = try model.promptDecoder().masks(of: [], on: features)
        }
    }

    /// Models of one seam and different weights: each has keys of its own, and refuses what another made.
    @Test func featuresOfAnotherModelAreRefused() throws {
        let (first, second) = (try Self.opened("hiera"), try Self.opened("lite"))
        let picture = Image(width: 9, height: 7, pixels: (0..<9 * 7 * 3).map { UInt8(truncatingIfNeeded: $0 * 37) })
        let features = try first.imageEncoder().encode(picture, pool: .inline)
        #expect(throws: FeatureMismatch.preprocessing(found: first.preprocessing, expected: second.preprocessing)) {
            _ = try second.promptDecoder().masks(of: [], on: features)
        }
        #expect(
            try first.fingerprint(cache: nil, threads: 1) != second.fingerprint(cache: nil, threads: 1))
    }

    private static func text(_ masks: [Answer.Cutout]) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return String(decoding: try encoder.encode(masks), as: UTF8.self)
    }

}

extension PromptDecoding {
    fileprivate func masks(of prompts: [Prompt], on features: ImageFeatures) throws -> [[PredictedMask]] {
        try prepare(features, pool: .inline).predict(prompts, multimask: true, pool: .inline)
    }
}
