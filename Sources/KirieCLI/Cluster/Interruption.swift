import Glibc
import UnixSignals

/// Ctrl-C and SIGTERM as events of a command that has something to say or to put in order before it ends.
struct Interruption: Error, CustomStringConvertible {
    let signal: UnixSignal
    var description: String { "interrupted" }
    /// What shells use for a process that a signal ended.
    var exitCode: Int32 { 128 + signal.rawValue }

    private enum Event: Sendable {
        case finished
        case interrupted(UnixSignal)
    }

    /// Runs `body`, whose task the first SIGINT or SIGTERM cancels; a second ends the process at once.
    ///
    /// - Throws: ``Interruption`` when a signal came, after `body` has returned; else what `body` throws.
    static func handling(_ body: @escaping @Sendable () async throws -> Void) async throws {
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
        let work = Task { try await body() }
        let caught: UnixSignal? = try await withThrowingTaskGroup(of: Event.self) { group in
            group.addTask {
                try await work.value
                return .finished
            }
            group.addTask {
                for await signal in signals { return .interrupted(signal) }
                return .finished
            }
            defer { group.cancelAll() }
            guard case .interrupted(let signal)? = try await group.next() else { return nil }
            work.cancel()
            group.addTask {
                for await signal in signals { _exit(128 + signal.rawValue) }
                return .finished
            }
            _ = await work.result
            return signal
        }
        if let caught { throw Interruption(signal: caught) }
    }
}
