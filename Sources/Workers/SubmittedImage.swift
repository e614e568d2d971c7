import Cluster
import Embeddings
import Glibc
import Hashing
import Imaging
import Platform
import Redis
import Segmentation

/// The file of an image as the cluster has it: its bytes, or `ref:` and a path below the encoders' shared folder.
struct SubmittedImage: Sendable {
    let digest: ImageDigest
    let bytes: RedisBytes

    /// The picture.
    ///
    /// Samples of 16 bits are always shown as ``Levels/auto`` has it: an embedding's key says what the picture is and
    /// what made it, and nothing of a window. Whoever wants another one submits the picture that it makes.
    ///
    /// - Parameters:
    ///   - sharedFolder: below which `ref:` paths lie; nil where there is none.
    ///   - limit: the largest picture that is decoded.
    /// - Returns: the picture, and what is to be said of it.
    /// - Throws: ``UnusableImage`` or `ImageError`: what is wrong with the picture, for whoever submitted it.
    func decoded(sharedFolder: String?, limit: PixelLimit) throws -> DecodedImage {
        let decoder = ImageDecoder(limit: limit)
        if let path = try reference(below: sharedFolder) {
            let file = try decoder.contents(ofFile: path)
            try file.withUnsafeBytes { try check($0) }
            return try decoder.read(file, named: "the picture")
        }
        return try bytes.withUnsafeBytes { file in
            try check(file)
            return try decoder.read(file, named: "the picture")
        }
    }

    /// Whoever stored the bytes said what their hash is; all jobs on that image would get a mask of another picture if
    /// it were not so.
    private func check(_ file: UnsafeRawBufferPointer) throws {
        guard ImageDigest(ofFile: file) == digest else {
            throw UnusableImage(reason: "the stored bytes do not have the SHA-256 that they were stored under")
        }
    }

    private func reference(below folder: String?) throws -> String? {
        let prefix = "ref:"
        guard bytes.count <= 4096, bytes.withUnsafeBytes({ $0.starts(with: prefix.utf8) }) else { return nil }
        guard let folder else {
            throw UnusableImage(reason: "it is a reference, and this encoder has no --shared-images folder")
        }
        let path = "\(folder)/\(bytes.string.dropFirst(prefix.count))"
        // Both are resolved, so that neither `..` nor a link leads out of the folder.
        guard let inside = Self.resolved(path), let root = Self.resolved(folder), inside.hasPrefix("\(root)/") else {
            throw UnusableImage(reason: "it refers to no file below the encoder's --shared-images folder")
        }
        return inside
    }

    private static func resolved(_ path: String) -> String? {
        resolvedPath(path)
    }
}

/// A picture that no encoder can do anything with.
struct UnusableImage: Error, Sendable {
    let reason: String
}
