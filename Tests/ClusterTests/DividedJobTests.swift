import Cluster
import ClusterTesting
import Redis
import RedisTesting
import Segmentation
import Testing

/// Jobs that are done in parts.
@Suite struct DividedJobTests {
    private let image = TestCluster.image(3)

    /// A cluster with one job that its decoder has divided, two of the parts on the picture and one on a part of it.
    private func divided(
        settings: [String: Int] = [:], _ body: (TestCluster, JobReference, PromptLease) async throws -> Void
    ) async throws {
        let cluster = try await TestCluster.start(settings: settings)
        defer { withExtendedLifetime(cluster.server) {} }
        let job = try await cluster.accept([TestCluster.job("whole", image, line: "all")])[0]
        try await cluster.encode(image)
        let batch = try #require(try await cluster.takePrompts(image))
        try await cluster.broker.divide(
            batch.leases[0],
            into: [part("one"), part("two"), part("three", on: try crop(cluster), stored: "crop:…")])
        try await body(cluster, job, batch.leases[0])
    }

    private func part(_ line: String, on other: ImageDigest? = nil, stored: String? = nil) -> JobPart {
        JobPart(image: other ?? image, stored: stored.map { RedisBytes($0) }, line: RedisBytes(line))
    }

    /// Another image of the same partition.
    private func crop(_ cluster: TestCluster) throws -> ImageDigest {
        let place = cluster.broker.partition(of: image)
        return try #require(
            (100..<1000).lazy.map(TestCluster.image).first { cluster.broker.partition(of: $0) == place })
    }

    /// Takes and does parts until there is nothing left; returns their lines.
    @discardableResult
    private func work(_ cluster: TestCluster, until isEnough: (String) -> Bool = { _ in false }) async throws
        -> [String]
    {
        var lines: [String] = []
        while let batch = try await cluster.takePrompts(image) {
            #expect(batch.leases.count == 1, "each part is taken alone")
            let line = batch.leases[0].line.string
            if isEnough(line) {
                try await cluster.broker.handBack(batch.leases.map { LeaseName($0) })
                return lines
            }
            lines.append(line)
            #expect(try await cluster.broker.complete([(batch.leases[0], RedisBytes("result of \(line)"))]) == [.done])
        }
        return lines
    }

    @Test func theJobComesBackWhenItsPartsAreDone() async throws {
        try await divided { cluster, job, _ in
            let broker = cluster.broker
            #expect(try await cluster.states([job]) == [.waitingForParts])
            #expect(try await broker.status([job])[0]?.parts.map { [$0.done, $0.all] } == [0, 3])
            #expect(try await work(cluster) == ["one", "two"])
            #expect(try await broker.status([job])[0]?.parts.map { [$0.done, $0.all] } == [2, 3])
            // The third waits for its own embedding.
            try await cluster.encode(try crop(cluster))
            #expect(try await work(cluster) { $0 == "all" } == ["three"])
            let results = try await broker.partResults(of: job).map(\.string)
            #expect(results == ["result of one", "result of two", "result of three"])

            // Divided once more: what was found before stays.
            let again = try #require(try await cluster.takePrompts(image))
            #expect(again.leases[0].reference == job && again.leases[0].attempt == 1)
            try await broker.divide(again.leases[0], into: [part("four")])
            #expect(try await work(cluster) { $0 == "all" } == ["four"])
            #expect(try await broker.partResults(of: job).count == 4)
            let last = try #require(try await cluster.takePrompts(image))
            #expect(try await broker.complete([(last.leases[0], RedisBytes("masks"))]) == [.done])
            #expect(try await broker.results([job]).first??.string == "masks")
            #expect(try await ClusterAudit(of: broker).findings == [])
        }
    }

    /// A divide whose answer was lost is sent again; one of a lease that was lost changes nothing.
    @Test func toDivideTwiceIsToDivideOnce() async throws {
        try await divided { cluster, job, lease in
            try await cluster.broker.divide(lease, into: [part("one"), part("two")])
            #expect(try await cluster.broker.status([job])[0]?.parts?.all == 3)
        }
        let cluster = try await TestCluster.start()
        defer { withExtendedLifetime(cluster.server) {} }
        let job = try await cluster.accept([TestCluster.job("whole", image, line: "all")])[0]
        try await cluster.encode(image)
        let lost = try #require(try await cluster.takePrompts(image))
        try await cluster.broker.handBack(lost.leases.map { LeaseName($0) })
        try await cluster.broker.divide(lost.leases[0], into: [part("one")])
        #expect(try await cluster.states([job]) == [.queued])
    }

    @Test(arguments: ["cancel", "expire", "part"]) func withTheJobItsPartsGo(ending: String) async throws {
        try await divided { cluster, job, _ in
            let held = try #require(try await cluster.takePrompts(image))
            switch ending {
            case "cancel": #expect(try await cluster.broker.cancel([job]) == [.cancelled])
            case "expire":
                let key = RedisArgument.string("\(cluster.broker.keys.prefix(job.partition))deadlines")
                _ = try await cluster.broker.redis.send(RedisCommand("ZADD", key, "0", .string(job.id)))
                _ = try await cluster.broker.keepHouse([job.partition])
            default:
                try await cluster.broker.fail(LeaseName(held.leases[0]), mayPass: false, reason: "no such thing")
            }
            let state: JobState = ["cancel": .cancelled, "expire": .expired][ending] ?? .failed
            #expect(try await cluster.states([job]) == [state])
            if ending == "part" {
                #expect(try await cluster.broker.status([job])[0]?.error?.hasSuffix("no such thing") == true)
            }
            // Whoever holds a part learns it.
            #expect(try await cluster.broker.complete([(held.leases[0], RedisBytes("late"))]) != [.done])
            #expect(try await cluster.takePrompts(image) == nil)
            #expect(try await cluster.takeEncode(try crop(cluster)) == nil)
            #expect(try await ClusterAudit(of: cluster.broker).findings == [])
        }
    }

    /// Who dies with a part in hand costs that part an attempt; after the last the job is dead, and can be done again.
    @Test func aPartThatKillsItsWorkersEndsTheJob() async throws {
        try await divided(settings: ["attempts": 2]) { cluster, job, _ in
            for _ in 0..<2 {
                let batch = try #require(try await cluster.takePrompts(image))
                let leases = "\(cluster.broker.keys.prefix(job.partition))leases"
                let member = "d:\(batch.leases[0].reference.id)"
                _ = try await cluster.broker.redis.send(
                    RedisCommand("ZADD", .string(leases), "XX", "0", .string(member)))
                _ = try await cluster.broker.keepHouse([job.partition])
                if try await cluster.states([job]) == [.dead] { break }
            }
            while try await cluster.states([job]) != [.dead] {
                let batch = try #require(try await cluster.takePrompts(image))
                let leases = "\(cluster.broker.keys.prefix(job.partition))leases"
                _ = try await cluster.broker.redis.send(
                    RedisCommand(
                        "ZADD", .string(leases), "XX", "0", .string("d:\(batch.leases[0].reference.id)")))
                _ = try await cluster.broker.keepHouse([job.partition])
            }
            #expect(try await ClusterAudit(of: cluster.broker).findings == [])
            let letters = try await cluster.broker.deadLetters(limit: 10)
            #expect(letters.count == 1)
            _ = try await cluster.broker.retry(letters)
            #expect(try await cluster.states([job]) == [.queued])
            #expect(try await cluster.broker.partResults(of: job).isEmpty)
        }
    }

    @Test func whatMakesNoPartsIsRefused() async throws {
        let cluster = try await TestCluster.start()
        defer { withExtendedLifetime(cluster.server) {} }
        try await cluster.accept([TestCluster.job("whole", image, line: "all")])
        try await cluster.encode(image)
        let batch = try #require(try await cluster.takePrompts(image))
        let elsewhere = try #require(
            (0..<100).lazy.map(TestCluster.image).first {
                cluster.broker.partition(of: $0) != batch.partition
            })
        for parts in [[part("x", on: elsewhere, stored: "y")], [part("")], [part("x", on: try crop(cluster))]] {
            await #expect(throws: ClusterError.self) { try await cluster.broker.divide(batch.leases[0], into: parts) }
        }
        #expect(try await cluster.broker.complete([(batch.leases[0], RedisBytes("done"))]) == [.done])
        #expect(try await ClusterAudit(of: cluster.broker).findings == [])
    }

    @Test func whatIsKeptCanBeEvicted() async throws {
        let cluster = try await TestCluster.start()
        defer { withExtendedLifetime(cluster.server) {} }
        let partition = cluster.broker.partition(of: image)
        let name = "\(EmbeddingKey(image: image, model: TestCluster.model))/everything-1"
        try await cluster.broker.keep(RedisBytes("masks"), as: name, in: partition, timeToLive: .seconds(600))
        #expect(try await cluster.broker.kept(name, in: partition)?.string == "masks")
        #expect(try await ClusterAudit(of: cluster.broker).findings == [])
        let room = try await cluster.broker.redis.send(
            RedisCommand("FCALL", "kirie_room", "1", .string(cluster.broker.keys.prefix(partition))))
        #expect(room.array?.first?.integer == 1)
        #expect(try await cluster.broker.kept(name, in: partition) == nil)
    }
}
