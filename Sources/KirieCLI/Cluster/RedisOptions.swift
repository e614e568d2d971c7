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
            "The cluster's Redis: redis://[user:password@]host:port/db or unix:///path. Default: $KIRIE_REDIS, else the "
                + "server of a `kirie up` on this machine. A password may come from $KIRIE_REDIS_PASSWORD.",
            valueName: "url"))
    var redis: String?

    @Option(name: .long, help: "The first word of every key; several clusters may share a Redis.")
    var namespace = "kirie"

    func validate() throws {
        if let redis { _ = try Self.url(redis, password: Self.secret) }
        guard !namespace.isEmpty, namespace.utf8.allSatisfy(Self.isAllowed) else {
            throw ValidationError("--namespace takes letters, digits and . _ / -")
        }
    }

    var keys: ClusterKeys { ClusterKeys(namespace: namespace) }

    /// The address that was given, or that of the environment, or that of a `kirie up`.
    func url() throws -> RedisURL {
        if let text = redis ?? Environment["KIRIE_REDIS"].flatMap({ $0.isEmpty ? nil : $0 }) {
            return try Self.url(text, password: Self.secret)
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

    static func url(_ text: String, password: RedisPassword? = nil) throws -> RedisURL {
        do {
            return try RedisURL(text, password: password)
        } catch {
            throw ValidationError("the Redis address is \(error)")
        }
    }

    private static func isAllowed(_ unit: UInt8) -> Bool {
        let character = Character(UnicodeScalar(unit))
        return unit < 128 && (character.isLetter || character.isNumber || "._/-".contains(character))
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
