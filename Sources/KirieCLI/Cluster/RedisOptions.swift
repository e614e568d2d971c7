import ArgumentParser
import Cluster
import FoundationEssentials
import Glibc
import LocalCluster
import Platform
import Redis

/// Which cluster a command speaks to.
struct RedisOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "The cluster's Redis: redis://[user:password@]host:port/db, rediss://… for TLS, "
                + "redis+sentinel://host,host/name, or unix:///path. Default: $KIRIE_REDIS, else the server of a `kirie up` on this machine. A password may come from "
                + "$KIRIE_REDIS_PASSWORD.",
            valueName: "url"))
    var redis: String?

    @OptionGroup var tls: RedisTLSOptions

    @Option(name: .long, help: "The first word of every key; several clusters may share a Redis.")
    var namespace = "kirie"

    func validate() throws {
        if let redis {
            let url = try Self.url(redis, password: Self.secret, tls: tls.settings)
            guard !tls.isAny || url.tls != nil else {
                throw ValidationError(
                    "--redis-ca, --redis-cert, --redis-key and --redis-server-name go with rediss://.")
            }
        }
        guard !namespace.isEmpty, namespace.utf8.allSatisfy(Self.isAllowed) else {
            throw ValidationError("--namespace takes letters, digits and . _ / -")
        }
    }

    var keys: ClusterKeys { ClusterKeys(namespace: namespace) }

    /// The address that was given, or that of the environment, or that of a `kirie up`.
    func url() throws -> RedisURL {
        if let text = redis ?? Environment["KIRIE_REDIS"].flatMap({ $0.isEmpty ? nil : $0 }) {
            return try Self.url(text, password: Self.secret, tls: tls.settings)
        }
        let socket = ClusterFolder.standard.socket
        guard access(socket, R_OK | W_OK) == 0 else { throw MissingRedis(socket: socket) }
        return RedisURL(.unixSocket(path: socket), password: Self.secret)
    }

    /// Connects under a name that CLIENT LIST shows.
    func connect(
        as name: String = "kirie", _ adjust: (inout RedisConfiguration) -> Void = { _ in }
    ) async throws -> RedisClient {
        var configuration = RedisConfiguration(clientName: name)
        adjust(&configuration)
        return try await RedisClient.connect(try url(), configuration: configuration)
    }

    /// The password of the environment, if any.
    static var secret: RedisPassword? {
        Environment["KIRIE_REDIS_PASSWORD"].flatMap { $0.isEmpty ? nil : RedisPassword($0) }
    }

    static func url(
        _ text: String, password: RedisPassword? = nil, tls: RedisTLS = RedisTLSOptions.ofEnvironment
    ) throws -> RedisURL {
        do {
            let sentinels = Environment["KIRIE_REDIS_SENTINEL_PASSWORD"].flatMap {
                $0.isEmpty ? nil : RedisPassword($0)
            }
            return try RedisURL(text, password: password, tls: tls, sentinels: sentinels)
        } catch {
            throw ValidationError("the Redis address is \(error)")
        }
    }

    private static func isAllowed(_ unit: UInt8) -> Bool {
        let character = Character(UnicodeScalar(unit))
        return unit < 128 && (character.isLetter || character.isNumber || "._/-".contains(character))
    }
}

/// On how many replicas jobs are before they count as accepted.
struct ReplicationOptions: ParsableArguments {
    @Option(
        name: .customLong("wait-replicas"),
        help: ArgumentHelp(
            "A job is accepted when so many replicas of Redis have it (WAIT), besides the primary.", valueName: "n"))
    var replicas: Int?

    @Option(
        name: .customLong("wait-replicas-limit"),
        help: ArgumentHelp(
            "How long those are waited for; then the job is refused (exit status 75), to be submitted again.",
            valueName: "seconds"), transform: DecimalNumber.argument)
    var limit = 1.0

    func validate() throws {
        if let replicas, !(1...64).contains(replicas) {
            throw ValidationError("--wait-replicas takes a number from 1 to 64.")
        }
        if !(0.001...60).contains(limit) {
            throw ValidationError("--wait-replicas-limit takes seconds, from 0.001 to 60.")
        }
    }

    /// The same broker, for jobs that count as accepted by these rules.
    func applied(to broker: Broker) -> Broker {
        var broker = broker
        broker.replication = replicas.map {
            Broker.Replication(replicas: $0, limit: .milliseconds(Int((limit * 1000).rounded(.up))))
        }
        return broker
    }
}

/// What `rediss://` is held to; files of PEM, read anew by each connection.
struct RedisTLSOptions: ParsableArguments {
    @Option(
        name: .customLong("redis-ca"),
        help: ArgumentHelp(
            "With rediss://: the certificates of the authorities that Redis is believed by. Default: $KIRIE_REDIS_CA, "
                + "else those of the system.", valueName: "file"))
    var authorities: String?

    @Option(
        name: .customLong("redis-cert"),
        help: ArgumentHelp("With rediss://: the client's certificate ($KIRIE_REDIS_CERT).", valueName: "file"))
    var certificate: String?

    @Option(
        name: .customLong("redis-key"),
        help: ArgumentHelp(
            "With rediss://: its key, without a passphrase ($KIRIE_REDIS_KEY); may be in the same file.",
            valueName: "file"))
    var key: String?

    @Option(
        name: .customLong("redis-server-name"),
        help: ArgumentHelp(
            "With rediss://: the name that Redis's certificate has ($KIRIE_REDIS_SERVER_NAME). Default: the address's "
                + "host.", valueName: "name"))
    var serverName: String?

    /// Whether something is on the command line.
    var isAny: Bool { [authorities, certificate, key, serverName].contains { $0 != nil } }

    /// The command line's, and the environment's where it says nothing.
    var settings: RedisTLS {
        RedisTLS(authorities: authorities, certificate: certificate, key: key, serverName: serverName)
            .filled(from: Self.ofEnvironment)
    }

    static var ofEnvironment: RedisTLS {
        func path(_ name: String) -> String? { Environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        return RedisTLS(
            authorities: path("KIRIE_REDIS_CA"), certificate: path("KIRIE_REDIS_CERT"), key: path("KIRIE_REDIS_KEY"),
            serverName: path("KIRIE_REDIS_SERVER_NAME"))
    }
}

/// No Redis was named and none runs here.
struct MissingRedis: ReportableError {
    let socket: String
    var report: ErrorReport {
        ErrorReport(
            .notFound, "no-cluster", "there is no cluster: nothing listens at \(socket)",
            remedy: "start one with `kirie up`, or name its Redis with --redis or KIRIE_REDIS")
    }

    /// The report in one line.
    var description: String { report.text }
}

/// Passwords on the command line, which `ps` would show to everybody on the machine.
enum CommandLineSecrets {
    /// Overwrites what stands between `://` and `@` in each argument, in the memory that the system reads.
    ///
    /// The arguments must have been copied before. Between the start of the process and this call the password can be
    /// seen all the same, which the environment variables avoid.
    static func hide() {
        for index in 1..<max(1, Int(CommandLine.argc)) {
            guard let argument = CommandLine.unsafeArgv[index] else { continue }
            let length = strlen(argument)
            let bytes = UnsafeMutableBufferPointer(start: argument, count: length)
            guard let scheme = strstr(argument, "://"), let at = bytes.lastIndex(of: CChar(UInt8(ascii: "@"))) else {
                continue
            }
            let start = scheme - argument + 3
            for position in start..<max(start, at) { bytes[position] = CChar(UInt8(ascii: "*")) }
        }
    }
}
