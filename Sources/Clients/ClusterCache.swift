package import Cluster
package import Embeddings
package import JSON
package import Redis
package import Segmentation

/// The embeddings of a cluster, in the Redis of the queues or in another; in the second case the queues' Redis holds a mark
/// for each, which has to be there too.
package struct ClusterCache: Sendable {
    /// Of the cluster.
    package let broker: Broker
    private let marks: RedisEmbeddingCache
    private let other: RedisEmbeddingCache?
    private let otherRedis: RedisClient?

    /// The embeddings of a cluster.
    ///
    /// - Parameters:
    ///   - broker: of the queues.
    ///   - redis: the other Redis; nil where the embeddings are in that of the queues.
    package init(_ broker: Broker, other redis: RedisClient?) {
        self.broker = broker
        let (namespace, partitions) = (broker.keys.namespace, broker.partitionCount)
        marks = RedisEmbeddingCache(broker.redis, namespace: namespace, partitions: partitions)
        otherRedis = redis
        other = redis.map { RedisEmbeddingCache($0, namespace: namespace, partitions: partitions) }
    }

    /// What `kirie cache stats` says.
    package struct Figures: Sendable, Hashable {
        /// What the cache holds and what it saved.
        package let cache: EmbeddingCacheStatistics
        /// Prompts whose prepared picture was in a decoder's memory, and those whose was not.
        package let decoderHits, decoderMisses: Int

        /// As `kirie cache stats --json` prints it and `/v1/cache` answers.
        package var json: JSONValue {
            .object([
                ("entries", .integer(cache.entries)), ("bytes", .integer(cache.bytes)),
                ("hits", .integer(cache.hits)), ("misses", .integer(cache.misses)),
                ("hit_rate", cache.hitRate.map { .number(($0 * 10_000).rounded() / 10_000) } ?? .null),
                ("stores", .integer(cache.stores)), ("evictions", .integer(cache.evictions)),
                ("expirations", .integer(cache.expirations)), ("corrupt", .integer(cache.corrupt)),
                (
                    "encode_seconds_saved",
                    .number((cache.encodeTimeSaved / .milliseconds(1)).rounded() / 1000)
                ),
                ("decoder_memory_hits", .integer(decoderHits)),
                ("decoder_memory_misses", .integer(decoderMisses)),
            ])
        }
    }

    /// What the cache holds, and what it and the decoders' memories saved.
    ///
    /// - Returns: sums over all servers since they were set up.
    /// - Throws: `EmbeddingCacheError`, `ClusterError` where Redis is away.
    package func figures() async throws -> Figures {
        let cache = try await (other ?? marks).statistics()
        let queues = try await broker.statistics()
        return Figures(cache: cache, decoderHits: queues.total("hits"), decoderMisses: queues.total("fetches"))
    }

    /// Which embeddings are there.
    ///
    /// A mark whose embedding is gone is removed: with it, a job that asks for the embedding would be done at once.
    ///
    /// - Parameter keys: of pictures and models.
    /// - Returns: one answer a key, in their order.
    /// - Throws: `EmbeddingCacheError` where Redis is away.
    package func contains(_ keys: [EmbeddingKey]) async throws -> [Bool] {
        let marked = try await marks.contains(keys)
        guard let other else { return marked }
        let kept = try await other.contains(keys)
        for (index, key) in keys.enumerated() where marked[index] && !kept[index] { try await marks.remove(key) }
        return zip(marked, kept).map { $0 && $1 }
    }

    /// Which embeddings are meant.
    package struct Choice: Sendable {
        /// These.
        package var keys: Set<EmbeddingKey> = []
        /// Those of these pictures, by all models.
        package var images: Set<ImageDigest> = []
        /// Those of a model.
        package var model: ModelIdentifier?
        /// All that there are.
        package var isAll = false

        /// None.
        package init() {}

        /// Whether all keys have to be gone through to find them.
        fileprivate var needsSearch: Bool { isAll || model != nil || !images.isEmpty }

        fileprivate func isMeant(_ key: EmbeddingKey) -> Bool {
            isAll || key.model == model || images.contains(key.image)
        }
    }

    /// Removes embeddings; who needs one has it encoded again.
    ///
    /// - Parameter choice: which.
    /// - Returns: how many there were.
    /// - Throws: `ClusterError` where Redis is away or the user may not remove.
    package func remove(_ choice: Choice) async throws -> Int {
        var removed = try await remove(Array(choice.keys))
        if choice.needsSearch {
            try await forEachKey { page in
                removed += try await remove(Array(Set(page.filter(choice.isMeant))))
            }
        }
        return removed
    }

    /// Removes embeddings; returns how many there were.
    private func remove(_ keys: [EmbeddingKey]) async throws -> Int {
        let marked = try await remove(keys, in: broker.redis)
        guard let otherRedis else { return marked.count { $0 } }
        let kept = try await remove(keys, in: otherRedis)
        return zip(marked, kept).count { $0 || $1 }
    }

    private func remove(_ keys: [EmbeddingKey], in redis: RedisClient) async throws -> [Bool] {
        let commands = keys.map { RedisCommand("UNLINK", .string(marks.redisKey($0)), repetition: .safe) }
        return try await redis.pipeline(commands).map { reply in
            if let refusal = reply.error { throw ClusterError.redis(.server(refusal, command: "UNLINK")) }
            return reply.integer == 1
        }
    }

    /// The keys of all embeddings, page by page, some of them maybe twice.
    private func forEachKey(_ body: ([EmbeddingKey]) async throws -> Void) async throws {
        for redis in [broker.redis, otherRedis].compactMap(\.self) {
            var pages: [[EmbeddingKey]] = []
            let head = "\(broker.keys.namespace):{"
            try await redis.scan(match: "\(head)*}:embedding:*") { names throws(RedisError) in
                pages.append(
                    names.compactMap { name in
                        let text = name.string
                        guard let mark = text.firstRange(of: "}:embedding:") else { return nil }
                        return EmbeddingKey(text[mark.upperBound...])
                    })
            }
            for page in pages { try await body(page) }
        }
    }
}
