/// Where a worker looks for work next: the rules of `Cluster`'s `TakeSchedule`, for fleets of workers.
///
/// It answers in constant time; a test holds the two equal.
package struct LookSchedule {
    package enum Action: Equatable {
        /// Look into a partition; take only what has stood for `age` milliseconds.
        case take(Int, age: Double)
        /// There is nothing to look for before then.
        case wait(until: Double)
    }

    private let poll: Double
    private let patience: Double
    private var due: [Double]
    /// When what was heard of last in partitions of others is old enough to be taken; infinite where nothing is.
    private var ripe: [Double]
    private var isOwn: [Bool]
    private var last = -1
    /// Partitions that are due, a bit each: the worker's own, and others.
    private var own: BitSet
    private var foreign: BitSet
    /// What becomes due later, in the order of time, since each queue adds the same to a time that rises.
    ///
    /// An entry is void where the partition has another time by now.
    private var afterPatience = Fifo<(time: Double, partition: Int)>()
    private var afterPoll = Fifo<(time: Double, partition: Int)>()

    package init(partitions: Int, poll: Double, patience: Double, now: Double) {
        self.poll = poll
        self.patience = patience
        due = Array(repeating: now, count: partitions)
        ripe = Array(repeating: .infinity, count: partitions)
        isOwn = Array(repeating: true, count: partitions)
        own = BitSet(count: partitions)
        foreign = BitSet(count: partitions)
        for partition in 0..<partitions { own.insert(partition) }
    }

    package func owns(_ partition: Int) -> Bool { isOwn[partition] }

    /// The worker's share has changed.
    package mutating func own(_ partitions: Set<Int>, now: Double) {
        for partition in due.indices {
            let was = isOwn[partition]
            isOwn[partition] = partitions.contains(partition)
            if isOwn[partition], !was { (due[partition], ripe[partition]) = (now, .infinity) }
            own.remove(partition)
            foreign.remove(partition)
            if due[partition] <= now { markDue(partition) }
        }
    }

    package mutating func wake(_ partition: Int, now: Double) {
        let look = isOwn[partition] ? now : now + patience
        let isSooner = look < due[partition]
        if isSooner { due[partition] = look }
        if !isOwn[partition] {
            ripe[partition] = look
            afterPatience.append((look, partition))
        } else if isSooner {
            own.insert(partition)
        }
    }

    package mutating func lookAgain(_ partition: Int, now: Double) {
        due[partition] = now
        markDue(partition)
    }

    /// When there is something to look at, unless it is woken before.
    package mutating func earliest(now: Double) -> Double {
        settle(now)
        if !own.isEmpty || !foreign.isEmpty { return now }
        return min(afterPatience.first?.time ?? .infinity, afterPoll.first?.time ?? .infinity)
    }

    /// What to do now; a partition that is to be looked at counts as looked at.
    package mutating func next(now: Double) -> Action {
        settle(now)
        guard let found = own.first(after: last) ?? foreign.first(after: last) else {
            return .wait(until: earliest(now: now))
        }
        last = found
        own.remove(found)
        foreign.remove(found)
        if !isOwn[found], ripe[found] > now, ripe[found] < .infinity {
            // It stands in its queue since it was heard of.
            due[found] = ripe[found]
        } else {
            due[found] = now + poll
            afterPoll.append((now + poll, found))
        }
        ripe[found] = .infinity
        return .take(found, age: isOwn[found] ? 0 : patience)
    }

    private mutating func markDue(_ partition: Int) {
        if isOwn[partition] { own.insert(partition) } else { foreign.insert(partition) }
    }

    /// Marks what has become due, and drops what is void at the heads.
    private mutating func settle(_ now: Double) {
        while let head = afterPatience.first,
            head.time <= now || due[head.partition] != head.time && ripe[head.partition] != head.time
        {
            if due[head.partition] == head.time { markDue(head.partition) }
            afterPatience.removeFirst()
        }
        while let head = afterPoll.first, head.time <= now || due[head.partition] != head.time {
            if due[head.partition] == head.time { markDue(head.partition) }
            afterPoll.removeFirst()
        }
    }
}

/// A set of small numbers.
private struct BitSet {
    private var words: [UInt64]
    private var count = 0

    init(count: Int) { words = Array(repeating: 0, count: (count + 63) / 64) }

    var isEmpty: Bool { count == 0 }

    mutating func insert(_ number: Int) {
        let bit = UInt64(1) << UInt64(number & 63)
        if words[number >> 6] & bit == 0 { count += 1 }
        words[number >> 6] |= bit
    }

    mutating func remove(_ number: Int) {
        let bit = UInt64(1) << UInt64(number & 63)
        if words[number >> 6] & bit != 0 { count -= 1 }
        words[number >> 6] &= ~bit
    }

    /// The next after a number, from the start again behind the last.
    func first(after number: Int) -> Int? {
        if count == 0 { return nil }
        return first(from: number + 1) ?? first(from: 0)
    }

    private func first(from number: Int) -> Int? {
        var index = number >> 6
        guard index < words.count else { return nil }
        var word = words[index] & (~UInt64(0) << UInt64(number & 63))
        while word == 0 {
            index += 1
            if index == words.count { return nil }
            word = words[index]
        }
        return index * 64 + word.trailingZeroBitCount
    }
}
