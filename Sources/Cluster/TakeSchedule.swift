/// Where a worker should look for work next: a value that is told what happened and answers what to do.
///
/// A partition is looked at when a message told of it, when the last look brought work, and every ``poll`` in any case. Its owner
/// looks at once; others wait for ``patience`` and then take only what has been queued for as long, so that a picture's
/// prompts stay with the worker that has its embedding in memory, unless that one is behind.
package struct TakeSchedule: Sendable {
    /// What to do.
    package enum Action: Sendable, Equatable {
        /// Look into a partition, and take only what has stood for `age`.
        case take(Partition, age: Duration)
        /// There is nothing to look for before then, unless a bell rings.
        case wait(until: ContinuousClock.Instant)
    }

    /// How often a partition is looked at without a message.
    let poll: Duration
    /// How long others leave a partition to its owner.
    let patience: Duration
    /// When each partition is to be looked at.
    private var due: [ContinuousClock.Instant]
    private var owned: Set<Partition>
    /// Where the last look was, so that all get their turn.
    private var last = -1

    /// A schedule in which every partition is due at once, and all are the worker's own until it is told otherwise.
    package init(partitions: Int, poll: Duration, patience: Duration, now: ContinuousClock.Instant) {
        self.poll = poll
        self.patience = patience
        due = Array(repeating: now, count: partitions)
        owned = Set((0..<partitions).map { Partition($0) })
    }

    /// The partitions that are the worker's own.
    package var ownedPartitions: Set<Partition> { owned }

    /// The worker's share has changed.
    package mutating func own(_ partitions: Set<Partition>, now: ContinuousClock.Instant) {
        for partition in partitions.subtracting(owned) where partition.index < due.count { due[partition.index] = now }
        owned = partitions
    }

    /// Somebody put work into a partition that had little of it.
    package mutating func wake(_ partition: Partition, now: ContinuousClock.Instant) {
        guard partition.index < due.count else { return }
        let look = owned.contains(partition) ? now : now + patience
        due[partition.index] = min(due[partition.index], look)
    }

    /// When there is something to look at, unless it is woken before.
    package var earliest: ContinuousClock.Instant? { due.min() }

    /// What to do now; a partition that is to be looked at counts as looked at.
    package mutating func next(now: ContinuousClock.Instant) -> Action {
        let order = (1...due.count).lazy.map { [last, count = due.count] in (last + $0) % count }
        var found: Int?
        for index in order where due[index] <= now {
            let isOwn = owned.contains(Partition(index))
            if isOwn || found == nil { found = index }
            if isOwn { break }
        }
        guard let index = found else { return .wait(until: earliest ?? now + poll) }
        last = index
        due[index] = now + poll
        return .take(Partition(index), age: owned.contains(Partition(index)) ? .zero : patience)
    }

    /// A look brought work, or did not come to its end: look again.
    package mutating func lookAgain(_ partition: Partition, now: ContinuousClock.Instant) {
        guard partition.index < due.count else { return }
        due[partition.index] = now
    }
}
