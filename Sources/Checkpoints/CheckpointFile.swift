import Glibc
import Platform

/// The bytes of a checkpoint: a file mapped for reading, or memory that a test made.
///
/// Weights are read through the mapping, so that they are shared between processes and cost no copy. What only
/// streams past (a fingerprint) uses ``read(at:into:)``, which leaves nothing resident. A file that is truncated by
/// somebody else while it is mapped kills the process that touches the lost part, as with every mapped file: replace
/// checkpoints by renaming, never in place.
///
/// `@unchecked Sendable`: the mapping and the descriptor are set once in `init` and only read until `deinit`.
package final class CheckpointFile: @unchecked Sendable {
    /// What tells a file from another, and from itself after a change.
    package struct Identity: Hashable, Sendable {
        package let device: UInt64
        package let inode: UInt64
        package let size: Int
        /// The time of the last change in nanoseconds since 1970.
        package let modified: Int
    }

    /// The path as it was given.
    package let path: String
    /// The whole file.
    package let bytes: UnsafeRawBufferPointer
    /// Nil for memory.
    package let identity: Identity?
    private let descriptor: Int32

    /// Maps a file for reading.
    package init(path: String) throws(CheckpointError) {
        func unreadable(_ reason: String) -> CheckpointError {
            CheckpointError(.unreadable, file: path, reason, remedy: "Check the path and its permissions")
        }
        let descriptor: Int32
        do throws(FileFault) { descriptor = try InputFile.open(path) } catch { throw unreadable(error.clause) }
        guard let identity = Self.identity(of: descriptor) else {
            close(descriptor)
            throw unreadable("is not a regular file")
        }
        var mapping = UnsafeRawBufferPointer(start: nil, count: 0)
        if identity.size > 0 {
            let address = mmap(nil, identity.size, PROT_READ, MAP_PRIVATE, descriptor, 0)
            guard let address, address != MAP_FAILED else {
                let reason = CheckpointError.text(of: errno)
                close(descriptor)
                throw unreadable("cannot be mapped: \(reason)")
            }
            mapping = UnsafeRawBufferPointer(start: address, count: identity.size)
        }
        self.path = path
        self.bytes = mapping
        self.identity = identity
        self.descriptor = descriptor
    }

    /// Copies bytes into memory of its own.
    package init(bytes: some Collection<UInt8>, named name: String) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 64)
        memory.copyBytes(from: bytes)
        self.path = name
        self.bytes = UnsafeRawBufferPointer(memory)
        self.identity = nil
        self.descriptor = -1
    }

    deinit {
        if descriptor >= 0 {
            if let address = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: address), bytes.count) }
            close(descriptor)
        } else {
            bytes.deallocate()
        }
    }

    /// Fills `buffer` with the bytes from `offset` on, not through the mapping.
    ///
    /// - Precondition: the range lies inside the file as it was when it was opened.
    package func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(CheckpointError) {
        precondition(offset >= 0 && offset + buffer.count <= bytes.count)
        guard descriptor >= 0 else {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + buffer.count]))
            return
        }
        var done = 0
        while done < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let count = pread(descriptor, rest.baseAddress, rest.count, offset + done)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else {
                throw CheckpointError(
                    .unreadable, file: path, at: "byte \(offset + done)",
                    count < 0 ? "cannot be read: \(CheckpointError.text(of: errno))" : "the file became shorter",
                    remedy: "Replace checkpoints by renaming, never in place, and try again")
            }
            done += count
        }
    }

    /// Gives the pages that hold `range` back to the system; they come back from the file when they are touched.
    package func releasePages(of range: Range<Int>) {
        guard descriptor >= 0, let address = bytes.baseAddress, !range.isEmpty else { return }
        let page = Int(getpagesize())
        let start = range.lowerBound / page * page
        let end = min((range.upperBound + page - 1) / page * page, bytes.count)
        madvise(UnsafeMutableRawPointer(mutating: address + start), end - start, MADV_DONTNEED)
    }

    /// The identity as it is now: it differs from ``identity`` once the file was written to.
    package var currentIdentity: Identity? { descriptor >= 0 ? Self.identity(of: descriptor) : nil }

    private static func identity(of descriptor: Int32) -> Identity? {
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return Identity(
            device: UInt64(status.st_dev), inode: UInt64(status.st_ino), size: Int(status.st_size),
            modified: Int(status.st_mtim.tv_sec) * 1_000_000_000 + Int(status.st_mtim.tv_nsec))
    }
}
