import Downloads
import Glibc
import Hashing
import Platform

extension ModelCatalog.Model {
    /// What a download tells about itself.
    public enum Progress: Sendable, Hashable {
        /// So many of the file's bytes are there.
        case received(bytes: Int)
        /// So many of the file's bytes were compared with the published hash, or hashed to pin them.
        case verified(bytes: Int)
        /// No hash is published: that of what was fetched is written down, and what is fetched later has to have it.
        case pinned(sha256: String)
    }

    /// Where the model lies in `directory` once it is fetched.
    public func path(in directory: String) -> String { "\(directory)/\(file)" }

    /// Whether all of the model's files are in `directory`; their content is not looked at.
    public func isThere(in directory: String) -> Bool {
        parts.allSatisfy { access($0.path(in: directory), R_OK) == 0 }
    }

    /// Downloads the model's files, unless they are there already, and checks each before it gets its name.
    ///
    /// - Parameters:
    ///   - directory: where the file, or the folder with the files, is to be; made if it is not there.
    ///   - progress: called often, on the calling thread, with the file that it is about.
    /// - Returns: the file's path, or the folder's.
    /// - Throws: see ``ModelCatalog/Part/fetch(into:progress:)``.
    public func fetch(
        into directory: String, progress: @escaping (ModelCatalog.Part, Progress) -> Void = { _, _ in }
    ) throws(CheckpointError) -> String {
        for part in parts { _ = try part.fetch(into: directory) { progress(part, $0) } }
        return path(in: directory)
    }
}

extension ModelCatalog.Part {
    /// What a download tells about itself.
    public typealias Progress = ModelCatalog.Model.Progress

    /// Bytes that are read of a file whose size is not published.
    private static let largestUnknown = 16 << 30

    /// Where the file lies in `directory` once it is fetched.
    public func path(in directory: String) -> String { "\(directory)/\(file)" }

    /// Where its hash is written down if none is published, in the form of `sha256sum`.
    public func pin(in directory: String) -> String { "\(directory)/\(file).sha256" }

    /// Downloads the file, unless it is there already, and checks it before it gets its name.
    ///
    /// What has arrived is kept as `<file>.part`; a transfer that is cut off goes on from there, within this call for
    /// as long as every attempt brings something, and in the next call after that. Of a file whose size is not published
    /// nothing is kept.
    ///
    /// - Parameters:
    ///   - directory: where the file is to be; made if it is not there.
    ///   - progress: called often, on the calling thread.
    /// - Returns: the file's path.
    /// - Throws: `.download`, `.unwritable`, or `.hashMismatch`, after which nothing of the download is left.
    public func fetch(
        into directory: String, progress: @escaping (Progress) -> Void = { _ in }
    ) throws(CheckpointError) -> String {
        let path = path(in: directory)
        let pinned = sha256 == nil ? try pinnedHash(in: directory) : nil
        let wanted = sha256 ?? pinned
        if let wanted, let there = try? CheckpointFile(path: path), there.bytes.count == bytes ?? there.bytes.count,
            try digest(of: there, progress: progress) == wanted
        {
            return path
        }
        try OutputFile.makeDirectory(
            path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/"))
        let part = try PartialFile(path: TemporaryName.lasting(beside: path, ending: "part"))
        if bytes == nil || part.byteCount > bytes ?? 0 { try part.clear() }
        if part.byteCount < bytes ?? Self.largestUnknown { try receive(into: part, progress: progress) }

        let found = try digest(of: try CheckpointFile(path: part.path), progress: progress)
        guard found == wanted ?? found else {
            part.remove()
            let (origin, remedy) =
                sha256 == nil
                ? (
                    "was pinned by the first fetch (\(pin(in: directory)))",
                    "If the publisher says that the file has changed, remove that record and fetch it again"
                ) : ("is published", "Fetch it again; if this repeats, do not use the file")
            throw CheckpointError(
                .hashMismatch, file: address,
                "has the SHA-256 \(found) where \(wanted ?? "") \(origin); nothing was kept", remedy: remedy)
        }
        if wanted == nil {
            // First the hash: a file without one would be taken for fetched by another program.
            try writePin(found, in: directory)
            progress(.pinned(sha256: found))
        }
        try part.commit(as: path)
        return path
    }

    /// The hash that an earlier fetch wrote down; nil where there was none.
    private func pinnedHash(in directory: String) throws(CheckpointError) -> String? {
        let path = pin(in: directory)
        guard access(path, F_OK) == 0 else { return nil }
        let record = try CheckpointFile(path: path)
        let text = String(decoding: record.bytes.prefix(64), as: UTF8.self)
        guard record.bytes.count < 4096, Fingerprint(hexadecimal: text) != nil else {
            throw CheckpointError(
                .corrupt, file: path, "is no record of a SHA-256",
                remedy: "Remove it to trust what the next fetch brings")
        }
        return text.lowercased()
    }

    private func writePin(_ hash: String, in directory: String) throws(CheckpointError) {
        let path = pin(in: directory)
        let name = file.split(separator: "/").last.map(String.init) ?? file
        do throws(FileFault) {
            try AtomicFile.write(Array("\(hash)  \(name)\n".utf8), to: path)
        } catch {
            throw CheckpointError(.unwritable, file: path, error.clause, remedy: error.remedy)
        }
    }

    private func receive(
        into part: borrowing PartialFile, progress: @escaping (Progress) -> Void
    ) throws(CheckpointError) {
        func failed(_ reason: String, remedy: String) -> CheckpointError {
            CheckpointError(.download, file: address, reason, remedy: remedy)
        }
        let bytes = bytes ?? Self.largestUnknown
        let isKnown = self.bytes != nil
        // Whether all that is there came from this server just now.
        var isOwn = part.byteCount == 0
        while true {
            let before = part.byteCount
            let outcome = CurlTransfer.run(address, to: part.descriptor, at: before, limit: bytes) {
                progress(.received(bytes: $0))
            }
            let after = part.byteCount
            switch outcome {
            case .complete where after == bytes || !isKnown && after > 0: return
            case .complete, .interrupted:
                // What is of no known size is never gone on with.
                if after > before, isKnown { continue }
                let reason = if case .interrupted(let reason) = outcome { reason } else { "the server sent too little" }
                guard isKnown else { throw failed("stopped at \(after) bytes: \(reason)", remedy: "Fetch it again") }
                throw failed(
                    "stopped at \(after) of \(bytes) bytes: \(reason)", remedy: "Fetch it again to go on from there")
            case .forbiddenAddress: throw failed("may not be fetched", remedy: "Give another address")
            case .status(416):
                guard !isOwn else {
                    throw failed(
                        "the server has \(before) bytes where \(bytes) are published", remedy: "Try again later")
                }
                // What was there before this call is no beginning of what the server has.
                try part.clear()
                isOwn = true
            case .status(let status):
                throw failed("the server answered \(status)", remedy: "Check the address, or try again later")
            case .tooLong:
                part.remove()
                throw CheckpointError(
                    .hashMismatch, file: address,
                    "has more than the \(isKnown ? "published" : "allowed") \(bytes) bytes; nothing was kept",
                    remedy: "Fetch it again; if this repeats, do not use the file")
            case .unwritable(let number):
                throw CheckpointError(
                    .unwritable, file: part.path, "cannot be written: \(CheckpointError.text(of: number))",
                    remedy: "Make room and fetch it again to go on from there")
            case .noLibrary:
                throw failed("libcurl.so.4 is not installed", remedy: "Run apt-get install libcurl4")
            }
        }
    }

    private func digest(
        of file: CheckpointFile, progress: (Progress) -> Void
    ) throws(CheckpointError) -> String {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { buffer.deallocate() }
        var hash = SHA256()
        for start in stride(from: 0, to: file.bytes.count, by: buffer.count) {
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(buffer.count, file.bytes.count - start)])
            try file.read(at: start, into: piece)
            hash.update(UnsafeRawBufferPointer(piece))
            progress(.verified(bytes: start + piece.count))
        }
        return Hexadecimal.text(of: hash.finalize().bytes)
    }
}

/// The beginning of a download, kept between attempts; locked, so that two processes do not write it at once.
private struct PartialFile: ~Copyable {
    let path: String
    let descriptor: Int32

    init(path: String) throws(CheckpointError) {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw CheckpointError(
                .unwritable, file: path, "cannot be written: \(CheckpointError.text(of: errno))",
                remedy: "Check that the directory may be written to")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw CheckpointError(
                .unwritable, file: path, "is being written by another process", remedy: "Wait for its end")
        }
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    var byteCount: Int {
        var status = stat()
        return fstat(descriptor, &status) == 0 ? Int(status.st_size) : 0
    }

    func clear() throws(CheckpointError) {
        guard ftruncate(descriptor, 0) == 0 else { throw unwritable("cannot be emptied") }
    }

    func remove() { unlink(path) }

    func commit(as target: String) throws(CheckpointError) {
        guard fsync(descriptor) == 0 else { throw unwritable("cannot be written to the disk") }
        guard rename(path, target) == 0 else { throw unwritable("cannot take its name") }
    }

    private func unwritable(_ what: String) -> CheckpointError {
        CheckpointError(
            .unwritable, file: path, "\(what): \(CheckpointError.text(of: errno))",
            remedy: "Check the directory and its free space")
    }
}
