import Glibc
import Redis
import RedisTesting
import Testing

/// Primaries that sentinels name, before, during and after failovers.
@Suite struct SentinelTests {
    private static var quick: RedisConfiguration {
        var configuration = RedisConfiguration()
        configuration.backoff = RedisBackoff(base: .milliseconds(2), limit: .milliseconds(50))
        configuration.patience = .hang
        return configuration
    }

    /// What connecting fails with.
    private static func refusal(_ url: RedisURL) async -> String {
        do {
            _ = try await RedisClient.connect(url)
        } catch {
            return "\(error)"
        }
        return "no refusal"
    }

    @Test func aPrimaryThatIsKilledIsFollowedByItsReplica() async throws {
        let fleet = try await RedisSentinelProcesses.start()
        defer { withExtendedLifetime(fleet) {} }
        let redis = try await RedisClient.connect(fleet.url, configuration: Self.quick)
        try await redis.set("k", "1")
        #expect(try await redis.send(RedisCommand("WAIT", 1, 0)).integer == 1)
        let subscription = try await redis.subscribe(to: ["news"])
        async let popped = redis.popFirst(["list"], for: .seconds(3600))

        await fleet.servers[0].kill(SIGKILL)
        try await fleet.believeDeaths()
        #expect(try await redis.get("k")?.string == "1")
        try await redis.set("k", "2")
        #expect(try await RedisClusterProcess.ask(fleet.servers[1], [RedisCommand("GET", "k")])[0].string == "2")
        var arriving = subscription.makeAsyncIterator()
        #expect(await arriving.next() == .resubscribed)
        // A command that waited goes on waiting there, or its caller hears of the break: then the element is still there.
        try await redis.push("list", ["x"])
        let element = try? await popped?.value.string
        if element == nil {
            #expect(try await redis.popFirst(["list"], for: .seconds(3600))?.value.string == "x")
        } else {
            #expect(element == "x")
        }
    }

    /// The primary of before lives on, as a replica.
    @Test func aPlannedFailoverIsFollowed() async throws {
        let fleet = try await RedisSentinelProcesses.start()
        defer { withExtendedLifetime(fleet) {} }
        let redis = try await RedisClient.connect(fleet.url, configuration: Self.quick)
        try await redis.set("k", "1")
        let subscription = try await redis.subscribe(to: ["news"])
        try await RedisClusterProcess.ask(fleet.sentinels[0], [RedisCommand("SENTINEL", "FAILOVER", "main")])
        // Between the two there are moments at which neither takes a write.
        try await eventually("a write reaches the new primary") {
            do throws(RedisError) { try await redis.set("k", "2") } catch {
                guard error.isTransient else { throw error }
                return false
            }
            // The sentinels break the connections to who changes its role.
            let questions = [RedisCommand("ROLE"), RedisCommand("GET", "k")]
            guard let replies = try? await RedisClusterProcess.ask(fleet.servers[1], questions) else { return false }
            return replies[0].array?.first?.string == "master" && replies[1].string == "2"
        }
        // Who listens says nothing, and moves all the same.
        var arriving = subscription.makeAsyncIterator()
        #expect(await arriving.next() == .resubscribed)
    }

    /// A primary that is cut off goes on serving whoever is connected to it: the sentinels' word ends that.
    @Test func aConnectionToThePrimaryOfBeforeIsLeft() async throws {
        let fleet = try await RedisSentinelProcesses.start()
        defer { withExtendedLifetime(fleet) {} }
        let redis = try await RedisClient.connect(fleet.url, configuration: Self.quick)
        let subscription = try await redis.subscribe(to: ["news"])
        try await redis.ping()
        // Stopped, it answers nobody, and no connection to it breaks.
        try await fleet.servers[0].freeze()
        try await fleet.believeDeaths()
        var arriving = subscription.makeAsyncIterator()
        #expect(await arriving.next() == .resubscribed)
        fleet.servers[0].thaw()
        try await redis.set("k", "1")
        #expect(try await RedisClusterProcess.ask(fleet.servers[1], [RedisCommand("GET", "k")])[0].string == "1")
    }

    @Test func aDeadPrimaryIsToldAsWhatItIs() async throws {
        let fleet = try await RedisSentinelProcesses.start(replicas: 0, sentinels: 1)
        defer { withExtendedLifetime(fleet) {} }
        await fleet.servers[0].kill(SIGKILL)
        let text = await Self.refusal(fleet.url)
        #expect(text.contains("Connection refused, and the sentinels name it as the primary"), "\(text)")
        #expect(!text.contains("cluster="), "an option that nobody has given is shown: \(text)")
    }

    @Test func aReplicaThatSentinelsNameIsRefused() async throws {
        let fleet = try await RedisSentinelProcesses.start(replicas: 0, sentinels: 1)
        defer { withExtendedLifetime(fleet) {} }
        // A sentinel watches this for a while before it says otherwise.
        try await RedisClusterProcess.ask(fleet.servers[0], [RedisCommand("REPLICAOF", "127.0.0.1", 1)])
        let text = await Self.refusal(fleet.url)
        #expect(text.contains("it is a replica, and the sentinels name it as the primary"), "\(text)")
    }

    @Test func whatIsNoSentinelOrNoServiceIsTold() async throws {
        let fleet = try await RedisSentinelProcesses.start(replicas: 0, sentinels: 1)
        defer { withExtendedLifetime(fleet) {} }
        guard case .tcp(let host, let port) = fleet.servers[0].url.endpoint,
            case .tcp(_, let sentinelPort) = fleet.sentinels[0].url.endpoint
        else { return }
        let other = await Self.refusal(try RedisURL("redis+sentinel://\(host):\(sentinelPort)/other"))
        #expect(other.contains("do not watch \"other\" but \"main\""), "\(other)")
        let server = await Self.refusal(try RedisURL("redis+sentinel://\(host):\(port)/main"))
        #expect(server.contains("\(host):\(port) is no sentinel"), "\(server)")
        let nobody = await Self.refusal(try RedisURL("redis+sentinel://\(host):1/main"))
        #expect(nobody.contains("no sentinel says where the primary is: \(host):1: Connection refused"), "\(nobody)")
        let sentinel = await Self.refusal(try RedisURL("redis://\(host):\(sentinelPort)"))
        #expect(sentinel.contains("it is a sentinel: write redis+sentinel://"), "\(sentinel)")
    }

    @Test func sentinelsAndServersBehindTLS() async throws {
        let certificates = try await TLSCertificates()
        let fleet = try await RedisSentinelProcesses.start(.init(tls: certificates))
        defer { withExtendedLifetime(fleet) {} }
        let redis = try await RedisClient.connect(fleet.url, configuration: Self.quick)
        try await redis.set("k", "1")
        #expect(try await redis.send(RedisCommand("WAIT", 1, 0)).integer == 1)
        await fleet.servers[0].kill(SIGKILL)
        try await fleet.believeDeaths()
        #expect(try await redis.get("k")?.string == "1")
    }
}
