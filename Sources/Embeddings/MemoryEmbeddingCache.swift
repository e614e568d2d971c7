public import Segmentation
import Synchronization

/// An embedding cache in the process's own memory: the twin of ``RedisEmbeddingCache``, for one process and for tests.
///
/// Bounded by bytes; the least recently used go first. Entries whose time is over go when they are looked up, or as the
/// oldest.
public final class MemoryEmbeddingCache<C: Clock>: EmbeddingCache where C.Duration == Duration {
    private struct Entry {
        let record: EmbeddingRecord
        let end: C.Instant
    }

    private struct State {
        var entries: LeastRecentlyUsed<EmbeddingKey, Entry>
        var statistics = EmbeddingCacheStatistics()
    }

    private let clock: C
    /// Guards entries and counters.
    private let state: Mutex<State>

    /// An empty cache whose records may take `byteLimit` bytes together, headers included.
    public init(byteLimit: Int, clock: C) {
        self.clock = clock
        state = Mutex(State(entries: LeastRecentlyUsed(limit: byteLimit)))
    }

    /// Looks an embedding up and counts the lookup.
    public func record(for key: EmbeddingKey) async throws(EmbeddingCacheError) -> EmbeddingRecord? {
        let now = clock.now
        return state.withLock { state in
            guard let entry = state.entries.value(for: key), Self.isAlive(key, at: now, in: &state) else {
                state.statistics.misses += 1
                return nil
            }
            state.statistics.hits += 1
            state.statistics.encodeTimeSaved += entry.record.encodeTime
            return entry.record
        }
    }

    /// Keeps a record under its own key for a time.
    public func store(_ record: EmbeddingRecord, timeToLive: Duration) async throws(EmbeddingCacheError) {
        let entry = Entry(record: record, end: clock.now.advanced(by: timeToLive))
        let isKept = state.withLock { state in
            state.entries.insert(entry, for: record.key, cost: record.byteCount)
            guard state.entries.peek(record.key) != nil else { return false }
            state.statistics.stores += 1
            return true
        }
        if !isKept { throw .full(bytes: record.byteCount) }
    }

    /// Whether embeddings are there, in the order of the keys.
    public func contains(_ keys: [EmbeddingKey]) async throws(EmbeddingCacheError) -> [Bool] {
        let now = clock.now
        return state.withLock { state in keys.map { Self.isAlive($0, at: now, in: &state) } }
    }

    /// Removes an embedding; returns whether it was there.
    @discardableResult
    public func remove(_ key: EmbeddingKey) async throws(EmbeddingCacheError) -> Bool {
        let now = clock.now
        return state.withLock { state in
            guard Self.isAlive(key, at: now, in: &state) else { return false }
            return state.entries.remove(key) != nil
        }
    }

    /// What the cache holds and what it did.
    public func statistics() async throws(EmbeddingCacheError) -> EmbeddingCacheStatistics {
        state.withLock { state in
            var statistics = state.statistics
            statistics.entries = state.entries.count
            statistics.bytes = state.entries.cost
            statistics.evictions = state.entries.evictions
            return statistics
        }
    }

    /// Whether a key is there, ending it where its time is over.
    private static func isAlive(_ key: EmbeddingKey, at now: C.Instant, in state: inout State) -> Bool {
        guard let entry = state.entries.peek(key) else { return false }
        if now < entry.end { return true }
        state.entries.remove(key)
        state.statistics.expirations += 1
        return false
    }
}

extension MemoryEmbeddingCache where C == ContinuousClock {
    /// An empty cache by the system's clock.
    public convenience init(byteLimit: Int) { self.init(byteLimit: byteLimit, clock: ContinuousClock()) }
}
