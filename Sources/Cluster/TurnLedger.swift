import Redis
import Synchronization

/// Where a tenant would be served next in a partition, by virtual time; nil for a lane in which nothing waits.
package struct TurnHint: Sendable, Hashable {
    /// Of the interactive lane.
    package var interactive: Int?
    /// Of the bulk lane.
    package var bulk: Int?

    /// A hint of both lanes.
    package init(interactive: Int? = nil, bulk: Int? = nil) {
        self.interactive = interactive
        self.bulk = bulk
    }
}

/// What a worker knows of tenants' turns from its takes, and carries from partition to partition.
///
/// So a tenant whose work lies in one partition has its share of the worker, and not of that partition's turns alone. It is
/// empty where nobody names a tenant.
public final class TurnLedger: Sendable {
    private struct Place: Hashable {
        let lane: Lane
        let tenant: String
    }

    private struct State: Sendable {
        var times: [Lane: Int] = [:]
        var ends: [Place: Int] = [:]
        /// The same as each partition told it last.
        var latest: [Partition: [Place: Int]] = [:]
        /// Who comes next in each partition, and where as it was when it was looked at.
        var heads: [Partition: [Place: Int]] = [:]
        /// Which brought work when they were looked at last, and only the default tenant's.
        var plain: Set<Partition> = []
        /// When each tenant was served last, of those a moment ago.
        var served: [Place: ContinuousClock.Instant] = [:]
    }

    /// So many ends are carried, the last ones.
    private static let limit = 32
    /// For so long a tenant that was served counts as one of those who share.
    private static let memory: Duration = .seconds(5)

    /// Guards what is known, which the slots of a worker share.
    private let state = Mutex(State())

    /// A ledger that knows nothing.
    public init() {}

    /// The arguments of `kirie_take` that carry what is known; `ahead` for what is to pass.
    func arguments(ahead: Bool) -> [RedisArgument] {
        state.withLock { state in
            var arguments: [RedisArgument] = [ahead ? "ahead" : "turns"]
            for lane in Lane.allCases { arguments.append(.integer(state.times[lane] ?? 0)) }
            for (place, end) in state.ends {
                arguments += [.string(place.lane.rawValue), .string(place.tenant), .integer(end)]
            }
            return arguments
        }
    }

    /// Notes what a take told; returns whether it was of a tenant that has had its share, whom others may pass.
    @discardableResult
    func note(_ told: [RedisValue], in partition: Partition) -> Bool {
        guard told.count == 7 || told.count == 8, let lane = told[0].string.flatMap(Lane.init(rawValue:)),
            let tenant = told[1].string, let end = told[2].integer,
            let time = told[lane == .interactive ? 3 : 5].integer
        else { return false }
        let place = Place(lane: lane, tenant: tenant)
        var heads: [Place: Int] = [:]
        for (lane, text) in [(Lane.interactive, told[4].string ?? ""), (.bulk, told[6].string ?? "")] {
            let words = text.split(separator: " ")
            for index in stride(from: 0, to: words.count - 1, by: 2) {
                guard let tag = Int(words[index + 1]) else { continue }
                heads[Place(lane: lane, tenant: String(words[index]))] = tag
            }
        }
        let now = ContinuousClock.now
        state.withLock { state in
            for (lane, time) in [(Lane.interactive, told[3].integer), (.bulk, told[5].integer)] {
                state.times[lane] = max(state.times[lane] ?? 0, time ?? 0)
            }
            // Takes that were under way at the same time, each from another partition, began where the same last one ended.
            // Those from one partition began one after the other, in whatever order they are heard of.
            if end > state.latest[partition]?[place] ?? 0 {
                let charge = told.count == 8 ? told[7].integer ?? 0 : 0
                state.ends[place] = max(state.ends[place] ?? 0, end - charge) + charge
                if state.latest[partition]?.count ?? 0 >= Self.limit { state.latest[partition] = nil }
                state.latest[partition, default: [:]][place] = end
            }
            if state.ends.count > Self.limit {
                let kept = state.ends.sorted { $0.value > $1.value }.prefix(Self.limit / 2)
                state.ends = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) })
            }
            state.heads[partition] = heads
            state.plain.remove(partition)
            state.served[place] = now
            if state.served.count > Self.limit {
                state.served = state.served.filter { now - $0.value < Self.memory }
                if state.served.count > Self.limit { state.served = [place: now] }
            }
        }
        return end > time
    }

    /// A take told nothing of turns: nothing waits there, or it brought work and only the default tenant's is there.
    func forget(_ partition: Partition, broughtWork: Bool) {
        state.withLock { state in
            state.heads[partition] = nil
            if broughtWork { state.plain.insert(partition) }
        }
    }

    /// Whether as much may be taken from a partition at once as comes: nobody's turn is known there, or elsewhere of clicks.
    ///
    /// Of a partition that was not looked at yet it is not known who waits in others: a worker that starts takes little from
    /// each, so that who has work in many has no more than who has it in one.
    func allowsBatches(in partition: Partition) -> Bool {
        !isShared && state.withLock { $0.plain.contains(partition) || $0.heads[partition] != nil }
    }

    /// Where the next turn in a partition is; nil where that is not known.
    package func hint(for partition: Partition) -> TurnHint? { hints(for: [partition])[partition] }

    /// Where the next turns are, by what is known now: who was served elsewhere meanwhile comes later.
    func hints(for partitions: some Sequence<Partition>) -> [Partition: TurnHint] {
        state.withLock { state in
            var hints: [Partition: TurnHint] = [:]
            for partition in partitions {
                guard let heads = state.heads[partition] else { continue }
                var hint = TurnHint()
                for (place, tag) in heads {
                    let tag = max(tag, state.ends[place] ?? 0)
                    switch place.lane {
                    case .interactive: hint.interactive = min(hint.interactive ?? tag, tag)
                    case .bulk: hint.bulk = min(hint.bulk ?? tag, tag)
                    }
                }
                hints[partition] = hint
            }
            return hints
        }
    }

    /// Whether somebody waits for clicks beside others' work: then nobody's batches are long.
    var isShared: Bool {
        let now = ContinuousClock.now
        return state.withLock { state in
            guard !state.served.isEmpty else { return false }
            let recent = state.served.filter { now - $0.value < Self.memory }.keys
            return recent.contains { $0.lane == .interactive } && Set(recent.map(\.tenant)).count > 1
        }
    }
}
