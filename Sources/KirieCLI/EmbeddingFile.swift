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
        _ features: ImageFeatures, model: any SegmentationModel, image: ImageDigest, precision: EmbeddingPrecision,
        arithmetic: EncoderArithmetic, encodeTime: Duration, to path: String
    ) throws {
        let record = try EmbeddingRecord(
            features, fingerprint: try model.fingerprint().bytes, image: image, precision: precision,
            arithmetic: arithmetic, encodeTime: encodeTime)
        try AtomicFile.write(record.withUnsafeBytes { Array($0) }, to: path)
    }

    /// Writes each feature map under its name, such as `image_embedding` (1, C, g, g), and, where the picture is given,
    /// `input_image` (1, 3, S, S).
    static func writeTensors(
        _ features: ImageFeatures, fingerprint: String, picture: Image?, to path: String
    ) throws {
        var entries = features.maps.map { SafetensorsWriter.Entry($0.name, $0.tensor) }
        let size = features.preprocessing.size
        if let picture {
            let input = features.preprocessing.input(picture).tensor
            entries.append(.init("input_image", input.reshaped(to: [1, 3, size, size])))
        }
        try SafetensorsWriter.write(
            entries,
            metadata: [
                Key.width: "\(features.frame.originalWidth)", Key.height: "\(features.frame.originalHeight)",
                Key.imageSize: "\(size)", Key.fingerprint: fingerprint,
            ], to: path)
    }

    /// Reads a record, whatever model made it.
    static func readRecord(_ path: String) throws -> EmbeddingRecord {
        let bytes = try ImageDecoder().contents(ofFile: path)
        guard bytes.starts(with: "KEMB".utf8) else {
            throw EmbeddingFileError(path: path, reason: "is no .kemb file, and a cluster takes no other")
        }
        return try record(bytes, path: path)
    }

    private static func record(_ bytes: [UInt8], path: String) throws -> EmbeddingRecord {
        do { return try EmbeddingRecord(copying: bytes) } catch {
            throw EmbeddingFileError(path: path, reason: "\(error)", remedy: nil)
        }
    }

    /// Reads features that the model made; the format is told by the content.
    static func read(_ path: String, model: any SegmentationModel) throws -> ImageFeatures {
        // Far above any embedding (SAM's is 4 MiB in fp32), far below what would hurt.
        let bytes = try ImageDecoder().contents(ofFile: path)
        guard bytes.starts(with: "KEMB".utf8) else { return try readTensors(path, model: model) }
        let record = try record(bytes, path: path)
        try check(record.fingerprint, against: model, path: path)
        guard record.preprocessing == model.preprocessing else {
            let mismatch = FeatureMismatch.preprocessing(found: record.preprocessing, expected: model.preprocessing)
            throw EmbeddingFileError(path: path, reason: "\(mismatch)", remedy: nil)
        }
        return record.features()
    }

    private static func readTensors(_ path: String, model: any SegmentationModel) throws -> ImageFeatures {
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
        let maps = try model.featureShapes.map { expected in
            let stored = try file.stored(expected.name)
            guard stored.shape == expected.shape else {
                throw EmbeddingFileError(
                    path: path,
                    reason: "\(expected.name) has the shape \(stored.shape), the model takes \(expected.shape)")
            }
            let tensor = try stored.tensor()
            guard tensor.elements.allSatisfy(\.isFinite) else {
                throw EmbeddingFileError(path: path, reason: "\(expected.name) holds numbers that are not finite")
            }
            return FeatureMap(expected.name, tensor)
        }
        return ImageFeatures(
            maps, preprocessing: model.preprocessing, frame: model.preprocessing.frame(width: width, height: height))
    }

    private static func check(_ fingerprint: [UInt8], against model: any SegmentationModel, path: String) throws {
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

extension SegmentationModel {
    /// The hash of the weights, from the cache where it is known.
    func fingerprint() throws -> Fingerprint {
        try fingerprint(
            cache: FingerprintCache(environment: Environment.all), threads: ThreadPool.availableProcessors)
    }
}

/// An embedding that cannot be used.
struct EmbeddingFileError: ReportableError {
    let path: String
    let reason: String
    var remedy: String? = "encode the picture again with `kirie encode`"
    var report: ErrorReport { ErrorReport(.input, "embedding-file", at: path, reason, remedy: remedy) }

    /// The report in one line.
    var description: String { report.text }
}
