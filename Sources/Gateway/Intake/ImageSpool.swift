import Glibc
import HTTPTypes
import Hashing
import Imaging
import NIOCore
import Platform
import Redis
import Segmentation

/// Takes a body as it arrives: hashes it, and keeps it in a file without a name until it is whole.
///
/// So an upload costs the memory of one chunk, however large the picture is; the file vanishes with the spool, also where
/// the process is killed.
actor ImageSpool {
    private let thread = BlockingExecutor()
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private let descriptor: Int32
    /// Under which this process may open the file again.
    nonisolated var path: String { "/proc/self/fd/\(descriptor)" }
    private var hash = Streaming()
    private(set) var count = 0

    /// A non-copyable hash behind a reference, as an actor's state may not be consumed.
    private struct Streaming: ~Copyable {
        var hash: SHA256? = SHA256()
    }

    /// A spool in a folder for temporary files.
    init(folder: String) throws {
        let name = "\(folder)/kirie-upload-\(String(UInt64.random(in: .min ... .max), radix: 36))"
        let descriptor = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw SpoolError(folder: folder, code: errno) }
        unlink(name)
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Adds the next bytes.
    func append(_ chunk: ByteBuffer) throws {
        try chunk.withUnsafeReadableBytes { bytes in
            hash.hash?.update(bytes)
            var at = 0
            while at < bytes.count {
                let written = write(descriptor, bytes.baseAddress.map { $0 + at }, bytes.count - at)
                if written < 0 {
                    if errno == EINTR { continue }
                    throw SpoolError(folder: "the folder for temporary files", code: errno)
                }
                at += written
            }
            count += bytes.count
        }
    }

    /// Has `body` write the file by itself, and takes what it wrote.
    func fill(_ body: @Sendable (Int32) async throws -> Void) async throws {
        try await body(descriptor)
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SpoolError(folder: "the spool", code: errno) }
        count = Int(status.st_size)
        if count > 0 { try mapped { hash.hash?.update($0) } }
    }

    /// What the picture is, when all of it is there: its content's name and its size.
    func finish(_ decoder: ImageDecoder) throws -> (digest: ImageDigest, width: Int, height: Int) {
        guard count > 0 else {
            throw Problem(.unprocessableContent, "no-picture", "the body is empty: send the bytes of a picture")
        }
        guard let digest = hash.hash.take()?.finalize() else {
            throw SpoolError(folder: "the spool", code: EINVAL)
        }
        let header = try mapped { try decoder.header(of: $0, named: "the picture") }
        return (ImageDigest(bytes: digest.bytes), header.width, header.height)
    }

    /// How many lines there are.
    func lineCount() throws -> Int {
        if count == 0 { return 0 }
        return try mapped { bytes in bytes.count { $0 == 0x0A } + (bytes.last == 0x0A ? 0 : 1) }
    }

    /// A stretch of the bytes.
    func part(from offset: Int, atMost limit: Int) throws -> RedisBytes {
        let size = max(0, min(limit, count - offset))
        return try RedisBytes(count: size) { memory in
            var at = 0
            while at < size {
                let read = pread(descriptor, memory.baseAddress.map { $0 + at }, size - at, off_t(offset + at))
                if read < 0, errno == EINTR { continue }
                guard read > 0 else { throw SpoolError(folder: "the spool", code: read < 0 ? errno : EIO) }
                at += read
            }
        }
    }

    private func mapped<Value>(_ body: (UnsafeRawBufferPointer) throws -> Value) throws -> Value {
        guard let memory = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), memory != MAP_FAILED else {
            throw SpoolError(folder: "the spool", code: errno)
        }
        defer { munmap(memory, count) }
        return try body(UnsafeRawBufferPointer(start: memory, count: count))
    }
}

/// A picture that could not be kept while it came.
struct SpoolError: ReportableError {
    let folder: String
    let code: Int32
    var report: ErrorReport {
        let reason = String(cString: strerror(code))
        // A full disk is emptied again; nothing is wrong with the picture.
        return code == ENOSPC || code == EDQUOT
            ? ErrorReport(
                .comeBackLater, "no-space", at: folder, reason, remedy: "come back later", retryAfter: .seconds(5))
            : ErrorReport(.ours, "spool", at: folder, reason)
    }
    var description: String { report.text }
}
