import Cluster
import ClusterTesting
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
        let newer = FunctionsLibrary.own.revision + 1
        try await load(1, newer)
        try await FunctionsLibrary.ensure(in: redis)
        #expect(try await FunctionsLibrary.loaded(in: redis)?.revision == newer, "a newer edition stays")
        try await load(1, 0)
        try await FunctionsLibrary.ensure(in: redis)
        #expect(try await FunctionsLibrary.loaded(in: redis) == .own, "an older edition is replaced")
        try await load(2, 1)
        let error = try await #require(throws: ClusterError.self) { try await FunctionsLibrary.ensure(in: redis) }
        #expect(error.description.contains("protocol 2"))
    }

    /// Each primary is looked at for itself: one that has a newer edition keeps it when another one has none.
    @Test func aNewerEditionStaysOnItsPrimaryWhileOthersGetThisOne() async throws {
        let cluster = try await RedisClusterProcess.start()
        defer { withExtendedLifetime(cluster) {} }
        let newer = FunctionsLibrary.source.replacing(
            "local PROTOCOL, REVISION = \(FunctionsLibrary.own.protocolNumber), \(FunctionsLibrary.own.revision)",
            with: "local PROTOCOL, REVISION = \(FunctionsLibrary.own.protocolNumber), 99")
        var url = cluster.nodes[1].url
        url.cluster = .off
        try await RedisClient.connect(url).loadFunctions(newer)
        let redis = try await RedisClient.connect(cluster.url)
        try await FunctionsLibrary.ensure(in: redis)
        let revisions = try await redis.sendToEveryPrimary(.callReadOnly("kirie_version", keys: []))
            .compactMap { $0.array?.last?.integer }
        #expect(revisions.sorted() == [FunctionsLibrary.own.revision, FunctionsLibrary.own.revision, 99].sorted())
    }

    /// What is stored may have been written by anybody: a number that makes no sense is an error and no trap.
    @Test(arguments: ["0", "-3", "16385", "many", ""])
    func aNumberOfPartitionsThatMakesNoSenseIsRefused(stored: String) async throws {
        let server = try await RedisServerProcess.start()
        let redis = try await RedisClient.connect(server.url)
        try await FunctionsLibrary.ensure(in: redis)
        try await redis.setFields("kirie:cluster", [("partitions", .string(stored))])
        for open in [Broker.open(_:keys:partitions:), { redis, keys, _ in try await Broker.join(redis, keys: keys) }] {
            let error = try await #require(throws: ClusterError.self) { _ = try await open(redis, ClusterKeys(), 16) }
            #expect(error.description.contains("partitions") && error.description.contains("16384"), "\(error)")
        }
    }

    /// Settings that were written by hand are taken for the nearest that makes sense.
    @Test func settingsOutsideTheirBoundsAreTakenForTheNearest() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        let limits = broker.keys.limits(Partition(0))
        for (name, value) in [("chunk", "0"), ("attempts", "-7"), ("streak", "0"), ("clock_step_ms", "-1")] {
            try await broker.redis.setFields(limits, [(name, .string(value))])
        }
        try await cluster.accept((0..<3).map { TestCluster.job("s\($0)", image) })
        // One job a call is released, not none for ever; and a job has one attempt, not none.
        try await within(.hang) { try await cluster.encode(image) }
        let batch = try #require(try await cluster.takePrompts(image))
        #expect(batch.leases.count == 3)
        try await broker.fail(LeaseName(batch.leases[0]), mayPass: true, reason: "a fault")
        #expect(try await cluster.states([batch.leases[0].reference]) == [.dead])
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

    @Test func settingsChangeAtOnceByTheFunctionAndSoonByHand() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        try await cluster.accept([TestCluster.job("first", image)])
        func isRefused(_ id: String) async throws -> Bool {
            if case .refused(_, .backpressure) = try await broker.submit([TestCluster.job(id, image)])[0] {
                return true
            }
            return false
        }
        try await broker.set(["jobs:bulk": 1])
        #expect(try await isRefused("second"))
        try await broker.set(["jobs:bulk": 2])
        #expect(try await !isRefused("second"))
        #expect(try await isRefused("third"))
        // A chunk of 0 would have a publisher release nothing for ever; 0 attempts would kill each job at once.
        for (name, value) in [
            ("jobs:bulky", 1), ("attempts", -1), ("attempts", 0), ("partitions", 3), ("chunk", 0), ("streak", 0),
            ("backoff_ms", 0), ("image_ttl_ms", 0), ("clock_step_ms", 99), ("chunk", 10_001),
        ] {
            await #expect(throws: ClusterError.self, "\(name)") { try await broker.set([name: value]) }
        }
        #expect(try await !isRefused("second"), "a call that is refused changes nothing")

        _ = try await broker.redis.send(
            RedisCommand("HSET", .string(broker.keys.limits(Partition(0))), "jobs:bulk", "9"))
        try await eventually("a limit written by hand is read") { try await !isRefused("third") }
    }

    @Test func anImageIsLetGoAWhileAfterItsLastJob() async throws {
        let cluster = try await TestCluster.start(settings: ["image_grace_ms": 0], partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        let key = broker.keys.image(image, in: Partition(0))
        func end(_ id: String) async throws {
            let batch = try #require(try await cluster.takePrompts(image), "\(id)")
            _ = try await broker.complete(batch.leases.map { ($0, RedisBytes("mask")) })
        }
        try await cluster.accept([TestCluster.job("a", image)])
        try await cluster.encode(image)
        try await end("a")
        #expect(try await broker.redis.timeToLive(key) == nil, "the janitor has not come yet")

        // Needed again before the janitor comes: he leaves it alone.
        try await cluster.accept([TestCluster.job("b", image)])
        _ = try await broker.keepHouse(broker.partitions)
        #expect(try await broker.redis.timeToLive(key) == nil)
        #expect(try await broker.statistics().total("image_bytes") > 0)
        try await end("b")
        _ = try await broker.keepHouse(broker.partitions)
        #expect(try await broker.redis.timeToLive(key) != nil)
        #expect(try await broker.statistics().total("image_bytes") == 0)
        #expect(try await ClusterAudit(of: broker).findings.isEmpty)
    }

    /// A number that no cluster can have is not stored: it would stay there.
    @Test(arguments: [0, -1, 16_385])
    func aNumberOfPartitionsThatIsRefusedLeavesNothingBehind(partitions: Int) async throws {
        let server = try await RedisServerProcess.start()
        let redis = try await RedisClient.connect(server.url)
        await #expect(throws: ClusterError.self) { _ = try await Broker.open(redis, partitions: partitions) }
        #expect(try await Broker.open(redis, partitions: 4).partitionCount == 4)
    }

    /// Pictures have their places by the number: nobody gets another one than was asked for, and nothing is changed.
    @Test func aClusterKeepsItsNumberOfPartitions() async throws {
        let server = try await RedisServerProcess.start()
        let redis = try await RedisClient.connect(server.url)
        #expect(try await Broker.open(redis, partitions: 4).partitionCount == 4)
        #expect(try await Broker.open(redis).partitionCount == 4)
        let error = try await #require(throws: ClusterError.self) { _ = try await Broker.open(redis, partitions: 16) }
        #expect(error.description.contains("of 4 partitions, and not of 16"))
        #expect(try await Broker.join(redis).partitionCount == 4)
    }
}
