import Embeddings
package import Imaging
import NeuralNetworks
package import SegmentAnything
import Segmentation
package import Tensors

/// How long the image encoder takes, from the model's input to the embedding.
package struct EncoderTiming {
    private let encoder: any ImageEncoding
    private let model: String
    private let pool: ThreadPool

    /// Measures an encoder; the model's name is for the figures.
    package init(_ encoder: any ImageEncoding, model: String, pool: ThreadPool) {
        self.encoder = encoder
        self.model = model
        self.pool = pool
    }

    package func measure(runs: Int, streams: Int?) -> PartFigures {
        let (encoder, pool) = (encoder, pool)
        let size = encoder.preprocessing.size
        let input = RandomWeights(seed: 1).tensor("input.image", shape: [3, size, size])
        let times = CallTimes(runs: runs, streams: streams) { _ = encoder.encode(input: input, pool: pool) }
        return PartFigures(
            part: "encode", model: model, precision: encoder.precision, threads: pool.threadCount, times: times)
    }

    /// The same from a picture's file to its embedding's record: what an encoder worker does with it.
    ///
    /// - Parameters:
    ///   - file: the picture's bytes.
    ///   - name: its file, for errors.
    ///   - decoder: what reads it.
    ///   - runs: calls of each stream.
    ///   - streams: callers at a time; nil for one.
    /// - Returns: the figures, with the picture's size.
    /// - Throws: where the picture cannot be read, or the embedding not be kept.
    package func measure(
        picture file: [UInt8], named name: String, by decoder: ImageDecoder, runs: Int, streams: Int?
    ) throws -> PartFigures {
        let (encoder, pool) = (encoder, pool)
        let digest = file.withUnsafeBytes { ImageDigest(ofFile: $0) }
        let image = try decoder.read(file, named: name).image
        @Sendable func record() throws -> Int {
            let features = encoder.encode(try decoder.read(file, named: name).image, pool: pool)
            return try EmbeddingRecord(
                features.maps, preprocessing: features.preprocessing, frame: features.frame,
                fingerprint: [UInt8](repeating: 0, count: 32), image: digest, precision: .fp16,
                arithmetic: encoder.arithmetic, encodeTime: .zero
            ).byteCount
        }
        _ = try record()
        // It was read, and its record made, above.
        let times = CallTimes(runs: runs, streams: streams) { _ = try? record() }
        return PartFigures(
            part: "picture", model: model, precision: encoder.precision, threads: pool.threadCount, times: times,
            megapixels: Double(image.width * image.height) / 1e6)
    }
}

/// How long the mask decoder takes on an image that is prepared: one point a prompt, to the low-resolution logits; or what
/// comes after, to the mask at the picture's size.
package struct DecoderTiming {
    /// What is timed.
    package enum Work: Sendable {
        /// Decoding the batch, with the three masks of an ambiguous prompt, or with all four.
        case decode(all: Bool)
        /// Scaling one mask a prompt to a picture of that size, cutting it out and run-length encoding it.
        case scale(width: Int, height: Int)
        /// Making an image ready for prompts: what a worker does once, when it fetched the embedding.
        case prepare
    }

    private let decoder: any PromptDecoding
    private let model: String
    private let pool: ThreadPool

    /// Measures a decoder; the model's name is for the figures.
    package init(_ decoder: any PromptDecoding, model: String, pool: ThreadPool) {
        self.decoder = decoder
        self.model = model
        self.pool = pool
    }

    /// Times calls of so many prompts each.
    ///
    /// - Parameters:
    ///   - work: what a call does.
    ///   - prompts: in one batched call; the time is that of the whole batch.
    ///   - runs: calls of each stream.
    ///   - streams: callers at a time; nil for one.
    /// - Returns: the figures.
    /// - Throws: where the decoder does not take the drawn embedding or the prompts.
    package func measure(_ work: Work, prompts: Int, runs: Int, streams: Int?) throws -> PartFigures {
        let pool = pool
        let drawn = decoder.featureShapes.map {
            FeatureMap($0.name, RandomWeights(seed: 1).tensor("embedding.value", shape: $0.shape))
        }
        let side = decoder.preprocessing.size
        let (width, height, selection, part): (Int, Int, MaskSelection, String) =
            switch work {
            case .decode(let all): (side, side, all ? .all : .multiple, "decode")
            case .scale(let width, let height): (width, height, .single, "scale")
            case .prepare: (side, side, .multiple, "prepare")
            }
        let features = ImageFeatures(
            drawn, preprocessing: decoder.preprocessing,
            frame: decoder.preprocessing.frame(width: width, height: height))
        let image: any PreparedImage = try decoder.prepare(features, pool: pool)
        let clicks = (0..<prompts).map { index in
            Prompt(points: [LabeledPoint(x: Double(17 * index % width), y: Double(31 * index % height))])
        }
        let decoded = try image.decode(clicks, selection: selection, pool: pool)
        let times = CallTimes(runs: runs, streams: streams) {
            switch work {
            // The same clicks were decoded above.
            case .decode: _ = try? image.decode(clicks, selection: selection, pool: pool)
            case .scale: _ = image.masks(decoded, isRanked: true, pool: pool)
            case .prepare: _ = try? decoder.prepare(features, pool: pool)
            }
        }
        return PartFigures(
            part: part, model: model, precision: decoder.precision, threads: pool.threadCount, times: times,
            prompts: prompts, megapixels: part == "scale" ? Double(width * height) / 1e6 : nil)
    }
}
