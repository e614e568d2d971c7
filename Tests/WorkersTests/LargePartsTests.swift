import Checkpoints
import Cluster
import Embeddings
import Foundation
import Imaging
import JSON
import Redis
import RedisTesting
import SegmentAnything
import Segmentation
import Tensors
import Testing
import Workers

/// Parts of a job of everything mode whose masks have so many runs that not all are sent, or that none can be.
@Suite struct LargePartsTests {
    private static func picture(_ side: Int) -> Image {
        Image(width: side, height: side, pixels: [UInt8](repeating: 0, count: 3 * side * side))
    }

    /// What becomes of a job of everything mode on a black picture, and how many times a decoder took something of it.
    private func ending(
        of everything: String, radius: Double, side: Int
    ) async throws -> (ending: JobEnding, taken: Int) {
        let server = try await RedisServerProcess.start()
        let broker = try await Broker.open(try await RedisClient.connect(server.url))
        let decoder = Stripes.Decoder(radius: radius)
        let store = EmbeddingStore(broker)
        let pictures = PictureEncoder(
            broker, encoder: Stripes.Encoder(), fingerprint: [UInt8](repeating: 7, count: 32), precision: .fp32,
            store: store, pool: .inline, concurrency: 1)
        let prompts = PromptDecoder(
            broker, decoder: decoder, modelName: "stripes", store: store, pool: .inline, concurrency: 1,
            byteLimit: 1 << 20)
        let picture = Self.picture(side)
        let file = try PNGWriter.encode(picture)
        let digest = file.withUnsafeBytes { ImageDigest(ofFile: $0) }
        let line = #"{"image":{"sha256":"\#(digest.hexadecimal)"},"everything":\#(everything)}"#
        let single = SingleJob(broker: broker, pictures: pictures, prompts: prompts)
        let job = try await single.submitted(file: file, image: digest, line: line)
        func work(_ source: some WorkSource) async throws -> Int {
            var done = 0
            while case .work(let work, _) = try await source.take(
                in: job.partition, lease: .seconds(60), age: .zero)
            {
                try await source.perform(work)
                done += 1
            }
            return done
        }
        _ = try await work(single.encodes)
        let taken = try await work(single.decodes)
        return (try await single.ending(of: job), taken)
    }

    /// A mask whose runs were let go because it lies on a better one of its part comes back where that one lies on a still
    /// better one of another part.
    @Test func masksThatStayAfterAllAreAskedForAgain() async throws {
        let everything =
            #"{"points_per_side":8,"pred_iou_thresh":0,"stability_score_thresh":0,"box_nms_thresh":0.4}"#
        let (ending, taken) = try await ending(of: everything, radius: 180, side: 600)
        let result = try #require(ending.result)
        let there = try JSONDecoder().decode(Answer.self, from: Data(result.array)).masks
        let wanted = try AutomaticMaskGenerator(
            encoder: Stripes.Encoder(), decoder: Stripes.Decoder(radius: 180),
            parameters: try EverythingParameters(try JSONValue(parsing: Array(everything.utf8)))
        ).generate(Self.picture(600), pool: .inline)
        #expect(there.map(\.score) == wanted.map(\.predictedIoU) && there.count > 3)
        #expect(there.map(\.segmentation?.counts) == wanted.map { $0.encoding.compressed })
        // The job itself, its four parts, the job once more, then the six masks that come back, and the job at last.
        #expect(taken == 1 + 4 + 1 + 6 + 1)
    }

    /// Nothing lies on anything: all would have to be sent.
    @Test func masksThatNobodyCanHoldAreRefused() async throws {
        let everything =
            #"{"points_per_side":32,"pred_iou_thresh":0,"stability_score_thresh":0,"box_nms_thresh":1}"#
        let (ending, _) = try await ending(of: everything, radius: 600, side: 1200)
        #expect(ending.state == .failed)
        #expect(ending.error?.contains("let fewer stay by a lower box_nms_thresh") == true, "\(ending)")
    }
}

/// A family whose masks are stripes a pixel high in a square around the point.
private enum Stripes {
    static let preprocessing = ImagePreprocessing(
        resize: .square, size: 64, mean: [0, 0, 0], deviation: [1, 1, 1])
    static let shapes = [FeatureShape("image_embedding", [1, 1, 4, 4])]

    struct Encoder: ImageEncoding {
        var preprocessing: ImagePreprocessing { Stripes.preprocessing }
        var precision: Precision { .float32 }

        func encode(_ image: Image, pool: ThreadPool) -> ImageFeatures {
            let (input, frame) = preprocessing.input(image)
            return ImageFeatures(encode(input: input, pool: pool), preprocessing: preprocessing, frame: frame)
        }

        func encode(input: Tensor, pool: ThreadPool) -> [FeatureMap] {
            [FeatureMap(shapes[0].name, Tensor(shape: shapes[0].shape, [Float](repeating: 1, count: 16)))]
        }
    }

    struct Decoder: PromptDecoding {
        let radius: Double
        var precision: Precision { .float32 }
        var maskSide: Int { 16 }
        var isSmall: Bool { true }
        var preprocessing: ImagePreprocessing { Stripes.preprocessing }
        var featureShapes: [FeatureShape] { shapes }

        func prepare(_ features: ImageFeatures, pool: ThreadPool) throws(FeatureMismatch) -> Ready {
            Ready(radius: radius, width: features.frame.originalWidth, height: features.frame.originalHeight)
        }
    }

    struct Ready: PreparedImage {
        let radius: Double
        let width: Int
        let height: Int
        var byteCount: Int { 64 }

        func candidates(
            at points: [SIMD2<Double>], filter: CandidateFilter, pool: ThreadPool
        ) throws(PromptError) -> [[ScoredMask]] {
            points.map { point in
                let columns = max(0, Int(point.x - radius))..<min(width, Int(point.x + radius))
                let rows = max(0, Int(point.y - radius))..<min(height, Int(point.y + radius))
                var pixels = [UInt8](repeating: 0, count: width * height)
                for row in rows where row % 2 == 0 {
                    for column in columns { pixels[row * width + column] = 1 }
                }
                // Neighbours have scores that are far from each other.
                let score = (point.x * 0.3 + point.y * 0.9).truncatingRemainder(dividingBy: 23) / 23
                return [
                    ScoredMask(
                        encoding: RunLengthEncoding(Mask(width: width, height: height, pixels: pixels)),
                        predictedIoU: Float(score), stabilityScore: 1)
                ]
            }
        }

        // Nothing of what follows is asked for.
        func decode(
            _ prompts: [Prompt], selection: MaskSelection, pool: ThreadPool
        ) throws(PromptError) -> [DecodedMasks] { [] }
        func masks(_ decoded: [DecodedMasks], isRanked: Bool, pool: ThreadPool) -> [[PredictedMask]] { [] }
        func fullSizeLogits(_ logits: LowResolutionLogits) -> [Float] { [] }
    }
}
