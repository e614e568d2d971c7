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

/// A model whose mask decoder takes skips: they travel in the embedding's record, and the cluster's masks are those of one
/// process, to the bit.
@Suite struct SkipsTests {
    private static let checkpoint = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("SegmentAnythingTests/Fixtures/lite/sam.safetensors").path

    @Test(arguments: EmbeddingPrecision.allCases)
    func theClustersMasksAreThoseOfOneProcess(precision: EmbeddingPrecision) async throws {
        let server = try await RedisServerProcess.start()
        let broker = try await Broker.open(try await RedisClient.connect(server.url))
        let store = EmbeddingStore(broker)
        let model = try ModelFamilies.open(path: Self.checkpoint)
        let fingerprint = try model.fingerprint(cache: nil, threads: 1).bytes
        let pictures = PictureEncoder(
            broker, encoder: try model.imageEncoder(), fingerprint: fingerprint, precision: precision, store: store,
            pool: .inline, concurrency: 1)
        let prompts = PromptDecoder(
            broker, decoder: try model.promptDecoder(), modelName: "lite", store: store, pool: .inline, concurrency: 1,
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

    @Test func featuresWithoutSkipsAreRefused() throws {
        let model = try ModelFamilies.open(path: Self.checkpoint)
        let shape = model.featureShapes[0]
        let features = ImageFeatures(
            [FeatureMap(shape.name, Tensor(shape: shape.shape, [Float](repeating: 0, count: 3200)))],
            preprocessing: model.preprocessing, frame: model.preprocessing.frame(width: 4, height: 4))
        #expect(throws: FeatureMismatch.missing(map: "skips.0", found: ["image_embedding"])) {
            _ = try model.promptDecoder().masks(of: [], on: features)
        }
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
