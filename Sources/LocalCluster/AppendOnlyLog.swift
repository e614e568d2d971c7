import Glibc
import Platform
import Terminals

/// The append-only log of a `kirie up`, which is looked at before each start of its redis-server.
///
/// A kill of Redis or of the machine may cut it off in the middle of a transaction. Redis (7.0.15) cuts only the last,
/// incomplete command of that off at its next start, and appends to the transaction's first half: the start after that
/// does the half together with what came behind it, or drops both. So the half is taken out first, by Redis's own tool.
package struct AppendOnlyLog: Sendable {
    /// What a repair of the log needs to know and to have.
    package struct Repair: Sendable {
        /// The program `redis-check-aof`; nil where it is not installed.
        package let tool: String?
        /// What that prints is added to this file.
        package let toolLog: String
        /// When the log is flushed, in Redis's words: it decides what can be missing.
        package let appendFsync: String
        /// Where sentences go.
        package let complain: @Sendable (String) -> Void

        /// A repair with all its parts.
        package init(
            tool: String?, toolLog: String, appendFsync: String,
            complain: @escaping @Sendable (String) -> Void = { Terminal.complain("kirie up: \($0)") }
        ) {
            self.tool = tool
            self.toolLog = toolLog
            self.appendFsync = appendFsync
            self.complain = complain
        }
    }

    /// Where the log's files are.
    private let path: String

    /// The log in the data folder of a redis-server.
    package init(dataFolder: String) { path = "\(dataFolder)/appendonlydir" }

    private var manifest: String { "\(path)/appendonly.aof.manifest" }

    /// Takes what a kill left of a command or of a transaction out of the end of the log, of which a copy is kept.
    ///
    /// No server may write to it meanwhile. A log that ends as it should is not touched.
    /// - Throws: ``ClusterFolderError`` where the log is damaged elsewhere than at its end, or cannot be repaired: it
    ///   is as it was then. `FileFault` where it cannot be read, or there is no room for the copy.
    package func mend(_ repair: Repair) async throws {
        let files = try increments()
        for (index, file) in files.enumerated() {
            let content = try AppendOnlyFile(path: file)
            switch content.end {
            case .whole: break
            case .damaged(let offset): throw damage(file, offset, of: content.count, isLast: index == files.count - 1)
            case .cut(let offset, let commands, let isTransaction):
                guard index == files.count - 1 else { throw damage(file, offset, of: content.count, isLast: false) }
                try await cut(file, at: offset, of: content.count, isTransaction: isTransaction, repair)
                repair.complain(
                    """
                    Redis's log \(file) ended in the middle of a \(isTransaction ? "transaction" : "command"), as a \
                    kill leaves it: its last \(content.count - offset) bytes, from byte \(offset) on, were cut off \
                    (\(Self.list(commands))). What they say was not done, and was never confirmed to who asked for it: \
                    jobs that they would have accepted are to be submitted again. \(Self.loss(repair.appendFsync))The \
                    file as it was: \(Self.copy(of: file))
                    """)
            }
            if let offset = content.halfTransaction {
                repair.complain(
                    """
                    Redis's log \(file) has half a transaction at byte \(offset), cut off before an earlier start: \
                    Redis does it with the one behind it at each start. Have the log written anew when the cluster \
                    runs: redis-cli -s SOCKET BGREWRITEAOF
                    """)
            }
        }
    }

    /// The files of commands that the manifest names, in their order; none where there is no log yet.
    private func increments() throws -> [String] {
        guard access(manifest, F_OK) == 0 else { return [] }
        let descriptor = try InputFile.open(manifest)
        defer { close(descriptor) }
        // A line for each file, of which there are three or four.
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let count = read(descriptor, &buffer, buffer.count)
        guard count >= 0 else { throw FileFault(path: manifest, reason: .system(errno)) }
        return String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n").compactMap { line in
            // file appendonly.aof.1.incr.aof seq 1 type i
            let words = line.split(separator: " ")
            guard words.count >= 6, words[0] == "file", words[4] == "type", words[5] == "i" else { return nil }
            return "\(path)/\(words[1])"
        }
    }

    /// Has Redis's tool cut a file, and puts it back where that did anything else.
    private func cut(
        _ file: String, at offset: Int, of count: Int, isTransaction: Bool, _ repair: Repair
    ) async throws {
        guard let tool = repair.tool else {
            throw ClusterFolderError(
                path: file,
                reason: """
                    it ends in the middle of a \(isTransaction ? "transaction" : "command"), as a kill of Redis leaves \
                    it, and there is no redis-check-aof to mend it: install it (Debian: apt-get install redis-tools) \
                    and start again
                    """)
        }
        let copy = Self.copy(of: file)
        try Self.copy(file, to: copy, count: count)
        let check = try ChildProcess.start(
            "/bin/sh", ["-c", "echo y | \"$0\" --fix \"$1\"", tool, manifest], .init(output: .file(repair.toolLog)))
        let exit = await check.waitForExit()
        var status = stat()
        guard exit == .status(0), stat(file, &status) == 0, status.st_size == offset else {
            guard rename(copy, file) == 0 else {
                throw FileFault(path: file, reason: .system(errno), work: .writing)
            }
            throw ClusterFolderError(
                path: file,
                reason: """
                    it ends in the middle of a \(isTransaction ? "transaction" : "command"), and redis-check-aof does \
                    not mend that (\(exit)): the file is as it was; see \
                    \(repair.toolLog), and look for another fault in the log by redis-check-aof \(manifest)
                    """)
        }
    }

    private func damage(_ file: String, _ offset: Int, of count: Int, isLast: Bool) -> ClusterFolderError {
        let way =
            isLast
            ? "or give up all that was done since: redis-check-aof --fix \(manifest) cuts off the last "
                + "\(count - offset) bytes, or somewhat more"
            : "for no tool mends a file of it that another one follows"
        return ClusterFolderError(
            path: file,
            reason: """
                Redis's log is damaged at byte \(offset) of \(count), and more follows: that is not what a kill \
                leaves, so nothing was changed and Redis is not started. Look after the disk; keep a copy of \(path); \
                then put back a backup of that folder, \(way)
                """)
    }

    private static func list(_ commands: [String]) -> String {
        let shown = commands.prefix(8).joined(separator: ", ")
        return commands.count > 8 ? "\(shown) and \(commands.count - 8) more" : shown
    }

    /// What else may be gone, which the file cannot tell.
    private static func loss(_ appendFsync: String) -> String {
        switch appendFsync {
        case "always": ""
        case "everysec":
            "Where the machine itself went down, up to a second of what was confirmed may be gone with them (not with "
                + "--appendfsync always). "
        default: "Where the machine itself went down, what was not flushed yet is gone with them. "
        }
    }

    private static func copy(of file: String) -> String { "\(file).before-repair" }

    /// Of a file the latest copy is kept: it appears when it is whole and on the disk.
    private static func copy(_ file: String, to target: String, count: Int) throws(FileFault) {
        let descriptor = try InputFile.open(file)
        defer { close(descriptor) }
        guard let memory = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), memory != MAP_FAILED else {
            throw FileFault(path: file, reason: .system(errno))
        }
        defer { munmap(memory, count) }
        var copy = try AtomicFile(replacing: target)
        try copy.write(UnsafeRawBufferPointer(start: memory, count: count))
        try copy.commit(isDurable: true)
    }
}
