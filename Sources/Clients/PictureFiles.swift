import Cluster
import Embeddings
import Glibc
package import Imaging
package import Platform
package import Redis
package import Segmentation

/// A picture that a submitter has: its content's name and size, and where its bytes are.
package struct Picture: Sendable {
    /// Where the bytes are.
    package enum Origin: Sendable {
        /// In a file.
        case file(String)
        /// Here.
        case memory(RedisBytes)
    }

    /// The SHA-256 of the file.
    package let digest: ImageDigest
    /// Columns, after EXIF orientation.
    package let width: Int
    /// Rows, after EXIF orientation.
    package let height: Int
    /// Where the bytes are.
    package let origin: Origin
}

/// Reads and hashes picture files for submitters: outside the cooperative pool, each file once while it stays the same.
///
/// Only the head of a picture is looked at; what is wrong with its pixels the encoder finds.
package struct PictureFiles: Sendable {
    /// Redis holds no larger value.
    package static let largestFile = 512 << 20

    private let readers: [PictureReader]

    /// Reads so many files at a time and has `decoder` look at them.
    ///
    /// With other levels than ``Levels/auto`` a picture of 16 bits is submitted as the 8-bit PNG that its window makes
    /// of it: another picture with a content hash of its own, so that its embedding is never taken for that of the file
    /// as it is.
    package init(readers count: Int = 4, decoder: ImageDecoder = ImageDecoder()) {
        readers = (0..<max(1, count)).map { _ in PictureReader(decoder) }
    }

    /// The picture in a file.
    ///
    /// - Throws: ``ImageError``: the file is missing, a directory, empty, too large or no picture.
    package func picture(at path: String) async throws -> Picture {
        // The same path always goes to the same reader, which remembers it.
        var hasher = Hasher()
        hasher.combine(path)
        return try await readers[Int(UInt(bitPattern: hasher.finalize()) % UInt(readers.count))].picture(at: path)
    }

    /// The picture in memory.
    package func picture(in bytes: [UInt8], named name: String) async throws -> Picture {
        try await readers[Int.random(in: 0..<readers.count)].picture(in: bytes, named: name)
    }

    /// The bytes of a picture.
    ///
    /// - Throws: ``ChangedPicture`` where the file is another than when it was hashed.
    package func bytes(of picture: Picture) async throws -> RedisBytes {
        switch picture.origin {
        case .memory(let bytes): bytes
        case .file(let path):
            try await readers[Int.random(in: 0..<readers.count)].bytes(at: path, expecting: picture.digest)
        }
    }
}

/// A picture that changed between hashing and sending.
package struct ChangedPicture: ReportableError {
    /// The file.
    package let file: String
    /// What happened and what to do.
    package var report: ErrorReport {
        ErrorReport(
            .input, "changed-picture", at: file, "the file was changed while it was being submitted",
            remedy: "submit it again")
    }

    /// The report in one line.
    package var description: String { report.text }
}

/// One thread that reads pictures.
private actor PictureReader {
    /// What tells a changed file from the one that was hashed.
    private struct Identity: Hashable {
        let device: UInt
        let inode: UInt
        let size: Int
        let seconds: Int
        let nanoseconds: Int
    }

    private let thread = BlockingExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private let decoder: ImageDecoder
    private var known = LeastRecentlyUsed<String, (Identity, Picture)>(limit: 4096)

    init(_ decoder: ImageDecoder) { self.decoder = decoder }

    func picture(at path: String) throws -> Picture {
        var status = stat()
        var identity: Identity?
        if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG {
            identity = Identity(
                device: UInt(status.st_dev), inode: UInt(status.st_ino), size: Int(status.st_size),
                seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec)
            if let (before, picture) = known.value(for: path), before == identity { return picture }
        }
        let bytes = try windowed(decoder.contents(ofFile: path), named: path)
        let picture = try picture(bytes, named: path, origin: .file(path))
        if let identity { known.insert((identity, picture), for: path, cost: 1) }
        return picture
    }

    func picture(in bytes: [UInt8], named name: String) throws -> Picture {
        let bytes = try windowed(bytes, named: name)
        return try picture(bytes, named: name, origin: .memory(RedisBytes(bytes)))
    }

    func bytes(at path: String, expecting digest: ImageDigest) throws -> RedisBytes {
        let bytes = try windowed(decoder.contents(ofFile: path), named: path)
        guard bytes.withUnsafeBytes({ ImageDigest(ofFile: $0) }) == digest else { throw ChangedPicture(file: path) }
        return RedisBytes(bytes)
    }

    /// The file itself, or what a window makes of its 16 bits.
    private func windowed(_ bytes: [UInt8], named name: String) throws -> [UInt8] {
        guard decoder.levels != .auto, try decoder.header(of: bytes, named: name).isDeep else { return bytes }
        return try PNGWriter.encode(try decoder.decode(bytes, named: name), named: name)
    }

    private func picture(_ bytes: [UInt8], named name: String, origin: Picture.Origin) throws -> Picture {
        guard bytes.count < PictureFiles.largestFile else { throw OversizedPicture(file: name, bytes: bytes.count) }
        let header = try decoder.header(of: bytes, named: name)
        let digest = bytes.withUnsafeBytes { ImageDigest(ofFile: $0) }
        return Picture(digest: digest, width: header.width, height: header.height, origin: origin)
    }
}

/// A picture file that Redis cannot hold.
struct OversizedPicture: ReportableError {
    let file: String
    let bytes: Int
    var report: ErrorReport {
        ErrorReport(
            .input, "too-large-picture", at: file, "\(bytes) bytes are more than Redis holds in one value (512 MiB)",
            remedy: "save the picture as JPEG")
    }

    /// The report in one line.
    var description: String { report.text }
}
