import ArgumentParser
import Cluster
import CoreMetrics
import Gateway
import Glibc
import Logging
import Platform
import ServiceLifecycle
import Synchronization
import Telemetry
import Terminals
import UnixSignals

struct GatewayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gateway",
        abstract: "Serve a cluster over HTTP: the page to click on, the interface for programs, the monitor.",
        discussion: """
            kirie gateway --listen 127.0.0.1:8080
            kirie gateway --redis redis://queue.example:6379 --listen 0.0.0.0:8080 --keys keys.jsonl --host-name kirie.example
            kirie gateway key annotators --scope read --scope submit >> keys.jsonl

            Without --keys nobody is asked for one, and only this machine can come: another address than loopback is refused.
            TLS is a proxy's business. SIGTERM ends event streams, finishes what is being answered and exits with 0.
            When it can be reached, one line is printed on standard output: KIRIE_GATEWAY=http://…
            """,
        subcommands: [ServeCommand.self, KeyCommand.self], defaultSubcommand: ServeCommand.self)
}

/// `HOST:PORT`.
struct ListenAddress: ExpressibleByArgument {
    let host: String
    let port: Int

    init?(argument: String) {
        guard let colon = argument.lastIndex(of: ":"), let port = Int(argument[argument.index(after: colon)...]),
            (0...65_535).contains(port)
        else { return nil }
        var host = argument[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty else { return nil }
        self.host = String(host)
        self.port = port
    }

    /// As it stands in a URL.
    static func url(host: String, port: Int) -> String {
        let shown = host == "0.0.0.0" || host == "::" ? "127.0.0.1" : host
        return "http://\(shown.contains(":") ? "[\(shown)]" : shown):\(port)/"
    }
}

extension GatewayCommand {
    struct ServeCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "serve", abstract: "Serve (what `kirie gateway` does when nothing else is named).",
            discussion: "kirie gateway --listen 127.0.0.1:8080")

        @OptionGroup var redis: RedisOptions

        @OptionGroup var cache: CacheRedisOption

        @OptionGroup var replication: ReplicationOptions

        @Option(name: .long, help: ArgumentHelp("Where to listen; port 0 takes a free one.", valueName: "host:port"))
        var listen = ListenAddress.fallback

        @Option(
            name: .long,
            help: ArgumentHelp("The API keys, a JSON line each; see `kirie gateway key`.", valueName: "file"))
        var keys: String?

        @Option(
            name: .customLong("host-name"),
            help: ArgumentHelp(
                "A name by which browsers reach this gateway; may be given several times.", valueName: "name"))
        var hostNames: [String] = []

        @Option(
            name: .long,
            help: ArgumentHelp(
                "An origin whose pages may use this gateway, such as https://labels.example; * for all.",
                valueName: "origin"))
        var cors: [String] = []

        @Option(
            name: .customLong("trusted-proxy"),
            help: ArgumentHelp("The address of a proxy whose X-Forwarded-For is believed.", valueName: "address"))
        var proxies: [String] = []

        @Option(
            name: .customLong("label-studio-media"),
            help: ArgumentHelp(
                "Label Studio's media folder, whose pictures its tasks name /data/upload/….", valueName: "folder"))
        var labelStudioMedia: String?

        @Option(
            name: .customLong("label-studio-files"),
            help: ArgumentHelp(
                "Label Studio's folder of local files, whose pictures its tasks name /data/local-files/?d=….",
                valueName: "folder"))
        var labelStudioFiles: String?

        @Option(
            name: .customLong("image-limit"),
            help: ArgumentHelp("The largest picture file, in bytes.", valueName: "bytes"))
        var imageLimit = 64 << 20

        @Option(
            name: .customLong("connection-limit"), help: ArgumentHelp("Connections open at a time.", valueName: "n"))
        var connectionLimit = 16_384

        @Option(
            name: .customLong("client-timeout"),
            help: ArgumentHelp(
                "How long a client may leave a body unfinished or an answer unread without a byte passing.",
                valueName: "seconds"), transform: DecimalNumber.argument)
        var clientTimeout = 60.0

        @Flag(
            name: .customLong("fetch-urls"),
            help: "Fetch pictures that are named by an address, from the public internet alone.")
        var fetchesAddresses = false

        @Flag(
            name: .customLong("scale-from-zero"),
            help: "Take jobs where no worker is there, since a waiting job starts one.")
        var acceptsWithoutWorkers = false

        @Option(
            name: .customLong("drain-limit"),
            help: ArgumentHelp("How long SIGTERM waits for answers that are on their way.", valueName: "seconds"),
            transform: DecimalNumber.argument)
        var drainLimit = 20.0

        @Option(
            name: .customLong("address-file"),
            help: ArgumentHelp("A file that gets the gateway's address when it can be reached.", valueName: "file"))
        var addressFile: String?

        @Flag(name: .customLong("any-port"), help: "Take a free port where the one of --listen is taken.")
        var takesAnyPort = false

        @Option(name: .customLong("log-level"), help: "trace, debug, info, notice, warning, error or critical.")
        var logLevel: LogLevel = .info

        func validate() throws {
            if !(1...(512 << 20)).contains(imageLimit) {
                throw ValidationError("--image-limit takes a number of bytes from 1 to 536870912.")
            }
            if !(1...1_000_000).contains(connectionLimit) {
                throw ValidationError("--connection-limit takes a number from 1 to 1000000.")
            }
            if !(0...86_400).contains(drainLimit) {
                throw ValidationError("--drain-limit takes seconds from 0 to 86400.")
            }
            if !(0.1...86_400).contains(clientTimeout) {
                throw ValidationError("--client-timeout takes seconds from 0.1 to 86400.")
            }
            for origin in cors where origin != "*" {
                guard origin.hasPrefix("http://") || origin.hasPrefix("https://"), !origin.hasSuffix("/") else {
                    throw ValidationError(
                        "--cors takes an origin such as https://labels.example, without a path, or *.")
                }
            }
        }

        func run() async throws {
            let settings = try await settings()
            guard settings.keys != nil || settings.isLoopbackOnly else {
                throw ValidationError(
                    "Without --keys a gateway listens on loopback alone: give --keys FILE, or --listen 127.0.0.1:\(listen.port)."
                )
            }
            let registry = PrometheusRegistry(help: GatewayMetrics.help)
            MetricsSystem.bootstrap(registry)
            LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
            var logger = Logger(label: "kirie.gateway")
            logger.logLevel = logLevel.level
            if settings.keys == nil {
                logger.notice(
                    "no keys are asked for: only this machine is served", metadata: ["host": "\(settings.host)"])
            }
            Descriptors.raiseLimit()
            let (broker, cacheRedis) = try await RedisOptions.patiently({ [logger] error in
                logger.warning("waiting for Redis", metadata: ["error": "\(error)"])
            }) { (replication.applied(to: try await redis.submitter()), try await cache.redis()) }
            try await Self.prepare(settings.keys, broker)
            let (host, addressFile) = (settings.host, addressFile)
            let address = Mutex<String?>(nil)
            let gateway = GatewayService(
                settings, broker: broker, cacheRedis: cacheRedis, registry: registry, logger: logger
            ) { port in
                let url = ListenAddress.url(host: host, port: port)
                if let addressFile { try? AtomicFile.write(Array("\(url)\n".utf8), to: addressFile) }
                try? StandardOutput.print(Array("KIRIE_GATEWAY=\(url)\n".utf8))
                address.withLock { $0 = url }
            }
            // That it is told at all proves the threads alive on which requests are answered.
            let managed = ManagedService(
                manager: ServiceManager(), status: { address.withLock { $0 }.map { "serving \($0)" } },
                isAlive: { true })
            var configuration = ServiceGroupConfiguration(
                services: [
                    .init(service: gateway, successTerminationBehavior: .gracefullyShutdownGroup),
                    .init(service: managed, successTerminationBehavior: .ignore),
                ],
                gracefulShutdownSignals: [.sigterm, .sigint],
                logger: Logger(label: "kirie") { _ in SwiftLogNoOpLogHandler() })
            configuration.maximumGracefulShutdownDuration = .milliseconds(Int(drainLimit * 1000))
            configuration.maximumCancellationDuration = .seconds(5)
            try await ServiceGroup(configuration: configuration).run()
            fflush(nil)
            _exit(0)
        }

        /// Sets the weights that keys name, where the functions know tenants.
        private static func prepare(_ keys: ApiKeys?, _ broker: Broker) async throws {
            for tenant in Set((keys?.entries ?? []).map(\.tenant)) { _ = try await broker.serving(tenant) }
            for entry in keys?.entries ?? [] {
                guard let weight = entry.weight else { continue }
                var terms = try await broker.terms(of: entry.tenant) ?? TenantTerms()
                terms.weight = weight
                try await broker.set(terms, for: entry.tenant)
            }
        }

        private func settings() async throws -> GatewaySettings {
            var settings = GatewaySettings()
            settings.host = listen.host
            settings.port = takesAnyPort && !LoopbackPort.isFree(listen.port) ? 0 : listen.port
            if let keys {
                settings.keys = try ApiKeys(parsing: try await Self.text(of: keys), named: keys)
            }
            settings.hostNames = Set(hostNames.map { $0.lowercased() })
            settings.crossOrigins = Set(cors)
            settings.proxies = TrustedProxies(proxies)
            settings.labelStudioFolders = LabelStudioFolders(media: labelStudioMedia, localFiles: labelStudioFiles)
            settings.imageLimit = imageLimit
            settings.connectionLimit = connectionLimit
            settings.acceptsWithoutWorkers = acceptsWithoutWorkers
            settings.fetchesAddresses = fetchesAddresses
            settings.clientPatience = .milliseconds(Int(clientTimeout * 1000))
            settings.temporaryFolder = Environment["TMPDIR"].flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp"
            return settings
        }

        /// The lines of a file.
        private static func text(of file: String) async throws -> [UInt8] {
            let reader = try JobLineReader(file, limit: 64 << 10)
            var text: [UInt8] = []
            while let entries = try await reader.next() {
                for entry in entries {
                    guard case .line(_, let line) = entry else {
                        throw ApiKeyError(place: file, reason: "a line of more than 64 KiB is no key")
                    }
                    text += Array(line) + [0x0A]
                }
            }
            return text
        }
    }

    struct KeyCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "key", abstract: "Make an API key: the line for the gateway's file of keys.",
            discussion: """
                kirie gateway key annotators --scope read --scope submit --masks-per-day 100000 >> keys.jsonl
                kirie gateway key lab-1 --tenant lab --weight 3 >> keys.jsonl

                The key itself is printed on standard error, once; the line holds its SHA-256 alone.
                """)

        @Argument(help: "Whose key it is: a name for logs and quotas.")
        var name: String

        @Option(name: .long, help: "What its holder may do: read, submit, operate; may be given several times.")
        var scope: [String] = ["read", "submit"]

        @Option(
            name: .customLong("requests-per-second"), help: "Requests a second, on average.",
            transform: DecimalNumber.argument)
        var rate: Double?

        @Option(name: .customLong("masks-per-day"), help: "Masks a day (UTC).")
        var masks: Int?

        @Option(
            name: .long,
            help: ArgumentHelp(
                "Whose jobs and pictures the key speaks of, where several share the cluster.", valueName: "name"))
        var tenant: String?

        @Option(
            name: .long,
            help: ArgumentHelp("What the tenant's turns weigh beside others', 1 to 100.", valueName: "n"))
        var weight: Int?

        func run() async throws {
            let scopes = try scope.map { word in
                guard let scope = Scope(rawValue: word) else {
                    throw ValidationError("--scope takes read, submit or operate.")
                }
                return scope
            }
            let (key, line) = ApiKeys.make(
                name: name, scopes: scopes, requestsPerSecond: rate, masksPerDay: masks, tenant: tenant,
                weight: weight)
            // What the gateway would refuse is refused here.
            _ = try ApiKeys(parsing: line.utf8, named: "the new key")
            try StandardOutput.print(Array((line + "\n").utf8))
            Terminal.complain("the key, which is not kept: \(key)")
        }
    }
}

extension ListenAddress {
    /// Where a gateway listens when nothing else is said.
    static let fallback = ListenAddress(host: "127.0.0.1", port: 8080)

    private init(host: String, port: Int) {
        self.host = host
        self.port = port
    }
}
