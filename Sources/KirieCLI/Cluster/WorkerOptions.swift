import ArgumentParser
import Cluster
import Glibc
import Logging
import Platform
import Redis
import Segmentation
import ServiceLifecycle
import Telemetry
import UnixSignals
import Workers

/// What encoder and decoder workers have in common.
struct WorkerOptions: ParsableArguments {
    @OptionGroup var redis: RedisOptions
    @OptionGroup var partitions: PartitionOption

    @Option(
        name: .customLong("cache-redis"),
        help: ArgumentHelp(
            "Another Redis that keeps the embeddings, of the same form. A password may come from "
                + "$KIRIE_CACHE_REDIS_PASSWORD.", valueName: "url"))
    var cacheRedis: String?

    @OptionGroup var folder: CacheFolderOptions

    @Option(name: .customLong("embedding"), help: "How embeddings are stored: fp16, fp32 or int8; the same everywhere.")
    var embedding: EncodeCommand.RecordType = .fp16

    @Option(name: .long, help: "The worker's name, unique in the cluster. Default: role, host, process.")
    var name: String?

    @Option(
        name: .long,
        help: "Pieces of work at a time. Default: 1; a decoder of a small model decodes a batch on each of its threads."
    )
    var concurrency: Int?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long work stays with a worker that is not heard of, before another takes it.", valueName: "seconds"),
        transform: DecimalNumber.argument)
    var lease = 15.0

    @Option(
        name: .customLong("drain-limit"),
        help: ArgumentHelp(
            "How long SIGTERM waits for what is being done before it is handed back.", valueName: "seconds"),
        transform: DecimalNumber.argument)
    var drainLimit = 20.0

    @Option(
        name: .customLong("metrics-port"),
        help: ArgumentHelp("Serve /healthz, /readyz and /metrics on this port; 0 takes a free one.", valueName: "port"))
    var metricsPort: Int?

    @Option(
        name: .customLong("metrics-host"),
        help: ArgumentHelp("The address for --metrics-port; 0.0.0.0 lets other machines read.", valueName: "address"))
    var metricsHost = "127.0.0.1"

    @Option(name: .customLong("log-level"), help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel: LogLevel = .info

    func validate() throws {
        if let concurrency, !(1...256).contains(concurrency) {
            throw ValidationError("--concurrency takes a number from 1 to 256.")
        }
        if !(0.05...86_400).contains(lease) { throw ValidationError("--lease takes seconds from 0.05 to 86400.") }
        if !(0...86_400).contains(drainLimit) { throw ValidationError("--drain-limit takes seconds from 0 to 86400.") }
        if let metricsPort, !(0...65_535).contains(metricsPort) {
            throw ValidationError("--metrics-port takes a number from 0 to 65535.")
        }
        if let cacheRedis { _ = try CacheRedisOption.url(cacheRedis) }
        if let name, !Self.isName(name) {
            throw ValidationError("--name takes 1 to 128 of A-Z a-z 0-9 . _ : @ / + -")
        }
    }

    func loopSettings(concurrency: Int = 1) -> WorkLoopSettings {
        var settings = WorkLoopSettings(concurrency: self.concurrency ?? concurrency)
        settings.lease = .milliseconds(Int((lease * 1000).rounded()))
        settings.drainLimit = .milliseconds(Int((drainLimit * 1000).rounded()))
        return settings
    }

    func logger(_ role: WorkerHeartbeat.Role) -> Logger {
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        var logger = Logger(label: "kirie.\(role.rawValue)")
        logger.logLevel = logLevel.level
        return logger
    }

    /// Connects to both servers, as often as it takes: a worker may be started before its Redis.
    func connect(
        _ logger: Logger, embeddingLifetime: Duration = .seconds(86_400)
    ) async throws -> (broker: Broker, store: EmbeddingStore) {
        func client(_ url: RedisURL) async throws -> RedisClient {
            var configuration = RedisConfiguration(clientName: "kirie-worker")
            configuration.onEvent = { event in
                switch event {
                case .connected(let server): logger.debug("connected", metadata: ["server": "\(server)"])
                case .retrying(let server, let attempt, _, let reason):
                    // A user who has lost a right, such as that to a channel, is never connected again.
                    logger.log(
                        level: attempt % 8 == 7 ? .warning : .debug, "connecting again",
                        metadata: ["server": "\(server)", "attempt": "\(attempt)", "reason": "\(reason)"])
                case .disconnected(let server, let reason):
                    logger.warning(
                        "the connection broke", metadata: ["server": "\(server)", "reason": "\(reason)"])
                case .clusterMapRead(let nodes): logger.debug("cluster map", metadata: ["nodes": "\(nodes)"])
                }
            }
            return try await RedisClient.connect(url, configuration: configuration)
        }
        func patiently<Answer>(_ body: () async throws -> Answer) async throws -> Answer {
            try await RedisOptions.patiently(
                { logger.warning("waiting for Redis", metadata: ["error": "\($0)"]) }, body)
        }
        let broker = try await patiently {
            try await Broker.open(try await client(try redis.url()), keys: redis.keys, partitions: partitions.count)
        }
        var elsewhere: RedisClient?
        if let cacheRedis { elsewhere = try await patiently { try await client(try CacheRedisOption.url(cacheRedis)) } }
        let store = EmbeddingStore(broker, elsewhere: elsewhere, timeToLive: embeddingLifetime)
        guard let folder = try folder.open() else { return (broker, store) }
        let tiered = store.over(folder) { fault in
            if let fault {
                logger.warning(
                    "the cache folder takes nothing, and work goes on without it", metadata: ["error": "\(fault)"])
            } else {
                logger.info("the cache folder takes embeddings again")
            }
        }
        return (broker, tiered)
    }

    /// The first heartbeat.
    func heartbeat(
        _ role: WorkerHeartbeat.Role, model: ModelIdentifier, modelName: String, threads: Int
    ) -> WorkerHeartbeat {
        let host = Host.name
        let suffix = String(UInt32.random(in: .min ... .max), radix: 36)
        var heartbeat = WorkerHeartbeat(
            name: name ?? "\(role.rawValue)-\(host)-\(getpid())-\(suffix)", role: role, host: host,
            processIdentifier: Int(getpid()), model: model, modelName: modelName)
        heartbeat.threads = threads
        heartbeat.capacity = concurrency ?? 1
        return heartbeat
    }

    /// Runs a worker until SIGTERM or SIGINT and its drain.
    func run<Source: WorkSource>(
        _ worker: WorkerService<Source>, registry: PrometheusRegistry, logger: Logger
    ) async throws {
        var services = [
            ServiceGroupConfiguration.ServiceConfiguration(
                service: worker, successTerminationBehavior: .gracefullyShutdownGroup,
                failureTerminationBehavior: .gracefullyShutdownGroup)
        ]
        if let metricsPort {
            let server = MonitoringServer(
                host: metricsHost, port: metricsPort, registry: registry, logger: logger,
                refresh: {
                    if let age = worker.health.sinceHeartbeat {
                        WorkerMetrics.heartbeat(age: age)
                    }
                },
                health: { worker.serviceHealth })
            // Health is told to the end of the drain: the server stops when the worker has.
            services.insert(.init(service: server), at: 0)
        }
        let managed = ManagedService(
            manager: ServiceManager(),
            status: { worker.health.sinceHeartbeat == nil ? nil : worker.serviceHealth.detail },
            isAlive: { worker.isAlive })
        services.append(.init(service: managed, successTerminationBehavior: .ignore))
        var configuration = ServiceGroupConfiguration(
            services: services, gracefulShutdownSignals: [.sigterm, .sigint],
            logger: Logger(label: "kirie") { _ in SwiftLogNoOpLogHandler() })
        configuration.maximumGracefulShutdownDuration = .milliseconds(Int(drainLimit * 1000) + 10_000)
        try await ServiceGroup(configuration: configuration).run()
        // An encode that was given up at the limit of the drain goes on to its end on its own thread: what libraries take
        // down at a regular exit must not go from under it.
        fflush(nil)
        _exit(0)
    }

    static func isName(_ text: String) -> Bool {
        (1...128).contains(text.utf8.count)
            && text.utf8.allSatisfy { unit in
                let character = Character(UnicodeScalar(unit))
                return unit < 128 && (character.isLetter || character.isNumber || "._:@/+-".contains(character))
            }
    }
}

extension WorkerService {
    /// Alive as long as the process runs its loop, which a Redis that is away does not end: no restart would mend it.
    var serviceHealth: ServiceHealth {
        let (isDraining, age) = health
        let isHeard = age.map { $0 < WorkerRegistry.patience } ?? false
        let detail =
            if isDraining {
                "draining"
            } else if !isAlive {
                "the loop of heartbeats does not go round: start this process again"
            } else if isHeard {
                "ok"
            } else {
                "no heartbeat was confirmed \(age.map { "for \($0)" } ?? "yet"): Redis does not answer"
            }
        return ServiceHealth(isAlive: isAlive, isReady: isHeard && !isDraining, detail: detail)
    }
}

/// What `--log-level` takes; swift-log's levels by their names.
enum LogLevel: String, ExpressibleByArgument, CaseIterable {
    case trace, debug, info, notice, warning, error, critical

    var level: Logger.Level { Logger.Level(rawValue: rawValue) ?? .info }
}

/// The machine's name, in letters that may stand in a worker's name.
enum Host {
    static var name: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, 255) == 0 else { return "host" }
        let text = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let kept = text.prefix(48).map { WorkerOptions.isName(String($0)) ? $0 : "-" }
        return kept.isEmpty ? "host" : String(kept)
    }
}
