import Cluster
import Redis
import RedisTesting
import Segmentation
import Synchronization
import Testing

@Suite struct WorkerRegistryTests {
    /// Redis's clock as a test moves it, in microseconds since 1970.
    private final class HandClock: Sendable {
        private let microseconds = Mutex(1_700_000_000_000_000)
        var now: Int { microseconds.withLock { $0 } }
        func advance(by seconds: Int) { microseconds.withLock { $0 += seconds * 1_000_000 } }
    }

    private static func heartbeat(
        _ name: String, _ role: WorkerHeartbeat.Role = .decoder, _ model: ModelIdentifier = TestCluster.model
    ) -> WorkerHeartbeat {
        WorkerHeartbeat(name: name, role: role, host: "host", processIdentifier: 1, model: model)
    }

    @Test func knowsWhoIsThere() async throws {
        let cluster = try await TestCluster.start()
        let clock = HandClock()
        let registry = WorkerRegistry(cluster.broker) { clock.now }
        #expect(try await registry.defaultModel() == nil)
        var heartbeat = Self.heartbeat("host:1")
        heartbeat.cachedImages = 3
        try await registry.beat(heartbeat)
        clock.advance(by: 5)
        heartbeat.name = "host:2"
        heartbeat.draining = true
        try await registry.beat(heartbeat)
        let workers = try await registry.workers()
        #expect(workers.map(\.heartbeat.name) == ["host:1", "host:2"] && workers[0].heartbeat.cachedImages == 3)
        #expect(workers.map(\.age) == [.seconds(5), .zero])
        #expect(try await registry.members(.decoder, model: TestCluster.model) == ["host:1"])
        #expect(try await registry.members(.encoder, model: TestCluster.model).isEmpty)
        #expect(try await registry.defaultModel() == TestCluster.model)
        clock.advance(by: 3)
        #expect(try await registry.members(.decoder, model: TestCluster.model).isEmpty, "nothing was heard for 8 s")
        try await registry.leave("host:1")
        #expect(try await registry.workers().map(\.heartbeat.name) == ["host:2"])
    }

    /// Whoever looks at a Redis that started empty, or sets up there, finds the partitions that the workers go on with.
    @Test func anEmptyRedisIsToldOfThePartitions() async throws {
        let cluster = try await TestCluster.start()
        let broker = cluster.broker
        let field = RedisCommand("HGET", .string(broker.keys.cluster), "partitions")
        let count = try await broker.redis.send(field).string
        #expect(count == "\(broker.partitionCount)")
        _ = try await broker.redis.send(RedisCommand("FLUSHALL"))
        try await WorkerRegistry(broker).beat(Self.heartbeat("host:1"))
        #expect(try await broker.redis.send(field).string == count)
    }

    @Test func newWeightsAreMeantWhenNobodyServesTheOldOnes() async throws {
        let cluster = try await TestCluster.start()
        let clock = HandClock()
        let registry = WorkerRegistry(cluster.broker) { clock.now }
        let new = TestCluster.model("new:fp16")
        try await registry.beat(Self.heartbeat("host:2"))
        try await registry.beat(Self.heartbeat("host:3", .encoder, new))
        #expect(try await registry.defaultModel() == TestCluster.model, "somebody serves it")
        try await registry.leave("host:2")
        try await registry.beat(Self.heartbeat("host:3", .encoder, new))
        #expect(try await registry.defaultModel() == new)
        // Who is only silent is gone too, after a while.
        clock.advance(by: 9)
        try await registry.beat(Self.heartbeat("host:4"))
        #expect(try await registry.defaultModel() == TestCluster.model)
    }

    /// To look is not to write; who beats sweeps.
    @Test func looksChangeNothingAndHeartbeatsForgetThoseLongGone() async throws {
        let cluster = try await TestCluster.start()
        let (clock, redis, key) = (HandClock(), cluster.broker.redis, cluster.broker.keys.workers)
        let registry = WorkerRegistry(cluster.broker) { clock.now }
        try await registry.beat(Self.heartbeat("long-gone"))
        try await redis.setFields(key, [("broken", "no JSON")])
        clock.advance(by: 61)
        #expect(try await registry.workers().isEmpty)
        #expect(try await redis.fields(key).keys.sorted() == ["broken", "long-gone"])
        try await registry.beat(Self.heartbeat("new"))
        #expect(try await redis.fields(key).keys.sorted() == ["new"])
        // Nobody is removed who beats.
        clock.advance(by: 61)
        try await registry.beat(Self.heartbeat("other"))
        try await registry.beat(Self.heartbeat("new"))
        #expect(try await redis.fields(key).keys.sorted() == ["new", "other"])
    }
}
