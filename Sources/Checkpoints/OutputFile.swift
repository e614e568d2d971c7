import Glibc

/// A file that appears under its name complete or not at all: it is written beside the target and renamed.
///
/// Whatever ends the writing early, an error included, removes what was written.
package struct OutputFile: ~Copyable {
    private let target: String
    private let temporary: String
    private let descriptor: Int32
    private var isCommitted = false

    /// Opens a temporary file beside `path`, whose place it takes on ``commit(isDurable:)``.
    package init(replacing path: String) throws(CheckpointError) {
        (target, temporary, descriptor) = try Self.open(beside: path)
    }

    private static func open(
        beside path: String
    ) throws(CheckpointError) -> (target: String, temporary: String, descriptor: Int32) {
        var status = stat()
        var target = path
        if stat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFREG else {
                throw CheckpointError(
                    .unwritable, file: path, "is there and not a regular file", remedy: "Give another output path")
            }
            // A symbolic link stays; what it points to is replaced.
            if let resolved = realpath(path, nil) {
                target = String(cString: resolved)
                free(resolved)
            }
        }
        let number = UInt64.random(in: .min ... .max)
        let temporary = "\(target).\(String(number, radix: 36)).partial"
        let descriptor = Glibc.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw CheckpointError(
                .unwritable, file: path, "cannot be written: \(CheckpointError.text(of: errno))",
                remedy: "Check that the directory is there and may be written to")
        }
        return (target, temporary, descriptor)
    }

    deinit {
        close(descriptor)
        if !isCommitted { unlink(temporary) }
    }

    /// Appends bytes.
    package mutating func write(_ bytes: [UInt8]) throws(CheckpointError) {
        var failure: CheckpointError?
        bytes.withUnsafeBytes { buffer in
            do throws(CheckpointError) { try write(buffer) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// Appends bytes.
    package mutating func write(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) {
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw unwritable("cannot be written") }
            done += count
        }
    }

    /// Gives the file its name.
    ///
    /// - Parameter isDurable: whether the bytes must be on the disk first.
    package consuming func commit(isDurable: Bool) throws(CheckpointError) {
        guard !isDurable || fsync(descriptor) == 0 else { throw unwritable("cannot be written to the disk") }
        guard rename(temporary, target) == 0 else { throw unwritable("cannot take its name") }
        isCommitted = true
    }

    private func unwritable(_ what: String) -> CheckpointError {
        CheckpointError(
            .unwritable, file: target, "\(what): \(CheckpointError.text(of: errno)); nothing was left behind",
            remedy: "Make room or give another output path")
    }

    /// Makes a directory and those above it.
    package static func makeDirectory(_ path: String) throws(CheckpointError) {
        var status = stat()
        if path.isEmpty || stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR { return }
        if let slash = path.lastIndex(of: "/") { try makeDirectory(String(path[..<slash])) }
        guard mkdir(path, 0o777) == 0 || errno == EEXIST else {
            throw CheckpointError(
                .unwritable, file: path, "the directory cannot be made: \(CheckpointError.text(of: errno))",
                remedy: "Give another directory")
        }
    }
}
