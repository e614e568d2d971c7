import Cluster
import Redis
import RedisTesting
import Testing

@Suite struct FunctionsLibraryTests {
    @Test func isLoadedOnceAndNeverReplacedByAnOlderOne() async throws {
        let server = try await RedisServerProcess.start()
        let redis = try await RedisClient.connect(server.url)
        #expect(try await FunctionsLibrary.loaded(in: redis) == nil)
        try await FunctionsLibrary.ensure(in: redis)
        #expect(try await FunctionsLibrary.loaded(in: redis) == .own)

        func load(_ number: Int, _ revision: Int) async throws {
            let own = FunctionsLibrary.own
            let changed = FunctionsLibrary.source.replacing(
                "local PROTOCOL, REVISION = \(own.protocolNumber), \(own.revision)",
                with: "local PROTOCOL, REVISION = \(number), \(revision)")
            try #require(changed != FunctionsLibrary.source)
            try await redis.loadFunctions(changed)
        }
        try await load(1, 9)
        try await FunctionsLibrary.ensure(in: redis)
        #expect(try await FunctionsLibrary.loaded(in: redis)?.revision == 9, "a newer edition stays")
        try await load(1, 0)
        try await FunctionsLibrary.ensure(in: redis)
        #expect(try await FunctionsLibrary.loaded(in: redis) == .own, "an older edition is replaced")
        try await load(2, 1)
        let error = try await #require(throws: ClusterError.self) { try await FunctionsLibrary.ensure(in: redis) }
        #expect(error.description.contains("protocol 2"))
    }

    @Test func aPolicyThatEvictsQueuesIsRefused() async throws {
        let server = try await RedisServerProcess.start(.init(maximumMemory: 50_000_000, memoryPolicy: "allkeys-lru"))
        let redis = try await RedisClient.connect(server.url)
        let error = try await #require(throws: ClusterError.self) { _ = try await Broker.open(redis) }
        #expect(error.description.contains("allkeys-lru") && error.description.contains("volatile-lru"))
    }

    @Test func onlyEmbeddingsAndUnneededImagesMayBeEvicted() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let image = TestCluster.image(1)
        try await cluster.accept(
            (0..<4).map { TestCluster.job("t\($0)", image, timeToLive: .seconds(100)) }, client: "me")
        try await cluster.encode(image)
        let batch = try #require(try await cluster.takePrompts(image, count: 2))
        _ = try await cluster.broker.complete(batch.leases.map { ($0, RedisBytes("mask")) })
        let redis = cluster.broker.redis
        let keys = try await redis.send(RedisCommand("KEYS", "*")).array?.compactMap(\.string) ?? []
        #expect(keys.count > 15)
        for key in keys where try await redis.timeToLive(key) != nil {
            #expect(key.contains(":embedding:"), "\(key) may be evicted")
        }
    }
}
