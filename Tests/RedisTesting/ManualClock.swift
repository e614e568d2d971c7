import Synchronization

/// A clock that stands still until a test moves it, and tells what somebody sleeps for.
public final class ManualClock: Clock {
    /// A point in this clock's time.
    public struct Instant: InstantProtocol {
        /// Since the clock was made.
        public var offset: Duration
        /// Later by a duration.
        public func advanced(by duration: Duration) -> Instant { Instant(offset: offset + duration) }
        /// The time from here to there.
        public func duration(to other: Instant) -> Duration { other.offset - offset }
        /// Whether one is earlier.
        public static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
    }

    private struct Sleeper: Sendable {
        let deadline: Instant
        let continuation: CheckedContinuation<Void, any Error>
    }

    private struct State: Sendable {
        var now = Instant(offset: .zero)
        var sleepers: [Int: Sleeper] = [:]
        var next = 0
        var cancelled: Set<Int> = []
    }

    /// What is slept for, in order, for a test to await.
    public let sleeps: AsyncStream<Duration>
    private let announce: AsyncStream<Duration>.Continuation
    /// Guards time and sleepers.
    private let state = Mutex(State())

    /// A clock at zero.
    public init() { (sleeps, announce) = AsyncStream.makeStream(of: Duration.self) }

    /// The current time.
    public var now: Instant { state.withLock { $0.now } }
    /// The smallest step: none.
    public var minimumResolution: Duration { .zero }

    /// Waits until a test has moved the clock so far.
    public func sleep(until deadline: Instant, tolerance: Duration?) async throws {
        let number = state.withLock { state in
            state.next += 1
            return state.next
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                let (length, isCancelled): (Duration, Bool) = state.withLock { state in
                    let length = state.now.duration(to: deadline)
                    if state.cancelled.remove(number) != nil { return (length, true) }
                    state.sleepers[number] = Sleeper(deadline: deadline, continuation: continuation)
                    return (length, false)
                }
                if isCancelled { continuation.resume(throwing: CancellationError()) }
                announce.yield(length)
            }
        } onCancel: {
            let sleeper = state.withLock { state in
                let sleeper = state.sleepers.removeValue(forKey: number)
                if sleeper == nil { state.cancelled.insert(number) }
                return sleeper
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
    }

    /// Moves the clock and wakes those whose time has come.
    public func advance(by duration: Duration) {
        let due = state.withLock { state in
            state.now = state.now.advanced(by: duration)
            let due = state.sleepers.filter { $0.value.deadline <= state.now }
            for number in due.keys { state.sleepers[number] = nil }
            return due.values.map(\.continuation)
        }
        for continuation in due { continuation.resume() }
    }
}
