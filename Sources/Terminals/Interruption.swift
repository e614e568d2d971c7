import Glibc
import Synchronization
package import UnixSignals

/// Ctrl-C and SIGTERM as events of a command that has something to say or to put in order before it ends.
package struct Interruption: Error, CustomStringConvertible {
    package let signal: UnixSignal
    package var description: String { "interrupted" }
    /// What shells use for a process that a signal ended.
    package var exitCode: Int32 { 128 + signal.rawValue }

    /// Runs `body`, whose task the first SIGINT or SIGTERM cancels; a second ends the process at once.
    ///
    /// - Throws: ``Interruption`` when a signal came, after `body` has returned; else what `body` throws.
    package static func handling(_ body: @escaping @Sendable () async throws -> Void) async throws {
        let signals = await UnixSignalsSequence(trapping: .sigint, .sigterm)
        let work = Task { try await body() }
        let caught = CaughtSignal()
        try await withThrowingTaskGroup(of: Void.self) { group in
            // The sequence takes one reader only, so one task sees both signals.
            group.addTask {
                for await signal in signals {
                    if !caught.note(signal) { _exit(128 + signal.rawValue) }
                    work.cancel()
                }
            }
            defer { group.cancelAll() }
            let result = await work.result
            if let signal = caught.signal { throw Interruption(signal: signal) }
            try result.get()
        }
    }
}

/// The first signal that came.
private final class CaughtSignal: Sendable {
    private let state = Mutex<UnixSignal?>(nil)

    var signal: UnixSignal? { state.withLock { $0 } }

    /// Whether it is the first.
    func note(_ signal: UnixSignal) -> Bool {
        state.withLock { state in
            defer { state = state ?? signal }
            return state == nil
        }
    }
}
