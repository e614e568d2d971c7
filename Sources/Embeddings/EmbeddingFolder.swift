import Glibc
package import Platform
package import Segmentation

/// Embeddings as files of a folder, which may be on a file system that several machines share: a second tier below Redis.
///
/// ```text
/// DIR/5e/5e0b…1f.3f9a…+fp16.kemb            a record, as `kirie encode` writes it, of the key 5e0b…1f:3f9a…:fp16
/// DIR/5e/5e0b…1f.3f9a…+fp16.kemb.damaged    one that was no record when it was read: put aside, the first to go
/// DIR/lock                                  who gives names holds it; its text is the bytes that all of these take
/// ```
/// A record gets its name when all of it is on the disk, so that whoever dies while writing leaves a file of another name,
/// which goes an hour later. What is read is verified; a damaged file counts as absent. Of more bytes than the folder may
/// take those records go that were not read for the longest time. Any number of processes may share a folder; the least
/// of their limits holds.
package struct EmbeddingFolder: Sendable {
    /// What a look for an embedding brings.
    package enum Finding: Sendable {
        /// It is there, and whole.
        case record(EmbeddingRecord)
        /// It is not there.
        case absent
        /// What is there is no record of that key, and was put aside.
        case damaged
    }

    /// Where it is.
    package let path: String
    /// How many bytes its records may take, beside what is being written.
    package let byteLimit: Int
    /// Whether it is only read, and nothing in it changed.
    private let isReadOnly: Bool

    /// So long a file that was not finished is left alone: somebody may be writing it.
    private static let patience = 3600
    private static let ending = "kemb"
    private static let damagedEnding = "kemb.damaged"
    /// No record is larger.
    private static let largest = 1 << 30
    /// So long somebody who gives a name is waited for, who has nothing else to do with the lock.
    private static let lockLimit: Duration = .seconds(2)

    /// A folder, which is made where it is not there, and counted.
    ///
    /// - Throws: `FileFault` where it cannot be made or written to.
    package init(_ path: String, byteLimit: Int) throws(FileFault) {
        self.path = Self.plain(path)
        self.byteLimit = byteLimit
        isReadOnly = false
        try Directory.make(self.path)
        let lock = try Lock(self.path)
        let files = files()
        let total = files.reduce(0) { $0 + $1.size }
        try lock.write(total - evict(files, total: total, to: byteLimit))
        lock.release()
    }

    /// A folder of which nothing is changed, such as one that somebody sent.
    ///
    /// - Throws: `FileFault` where there is none.
    package init(reading path: String) throws(FileFault) {
        self.path = Self.plain(path)
        byteLimit = 0
        isReadOnly = true
        guard let directory = opendir(self.path) else { throw FileFault(path: path, reason: .system(errno)) }
        closedir(directory)
    }

    private static func plain(_ path: String) -> String {
        path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    }

    // MARK: Records

    /// Looks an embedding up, and notes that it was of use.
    package func lookUp(_ key: EmbeddingKey) -> Finding {
        let name = file(of: key)
        switch Self.read(name) {
        case nil: return .absent
        case .success(let record) where record.key == key:
            if !isReadOnly { _ = utimensat(AT_FDCWD, name, nil, 0) }
            return .record(record)
        case .success, .failure:
            if !isReadOnly { putAside(name) }
            return .damaged
        }
    }

    /// An embedding, verified; nil where there is none, or where it is damaged.
    package func record(for key: EmbeddingKey) -> EmbeddingRecord? {
        if case .record(let record) = lookUp(key) { return record }
        return nil
    }

    /// Whether embeddings are there, without reading them.
    package func contains(_ keys: [EmbeddingKey]) -> [Bool] { keys.map { access(file(of: $0), F_OK) == 0 } }

    /// Keeps a record; returns whether it is kept: one that is larger than the folder may be is not.
    ///
    /// When it returns the record is on the disk.
    ///
    /// - Throws: `FileFault` where the disk is full although old records made room, or does not take it.
    @discardableResult
    package func store(_ record: EmbeddingRecord) throws(FileFault) -> Bool {
        guard record.byteCount <= byteLimit else { return false }
        let name = file(of: record.key)
        do throws(FileFault) {
            try write(record, to: name)
        } catch {
            guard error.reason == .system(ENOSPC) || error.reason == .system(EDQUOT) else { throw error }
            // The disk is smaller than the folder may be.
            guard try makeRoom(record.byteCount) > 0 else { throw error }
            try write(record, to: name)
        }
        return true
    }

    /// What is there, by name alone.
    package func keys() -> [EmbeddingKey] { files().compactMap { Self.key(of: $0.name) } }

    /// The bytes of all records.
    package func byteCount() -> Int { files().reduce(0) { $0 + $1.size } }

    /// The same as whoever wrote last left it; nil where nobody did.
    package var countedBytes: Int? {
        let descriptor = Platform.open("\(path)/lock", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        return Self.total(in: descriptor)
    }

    // MARK: Files

    private struct File {
        let name: String
        let size: Int
        /// When it was of use last, in nanoseconds; 0 for one that is of none.
        let used: Int
    }

    private func file(of key: EmbeddingKey) -> String {
        let digest = key.image.hexadecimal
        let model = key.model.text.replacing(":", with: "+")
        return "\(path)/\(digest.prefix(2))/\(digest).\(model).\(Self.ending)"
    }

    private static func key(of file: String) -> EmbeddingKey? {
        let name = file[(file.lastIndex(of: "/").map(file.index(after:)) ?? file.startIndex)...]
        guard name.hasSuffix(".\(ending)"), let dot = name.firstIndex(of: ".") else { return nil }
        let model = name[name.index(after: dot)...].dropLast(ending.count + 1).replacing("+", with: ":")
        return EmbeddingKey("\(name[..<dot]):\(model)")
    }

    private static func folder(of name: String) -> String {
        String(name[..<(name.lastIndex(of: "/") ?? name.endIndex)])
    }

    /// A record, or why it is none; nil where there is no such file.
    private static func read(_ name: String) -> Result<EmbeddingRecord, EmbeddingRecordError>? {
        let descriptor = Platform.open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= largest else {
            return nil
        }
        var isReadable = true
        let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { memory, count in
            while count < memory.count {
                let got = Glibc.read(descriptor, memory.baseAddress.map { $0 + count }, memory.count - count)
                if got < 0, errno == EINTR { continue }
                guard got > 0 else {
                    isReadable = got == 0
                    break
                }
                count += got
            }
        }
        // A disk that does not answer, or another machine that has removed it meanwhile, says nothing about the file.
        guard isReadable else { return nil }
        return Result { () throws(EmbeddingRecordError) in try EmbeddingRecord(copying: bytes) }
    }

    /// All records and what was put aside; what was left unfinished long ago goes.
    private func files() -> [File] {
        var files: [File] = []
        let now = time(nil)
        for folder in Self.names(in: path) where folder.utf8.count == 2 {
            for name in Self.names(in: "\(path)/\(folder)") {
                let whole = "\(path)/\(folder)/\(name)"
                var status = stat()
                guard lstat(whole, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
                let isDamaged = name.hasSuffix(".\(Self.damagedEnding)")
                guard isDamaged || Self.key(of: name) != nil else {
                    let isLeft = name.hasSuffix(".partial") && now - status.st_mtim.tv_sec > Self.patience
                    if isLeft, !isReadOnly { unlink(whole) }
                    continue
                }
                let used = Int(status.st_mtim.tv_sec) * 1_000_000_000 + Int(status.st_mtim.tv_nsec)
                files.append(File(name: whole, size: Int(status.st_size), used: isDamaged ? 0 : used))
            }
        }
        return files
    }

    private static func names(in folder: String) -> [String] {
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    // MARK: Room

    private func write(_ record: EmbeddingRecord, to name: String) throws(FileFault) {
        try Directory.make(Self.folder(of: name))
        var status = stat()
        // A link would lead out of the folder.
        if lstat(name, &status) == 0, status.st_mode & S_IFMT == S_IFLNK { unlink(name) }
        var file = try AtomicFile(replacing: name)
        let fault = record.withUnsafeBytes { bytes -> FileFault? in
            do throws(FileFault) { try file.write(bytes) } catch { return error }
            return nil
        }
        if let fault { throw fault }
        // First the bytes, which takes its time and keeps nobody waiting; then the name, then the folder's word for it.
        try file.synchronize()
        let lock = try Lock(path)
        let change = record.byteCount - (lstat(name, &status) == 0 ? Int(status.st_size) : 0)
        let total = held(lock, beside: name, for: change)
        // Who dies before the name is given leaves a count that is too large: then all are counted sooner.
        try lock.write(total + change)
        try file.commit()
        Self.synchronize(Self.folder(of: name))
        lock.release()
    }

    /// The bytes of all records when there is room for so many more.
    private func held(_ lock: borrowing Lock, beside name: String, for change: Int) -> Int {
        if let total = lock.total(), total + change <= byteLimit { return total }
        let files = files()
        let total = files.reduce(0) { $0 + $1.size }
        guard total + change > byteLimit else { return total }
        // In a folder of many records a twentieth at a time, so that they are not all looked at for each.
        let slack = change > 0 ? byteLimit / 20 / change * change : 0
        return total - evict(files.filter { $0.name != name }, total: total, to: byteLimit - change - slack)
    }

    /// Removes the records that were not read for the longest time until all of them take no more than `limit`.
    private func evict(_ files: [File], total: Int, to limit: Int) -> Int {
        var freed = 0
        for file in files.sorted(by: { ($0.used, $0.name) < ($1.used, $1.name) }) {
            if total - freed <= limit { break }
            if unlink(file.name) == 0 { freed += file.size }
        }
        return freed
    }

    /// Removes old records of at least twice so many bytes; returns of how many.
    private func makeRoom(_ bytes: Int) throws(FileFault) -> Int {
        let lock = try Lock(path)
        let files = files()
        let total = files.reduce(0) { $0 + $1.size }
        let freed = evict(files, total: total, to: max(0, total - 2 * bytes))
        try lock.write(total - freed)
        lock.release()
        return freed
    }

    /// Gives what is no record another name, under which nobody looks for one.
    private func putAside(_ name: String) {
        // Whoever does not get the lock finds it again next time.
        guard let lock = try? Lock(path) else { return }
        _ = rename(name, name.dropLast(Self.ending.count) + Self.damagedEnding)
        lock.release()
    }

    private static func synchronize(_ folder: String) {
        let descriptor = Platform.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        close(descriptor)
    }

    private static func total(in descriptor: Int32) -> Int? {
        var text = [UInt8](repeating: 0, count: 32)
        let count = pread(descriptor, &text, text.count, 0)
        guard count > 0 else { return nil }
        return Int(String(decoding: text[..<count], as: UTF8.self).prefix { $0.isNumber })
    }

    /// The file `lock` of the folder, held as long as this is there.
    private struct Lock: ~Copyable {
        private let descriptor: Int32
        private let name: String

        init(_ folder: String) throws(FileFault) {
            name = "\(folder)/lock"
            descriptor = Platform.open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
            guard descriptor >= 0 else { throw FileFault(path: name, reason: .system(errno), work: .writing) }
            let deadline = ContinuousClock.now + EmbeddingFolder.lockLimit
            while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
                let code = errno
                // One that was stopped while it held it keeps nobody from going on without the folder.
                guard code == EINTR || code == EWOULDBLOCK, ContinuousClock.now < deadline else {
                    close(descriptor)
                    throw FileFault(path: name, reason: .system(code), work: .writing)
                }
                usleep(2000)
            }
        }

        deinit { close(descriptor) }

        /// Lets others have it.
        consuming func release() {}

        /// The bytes of all records, as whoever had the lock last left them; nil where nobody did.
        func total() -> Int? { EmbeddingFolder.total(in: descriptor) }

        func write(_ total: Int) throws(FileFault) {
            // As long as any, so that none is cut where a shorter one stood.
            let digits = "\(max(0, total))"
            let text = Array((digits + String(repeating: " ", count: max(0, 20 - digits.count)) + "\n").utf8)
            guard pwrite(descriptor, text, text.count, 0) == text.count else {
                throw FileFault(path: name, reason: .system(errno), work: .writing)
            }
        }
    }
}
