import ArgumentParser
import Clients
import Cluster
import Embeddings
import Glibc
import Imaging
import JSON
import Platform
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
        help: ArgumentHelp(
            "The Redis of the embeddings, where they are not in that of the queues. A password may come from "
                + "$KIRIE_CACHE_REDIS_PASSWORD.", valueName: "url"))
    var cacheRedis: String?

    func validate() throws {
        if let cacheRedis { _ = try Self.url(cacheRedis) }
    }

    /// An address of `--cache-redis`.
    static func url(_ text: String) throws -> RedisURL {
        let secret = Environment["KIRIE_CACHE_REDIS_PASSWORD"].flatMap { $0.isEmpty ? nil : RedisPassword($0) }
        do { return try RedisURL(text, password: secret, tls: RedisTLSOptions.ofEnvironment) } catch {
            throw ValidationError("the address of --cache-redis is \(error)")
        }
    }

    /// The other Redis; nil where there is none.
    func redis() async throws -> RedisClient? {
        guard let cacheRedis else { return nil }
        return try await RedisClient.connect(
            try Self.url(cacheRedis), configuration: RedisConfiguration(clientName: "kirie"))
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
            let figures = try await ClusterCache(broker, other: other).figures()
            let cache = figures.cache
            let lookups = figures.decoderHits + figures.decoderMisses
            let output = StandardOutput()
            if json {
                try await output.write(figures.json)
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
                    "\(Figures.count(figures.decoderHits)) of \(Figures.count(lookups)) prompts found the "
                        + "embedding in a decoder's own memory"
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
            var choice = ClusterCache.Choice()
            var isGood = true
            for name in names {
                if let key = EmbeddingKey(name) {
                    choice.keys.insert(key)
                } else if let digest = ImageDigest(name) {
                    choice.images.insert(digest)
                } else {
                    do {
                        choice.images.insert(
                            try await PictureFiles(
                                readers: 1, decoder: ImageDecoder(limit: PictureLimitOptions.usual)
                            ).picture(at: name).digest)
                    } catch {
                        Terminal.complain("kirie: \(error)")
                        isGood = false
                    }
                }
            }
            choice.model = model.model == nil ? nil : try await model.resolve(broker)
            choice.isAll = all
            let removed = try await cache.remove(choice)
            try await StandardOutput().write(.object([("removed", .integer(removed))]))
            if !isGood { throw ExitCode(1) }
        }
    }
}
