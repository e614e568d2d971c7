import Cluster
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// Other ways to lay a cluster out: over a Redis Cluster, and with the embeddings in a Redis of their own.
@Suite struct TopologyTests {
    private static func workers(
        _ url: RedisURL, _ more: [String] = [], encoder: [String] = []
    ) throws -> [ClientRun] {
        try ["encoder", "decoder"].map {
            let own = $0 == "encoder" ? encoder : []
            return try ClientRun([$0, "--model", KirieProcess.nano, "--threads", "1"] + more + own, redis: url)
        }
    }

    private static func submit(_ photos: [String], _ url: RedisURL) async throws -> ClientRun.Ending {
        try await eventually("a worker has announced its model") {
            let run = try await ClientRun(["workers", "--json"], redis: url).end()
            return run.objects.first.flatMap { $0["workers"] as? [Any] }?.count == 2
        }
        return try await ClientRun(["submit"] + photos + ["--point", "60,70", "--wait"], redis: url).end()
    }

    @Test func aRedisClusterOfThreeNodesServesAsOneRedis() async throws {
        let cluster = try await RedisClusterProcess.start()
        defer { withExtendedLifetime(cluster) {} }
        let workers = try Self.workers(cluster.url)
        let directory = try TemporaryDirectory()
        // Pictures that differ in one byte of a comment lie in different partitions, on different nodes.
        let landscape = try Data(contentsOf: URL(fileURLWithPath: KirieProcess.landscape))
        let photos = try (0..<12).map { index in
            let comment: [UInt8] = [0xFF, 0xFE, 0x00, 0x03, UInt8(index)]
            return try directory.write(landscape.prefix(2) + comment + landscape.dropFirst(2), to: "\(index).jpg")
        }
        let run = try await Self.submit(photos, cluster.url)
        #expect(run.status == 0, "\(run)")
        #expect(run.objects.count == photos.count && run.objects.allSatisfy { $0["state"] as? String == "done" })
        var used = 0
        for node in cluster.nodes {
            var url = node.url
            url.cluster = .off
            let keys = try await RedisClient.connect(url).info("keyspace").first?["db0"]
            if keys?.contains("keys=0") == false { used += 1 }
        }
        #expect(used == 3, "all of it lies on \(used) nodes")
        for worker in workers { worker.child.signal(SIGTERM) }
        for worker in workers { #expect(try await worker.end().status == 0) }
    }

    @Test func embeddingsMayLiveInAnotherRedis() async throws {
        let (queues, cache) = (try await RedisServerProcess.start(), try await RedisServerProcess.start())
        defer { withExtendedLifetime((queues, cache)) {} }
        let workers = try Self.workers(
            queues.url, ["--cache-redis", "\(cache.url)"], encoder: ["--embedding-ttl", "5000"])
        #expect(try await Self.submit([KirieProcess.landscape], queues.url).status == 0)
        let (here, there) = (try await RedisClient.connect(queues.url), try await RedisClient.connect(cache.url))
        // The record and the mark that stands for it go together.
        for redis in [here, there] {
            var lifetimes: [Duration?] = []
            try await redis.scan(match: "kirie:*:embedding:*") { keys throws(RedisError) in
                for key in keys { lifetimes.append(try await redis.timeToLive(key.string)) }
            }
            #expect(lifetimes.count == 1)
            #expect(lifetimes.allSatisfy { $0.map { $0 > .seconds(4000) && $0 <= .seconds(5000) } ?? false })
        }
        func sizes(_ redis: RedisClient) async throws -> [Int] {
            var sizes: [Int] = []
            try await redis.scan(match: "kirie:*:embedding:*") { keys throws(RedisError) in
                for key in keys { sizes.append(try await redis.get(key.string)?.count ?? 0) }
            }
            return sizes
        }
        let (marks, records) = (try await sizes(here), try await sizes(there))
        #expect(marks.count == 1 && marks.allSatisfy { $0 < 64 })
        #expect(records.count == 1 && records.allSatisfy { $0 > 1000 })

        // Gone from there, and from the decoder's memory with the decoder, it is encoded again.
        _ = try await there.send(RedisCommand("FLUSHALL"))
        workers[1].child.signal(SIGTERM)
        #expect(try await workers[1].end().status == 0)
        let decoder = try ClientRun(
            ["decoder", "--model", KirieProcess.nano, "--threads", "1", "--cache-redis", "\(cache.url)"],
            redis: queues.url)
        let again = try await ClientRun(
            ["submit", KirieProcess.landscape, "--point", "30,40", "--wait"], redis: queues.url
        ).end()
        #expect(again.status == 0, "\(again)")
        #expect(try await sizes(there).count == 1)
        for worker in [workers[0], decoder] {
            worker.child.signal(SIGTERM)
            #expect(try await worker.end().status == 0)
        }
    }

    /// The picture itself is in no Redis: only who encodes it has to reach it.
    @Test func aPictureOnSharedStorageIsReadWhereItLies() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let folder = try TemporaryDirectory()
        let picture = try TestPicture(1, in: folder.path)
        let workers = try Self.workers(server.url, encoder: ["--shared-images", folder.path])
        try await eventually("both workers are there") {
            let run = try await ClientRun(["workers", "--json"], redis: server.url).end()
            return run.objects.first.flatMap { $0["workers"] as? [Any] }?.count == 2
        }
        let broker = try await Broker.join(try await RedisClient.connect(server.url))
        let name = URL(fileURLWithPath: picture.path).lastPathComponent
        try await broker.putImage(picture.digest, .string("ref:\(name)"))
        let line = #"{"image":{"sha256":"\#(picture.digest)"},"prompts":[{"points":[[9,7]]}]}"#
        let jobs = try folder.write(Array("\(line)\n".utf8), to: "jobs.jsonl")
        let run = try await ClientRun(["submit", "--jobs", jobs, "--wait"], redis: server.url).end()
        #expect(run.status == 0 && run.objects.first?["state"] as? String == "done", "\(run)")
        let alone = try KirieProcess(["segment", picture.path, "--point", "9,7", "--json"])
        #expect(try Self.counts(run.output) == Self.counts(alone.output))
        for worker in workers { worker.child.signal(SIGTERM) }
        for worker in workers { #expect(try await worker.end().status == 0) }
    }

    private static func counts(_ answer: String) throws -> [String] {
        let object = try JSONSerialization.jsonObject(with: Data(answer.utf8)) as? [String: Any]
        let masks = try #require(object?["masks"] as? [[String: Any]])
        return masks.compactMap { ($0["segmentation"] as? [String: Any])?["counts"] as? String }
    }

    /// Whoever comes first says how many partitions there are; others are told where they think of another number.
    @Test func anOperatorSetsTheClusterUp() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        func kirie(_ arguments: String...) async throws -> ClientRun.Ending {
            try await ClientRun(arguments, redis: server.url).end()
        }
        #expect(try await kirie("queues").status == 1, "to look sets nothing up")
        let first = try await kirie("queues", "--partitions", "4", "--json")
        #expect(first.status == 0 && first.objects.first?["partitions"] as? Int == 4, "\(first)")
        let other = try await kirie("decoder", "--model", KirieProcess.nano, "--partitions", "8")
        #expect(other.status == 2 && other.complaint.contains("4 partitions, and not of 8"), "\(other)")
        #expect(try await kirie("queues", "--partitions", "0").status == 2)
        #expect(try await kirie("queues", "--json").objects.first?["partitions"] as? Int == 4)
    }
}
