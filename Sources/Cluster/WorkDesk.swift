import Synchronization

/// The schedule behind a lock, and the slots that wait on it.
final class WorkDesk: Sendable {
    /// What a slot waits for.
    private enum Event: Sendable {
        /// The schedule is another than that of the version.
        case change(since: Int)
        /// The desk is closed.
        case closing
    }

    private struct Waiter: Sendable {
        let event: Event
        let continuation: UnsafeContinuation<Void, Never>
    }

    private struct State: Sendable {
        var schedule: TakeSchedule
        var version = 0
        var waiters: [Int: Waiter] = [:]
        var nextWaiter = 0
        var isClosed = false

        func hasHappened(_ event: Event) -> Bool {
            switch event {
            case .change(let version): isClosed || version != self.version
            case .closing: isClosed
            }
        }

        /// Takes out those whose event has happened.
        mutating func released() -> [Waiter] {
            let released = waiters.filter { hasHappened($0.value.event) }
            for number in released.keys { waiters[number] = nil }
            return Array(released.values)
        }
    }

    /// Guards the schedule and the waiting slots.
    private let state: Mutex<State>

    init(_ schedule: TakeSchedule) { state = Mutex(State(schedule: schedule)) }

    var ownedPartitions: Set<Partition> { state.withLock { $0.schedule.ownedPartitions } }

    func ring(_ partition: Partition) { change { $0.schedule.ring(partition, now: ContinuousClock.now) } }
    func own(_ partitions: Set<Partition>) { change { $0.schedule.own(partitions, now: ContinuousClock.now) } }
    func lookAgain(_ partition: Partition) { change { $0.schedule.lookAgain(partition, now: ContinuousClock.now) } }
    func close() { change { $0.isClosed = true } }

    /// Where to look next, when it is time; nil when the desk is closed.
    func next() async -> (Partition, age: Duration)? {
        while true {
            let (action, version): (TakeSchedule.Action?, Int) = state.withLock { state in
                (state.isClosed ? nil : state.schedule.next(now: ContinuousClock.now), state.version)
            }
            switch action {
            case nil: return nil
            case .take(let partition, let age): return (partition, age)
            case .wait(let until): await wait(until, version)
            }
        }
    }

    /// Returns when the desk is closed or the task is cancelled.
    func waitUntilClosed() async { await wait(for: .closing) }

    private func change(_ body: (inout State) -> Void) {
        let released = state.withLock { state in
            body(&state)
            state.version += 1
            return state.released()
        }
        for waiter in released { waiter.continuation.resume() }
    }

    /// Returns at an instant, or before it when something changed.
    private func wait(_ until: ContinuousClock.Instant, _ version: Int) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { try? await Task.sleep(until: until, clock: .continuous) }
            group.addTask { await self.wait(for: .change(since: version)) }
            await group.next()
            group.cancelAll()
        }
    }

    private func wait(for event: Event) async {
        let number = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                // A cancellation that came before this runs found no waiter; it is seen here.
                let now = state.withLock { state in
                    if state.hasHappened(event) || Task.isCancelled { return true }
                    state.waiters[number] = Waiter(event: event, continuation: continuation)
                    return false
                }
                if now { continuation.resume() }
            }
        } onCancel: {
            let waiter = state.withLock { $0.waiters.removeValue(forKey: number) }
            waiter?.continuation.resume()
        }
    }
}
