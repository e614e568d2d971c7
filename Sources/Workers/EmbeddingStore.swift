public import Cluster
public import Embeddings
public import Redis
package import Segmentation

/// Where the workers of a cluster put embeddings and find them: in the Redis of the queues, or in another.
///
/// In the first case the record is published by the function that releases the parked jobs, in one step. In the second
/// it is stored there first, and what is published under the key in the Redis of the queues is a mark that stands for it.
public struct EmbeddingStore: Sendable {
    /// What stands in the place of a record that is kept elsewhere.
    static let mark = RedisBytes("elsewhere")

    /// Whether embeddings are kept in another Redis than the jobs.
    public let isElsewhere: Bool
    private let cache: RedisEmbeddingCache
    private let broker: Broker
    /// After which an embedding goes, in both places where it is known: the one value there is.
    public let timeToLive: Duration
    /// Below both: what was evicted or lost comes from there.
    private var folder: FolderTier?

    /// The store of a cluster.
    ///
    /// - Parameters:
    ///   - broker: that of the queues.
    ///   - elsewhere: the other Redis; nil for that of the queues.
    ///   - timeToLive: after which an embedding goes, unless memory is short before.
    public init(_ broker: Broker, elsewhere: RedisClient? = nil, timeToLive: Duration = .seconds(86_400)) {
        isElsewhere = elsewhere != nil
        cache = RedisEmbeddingCache(
            elsewhere ?? broker.redis, namespace: broker.keys.namespace, partitions: broker.partitionCount)
        self.timeToLive = timeToLive
        self.broker = broker
    }

    /// The same over a folder, in which records are kept as well.
    ///
    /// What cannot be written there is no fault of the job: `onChange` is told of the first fault, and with nil when records
    /// are taken again.
    package func over(
        _ folder: EmbeddingFolder, onChange: @escaping @Sendable ((any Error)?) -> Void = { _ in }
    ) -> EmbeddingStore {
        var store = self
        store.folder = FolderTier(folder, onChange: onChange)
        return store
    }

    /// The embedding, verified; nil where there is none or it was damaged, and then it is gone.
    package func record(for key: EmbeddingKey) async throws(EmbeddingCacheError) -> EmbeddingRecord? {
        if let record = try await cache.record(for: key) { return record }
        return await kept(key)
    }

    /// What the folder has under a key; nil where it has none.
    func kept(_ key: EmbeddingKey) async -> EmbeddingRecord? { await folder?.record(for: key) }

    /// Which embeddings are in Redis, in the order of the keys.
    package func contains(_ keys: [EmbeddingKey]) async throws(EmbeddingCacheError) -> [Bool] {
        try await cache.contains(keys)
    }

    /// Puts an embedding there that somebody has, so that jobs on its picture find it.
    public func offer(_ record: EmbeddingRecord) async throws(EmbeddingCacheError) {
        try await cache.store(record, timeToLive: timeToLive)
        guard isElsewhere else { return }
        let name = broker.keys.embedding(record.key, in: broker.partition(of: record.key.image))
        do { try await broker.redis.set(name, .bytes(Self.mark), expiry: timeToLive) } catch { throw .redis(error) }
    }

    /// Puts an embedding where it belongs; returns what is to be published under its key with the jobs.
    ///
    /// - Parameters:
    ///   - record: the embedding.
    ///   - isKept: whether the folder has it.
    /// - Returns: the record, or the mark where it is kept elsewhere.
    /// - Throws: ``EmbeddingCacheError`` where the other Redis does not take it.
    func put(_ record: EmbeddingRecord, isKept: Bool = false) async throws(EmbeddingCacheError) -> RedisBytes {
        if !isKept { await folder?.keep(record) }
        guard isElsewhere else {
            await cache.noteStored(record)
            return record.redisBytes
        }
        try await cache.store(record, timeToLive: timeToLive)
        return Self.mark
    }
}
