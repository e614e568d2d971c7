import Glibc
import Synchronization

/// What becomes of the processes that this one started when it is gone, however it ends.
///
/// A shell keeps the list. It reads from a pipe whose other end is here alone, so it sees the end of this process even
/// if it is killed, and signals what is left. (Linux's own PR_SET_PDEATHSIG follows the thread that started the child,
/// and threads come and go.)
enum ProcessWill {
    private static let script = """
        trap '' INT TERM HUP
        while read -r line; do left=$line; done
        for each in $left; do kill -s "${each#*/}" "${each%/*}"; done
        """

    private struct State: Sendable {
        var pipeEnd: Int32 = -1
        var left: [Int32: Int32] = [:]
    }

    /// Guards the list and the writing end of the pipe; negative before the shell was started.
    private static let state = Mutex(State())

    static func add(_ identifier: Int32, signal: Int32) { change { $0[identifier] = signal } }

    static func remove(_ identifier: Int32) { change { $0[identifier] = nil } }

    /// The list goes over whole each time, a line of at most a pipe's buffer: it is short, and needs no protocol.
    private static func change(_ body: (inout [Int32: Int32]) -> Void) {
        state.withLock { state in
            body(&state.left)
            if state.pipeEnd < 0 { state.pipeEnd = startShell() }
            let line = state.left.map { "\($0.key)/\($0.value)" }.joined(separator: " ") + "\n"
            _ = Array(line.utf8).withUnsafeBytes { write(state.pipeEnd, $0.baseAddress, $0.count) }
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
