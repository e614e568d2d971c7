import Dispatch
import Platform
import Synchronization

/// How long the calls of one kind took.
package struct CallTimes: Sendable {
    /// Callers at a time, where that was asked for.
    package let streams: Int?
    /// Milliseconds of each call.
    package let each: [Double]
    /// Milliseconds from the first call to the end of the last.
    package let all: Double

    /// Times `runs` calls of each stream, after two that warm caches and memory.
    ///
    /// - Parameters:
    ///   - runs: calls of each stream, at least one.
    ///   - streams: callers at a time, each on a thread of its own; nil for one.
    ///   - body: the call.
    package init(runs: Int, streams: Int?, _ body: @escaping @Sendable () -> Void) {
        let clock = ContinuousClock()
        for _ in 0..<2 { body() }
        let start = clock.now
        let each = Streams.run(streams ?? 1) {
            (0..<runs).map { _ in
                let start = clock.now
                body()
                return (clock.now - start) / .microseconds(1) / 1000
            }
        }
        self.streams = streams
        self.each = each.flatMap(\.self)
        all = (clock.now - start) / .microseconds(1) / 1000
    }
}

/// Threads that do the same at the same time.
private enum Streams {
    /// What waits for the threads and what they answered.
    private final class Gathering<Answer: Sendable>: Sendable {
        /// Guards the answers.
        let answers = Mutex<[Answer]>([])
        let done = DispatchSemaphore(value: 0)
    }

    /// Runs `body` on `count` threads, of which the calling one is the first, and returns what each of them answered.
    static func run<Answer: Sendable>(_ count: Int, _ body: @escaping @Sendable () -> Answer) -> [Answer] {
        let gathering = Gathering<Answer>()
        let others = (1..<count).filter { _ in
            BackgroundThread.start {
                let answer = body()
                gathering.answers.withLock { $0.append(answer) }
                gathering.done.signal()
            }
        }
        let first = body()
        for _ in others { gathering.done.wait() }
        return [first] + gathering.answers.withLock { $0 }
    }
}
