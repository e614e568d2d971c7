import Checkpoints
import Embeddings
import Imaging
import Platform
import SegmentAnything
import Segmentation
import Tensors
import Workers

/// Embeddings on disk: `.kemb`, the record that is also a Redis value, and `.safetensors`, for other programs.
enum EmbeddingFile {
    static func isSupported(_ path: String) -> Bool { path.hasSuffix(".kemb") || path.hasSuffix(".safetensors") }

    /// Writes a record.
    static func write(
        _ embedding: ImageEmbedding, model: SamModel, image: ImageDigest, precision: EmbeddingPrecision,
        encodeTime: Duration, to path: String
    ) throws {
        let record = try EmbeddingRecord(
            embedding, fingerprint: try model.fingerprint().bytes, image: image, precision: precision,
            encodeTime: encodeTime)
        try AtomicFile.write(record.withUnsafeBytes { Array($0) }, to: path)
    }

    /// Writes `image_embedding` (1, C, g, g) and, where the picture is given, `input_image` (1, 3, S, S).
    static func writeTensors(
        _ embedding: ImageEmbedding, model: SamModel, picture: Image?, to path: String
    ) throws {
        var entries = [SafetensorsWriter.Entry("image_embedding", embedding.features)]
        if let picture {
            let size = model.geometry.imageSize
            let input = ImagePreprocessing.input(picture, side: size).tensor
            entries.append(.init("input_image", input.reshaped(to: [1, 3, size, size])))
        }
        try SafetensorsWriter.write(
            entries,
            metadata: [
                Key.width: "\(embedding.originalWidth)", Key.height: "\(embedding.originalHeight)",
                Key.imageSize: "\(model.geometry.imageSize)", Key.fingerprint: try model.fingerprint().description,
            ], to: path)
    }

    /// Reads an embedding that the model made; the format is told by the content.
    static func read(_ path: String, model: SamModel) throws -> ImageEmbedding {
        // Far above any embedding (SAM's is 4 MiB in fp32), far below what would hurt.
        let bytes = try ImageDecoder().contents(ofFile: path)
        guard bytes.starts(with: "KEMB".utf8) else { return try readTensors(path, model: model) }
        let record: EmbeddingRecord
        do {
            record = try EmbeddingRecord(copying: bytes)
        } catch {
            throw EmbeddingFileError(path: path, reason: "\(error)", remedy: nil)
        }
        try check(record.fingerprint, against: model, path: path)
        guard let embedding = record.embedding(imageSize: model.geometry.imageSize) else {
            throw EmbeddingFileError(path: path, reason: "was resized for another image size")
        }
        return embedding
    }

    private static func readTensors(_ path: String, model: SamModel) throws -> ImageEmbedding {
        let file = try Checkpoint(path: path)
        guard let width = file.metadata[Key.width].flatMap(Int.init), width > 0, width <= 1 << 24,
            let height = file.metadata[Key.height].flatMap(Int.init), height > 0, height <= 1 << 24
        else { throw EmbeddingFileError(path: path, reason: "does not say the picture's width and height") }
        if let text = file.metadata[Key.fingerprint] {
            guard let fingerprint = Fingerprint(hexadecimal: text) else {
                throw EmbeddingFileError(path: path, reason: "names a model by no fingerprint")
            }
            try check(fingerprint.bytes, against: model, path: path)
        }
        let geometry = model.geometry
        let expected = [1, geometry.channels, geometry.grid, geometry.grid]
        let stored = try file.stored("image_embedding")
        guard stored.shape == expected else {
            throw EmbeddingFileError(
                path: path, reason: "image_embedding has the shape \(stored.shape), the model takes \(expected)")
        }
        let features = try stored.tensor()
        guard features.elements.allSatisfy(\.isFinite) else {
            throw EmbeddingFileError(path: path, reason: "image_embedding holds numbers that are not finite")
        }
        return ImageEmbedding(
            features: features,
            frame: ResizeLongestSide(width: width, height: height, target: model.geometry.imageSize))
    }

    private static func check(_ fingerprint: [UInt8], against model: SamModel, path: String) throws {
        let expected = try model.fingerprint()
        guard fingerprint != expected.bytes else { return }
        let found = Hexadecimal.text(of: fingerprint.prefix(6))
        throw EmbeddingFileError(
            path: path,
            reason: "was made by another model: its weights begin with \(found), "
                + "those of \(model.checkpoint.path) with \(expected.description.prefix(12))")
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
        try fingerprint(
            cache: FingerprintCache(environment: Environment.all), threads: ThreadPool.availableProcessors)
    }
}

/// An embedding that cannot be used.
struct EmbeddingFileError: Error, CustomStringConvertible {
    let path: String
    let reason: String
    var remedy: String? = "encode the picture again with `kirie encode`"
    var description: String { ([path, reason] + (remedy.map { [$0] } ?? [])).joined(separator: ": ") }
}
