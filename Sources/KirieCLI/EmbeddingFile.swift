import Checkpoints
import Imaging
import SegmentAnything
import Tensors

/// Embeddings on disk.
enum EmbeddingFile {
    static func isSupported(_ path: String) -> Bool { path.hasSuffix(".safetensors") }

    /// Writes `image_embedding` (1, C, g, g) and, where the picture is given, `input_image` (1, 3, S, S).
    static func write(_ embedding: ImageEmbedding, model: SamModel, image: Image?, to path: String) throws {
        var entries = [SafetensorsWriter.Entry("image_embedding", embedding.features)]
        if let image {
            let size = model.geometry.imageSize
            let input = ImagePreprocessing.input(image, side: size).tensor
            entries.append(.init("input_image", input.reshaped(to: [1, 3, size, size])))
        }
        try SafetensorsWriter.write(
            entries,
            metadata: [
                Key.width: "\(embedding.originalWidth)", Key.height: "\(embedding.originalHeight)",
                Key.imageSize: "\(model.geometry.imageSize)", Key.fingerprint: try model.fingerprint().description,
            ], to: path)
    }

    /// Reads an embedding that the model made.
    static func read(_ path: String, model: SamModel) throws -> ImageEmbedding {
        let file = try Checkpoint(path: path)
        guard let width = file.metadata[Key.width].flatMap(Int.init), width > 0, width <= 1 << 24,
            let height = file.metadata[Key.height].flatMap(Int.init), height > 0, height <= 1 << 24
        else { throw EmbeddingFileError(path: path, reason: "does not say the picture's width and height") }
        if let fingerprint = file.metadata[Key.fingerprint] {
            let expected = try model.fingerprint().description
            guard fingerprint == expected else {
                throw EmbeddingFileError(
                    path: path,
                    reason:
                        "was made by another model (\(fingerprint.prefix(12))…, this one is \(expected.prefix(12))…)")
            }
        }
        let features = try file.stored("image_embedding").tensor()
        return ImageEmbedding(
            features: features,
            frame: ResizeLongestSide(width: width, height: height, target: model.geometry.imageSize))
    }

    private enum Key {
        static let width = "kirie.original_width"
        static let height = "kirie.original_height"
        static let imageSize = "kirie.image_size"
        static let fingerprint = "kirie.fingerprint"
    }
}

extension SamModel {
    /// The hash of the weights, from the cache where it is known.
    func fingerprint() throws -> Fingerprint {
        try checkpoint.fingerprint(
            cache: FingerprintCache(environment: Environment.all), threads: ThreadPool.availableProcessors)
    }
}

/// An embedding that cannot be used.
struct EmbeddingFileError: Error, CustomStringConvertible {
    let path: String
    let reason: String
    var description: String { "\(path): \(reason): encode the picture again with `kirie encode`" }
}
