import Cluster
import Redis
import RedisTesting
import Segmentation
import Testing

/// The users that the page for operators recommends, with the rights that it gives them.
@Suite struct AccessTests {
    private static func broker(_ role: String, _ server: RedisServerProcess) async throws -> Broker {
        let redis = try await RedisClient.connect(RecommendedUsers.url(role, at: server.url))
        return role == "operator" ? try await Broker.open(redis) : try await Broker.join(redis)
    }

    @Test func eachRoleCanDoItsWorkAndNoOther() async throws {
        let server = try await RedisServerProcess.start(.init(users: try RecommendedUsers.rules()))
        defer { withExtendedLifetime(server) {} }
        _ = try await Self.broker("operator", server)
        let submitter = try await Self.broker("submitter", server)
        let encoder = try await Self.broker("encoder", server)
        let decoder = try await Self.broker("decoder", server)
        let monitor = try await Self.broker("monitor", server)
        let (image, model) = (TestCluster.image(1), TestCluster.model)
        let partition = submitter.partition(of: image)

        try await submitter.putImage(image, "bytes")
        let waiter = JobWaiter(submitter, client: "me")
        let outcome = try await submitter.submit([TestCluster.job("a", image)], client: "me")
        let reference = try #require(outcome[0].reference)
        // Workers open the cluster as they start.
        for worker in [encoder, decoder] { _ = try await Broker.open(worker.redis) }
        let then = try await encoder.redis.time()
        try await WorkerRegistry(encoder) { then }.beat(
            WorkerHeartbeat(name: "e", role: .encoder, host: "h", processIdentifier: 1, model: model))

        guard
            case .work(let leases, _) = try await encoder.takeEncodes(
                in: partition, worker: "e", model: model, lease: .seconds(3600))
        else { throw UnexpectedAnswer(description: "no encode") }
        #expect(try await encoder.image(image)?.string == "bytes")
        _ = try await encoder.renew([LeaseName(leases[0])], lease: .seconds(3600))
        #expect(try await encoder.publish(RedisBytes("record"), for: leases[0], expiry: .seconds(3600)))
        guard
            case .work(let batch, _) = try await decoder.takePrompts(
                in: partition, worker: "d", model: model, count: 16, lease: .seconds(3600))
        else { throw UnexpectedAnswer(description: "no job") }
        _ = try await decoder.complete([(batch.leases[0], RedisBytes("result"))])
        _ = try await decoder.keepHouse([partition])
        for try await ending in waiter.endings(of: [reference]) { #expect(ending.result?.string == "result") }
        #expect(try await monitor.statistics().total("done:bulk") == 1)
        // It may ask for the time; how long this test waited for its turn is no matter.
        _ = try await monitor.redis.time()
        #expect(try await WorkerRegistry(monitor) { then }.members(.encoder, model: model) == ["e"])

        // Each is kept from what is not its own.
        await #expect(throws: ClusterError.self) { try await monitor.putImage(TestCluster.image(2), "bytes") }
        await #expect(throws: ClusterError.self) {
            _ = try await submitter.takePrompts(in: partition, worker: "x", model: model, count: 1, lease: .seconds(1))
        }
        await #expect(throws: ClusterError.self) {
            _ = try await encoder.complete([(batch.leases[0], RedisBytes("result"))])
        }
        await #expect(throws: ClusterError.self) { _ = try await decoder.submit([TestCluster.job("b", image)]) }
        await #expect(throws: RedisError.self) { _ = try await submitter.redis.send(RedisCommand("FLUSHALL")) }
    }

    /// Whoever may write may load the functions, as the page says, and sets a Redis in order that lost them; without the right
    /// it says whom to ask.
    @Test(arguments: ["encoder", "decoder"])
    func workersMendARedisThatLostItsFunctions(_ role: String) async throws {
        let server = try await RedisServerProcess.start(.init(users: try RecommendedUsers.rules()))
        defer { withExtendedLifetime(server) {} }
        let owner = try await Self.broker("operator", server)
        _ = try await owner.redis.send(RedisCommand("FLUSHALL"))
        _ = try await owner.redis.send(RedisCommand("FUNCTION", "FLUSH"))
        let worker = try await Broker.open(try await RedisClient.connect(RecommendedUsers.url(role, at: server.url)))
        #expect(try await worker.statistics().total("done:bulk") == 0)
        _ = try await owner.redis.send(RedisCommand("FUNCTION", "FLUSH"))
        _ = try await owner.redis.send(RedisCommand("ACL", "SETUSER", .string(role), "-function"))
        let refused = try await RedisClient.connect(RecommendedUsers.url(role, at: server.url))
        let error = await #expect(throws: ClusterError.self) { _ = try await Broker.open(refused) }
        #expect("\(error.map { "\($0)" } ?? "")".contains("kirie queues"), "\(String(describing: error))")
    }

    /// To find its way in a Redis Cluster is a right too.
    @Test func eachRoleFindsItsWayInARedisCluster() async throws {
        let cluster = try await RedisClusterProcess.start(users: try RecommendedUsers.rules())
        defer { withExtendedLifetime(cluster) {} }
        _ = try await Broker.open(try await RedisClient.connect(RecommendedUsers.url("operator", at: cluster.url)))
        for role in RecommendedUsers.roles {
            let broker = try await Broker.join(
                try await RedisClient.connect(RecommendedUsers.url(role, at: cluster.url)))
            #expect(try await broker.statistics().unfinished == 0, "\(role)")
        }
    }
}
