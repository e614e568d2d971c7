import Cluster
import ClusterTesting
import Redis
import RedisTesting
import Segmentation
import Testing

/// Whatever ends takes along everything that was stored for it, whether or not anybody works.
@Suite struct StreamEntryTests {
    /// How many entries the streams of a partition hold, set-aside ones included.
    private func entries(_ cluster: TestCluster) async throws -> Int {
        let redis = cluster.broker.redis
        let names = try await redis.send(RedisCommand("KEYS", "kirie:*")).array?.compactMap(\.string) ?? []
        var count = 0
        for name in names where name.contains("}:decode:") || name.contains("}:encode:") {
            count += try await redis.entryCount(name)
        }
        return count
    }

    @Test func cancelledAndExpiredJobsLeaveTheStreamsAtOnce() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (broker, image, other) = (cluster.broker, TestCluster.image(1), TestCluster.image(2))
        try await cluster.accept([TestCluster.job("first", image)])
        try await cluster.encode(image)
        // In line, and parked; to be cancelled, and to expire.
        let line = try await cluster.accept((0..<20).map { TestCluster.job("line-\($0)", image) })
        let parked = try await cluster.accept((0..<20).map { TestCluster.job("parked-\($0)", other) })
        try await cluster.accept(
            (0..<5).map { TestCluster.job("brief-\($0)", $0 % 2 == 0 ? image : other, timeToLive: .milliseconds(1)) })
        try await eventually("they expire") {
            _ = try await broker.keepHouse(broker.partitions)
            return try await broker.statistics().total("expired:bulk") == 5
        }
        #expect(try await entries(cluster) == 21 + 1)
        // From the middle, the front and the back.
        _ = try await broker.cancel([line[7], line[0], line[19], parked[3], parked[0]])
        #expect(try await entries(cluster) == 18 + 1)
        _ = try await broker.cancel(line + parked)
        #expect(try await entries(cluster) == 1, "only the first job's entry is left")
        #expect(try await broker.statistics().total("encode_unwanted") == 1)
        #expect(try await broker.demand(.encode, model: TestCluster.model) == 0)
        let batch = try #require(try await cluster.takePrompts(image))
        #expect(batch.leases.map(\.reference.id) == ["first"])
        _ = try await broker.complete(batch.leases.map { ($0, RedisBytes("mask")) })
        #expect(try await ClusterAudit(of: broker).findings.isEmpty)
    }

    @Test func aBatchTakesTheEntriesOfAllItsJobsAlong() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        try await cluster.accept((0..<10).map { TestCluster.job("j\($0)", image) })
        try await cluster.encode(image)
        #expect(try await entries(cluster) == 10)
        let batch = try #require(try await cluster.takePrompts(image, count: 6))
        #expect(batch.leases.map(\.reference.id) == (0..<6).map { "j\($0)" }, "in the order in which they came")
        #expect(try await entries(cluster) == 4 + 1, "four queued, one for the batch")
        let statistics = try await broker.statistics()
        #expect(statistics.stream(.decode, .bulk).lag == 4 && statistics.stream(.decode, .bulk).pending == 1)
        // The one that holds the batch's entry ends first; the others are handed back.
        _ = try await broker.cancel([batch.leases[0].reference])
        try await broker.handBack(batch.leases.dropFirst().map { LeaseName($0) })
        #expect(try await entries(cluster) == 9)
        let rest = try #require(try await cluster.takePrompts(image, count: 256))
        #expect(rest.leases.count == 9)
        _ = try await broker.complete(rest.leases.map { ($0, RedisBytes("mask")) })
        #expect(try await entries(cluster) == 0)
        #expect(try await ClusterAudit(of: broker).findings.isEmpty)
    }

    /// What waits for a model that nobody serves any more is counted under its name, and goes when it ends.
    @Test func whatWasSetAsideForARetiredModelGoesWhenItsJobsEnd() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (broker, retired) = (cluster.broker, TestCluster.model("retired:fp16"))
        let images = (1...6).map { TestCluster.image($0) }
        for image in images { try await broker.putImage(image, .string("image")) }
        let jobs = images.enumerated().map {
            Job(
                id: "old-\($0.offset)", lane: .bulk, image: $0.element, model: retired,
                timeToLive: $0.offset < 3 ? .seconds(3600) : nil, line: RedisBytes("{}"))
        }
        let references = try await broker.submit(jobs).compactMap(\.reference)
        #expect(references.count == 6)
        // A worker of another model puts them aside.
        #expect(try await cluster.takeEncode(images[0]) == nil)
        #expect(try await broker.demand(.encode, model: retired) == 6)
        #expect(try await broker.demand(.encode, model: TestCluster.model) == 0)
        try await cluster.expire(Array(references[..<3]))
        try await eventually("three expire") {
            _ = try await broker.keepHouse(broker.partitions)
            return try await broker.statistics().total("expired:bulk") == 3
        }
        #expect(try await entries(cluster) == 3)
        #expect(try await broker.demand(.encode, model: retired) == 3)
        #expect(try await broker.statistics().demand == [.encode: [retired.text: 3]])
        _ = try await broker.cancel(references)
        #expect(try await entries(cluster) == 0)
        #expect(try await ClusterAudit(of: broker).findings.isEmpty)
    }
}
