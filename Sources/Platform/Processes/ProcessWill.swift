import CLinux
import Glibc
import Synchronization

/// What becomes of the processes that this one started when it is gone, however it ends.
///
/// A shell keeps the list. It reads from a pipe whose other end is here alone, so it sees the end of this process even
/// if it is killed, and signals what is left. (Linux's own PR_SET_PDEATHSIG follows the thread that started the child,
/// and threads come and go.)
package enum ProcessWill {
    private static let script = """
        trap '' INT TERM HUP
        while read -r line; do left=$line; done
        for each in $left; do kill -s "${each#*/}" "${each%/*}"; done
        """

    /// A shell that reads the list.
    package struct Shell: Sendable {
        /// Its process identifier.
        package let identifier: Int32
        /// The writing end of the pipe that it reads; to close it is to open the will.
        package let pipeEnd: Int32
    }

    private struct State: Sendable {
        var shell: Shell?
        var left: [Int32: Int32] = [:]
    }

    /// Guards the list and the shell; nil before one was started.
    private static let state = Mutex(State())

    static func add(_ identifier: Int32, signal: Int32) { change { $0[identifier] = signal } }

    static func remove(_ identifier: Int32) { change { $0[identifier] = nil } }

    /// The list goes over whole each time, a line of at most a pipe's buffer: it is short, and needs no protocol.
    private static func change(_ body: (inout [Int32: Int32]) -> Void) {
        state.withLock { state in
            body(&state.left)
            if state.shell == nil { state.shell = startShell() }
            guard let shell = state.shell else { return }
            let line = state.left.map { "\($0.key)/\($0.value)" }.joined(separator: " ") + "\n"
            _ = Array(line.utf8).withUnsafeBytes { write(shell.pipeEnd, $0.baseAddress, $0.count) }
        }
    }

    /// Starts a shell; nil where the system has no descriptor or process left for it.
    package static func startShell() -> Shell? {
        guard let ends = Descriptors.pipe() else { return nil }
        defer { close(ends.read) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends.read, 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        Descriptors.closeAllButStandard(&actions)
        var words: [UnsafeMutablePointer<CChar>?] = (["sh", "-c", script] as [String]).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var identifier: pid_t = 0
        guard posix_spawn(&identifier, "/bin/sh", &actions, nil, words, environ) == 0 else {
            close(ends.write)
            return nil
        }
        return Shell(identifier: identifier, pipeEnd: ends.write)
    }
}
