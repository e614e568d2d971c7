public import Redis

/// A primary, its replicas, and the sentinels that watch them under the name `main`: real processes on this machine.
///
/// The sentinels take nobody for dead by themselves within a test, however busy the machine is, before
/// ``believeDeaths(after:)``.
public final class RedisSentinelProcesses: Sendable {
    /// The primary at the beginning, and its replicas after it.
    public let servers: [RedisServerProcess]
    /// The sentinels.
    public let sentinels: [RedisServerProcess]

    private init(servers: [RedisServerProcess], sentinels: [RedisServerProcess]) {
        self.servers = servers
        self.sentinels = sentinels
    }

    /// The address that a client is given.
    public var url: RedisURL {
        var url = servers[0].url
        url.endpoint = .sentinels(
            RedisSentinels(
                sentinels.compactMap { sentinel in
                    guard case .tcp(let host, let port) = sentinel.url.endpoint else { return nil }
                    return RedisSentinels.Place(host: host, port: port)
                }, service: "main"))
        url.cluster = .off
        return url
    }

    /// Starts all of them; returns when each sentinel knows the replicas and the other sentinels.
    public static func start(
        replicas: Int = 1, sentinels count: Int = 3, _ options: RedisServerProcess.Options = .init()
    ) async throws -> RedisSentinelProcesses {
        var options = options
        options.listener = .tcp
        options.settings += ["repl-diskless-sync-delay 0", "repl-ping-replica-period 1"]
        let primary = try await RedisServerProcess.start(options)
        guard case .tcp(let host, let port) = primary.url.endpoint else {
            throw RedisServerProcess.Failure(description: "the primary has no port")
        }
        var servers = [primary]
        for _ in 0..<replicas {
            var own = options
            own.settings.append("replicaof \(host) \(port)")
            // A replica answers as loading until it has its primary's data.
            servers.append(try await RedisServerProcess.start(own))
        }
        var sentinels: [RedisServerProcess] = []
        for _ in 0..<count {
            var own = RedisServerProcess.Options(
                listener: .tcp, tls: options.tls,
                settings: [
                    "sentinel monitor main \(host) \(port) \(count / 2 + 1)",
                    "sentinel down-after-milliseconds main 600000", "sentinel failover-timeout main 5000",
                ])
            own.isSentinel = true
            sentinels.append(try await RedisServerProcess.start(own))
        }
        let all = RedisSentinelProcesses(servers: servers, sentinels: sentinels)
        for sentinel in sentinels {
            let connection = try await RedisConnection.connect(to: sentinel.url)
            try await eventually("a sentinel knows everybody") {
                let fields = try await connection.send(RedisCommand("SENTINEL", "MASTER", "main")).fields ?? [:]
                return fields["num-slaves"]?.string == "\(replicas)"
                    && fields["num-other-sentinels"]?.string == "\(count - 1)"
            }
        }
        return all
    }

    /// From now on a server that is silent for so long is taken for dead.
    ///
    /// Sentinels promote no replica that lost its primary more than ten times as long before they took that for dead: on a
    /// machine that is busy, seconds pass between a kill and this call.
    public func believeDeaths(after limit: Duration = .seconds(3)) async throws {
        for sentinel in sentinels where sentinel.isRunning {
            let milliseconds = Int(limit / .milliseconds(1))
            try await RedisClusterProcess.ask(
                sentinel,
                [RedisCommand("SENTINEL", "SET", "main", "down-after-milliseconds", .integer(milliseconds))])
        }
    }
}
