import Synchronization

/// Threads for arithmetic that takes milliseconds to minutes, outside Swift's cooperative pool, whose few threads must
/// stay free to renew leases and to answer.
public final class ComputeThreads: Sendable {
    private let line = ThreadLine()
    private let count: Int

    /// Threads that wait for work.
    ///
    /// - Parameter count: pieces of work at a time, at least 1.
    public init(count: Int) {
        let line = line
        self.count = (0..<max(1, count)).count { _ in line.startThread() }
    }

    deinit { line.close() }

    /// Runs `body` on one of the threads.
    ///
    /// - Returns: what it returns; nil where the task was cancelled before its end. `body` cannot be stopped: it goes on
    ///   to its end, and what it returns is dropped.
    public func run<Answer: Sendable>(_ body: @escaping @Sendable () -> Answer) async -> Answer? {
        // A system that has no thread left for us does the work here, slowly but surely.
        guard count > 0 else { return body() }
        let turn = Turn<Answer>()
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                guard turn.begin(continuation) else { return }
                line.append { if turn.isWanted { turn.end(body()) } }
            }
        } onCancel: {
            turn.end(nil)
        }
    }
}

/// One call: its continuation is resumed by the end of the work or by the cancellation, whichever is first.
private final class Turn<Answer: Sendable>: Sendable {
    private struct State: Sendable {
        var continuation: UnsafeContinuation<Answer?, Never>?
        var hasEnded = false
    }

    /// Guards the continuation.
    private let state = Mutex(State())

    var isWanted: Bool { state.withLock { !$0.hasEnded } }

    /// Keeps the continuation, or resumes it where the end came before; returns whether there is work to do.
    func begin(_ continuation: UnsafeContinuation<Answer?, Never>) -> Bool {
        let hasEnded = state.withLock { state in
            if !state.hasEnded { state.continuation = continuation }
            return state.hasEnded
        }
        if hasEnded { continuation.resume(returning: nil) }
        return !hasEnded
    }

    func end(_ answer: Answer?) {
        let continuation = state.withLock { state in
            state.hasEnded = true
            defer { state.continuation = nil }
            return state.continuation
        }
        continuation?.resume(returning: answer)
    }
}
