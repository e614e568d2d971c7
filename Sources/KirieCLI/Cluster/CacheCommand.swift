import ArgumentParser
import Clients
import Cluster
import Embeddings
import Glibc
import Imaging
import JSON
import Redis
import Segmentation
import Terminals
import Workers

struct CacheCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cache",
        abstract: "The embeddings that the cluster keeps: look, fill, empty.",
        discussion: """
            kirie cache stats
            kirie cache warm photos
            kirie cache drop photos/a.jpg
            """,
        subcommands: [StatsCommand.self, WarmCommand.self, DropCommand.self])
}

/// Where the embeddings are.
struct CacheOptions: ParsableArguments {
    @OptionGroup var redis: RedisOptions

    @OptionGroup var cache: CacheRedisOption

    /// The other Redis; nil where there is none.
    func otherRedis() async throws -> RedisClient? { try await cache.redis() }
}

/// Where embeddings are, beside the queues.
struct CacheRedisOption: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp("The Redis of the embeddings, where they are not in that of the queues.", valueName: "url"))
    var cacheRedis: String?

    func validate() throws {
        guard let cacheRedis else { return }
        do { _ = try RedisURL(cacheRedis) } catch { throw ValidationError("the address of --cache-redis is \(error)") }
    }

    /// The other Redis; nil where there is none.
    func redis() async throws -> RedisClient? {
        guard let cacheRedis else { return nil }
        return try await RedisClient.connect(
            try RedisURL(cacheRedis), configuration: RedisConfiguration(clientName: "kirie"))
    }
}

/// The embeddings of a cluster, in the Redis of the queues or in another; in the second case the queues' Redis holds a mark
/// for each, which has to be there too.
struct ClusterCache: Sendable {
    let broker: Broker
    private let marks: RedisEmbeddingCache
    private let other: RedisEmbeddingCache?
    private let otherRedis: RedisClient?

    init(_ broker: Broker, other redis: RedisClient?) {
        self.broker = broker
        let (namespace, partitions) = (broker.keys.namespace, broker.partitionCount)
        marks = RedisEmbeddingCache(broker.redis, namespace: namespace, partitions: partitions)
        otherRedis = redis
        other = redis.map { RedisEmbeddingCache($0, namespace: namespace, partitions: partitions) }
    }

    func statistics() async throws -> EmbeddingCacheStatistics { try await (other ?? marks).statistics() }

    /// Which embeddings are there.
    ///
    /// A mark whose embedding is gone is removed: with it, a job that asks for the embedding would be done at once.
    func contains(_ keys: [EmbeddingKey]) async throws -> [Bool] {
        let marked = try await marks.contains(keys)
        guard let other else { return marked }
        let kept = try await other.contains(keys)
        for (index, key) in keys.enumerated() where marked[index] && !kept[index] { try await marks.remove(key) }
        return zip(marked, kept).map { $0 && $1 }
    }

    /// Removes embeddings; returns how many there were.
    func remove(_ keys: [EmbeddingKey]) async throws -> Int {
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
    func forEachKey(_ body: ([EmbeddingKey]) async throws -> Void) async throws {
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

extension CacheCommand {
    struct StatsCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "stats", abstract: "What the cache holds and what it saved.",
            discussion: "kirie cache stats --json")

        @Flag(name: .long, help: "Print one JSON object.")
        var json = false

        @OptionGroup var options: CacheOptions

        func run() async throws {
            let broker = try await options.redis.watcher()
            let other = try await options.otherRedis()
            let cache = try await ClusterCache(broker, other: other).statistics()
            let queues = try await broker.statistics()
            let decoderHits = queues.total("hits")
            let lookups = decoderHits + queues.total("fetches")
            let output = StandardOutput()
            if json {
                try await output.write(
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
                        ("decoder_memory_misses", .integer(queues.total("fetches"))),
                    ]))
                return
            }
            let rows: [(String, String)] = [
                ("redis", "\((other ?? broker.redis).url)"),
                ("entries", "\(Figures.count(cache.entries)), about \(Figures.bytes(cache.bytes))"),
                ("stored", Figures.count(cache.stores)),
                (
                    "found",
                    "\(Figures.count(cache.hits)) of \(Figures.count(cache.hits + cache.misses)) asked for, "
                        + Figures.percent(cache.hitRate)
                ),
                ("saved", "\(Figures.duration(cache.encodeTimeSaved)) of encoding"),
                ("evicted", "\(Figures.count(cache.evictions)) because memory was short"),
                ("expired", "\(Figures.count(cache.expirations)) because their time was over"),
                ("corrupt", Figures.count(cache.corrupt)),
                (
                    "decoders",
                    "\(Figures.count(decoderHits)) of \(Figures.count(lookups)) prompts found the embedding in a "
                        + "decoder's own memory"
                ),
            ]
            try await output.write(
                rows.map { name, text in
                    var line = TintedLine(name + String(repeating: " ", count: 10 - name.count), .quiet)
                    line.add(text)
                    return line
                })
        }
    }

    struct DropCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "drop", abstract: "Remove embeddings; who needs one has it encoded again.",
            discussion: """
                kirie cache drop photos/a.jpg
                kirie cache drop 3f2a…(the SHA-256 of a picture, or a whole key)
                kirie cache drop --model old-model
                kirie cache drop --all
                """)

        @Argument(
            help: ArgumentHelp(
                "Pictures by file or SHA-256, for all models, or keys <sha256>:<model>.", valueName: "key|image"))
        var names: [String] = []

        @OptionGroup var model: ModelChoice

        @Flag(name: .long, help: "All embeddings.")
        var all = false

        @OptionGroup var options: CacheOptions

        func validate() throws {
            let chosen = [!names.isEmpty, model.model != nil, all].count { $0 }
            guard chosen == 1 else { throw ValidationError("Give keys or pictures, or --model, or --all.") }
        }

        func run() async throws {
            let broker = try await options.redis.watcher()
            let cache = ClusterCache(broker, other: try await options.otherRedis())
            var keys: Set<EmbeddingKey> = []
            var images: Set<ImageDigest> = []
            var isGood = true
            for name in names {
                if let key = EmbeddingKey(name) {
                    keys.insert(key)
                } else if let digest = ImageDigest(name) {
                    images.insert(digest)
                } else {
                    do {
                        images.insert(
                            try await PictureFiles(
                                readers: 1, decoder: ImageDecoder(limit: PictureLimitOptions.usual)
                            ).picture(at: name).digest)
                    } catch {
                        Terminal.complain("kirie: \(error)")
                        isGood = false
                    }
                }
            }
            let identifier = model.model == nil ? nil : try await model.resolve(broker)
            var removed = try await cache.remove(Array(keys))
            if all || identifier != nil || !images.isEmpty {
                let everything = all
                try await cache.forEachKey { page in
                    let chosen = page.filter { key in
                        everything || key.model == identifier || images.contains(key.image)
                    }
                    removed += try await cache.remove(Array(Set(chosen)))
                }
            }
            try await StandardOutput().write(.object([("removed", .integer(removed))]))
            if !isGood { throw ExitCode(1) }
        }
    }
}
