public import Cluster
public import Embeddings
public import Redis
import Segmentation

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

    /// The embedding, verified; nil where there is none or it was damaged, and then it is gone.
    func record(for key: EmbeddingKey) async throws(EmbeddingCacheError) -> EmbeddingRecord? {
        try await cache.record(for: key)
    }

    /// Puts an embedding there that somebody has, so that jobs on its picture find it.
    public func offer(_ record: EmbeddingRecord) async throws(EmbeddingCacheError) {
        try await cache.store(record, timeToLive: timeToLive)
        guard isElsewhere else { return }
        let name = broker.keys.embedding(record.key, in: broker.partition(of: record.key.image))
        do { try await broker.redis.set(name, .bytes(Self.mark), expiry: timeToLive) } catch { throw .redis(error) }
    }

    /// Puts an embedding where it belongs; returns what is to be published under its key with the jobs.
    func put(_ record: EmbeddingRecord) async throws(EmbeddingCacheError) -> RedisBytes {
        guard isElsewhere else {
            await cache.noteStored(record)
            return record.redisBytes
        }
        try await cache.store(record, timeToLive: timeToLive)
        return Self.mark
    }
}
