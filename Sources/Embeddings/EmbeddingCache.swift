public import Redis
public import Segmentation

/// Where image embeddings are kept between the encoder that makes them and the decoders that use them.
///
/// An entry goes when its time is over, when memory is short, or when it is removed; nobody may rely on finding one.
/// What is found is whole and right: a damaged record is dropped, counted and reported as absent.
public protocol EmbeddingCache: Sendable {
    /// Looks an embedding up; nil where there is none.
    func record(for key: EmbeddingKey) async throws(EmbeddingCacheError) -> EmbeddingRecord?

    /// Keeps a record under its own key for a time, replacing what is there.
    ///
    /// Whoever looks it up meanwhile gets the old one, the new one or none, never a part of one.
    func store(_ record: EmbeddingRecord, timeToLive: Duration) async throws(EmbeddingCacheError)

    /// Whether embeddings are there, in the order of the keys, without reading them.
    func contains(_ keys: [EmbeddingKey]) async throws(EmbeddingCacheError) -> [Bool]

    /// Removes an embedding; returns whether it was there.
    @discardableResult
    func remove(_ key: EmbeddingKey) async throws(EmbeddingCacheError) -> Bool

    /// What the cache holds and what it did; costs the same however much it holds.
    func statistics() async throws(EmbeddingCacheError) -> EmbeddingCacheStatistics
}

/// Why a cache did not do what it was asked; an embedding that is absent is no error.
public enum EmbeddingCacheError: TransientError, Sendable, Hashable, CustomStringConvertible {
    /// Redis did not answer or refused.
    case redis(RedisError)
    /// There is no room, and nothing may be evicted to make it.
    case full(bytes: Int)

    /// Whether time mends it: Redis is away, cannot serve or is full.
    public var isTransient: Bool {
        switch self {
        case .redis(let error): error.isTransient
        case .full: true
        }
    }

    /// What happened and what to do.
    public var description: String {
        switch self {
        case .redis(let error): "the embedding cache: \(error)"
        case .full(let bytes):
            "the embedding cache has no room for \(bytes) bytes: raise maxmemory (or --cache-bytes), "
                + "or set maxmemory-policy to volatile-lru so that old embeddings go"
        }
    }
}

/// What a cache holds and what it did.
public struct EmbeddingCacheStatistics: Sendable, Hashable {
    /// Embeddings held.
    ///
    /// Redis: keys that have a time to live, which in a Redis of the cache's own are the embeddings and
    /// in one that it shares with the queues also images that no job needs.
    public var entries = 0
    /// Their bytes.
    ///
    /// Redis: entries times the mean size of what was stored.
    public var bytes = 0
    /// Lookups that found one.
    public var hits = 0
    /// Lookups that did not.
    public var misses = 0
    /// Records that were damaged or under another's key; each is also a miss.
    public var corrupt = 0
    /// Records stored.
    public var stores = 0
    /// Entries that went because memory was short.
    public var evictions = 0
    /// Entries that went because their time was over.
    public var expirations = 0
    /// What the encoder would have taken for the hits.
    public var encodeTimeSaved = Duration.zero

    /// Nothing held, nothing done.
    public init() {}

    /// Hits among the lookups, 0 to 1; nil before the first.
    public var hitRate: Double? {
        let lookups = hits + misses
        return lookups == 0 ? nil : Double(hits) / Double(lookups)
    }
}
