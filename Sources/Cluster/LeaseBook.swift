import Synchronization

/// The leases that a worker holds, and how each piece of work is stopped when its lease is gone.
final class LeaseBook: Sendable {
    private struct Entry: Sendable {
        var names: Set<LeaseName>
        let stop: @Sendable () -> Void
    }

    private struct State: Sendable {
        var entries: [Int: Entry] = [:]
        var next = 0
    }

    /// Guards the entries, which the slots, the renewal and the drain share.
    private let state = Mutex(State())

    /// How many pieces of work are held.
    var count: Int { state.withLock { $0.entries.count } }

    /// All leases that are held.
    var names: [LeaseName] { state.withLock { $0.entries.values.flatMap(\.names) } }

    /// Notes a piece of work; returns what ``remove(_:)`` takes.
    func add(_ names: [LeaseName], stop: @escaping @Sendable () -> Void) -> Int {
        state.withLock { state in
            state.next += 1
            state.entries[state.next] = Entry(names: Set(names), stop: stop)
            return state.next
        }
    }

    /// The piece of work is settled.
    func remove(_ entry: Int) { state.withLock { _ = $0.entries.removeValue(forKey: entry) } }

    /// A lease is gone; work of which no lease is left is stopped.
    func lose(_ name: LeaseName) {
        let stops = state.withLock { state in
            var stops: [@Sendable () -> Void] = []
            for (key, entry) in state.entries where entry.names.contains(name) {
                state.entries[key]?.names.remove(name)
                if entry.names.count == 1 { stops.append(entry.stop) }
            }
            return stops
        }
        for stop in stops { stop() }
    }
}
