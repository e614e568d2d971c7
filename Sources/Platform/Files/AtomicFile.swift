import Glibc

/// A file that appears under its name complete or not at all: it is written beside the target and renamed.
///
/// Whatever ends the writing early, an error included, removes what was written. A symbolic link keeps pointing where it
/// points; what it points to is replaced.
package struct AtomicFile: ~Copyable {
    /// The file that is replaced: where a link at the path leads.
    package let target: String
    /// Where the bytes are until they get their name.
    package let temporary: String
    private let path: String
    private let descriptor: Int32
    private var ownsTemporary = true

    /// Opens a temporary file beside `path`.
    ///
    /// - Throws: ``FileFault``: the place cannot be written to, or holds something that is no regular file.
    package init(replacing path: String) throws(FileFault) {
        let target = try Self.target(of: path)
        let temporary = TemporaryName.unique(beside: target, ending: "partial")
        let descriptor = Platform.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw FileFault(path: path, reason: .system(errno), work: .writing) }
        self.path = path
        self.target = target
        self.temporary = temporary
        self.descriptor = descriptor
    }

    /// Where a file at `path` would lie: behind the link, if there is one.
    package static func target(of path: String) throws(FileFault) -> String {
        // The system's own verdict on a name that it would not take, before it is cut for the temporary file.
        var status = stat()
        guard stat(path, &status) == 0 else {
            guard errno == ENOENT else { throw FileFault(path: path, reason: .system(errno), work: .writing) }
            return path
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFDIR: throw FileFault(path: path, reason: .directory, work: .writing)
        default:
            throw FileFault(
                path: path, reason: .special(FileFault.kind(of: status.st_mode) ?? "no regular file"), work: .writing)
        }
        return resolvedPath(path) ?? path
    }

    deinit {
        close(descriptor)
        if ownsTemporary { unlink(temporary) }
    }

    /// Appends bytes.
    package mutating func write(_ bytes: [UInt8]) throws(FileFault) {
        var failure: FileFault?
        bytes.withUnsafeBytes { buffer in
            do throws(FileFault) { try write(buffer) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// Appends bytes.
    package mutating func write(_ bytes: UnsafeRawBufferPointer) throws(FileFault) {
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw FileFault(path: path, reason: .system(errno), work: .writing) }
            done += count
        }
    }

    /// Returns when what was written is on the disk.
    package func synchronize() throws(FileFault) {
        guard fsync(descriptor) == 0 else { throw FileFault(path: path, reason: .system(errno), work: .writing) }
    }

    /// Gives the file its name; with `isDurable` the bytes are on the disk first.
    package consuming func commit(isDurable: Bool = false) throws(FileFault) {
        if isDurable { try synchronize() }
        guard rename(temporary, target) == 0 else {
            throw FileFault(path: path, reason: .system(errno), work: .writing)
        }
        ownsTemporary = false
    }

    /// A whole file at once.
    package static func write(_ bytes: [UInt8], to path: String, isDurable: Bool = false) throws(FileFault) {
        var file = try AtomicFile(replacing: path)
        try file.write(bytes)
        try file.commit(isDurable: isDurable)
    }
}
