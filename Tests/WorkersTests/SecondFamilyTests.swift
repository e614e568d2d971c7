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

/// A family with three feature maps at different strides and another preprocessing goes through the cluster as Segment
/// Anything does: nothing between its two halves knows what it is.
@Suite struct SecondFamilyTests {
    @Test(arguments: [true, false])
    func mapsOfSeveralStridesComeThroughTheCluster(isElsewhere: Bool) async throws {
        let server = try await RedisServerProcess.start()
        let broker = try await Broker.open(try await RedisClient.connect(server.url))
        let other = try await RedisServerProcess.start()
        let elsewhere = isElsewhere ? try await RedisClient.connect(other.url) : nil
        let store = EmbeddingStore(broker, elsewhere: elsewhere)
        let model = try Strided.opened()
        let pictures = PictureEncoder(
            broker, encoder: try model.imageEncoder(), fingerprint: try model.fingerprint(cache: nil, threads: 1).bytes,
            precision: .fp32, store: store, pool: .inline, concurrency: 1)
        #expect(pictures.model.arithmetic == .bf16)
        let prompts = PromptDecoder(
            broker, decoder: try model.promptDecoder(), modelName: "strided", store: store, pool: .inline,
            concurrency: 1, byteLimit: 1 << 20)

        let file = try PNGWriter.encode(
            Image(width: 20, height: 10, pixels: (0..<600).map { UInt8(truncatingIfNeeded: $0) }))
        let digest = file.withUnsafeBytes { ImageDigest(ofFile: $0) }
        let line = #"{"image":{"sha256":"\#(digest.hexadecimal)"},"prompts":[{"points":[[10,5]],"labels":[1]}]}"#
        let (batch, answer) = try await SingleJob(broker: broker, pictures: pictures, prompts: prompts)
            .done(file: file, image: digest, line: line)
        #expect(batch.key == EmbeddingKey(image: digest, model: pictures.model))
        // 11, 22 and 33 from the three maps, and the point in the model's own frame: 10 · 64 / 20, 5 · 64 / 10.
        let scores: [Float] = answer.masks.map(\.score)
        #expect(scores == [130])
        #expect(prompts.holdings.count == 1)
    }

    @Test func featuresOfAnotherFamilyAreRefused() throws {
        let frame = Strided.preprocessing.frame(width: 4, height: 4)
        let map = FeatureMap("image_embedding", Tensor(shape: [1, 4, 2, 2], [Float](repeating: 0, count: 16)))
        let features = ImageFeatures([map], preprocessing: Strided.preprocessing, frame: frame)
        #expect(throws: FeatureMismatch.missing(map: "stride_4", found: ["image_embedding"])) {
            _ = try Strided.Decoder().prepare(features, pool: .inline)
        }
    }

    /// A checkpoint goes to the family that knows the names of its tensors, whichever is asked first.
    @Test func aFamilyIsALineInTheList() throws {
        #expect(try Strided.opened().layoutName == "strided")
        let families = [Strided.family] + ModelFamilies.all
        let sam = try ModelFamilies.open(path: Strided.samCheckpoint, among: families)
        #expect(sam is SamModel)
        // Who is nobody's is told what was expected.
        let error = try #require(throws: CheckpointError.self) { try Strided.opened(by: ModelFamilies.all) }
        #expect(error.description.contains("holds no Segment Anything model"), "\(error)")
    }

}

/// A family of models that computes next to nothing.
private enum Strided {
    static let preprocessing = ImagePreprocessing(
        resize: .square, size: 64, mean: [1, 2, 3], deviation: [4, 5, 6])
    static let shapes = [
        FeatureShape("stride_4", [1, 2, 16, 16]), FeatureShape("stride_8", [1, 3, 8, 8]),
        FeatureShape("image_embedding", [1, 4, 4, 4]),
    ]

    static let family = ModelFamily(
        name: "Strided", recognises: { $0.contains("strided.weight") },
        open: { checkpoint, _ throws(CheckpointError) in Model(checkpoint: checkpoint) })

    /// A checkpoint of Segment Anything.
    static let samCheckpoint = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("SegmentAnythingTests/Fixtures/nano/sam.pth").path

    /// A checkpoint of the family, as whoever opens a model finds it.
    static func opened(by families: [ModelFamily] = ModelFamilies.all + [family]) throws -> any SegmentationModel {
        let path = NSTemporaryDirectory() + "kirie-strided-\(UUID().uuidString).safetensors"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try SafetensorsWriter.write([.init("strided.weight", Tensor(shape: [1], [9]))], to: path)
        return try ModelFamilies.open(path: path, among: families)
    }

    struct Model: SegmentationModel {
        let checkpoint: Checkpoint
        var layoutName: String { "strided" }
        var summary: String { "three maps" }
        var metadata: [String: String] { [:] }
        var preprocessing: ImagePreprocessing { Strided.preprocessing }
        var featureShapes: [FeatureShape] { shapes }
        var maskSide: Int { 16 }
        var automaticPrecision: Precision { .bfloat16 }

        func fingerprint(cache: FingerprintCache?, threads: Int) throws(CheckpointError) -> Fingerprint {
            try checkpoint.fingerprint(cache: cache, threads: threads)
        }
        func imageEncoder(precision: Precision?) throws -> any ImageEncoding { Encoder() }
        func promptDecoder(precision: Precision?) throws -> any PromptDecoding { Decoder() }
    }

    struct Encoder: ImageEncoding {
        var preprocessing: ImagePreprocessing { Strided.preprocessing }
        var precision: Precision { .bfloat16 }

        func encode(_ image: Image, pool: ThreadPool) -> ImageFeatures {
            let (input, frame) = preprocessing.input(image)
            return ImageFeatures(encode(input: input, pool: pool), preprocessing: preprocessing, frame: frame)
        }

        func encode(input: Tensor, pool: ThreadPool) -> [FeatureMap] {
            shapes.enumerated().map { index, map in
                let count = map.shape.reduce(1, *)
                return FeatureMap(
                    map.name,
                    Tensor(shape: map.shape, [Float](repeating: Float(11 * (index + 1)), count: count)))
            }
        }
    }

    struct Decoder: PromptDecoding {
        var precision: Precision { .float32 }
        var maskSide: Int { 16 }
        var isSmall: Bool { true }
        var preprocessing: ImagePreprocessing { Strided.preprocessing }
        var featureShapes: [FeatureShape] { shapes }

        func prepare(_ features: ImageFeatures, pool: ThreadPool) throws(FeatureMismatch) -> Ready {
            var sum: Float = 0
            for shape in shapes { sum += try features.tensor(shape).elements[0] }
            return Ready(sum: sum, frame: features.frame)
        }
    }

    struct Ready: PreparedImage {
        let sum: Float
        let frame: ImageFrame
        var width: Int { frame.originalWidth }
        var height: Int { frame.originalHeight }
        var byteCount: Int { 64 }

        func decode(
            _ prompts: [Prompt], selection: MaskSelection, pool: ThreadPool
        ) throws(PromptError) -> [DecodedMasks] {
            prompts.map { prompt in
                let place = prompt.points.first.map { frame.apply(x: $0.x, y: $0.y) } ?? (0, 0)
                return DecodedMasks(
                    side: 16, logits: [LowResolutionLogits(side: 16, values: [Float](repeating: 1, count: 256))],
                    predictedIoU: [sum + place.x + place.y])
            }
        }

        func masks(_ decoded: [DecodedMasks], isRanked: Bool, pool: ThreadPool) -> [[PredictedMask]] {
            decoded.map { decoded in
                guard let runs = try? RunLengthEncoding(counts: [0, width * height], height: height, width: width)
                else { return [] }
                return [
                    PredictedMask(
                        encoding: runs, predictedIoU: decoded.predictedIoU[0], stabilityScore: 1,
                        lowResolutionLogits: decoded.logits[0])
                ]
            }
        }

        func fullSizeLogits(_ logits: LowResolutionLogits) -> [Float] {
            [Float](repeating: logits.values[0], count: width * height)
        }
    }
}
