import Glibc
import Redis
import Synchronization

/// A program that was started, and the event of its end.
public final class ChildProcess: Sendable {
    private struct State: Sendable {
        var status: Int32?
        var waiters: [UnsafeContinuation<Void, Never>] = []
    }

    /// The process identifier.
    public let identifier: Int32
    /// Guards the end and those who wait for it.
    private let state = Mutex(State())

    private init(_ identifier: Int32) { self.identifier = identifier }

    /// Starts a program; its output goes to a file.
    public static func start(_ program: String, _ arguments: [String], output: String) throws -> ChildProcess {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // Sockets that other tests have just made may not yet be marked as ours alone.
        for descriptor in Int32(3)..<1024 { posix_spawn_file_actions_addclose(&actions, descriptor) }
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var identifier: pid_t = 0
        let status = posix_spawn(&identifier, program, &actions, nil, words, environ)
        guard status == 0 else {
            let reason = String(cString: strerror(status))
            throw RedisServerProcess.Failure(description: "\(program) does not start: \(reason)")
        }
        let process = ChildProcess(identifier)
        Survivors.add(identifier)
        _ = BackgroundThread.start {
            let identifier = process.identifier
            var status: Int32 = 0
            while waitpid(identifier, &status, 0) < 0, errno == EINTR {}
            Survivors.remove(identifier)
            process.end(status)
        }
        return process
    }

    /// How it ended: the exit status, or the number of the signal below zero; nil while it runs.
    public var exitStatus: Int32? {
        state.withLock { $0.status }.map { $0 & 0x7F == 0 ? $0 >> 8 & 0xFF : -($0 & 0x7F) }
    }

    /// Whether it has not ended.
    public var isRunning: Bool { state.withLock { $0.status == nil } }

    /// Sends a signal, if it still runs.
    public func signal(_ signal: Int32) {
        // Under the lock, because the identifier may belong to another process once this one was waited for.
        state.withLock { if $0.status == nil { _ = Glibc.kill(identifier, signal) } }
    }

    /// Returns when it has ended.
    public func waitForExit() async {
        await withUnsafeContinuation { continuation in
            let hasEnded = state.withLock { state in
                if state.status == nil { state.waiters.append(continuation) }
                return state.status != nil
            }
            if hasEnded { continuation.resume() }
        }
    }

    private func end(_ status: Int32) {
        let waiters = state.withLock { state in
            state.status = status
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
}

/// The processes that must not outlive the tests, however these end.
///
/// A shell keeps the list. It reads from a pipe whose other end is here alone, so it sees the end of the tests even if
/// they are killed, and kills what is left.
private enum Survivors {
    private static let script = """
        trap '' INT TERM HUP
        while read -r change process; do
            case $change in
            +) left="$left $process " ;;
            -) left="${left%% $process *} ${left#* $process }" ;;
            esac
        done
        [ -z "${left# }" ] || kill -9 $left
        """

    /// Guards the writing end of the pipe; negative before the shell was started.
    private static let pipeEnd = Mutex<Int32>(-1)

    static func add(_ identifier: Int32) { tell("+ \(identifier)\n") }

    static func remove(_ identifier: Int32) { tell("- \(identifier)\n") }

    private static func tell(_ line: String) {
        pipeEnd.withLock { end in
            if end < 0 { end = startShell() }
            _ = Array(line.utf8).withUnsafeBytes { write(end, $0.baseAddress, $0.count) }
        }
    }

    private static func startShell() -> Int32 {
        var ends: (Int32, Int32) = (-1, -1)
        withUnsafeMutablePointer(to: &ends) {
            $0.withMemoryRebound(to: Int32.self, capacity: 2) { _ = pipe($0) }
        }
        for end in [ends.0, ends.1] { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends.0, 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        for descriptor in Int32(3)..<1024 { posix_spawn_file_actions_addclose(&actions, descriptor) }
        var words: [UnsafeMutablePointer<CChar>?] = (["sh", "-c", script] as [String]).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var identifier: pid_t = 0
        _ = posix_spawn(&identifier, "/bin/sh", &actions, nil, words, environ)
        close(ends.0)
        return ends.1
    }
}

/// Folders that tests make and remove.
enum TemporaryFolder {
    /// Removes a folder and what is in it.
    static func remove(_ folder: String) {
        guard let directory = opendir(folder) else { return }
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name == "." || name == ".." { continue }
            let path = "\(folder)/\(name)"
            if entry.pointee.d_type == UInt8(DT_DIR) { remove(path) } else { unlink(path) }
        }
        closedir(directory)
        rmdir(folder)
    }
}
