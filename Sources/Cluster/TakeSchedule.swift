/// Where a worker should look for work next: a value that is told what happened and answers what to do.
///
/// A partition is looked at when a message told of it, when the last look brought work, and every ``poll`` in any case. Its owner
/// looks at once; others wait for ``patience`` and then take only what has been queued for as long, so that a picture's
/// prompts stay with the worker that has its embedding in memory, unless that one is behind. What came while they waited is
/// too young for that look: they look again when it is old enough.
///
/// Where tenants share the cluster, of several partitions the one goes first of which something new was heard, then the one
/// whose next turn is the earliest, those of the interactive lane before the others; of nine looks one goes to the latter.
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
    /// When what was heard of last in partitions of others is old enough to be taken.
    private var ripe: [Int: ContinuousClock.Instant] = [:]
    private var owned: Set<Partition>
    /// When the last look was.
    private var looked: ContinuousClock.Instant
    /// Where the last look was, so that all get their turn.
    private var last = -1
    /// Where tenants' next turns are.
    private var hints: [Int: TurnHint] = [:]
    /// Which brought work of which no turn is known.
    private var plain: Set<Int> = []
    /// Takes from partitions whose replies have not come.
    private var underWay: [Int: Int] = [:]
    /// So many at a time look into one partition where the next turn is there again: whose work lies in one only would have
    /// to wait for each look, and others would go before it meanwhile.
    private static let mostUnderWay = 4
    /// Of which something new was heard.
    private var woken: Set<Int> = []
    /// Looks after the interactive lane, one after the other, while others waited.
    private var streak = 0
    private static let longestStreak = 8

    /// A schedule in which every partition is due at once, and all are the worker's own until it is told otherwise.
    package init(partitions: Int, poll: Duration, patience: Duration, now: ContinuousClock.Instant) {
        self.poll = poll
        self.patience = patience
        due = Array(repeating: now, count: partitions)
        looked = now
        owned = Set((0..<partitions).map { Partition($0) })
    }

    /// The partitions that are the worker's own.
    package var ownedPartitions: Set<Partition> { owned }

    /// The worker's share has changed.
    package mutating func own(_ partitions: Set<Partition>, now: ContinuousClock.Instant) {
        for partition in partitions.subtracting(owned) where partition.index < due.count {
            due[partition.index] = now
            ripe[partition.index] = nil
        }
        owned = partitions
    }

    /// Somebody put work into a partition that had little of it.
    package mutating func wake(_ partition: Partition, now: ContinuousClock.Instant) {
        guard partition.index < due.count else { return }
        let isOwn = owned.contains(partition)
        let time = isOwn ? now : now + patience
        if !isOwn { ripe[partition.index] = time }
        woken.insert(partition.index)
        look(into: partition, by: time)
    }

    /// When there is something to look at, unless it is woken before.
    package var earliest: ContinuousClock.Instant? {
        guard let earliest = due.min() else { return nil }
        return underWay.keys.contains { isOpen($0) } ? min(earliest, looked) : earliest
    }

    /// What to do now; a partition that is to be looked at counts as looked at.
    package mutating func next(now: ContinuousClock.Instant) -> Action {
        let order = (1...due.count).lazy.map { [last, count = due.count] in (last + $0) % count }
        var found: Int?
        if !hints.isEmpty { found = nextTurn(among: order.filter { [self] in due[$0] <= now || isOpen($0) }) }
        if found == nil {
            for index in order where due[index] <= now {
                let isOwn = owned.contains(Partition(index))
                if isOwn || found == nil { found = index }
                if isOwn { break }
            }
        }
        guard let index = found else { return .wait(until: earliest ?? now + poll) }
        (last, looked) = (index, now)
        underWay[index, default: 0] += 1
        woken.remove(index)
        plain.remove(index)
        let isOwn = owned.contains(Partition(index))
        due[index] = now + poll
        if let ripe = ripe.removeValue(forKey: index), !isOwn, ripe > now { due[index] = ripe }
        return .take(Partition(index), age: isOwn ? .zero : patience)
    }

    /// A take brought an answer: where the next turn in the partition is; nil where nothing waits, or nobody shares it.
    package mutating func note(_ hint: TurnHint?, for partition: Partition) {
        hints[partition.index] = hint
        endTake(in: partition)
    }

    /// A take is over, whatever came of it.
    package mutating func endTake(in partition: Partition) {
        let left = (underWay[partition.index] ?? 0) - 1
        underWay[partition.index] = left > 0 ? left : nil
    }

    /// Whether one more may look into a partition of its own while a look is under way.
    private func isOpen(_ index: Int) -> Bool {
        guard let takes = underWay[index], takes < Self.mostUnderWay, owned.contains(Partition(index)),
            let hint = hints[index]
        else { return false }
        return hint.interactive != nil || hint.bulk != nil
    }

    /// The next turns by what is known now, of those partitions of which a turn is known.
    package mutating func renew(_ turns: TurnLedger) {
        if hints.isEmpty { return }
        for (partition, hint) in turns.hints(for: hints.keys.map { Partition($0) }) { hints[partition.index] = hint }
    }

    /// Of its own partitions that are due, in order, the one whose turn it is; nil where none is its own.
    private mutating func nextTurn(among order: [Int]) -> Int? {
        let own = order.filter { owned.contains(Partition($0)) }
        if let news = own.first(where: { woken.contains($0) || hints[$0] == nil && !plain.contains($0) }) {
            return news
        }
        func earliest(_ tag: (TurnHint) -> Int?) -> (index: Int, tag: Int)? {
            own.compactMap { index in hints[index].flatMap(tag).map { (index, $0) } }.min { $0.1 < $1.1 }
        }
        let interactive = earliest(\.interactive)
        let other = own.first { hints[$0] == nil } ?? earliest(\.bulk)?.index
        if let interactive, other == nil || streak < Self.longestStreak {
            streak = other == nil ? 0 : streak + 1
            return interactive.index
        }
        streak = 0
        return other ?? own.first
    }

    /// A look could not tell all: look again by then.
    package mutating func look(into partition: Partition, by time: ContinuousClock.Instant) {
        guard partition.index < due.count else { return }
        due[partition.index] = min(due[partition.index], time)
    }

    /// A look brought work, or did not come to its end: look again.
    package mutating func lookAgain(_ partition: Partition, now: ContinuousClock.Instant) {
        guard partition.index < due.count else { return }
        due[partition.index] = now
        if hints[partition.index] == nil { plain.insert(partition.index) }
    }
}
