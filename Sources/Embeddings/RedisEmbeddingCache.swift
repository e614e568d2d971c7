public import Redis
public import Segmentation

/// An embedding cache in Redis, shared by all who connect to it.
///
/// ```text
/// kirie:{p}:embedding:<key>     the record, one SET, always with a time to live       p = partition of the image
/// kirie:embeddings              hash: hits, misses, corrupt, stores, stored_bytes, saved_us
/// ```
/// Entries carry a time to live, so under `maxmemory-policy volatile-lru` they are what goes when memory is short. The
/// same Redis as the queues' or another: this type touches no other key.
public struct RedisEmbeddingCache: EmbeddingCache {
    private enum Counter: String, CaseIterable {
        case hits
        case misses
        case corrupt
        case stores
        case storedBytes = "stored_bytes"
        case savedMicroseconds = "saved_us"
    }

    private let redis: RedisClient
    private let namespace: String
    private let partitions: Int

    /// A cache over a client that stays the caller's to close.
    ///
    /// - Parameters:
    ///   - redis: the Redis of the queues or another.
    ///   - namespace: the first word of every key.
    ///   - partitions: P, as everybody of this namespace has it.
    public init(_ redis: RedisClient, namespace: String = "kirie", partitions: Int = 16) {
        self.redis = redis
        self.namespace = namespace
        self.partitions = partitions
    }

    /// The Redis key of an embedding.
    public func redisKey(_ key: EmbeddingKey) -> String {
        "\(namespace):{\(key.image.partition(among: partitions))}:embedding:\(key)"
    }

    /// Looks an embedding up and counts the lookup.
    public func record(for key: EmbeddingKey) async throws(EmbeddingCacheError) -> EmbeddingRecord? {
        let name = redisKey(key)
        guard let bytes = try await asking({ redis throws(RedisError) in try await redis.get(name) }) else {
            await count([(.misses, 1)])
            return nil
        }
        do throws(EmbeddingRecordError) {
            let record = try EmbeddingRecord(bytes)
            guard record.key == key else { throw .otherKey }
            let saved = record.encodeTime.components
            let microseconds = Int(saved.seconds) * 1_000_000 + Int(saved.attoseconds / 1_000_000_000_000)
            await count([(.hits, 1), (.savedMicroseconds, microseconds)])
            return record
        } catch {
            try await drop(name)
            return nil
        }
    }

    /// Keeps a record under its own key for a time, by one SET.
    ///
    /// A Redis that evicts nothing by itself (`noeviction`) has the embeddings dropped that were not used for the longest
    /// time, until there is room.
    public func store(_ record: EmbeddingRecord, timeToLive: Duration) async throws(EmbeddingCacheError) {
        let name = redisKey(record.key)
        while true {
            do throws(RedisError) {
                try await redis.set(name, .bytes(record.redisBytes), expiry: timeToLive)
                break
            } catch {
                guard error.serverCode == "OOM" else { throw .redis(error) }
                guard try await dropIdle() > 0 else { throw .full(bytes: record.byteCount) }
            }
        }
        await noteStored(record)
    }

    /// Drops some embeddings; returns how many.
    ///
    /// As Redis's own eviction does, it looks at keys drawn by chance and takes those that were idle for the longest time
    /// (<https://redis.io/docs/latest/develop/reference/eviction/#apx-lru>). Where chance brings none of the few embeddings
    /// among many other keys, it looks for them: only a Redis without any is full.
    private func dropIdle() async throws(EmbeddingCacheError) -> Int {
        try await asking { redis throws(RedisError) in
            var names: Set<String> = []
            for _ in 0..<32 {
                let drawn = try await redis.sendToEveryPrimary(RedisCommand("RANDOMKEY")).compactMap(\.string)
                names.formUnion(drawn.filter { isEmbedding($0) })
            }
            if names.isEmpty {
                try await redis.scan(match: "\(namespace):{*}:embedding:*") { names.formUnion($0.map(\.string)) }
            }
            let drawn = Array(names)
            let replies = try await redis.pipeline(drawn.map { RedisCommand("OBJECT", "IDLETIME", .string($0)) })
            let byIdleness = zip(drawn, replies).sorted { $0.1.integer ?? .max > $1.1.integer ?? .max }.map(\.0)
            var dropped = 0
            for name in byIdleness.prefix(max(1, drawn.count / 4)) { dropped += try await redis.remove([name]) }
            return dropped
        }
    }

    private func isEmbedding(_ name: String) -> Bool {
        name.hasPrefix("\(namespace):{") && name.contains("}:embedding:")
    }

    /// Counts a record that somebody published under ``redisKey(_:)`` by other means than ``store(_:timeToLive:)``, such
    /// as the function that publishes and releases jobs in one step.
    public func noteStored(_ record: EmbeddingRecord) async {
        await count([(.stores, 1), (.storedBytes, record.byteCount)])
    }

    /// Whether embeddings are there, in the order of the keys, in one round trip.
    public func contains(_ keys: [EmbeddingKey]) async throws(EmbeddingCacheError) -> [Bool] {
        let commands = keys.map { RedisCommand("EXISTS", .string(redisKey($0))) }
        let replies = try await asking { redis throws(RedisError) in try await redis.pipeline(commands) }
        for reply in replies {
            if let error = reply.error { throw .redis(.server(error, command: "EXISTS")) }
        }
        return replies.map { $0.integer == 1 }
    }

    /// Removes an embedding; returns whether it was there.
    @discardableResult
    public func remove(_ key: EmbeddingKey) async throws(EmbeddingCacheError) -> Bool {
        let name = redisKey(key)
        return try await asking { redis throws(RedisError) in try await redis.remove([name]) > 0 }
    }

    /// What the cache holds and what it did: three commands, however much it holds.
    public func statistics() async throws(EmbeddingCacheError) -> EmbeddingCacheStatistics {
        let counters = counterKey
        let (values, servers) = try await asking { redis throws(RedisError) in
            let values = try await redis.fields(counters, Counter.allCases.map(\.rawValue))
            var servers = try await redis.info("stats")
            servers += try await redis.info("keyspace")
            return (values, servers)
        }
        func counted(_ counter: Counter) -> Int {
            Counter.allCases.firstIndex(of: counter).flatMap { values[$0] }.flatMap { Int($0.string) } ?? 0
        }
        var statistics = EmbeddingCacheStatistics()
        statistics.hits = counted(.hits)
        statistics.misses = counted(.misses)
        statistics.corrupt = counted(.corrupt)
        statistics.stores = counted(.stores)
        statistics.encodeTimeSaved = .microseconds(Int64(counted(.savedMicroseconds)))
        for server in servers {
            statistics.evictions += server["evicted_keys"].flatMap { Int($0) } ?? 0
            statistics.expirations += server["expired_keys"].flatMap { Int($0) } ?? 0
            statistics.entries += Self.mortalKeys(server["db\(redis.url.database)"])
        }
        if statistics.stores > 0 {
            statistics.bytes = statistics.entries * (counted(.storedBytes) / statistics.stores)
        }
        return statistics
    }

    private var counterKey: String { "\(namespace):embeddings" }

    /// `expires` of `keys=3,expires=2,avg_ttl=5000`.
    private static func mortalKeys(_ keyspace: String?) -> Int {
        for part in (keyspace ?? "").split(separator: ",") where part.hasPrefix("expires=") {
            return Int(part.dropFirst("expires=".count)) ?? 0
        }
        return 0
    }

    private func drop(_ name: String) async throws(EmbeddingCacheError) {
        try await asking { redis throws(RedisError) in _ = try await redis.remove([name]) }
        await count([(.corrupt, 1), (.misses, 1)])
    }

    /// Counters are for people: with memory full they stand still, and a lookup or publication succeeds all the same.
    private func count(_ changes: [(counter: Counter, amount: Int)]) async {
        let commands = changes.map { change in
            RedisCommand("HINCRBY", .string(counterKey), .string(change.counter.rawValue), .integer(change.amount))
        }
        _ = try? await redis.pipeline(commands)
    }

    private func asking<Answer>(
        _ body: (RedisClient) async throws(RedisError) -> Answer
    ) async throws(EmbeddingCacheError) -> Answer {
        do throws(RedisError) {
            return try await body(redis)
        } catch {
            throw .redis(error)
        }
    }
}

extension EmbeddingRecord {
    /// The record's bytes for a command; nothing is copied.
    public var redisBytes: RedisBytes { RedisBytes(borrowing: memory.bytes, from: memory) }

    /// Reads a record out of an answer and verifies it; nothing is copied.
    public init(_ bytes: RedisBytes) throws(EmbeddingRecordError) {
        let memory = bytes.withUnsafeBytes { $0 }
        try self.init(borrowing: memory, from: bytes)
    }
}
