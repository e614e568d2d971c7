import CLinux
import Glibc
import Synchronization

/// A program that was started, and the event of its end.
///
/// It does not outlive this process, however that ends: see ``ProcessWill``.
package final class ChildProcess: Sendable {
    /// How a process ended.
    package enum Exit: Sendable, Hashable, CustomStringConvertible {
        /// With this status.
        case status(Int32)
        /// By this signal.
        case signal(Int32)

        /// For logs.
        package var description: String {
            switch self {
            case .status(let status): "exit status \(status)"
            case .signal(let signal): "signal \(signal) (\(String(cString: strsignal(signal))))"
            }
        }
    }

    /// Where what the process prints goes.
    package enum Output: Sendable {
        /// To the end of a file.
        case file(String)
        /// To where this process prints.
        case inherited
    }

    /// How a process is started.
    package struct Options: Sendable {
        /// Where what it prints goes.
        package var output: Output = .inherited
        /// Whether it has a process group of its own, so that Ctrl-C does not reach it.
        package var hasOwnGroup = false
        /// What it gets when this process is gone.
        package var signalWhenOrphaned: Int32 = SIGKILL
        /// Environment variables beside those of this process, or in their place.
        package var environment: [String: String] = [:]

        /// The defaults, and where what it prints goes.
        package init(output: Output = .inherited) { self.output = output }
    }

    /// A program that the system does not start.
    package struct StartFailure: ReportableError, Sendable {
        /// Which, and why.
        package let description: String
        /// A program that is missing, or a system that has no room for a process.
        package var report: ErrorReport { ErrorReport(.ours, "process-not-started", description) }
    }

    private struct State: Sendable {
        var exit: Exit?
        var waiters: [UnsafeContinuation<Void, Never>] = []
    }

    /// The process identifier.
    package let identifier: Int32
    /// Guards the end and those who wait for it.
    private let state = Mutex(State())

    private init(_ identifier: Int32) { self.identifier = identifier }

    /// Starts a program, named by its path.
    package static func start(
        _ program: String, _ arguments: [String], _ options: Options = Options()
    ) throws(StartFailure) -> ChildProcess {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        if case .file(let path) = options.output {
            posix_spawn_file_actions_addopen(&actions, 1, path, O_WRONLY | O_CREAT | O_APPEND, 0o600)
            posix_spawn_file_actions_adddup2(&actions, 1, 2)
        }
        // Libraries make sockets that are marked as ours alone a moment later, or never.
        Descriptors.closeAllButStandard(&actions)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var flags = Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK)
        if options.hasOwnGroup { flags |= Int16(POSIX_SPAWN_SETPGROUP) }
        posix_spawnattr_setflags(&attributes, flags)
        posix_spawnattr_setpgroup(&attributes, 0)
        // What this process ignores or blocks is its own affair.
        var signals = sigset_t()
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)

        let words = CStrings([program] + arguments)
        let variables = CStrings(Self.environment(with: options.environment))
        var identifier: pid_t = 0
        let status = posix_spawn(&identifier, program, &actions, &attributes, words.pointers, variables.pointers)
        guard status == 0 else {
            throw StartFailure(description: "\(program) does not start: \(String(cString: strerror(status)))")
        }
        let process = ChildProcess(identifier)
        ProcessWill.add(identifier, signal: options.signalWhenOrphaned)
        _ = BackgroundThread.start {
            let identifier = process.identifier
            var status: Int32 = 0
            while waitpid(identifier, &status, 0) < 0, errno == EINTR {}
            ProcessWill.remove(identifier)
            // The macros WIFSIGNALED and WEXITSTATUS: the low seven bits are the signal, the next byte the status.
            process.end(status & 0x7f == 0 ? .status(status >> 8 & 0xff) : .signal(status & 0x7f))
        }
        return process
    }

    /// Whether it has not ended.
    package var isRunning: Bool { exit == nil }

    /// How it ended; nil while it runs.
    package var exit: Exit? { state.withLock { $0.exit } }

    /// Sends a signal, if it still runs.
    package func signal(_ signal: Int32) {
        // Under the lock, because the identifier may belong to another process once this one was waited for.
        state.withLock { if $0.exit == nil { _ = Glibc.kill(identifier, signal) } }
    }

    /// Returns when it has ended.
    @discardableResult
    package func waitForExit() async -> Exit {
        await withUnsafeContinuation { continuation in
            let hasEnded = state.withLock { state in
                if state.exit == nil { state.waiters.append(continuation) }
                return state.exit != nil
            }
            if hasEnded { continuation.resume() }
        }
        return exit ?? .status(0)
    }

    private func end(_ exit: Exit) {
        let waiters = state.withLock { state in
            state.exit = exit
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    private static func environment(with changes: [String: String]) -> [String] {
        var variables: [String] = []
        var place = environ
        while let entry = place.pointee {
            let text = String(cString: entry)
            if changes[String(text.prefix { $0 != "=" })] == nil { variables.append(text) }
            place = place.advanced(by: 1)
        }
        return variables + changes.map { "\($0.key)=\($0.value)" }
    }
}

/// An array of C strings that ends with a null pointer, as `exec` takes it.
private final class CStrings {
    let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let count: Int

    init(_ texts: [String]) {
        count = texts.count
        pointers = .allocate(capacity: texts.count + 1)
        for (index, text) in texts.enumerated() { pointers[index] = strdup(text) }
        pointers[texts.count] = nil
    }

    deinit {
        for index in 0..<count { free(pointers[index]) }
        pointers.deallocate()
    }
}

extension ChildProcess {
    /// The program that runs here, for children of the same one.
    package static var ownProgram: String { resolvedPath("/proc/self/exe") ?? "kirie" }
}
