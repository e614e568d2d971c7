import Cluster
import ClusterTesting
import Redis
import RedisTesting
import Segmentation
import Testing

/// Up to revision 5 an encode in flight lay under `flight:<key>`, and the field that names an entry was `ticket`.
///
/// A cluster is upgraded while it works: what the former library stored is gone on with.
@Suite struct FormerNamesTests {
    @Test func whatTheFormerLibraryStoredIsGoneOnWith() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (broker, redis) = (cluster.broker, cluster.broker.redis)
        let (encoded, inWork, waiting, dropped) = (
            TestCluster.image(1), TestCluster.image(2), TestCluster.image(3), TestCluster.image(4)
        )
        try await cluster.accept((0..<6).map { TestCluster.job("encoded-\($0)", encoded) })
        try await cluster.encode(encoded)
        try await cluster.accept([TestCluster.job("in-work", inWork)])
        let lease = try #require(try await cluster.takeEncode(inWork))
        try await cluster.accept([TestCluster.job("waiting", waiting)])
        let unwanted = try await cluster.accept([TestCluster.job("dropped", dropped)])
        let held = try #require(try await cluster.takePrompts(encoded, count: 2))
        try await giveFormerNames(cluster)

        // Upgraded: the library is loaded anew and remembers nothing.
        try await redis.loadFunctions(FunctionsLibrary.source)
        let renewals = try await broker.renew(
            [LeaseName(lease)] + held.leases.map { LeaseName($0) }, lease: .seconds(3600))
        #expect(renewals == [.renewed, .renewed, .renewed])
        #expect(try await broker.publish(RedisBytes("record"), for: lease, expiry: .seconds(36_000)))
        try await cluster.encode(waiting)
        _ = try await broker.cancel(unwanted)
        #expect(try await broker.statistics().total("encode_unwanted") == 1)
        try await broker.handBack([LeaseName(held.leases[1])])
        _ = try await broker.complete([(held.leases[0], RedisBytes("mask"))])
        var done = 1
        for image in [encoded, inWork, waiting] {
            while let batch = try await cluster.takePrompts(image) {
                done += batch.leases.count
                _ = try await broker.complete(batch.leases.map { ($0, RedisBytes("mask")) })
            }
        }
        #expect(done == 8)
        #expect(try await broker.statistics().total("done:bulk") == 8)
        #expect(try await ClusterAudit(of: broker).findings.isEmpty)
        let left = try await redis.send(RedisCommand("KEYS", "*flight*")).array ?? []
        #expect(left.isEmpty, "\(left)")
    }

    private func giveFormerNames(_ cluster: TestCluster) async throws {
        let redis = cluster.broker.redis
        let prefix = cluster.broker.keys.prefix(Partition(0))
        func renameField(of key: String) async throws {
            guard let entry = try await redis.fields(key, ["entry"])[0] else { return }
            _ = try await redis.send(RedisCommand("HSET", .string(key), "ticket", .bytes(entry)))
            _ = try await redis.send(RedisCommand("HDEL", .string(key), "entry"))
        }
        func names(_ pattern: String) async throws -> [String] {
            try await redis.send(RedisCommand("KEYS", .string(pattern))).array?.compactMap(\.string) ?? []
        }
        let encodes = try await names("*:encoding:*")
        #expect(encodes.count == 3)
        for key in encodes {
            try await renameField(of: key)
            let former = key.replacing("}:encoding:", with: "}:flight:")
            _ = try await redis.send(RedisCommand("RENAME", .string(key), .string(former)))
        }
        for key in try await names("*:job:*") { try await renameField(of: key) }
        _ = try await redis.send(
            RedisCommand("RENAME", .string("\(prefix)encodings"), .string("\(prefix)flights")))
    }
}
