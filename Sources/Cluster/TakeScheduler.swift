import Synchronization

/// The schedule behind a lock, and the slots that wait on it.
///
/// For each thing to do one slot is woken, the one that has waited for the shortest time: its thread's memory is warm.
final class TakeScheduler: Sendable {
    private typealias Continuation = UnsafeContinuation<Void, Never>

    private struct State: Sendable {
        var schedule: TakeSchedule
        /// Slots without work, the longest waiting first.
        var idle: [(number: Int, continuation: Continuation)] = []
        /// Partitions of which something new was heard while all slots were busy, for those that have clicks pass.
        var passing: [Partition] = []
        /// Those slots, while they wait.
        var passers: [Continuation] = []
        /// Who waits for the scheduler to be closed.
        var closing: [(number: Int, continuation: Continuation)] = []
        var nextNumber = 0
        var isClosed = false
        /// When a slot is woken if nothing wakes it before.
        var alarm: ContinuousClock.Instant?

        mutating func number() -> Int {
            nextNumber += 1
            return nextNumber
        }
    }

    /// What is to be done when the lock is released.
    private struct Effects {
        var awakened: [Continuation] = []
        var alarm: ContinuousClock.Instant?
    }

    /// Guards the schedule and the waiting slots.
    private let state: Mutex<State>

    private let turns: TurnLedger?

    init(_ schedule: TakeSchedule, turns: TurnLedger? = nil) {
        state = Mutex(State(schedule: schedule))
        self.turns = turns
    }

    var ownedPartitions: Set<Partition> { state.withLock { $0.schedule.ownedPartitions } }

    var isClosed: Bool { state.withLock { $0.isClosed } }

    func wake(_ partition: Partition) {
        let passer = change { state -> Continuation? in
            let isBusy = state.idle.isEmpty && turns?.isShared ?? false
            state.schedule.wake(partition, now: ContinuousClock.now)
            return isBusy ? Self.pass(partition, &state) : nil
        }
        passer?.resume()
    }
    func own(_ partitions: Set<Partition>) { change { $0.schedule.own(partitions, now: ContinuousClock.now) } }
    func lookAgain(_ partition: Partition) { change { $0.schedule.lookAgain(partition, now: ContinuousClock.now) } }
    func lookAgain(_ partition: Partition, after pause: Duration) {
        change { $0.schedule.look(into: partition, by: ContinuousClock.now + pause) }
    }
    func note(_ hint: TurnHint?, for partition: Partition) { change { $0.schedule.note(hint, for: partition) } }
    func endTake(in partition: Partition) { state.withLock { $0.schedule.endTake(in: partition) } }
    func close() { change { $0.isClosed = true } }

    /// Where to look next, when it is time; nil when the scheduler is closed.
    func next() async -> (Partition, age: Duration)? {
        while true {
            let (action, effects): (TakeSchedule.Action?, Effects) = state.withLock { state in
                guard !state.isClosed else { return (nil, Effects()) }
                if let turns { state.schedule.renew(turns) }
                let action = state.schedule.next(now: ContinuousClock.now)
                // There may be more to do than this slot can.
                return (action, Self.settle(&state))
            }
            run(effects)
            switch action {
            case nil: return nil
            case .take(let partition, let age): return (partition, age)
            case .wait: await waitForWork()
            }
        }
    }

    /// A partition into which something came while all slots were busy; nil when the scheduler is closed.
    func nextToPass() async -> Partition? {
        while true {
            let (partition, isClosed) = state.withLock { state in
                (state.isClosed || state.passing.isEmpty ? nil : state.passing.removeFirst(), state.isClosed)
            }
            if partition != nil || isClosed { return partition }
            await withUnsafeContinuation { (continuation: Continuation) in
                let isOver = state.withLock { state in
                    if state.isClosed || !state.passing.isEmpty { return true }
                    state.passers.append(continuation)
                    return false
                }
                if isOver { continuation.resume() }
            }
        }
    }

    /// There may be more that passes.
    func passAgain(_ partition: Partition) { state.withLock { Self.pass(partition, &$0) }?.resume() }

    private static func pass(_ partition: Partition, _ state: inout State) -> Continuation? {
        if !state.passing.contains(partition) { state.passing.append(partition) }
        return state.passers.popLast()
    }

    /// Returns when the scheduler is closed or the task is cancelled.
    func waitUntilClosed() async {
        let number = state.withLock { $0.number() }
        await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: Continuation) in
                let isOver = state.withLock { state in
                    // A cancellation that came before this found nobody waiting; it is seen here.
                    if state.isClosed || Task.isCancelled { return true }
                    state.closing.append((number, continuation))
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            let continuation: Continuation? = state.withLock { state in
                state.closing.firstIndex { $0.number == number }.map { state.closing.remove(at: $0).continuation }
            }
            continuation?.resume()
        }
    }

    /// Returns when there may be something to do; in a cancelled task too, not before that or before the scheduler is closed.
    private func waitForWork() async {
        await withUnsafeContinuation { (continuation: Continuation) in
            let effects = state.withLock { state in
                state.idle.append((state.number(), continuation))
                return Self.settle(&state)
            }
            run(effects)
        }
    }

    @discardableResult
    private func change<Answer: Sendable>(_ body: (inout State) -> Answer) -> Answer {
        let (answer, effects) = state.withLock { state in
            let answer = body(&state)
            return (answer, Self.settle(&state))
        }
        run(effects)
        return answer
    }

    /// Wakes whom there is something to do for, and sees to it that the alarm is set for the rest.
    private static func settle(_ state: inout State) -> Effects {
        if state.isClosed {
            let awakened = (state.idle + state.closing).map(\.continuation) + state.passers
            (state.idle, state.closing, state.passers) = ([], [], [])
            return Effects(awakened: awakened)
        }
        guard !state.idle.isEmpty, let earliest = state.schedule.earliest else { return Effects() }
        if earliest <= ContinuousClock.now { return Effects(awakened: [state.idle.removeLast().continuation]) }
        if let alarm = state.alarm, alarm <= earliest { return Effects() }
        state.alarm = earliest
        return Effects(alarm: earliest)
    }

    private func run(_ effects: Effects) {
        for continuation in effects.awakened { continuation.resume() }
        guard let alarm = effects.alarm else { return }
        Task { [weak self] in
            try? await Task.sleep(until: alarm, clock: .continuous)
            // One that was overtaken by an earlier alarm finds nothing to do, or does it in the other's place.
            self?.change { if $0.alarm == alarm { $0.alarm = nil } }
        }
    }
}
