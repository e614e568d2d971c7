import Cluster
import ClusterTesting
import Foundation
import Redis
import RedisTesting
import Segmentation
import Testing

/// Memory stays flat while jobs come that nobody does.
///
/// Decoders are down, times to live are short, jobs are tiny and many, and one of the models has no workers any more.
/// `deploy/soak` runs more rounds.
@Suite struct SoakTests {
    private let retired = TestCluster.model("retired:fp16")

    @Test(.timeLimit(.minutes(30)))
    func memoryStaysFlatWhileNobodyDecodes() async throws {
        let rounds = ProcessInfo.processInfo.environment["KIRIE_SOAK_ROUNDS"].flatMap { Int($0) } ?? 12
        let cluster = try await TestCluster.start(
            settings: ["retention_ms": 0, "image_grace_ms": 0, "attempts": 1, "dead": 20], partitions: 4)
        let broker = cluster.broker
        var curve: [(keys: Int, bytes: Int)] = []
        for round in 0..<rounds {
            try await flood(cluster, round)
            try await eventually("round \(round) is over") {
                while try await broker.keepHouse(broker.partitions).contains(where: \.unfinished) {}
                return try await broker.statistics().unfinished == 0
            }
            while try await broker.keepHouse(broker.partitions).contains(where: { $0.removed > 0 }) {}
            let keys = try await broker.redis.send(RedisCommand("DBSIZE")).integer ?? 0
            let bytes = try await broker.redis.info("memory")[0]["used_memory"].flatMap { Int($0) } ?? 0
            curve.append((keys, bytes))
        }
        let text = curve.map { "\($0.keys) keys \($0.bytes / 1024) KiB" }.joined(separator: ", ")
        print("soak, \(rounds) rounds of 1,600 jobs: \(text)")
        // From the fourth round on, when every list and table has its size. Redis's own tables grow by doubling.
        let later = curve.dropFirst(3)
        let (first, last) = (try #require(later.first), try #require(later.last))
        #expect(last.keys <= first.keys + 2, "\(text)")
        #expect(Double(last.bytes) <= Double(first.bytes) * 1.1 + 262_144, "\(text)")
    }

    private func flood(_ cluster: TestCluster, _ round: Int) async throws {
        let broker = cluster.broker
        let images = (0..<8).map { TestCluster.image($0) }
        for image in images { try await broker.putImage(image, .string("image \(image)")) }
        func jobs(_ kind: String, _ model: ModelIdentifier, ttl: Duration?) -> [Job] {
            (0..<400).map {
                Job(
                    id: "\(kind)-\(round)-\($0)", lane: $0 % 2 == 0 ? .bulk : .interactive, image: images[$0 % 8],
                    model: model, timeToLive: ttl, line: RedisBytes("{\"n\":\($0)}"))
            }
        }
        // Half of the pictures are encoded, so that jobs stand in the decode lines; nobody decodes.
        try await cluster.accept(
            images.enumerated().map { TestCluster.job("warm-\(round)-\($0.offset)", $0.element, line: "") })
        for image in images[..<4] {
            while let lease = try await cluster.takeEncode(image) {
                guard images[..<4].contains(lease.key.image) else {
                    // Fails for good: its jobs are dead letters.
                    try await broker.fail(LeaseName(lease), mayPass: true, reason: "a fault")
                    continue
                }
                _ = try await broker.publish(RedisBytes("record"), for: lease, expiry: .seconds(36_000))
            }
        }
        _ = try await broker.submit(jobs("brief", TestCluster.model, ttl: .milliseconds(1)), client: "brief-\(round)")
        _ = try await broker.submit(jobs("old", retired, ttl: .milliseconds(1)))
        // A worker of the living model sets the entries of the other aside.
        for image in images { _ = try await cluster.takePrompts(image, count: 1, lease: .milliseconds(1)) }
        let unwanted = try await broker.submit(jobs("unwanted", TestCluster.model, ttl: nil)).compactMap(\.reference)
        let tiny = try await broker.submit(jobs("tiny", retired, ttl: nil)).compactMap(\.reference)
        _ = try await broker.cancel(unwanted.reversed() + tiny.shuffled())
        let embeddings = images.map {
            broker.keys.embedding(EmbeddingKey(image: $0, model: TestCluster.model), in: broker.partition(of: $0))
        }
        _ = try await broker.redis.remove(embeddings)
        try await broker.purge(try await broker.deadLetters())
    }
}
