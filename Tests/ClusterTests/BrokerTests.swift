import Cluster
import Redis
import RedisTesting
import Segmentation
import Testing

@Suite struct BrokerTests {
    @Test func aJobGoesFromSubmitToResult() async throws {
        let cluster = try await TestCluster.start()
        let broker = cluster.broker
        let image = TestCluster.image(1)
        let missing = try await broker.submit([TestCluster.job("a", image)])
        guard case .refused(_, .noImage) = missing[0] else {
            Issue.record("\(missing[0])")
            return
        }
        let references = try await cluster.accept((0..<20).map { TestCluster.job("job-\($0)", image) })
        #expect(try await cluster.states(references).allSatisfy { $0 == .waitingForEmbedding })
        #expect(try await cluster.takePrompts(image) == nil)

        let lease = try #require(try await cluster.takeEncode(image))
        #expect(lease.key == EmbeddingKey(image: image, model: TestCluster.model) && lease.attempt == 1)
        #expect(try await cluster.takeEncode(image) == nil, "one encode at a time")
        #expect(try await broker.image(image)?.string == "image \(image)")
        #expect(try await broker.renew([LeaseName(lease)], lease: .seconds(3600)) == [.renewed])
        #expect(try await broker.publish(RedisBytes("record"), for: lease, expiry: .seconds(36_000)))
        #expect(try await broker.renew([LeaseName(lease)], lease: .seconds(3600)) == [.lost])

        let batch = try #require(try await cluster.takePrompts(image))
        #expect(batch.leases.count == 16 && batch.key == lease.key)
        let done = try await broker.complete(batch.leases.map { ($0, RedisBytes("mask of \($0.reference.id)")) })
        #expect(done == Array(repeating: .done, count: 16))
        #expect(try await broker.complete([(batch.leases[0], RedisBytes("other"))]) == [.ended(.done)])
        let rest = try #require(try await cluster.takePrompts(image))
        #expect(rest.leases.count == 4)
        _ = try await broker.complete(rest.leases.map { ($0, RedisBytes("mask of \($0.reference.id)")) })
        let results = try await broker.results(references)
        #expect(zip(references, results).allSatisfy { $0.1?.string == "mask of \($0.0.id)" })
        #expect(try await broker.find(["job-3", "nobody"]).mapValues { $0.map(\.state) } == ["job-3": [.done]])
        let statistics = try await broker.statistics()
        #expect(statistics.unfinished == 0 && statistics.total("done:bulk") == 20)
        #expect(statistics.total("encodes") == 1 && statistics.total("joins") == 19)
        #expect(statistics.stream(.decode, .bulk).wait.total == 20)
    }

    @Test func theSameIdChangesNothing() async throws {
        let cluster = try await TestCluster.start()
        let image = TestCluster.image(2)
        try await cluster.accept([TestCluster.job("twice", image)])
        let again = try await cluster.broker.submit([TestCluster.job("twice", image, lane: .interactive)])
        guard case .known(let reference, .waitingForEmbedding) = again[0] else {
            Issue.record("\(again[0])")
            return
        }
        #expect(try await cluster.broker.status([reference])[0]?.lane == .bulk)
    }

    @Test func beyondTheLimitJobsAreRefusedWithATimeToComeBack() async throws {
        let cluster = try await TestCluster.start(settings: ["jobs:bulk": 5])
        let image = TestCluster.image(3)
        try await cluster.broker.putImage(image, "image")
        let outcomes = try await cluster.broker.submit((0..<8).map { TestCluster.job("n\($0)", image) })
        #expect(outcomes.compactMap(\.reference).count == 5)
        for outcome in outcomes.suffix(3) {
            guard case .refused(_, .backpressure(_, let wait)) = outcome else {
                Issue.record("\(outcome)")
                continue
            }
            #expect(wait > .zero)
        }
        guard case .refused(_, .backpressure) = try await cluster.broker.submit([TestCluster.job("single", image)])[0]
        else {
            Issue.record("a single job was accepted")
            return
        }
        #expect(try await cluster.broker.statistics().unfinished == 5)
    }

    @Test func anEncodersLeaseIsTakenOverWhenItEndsAndNotBefore() async throws {
        let cluster = try await TestCluster.start()
        let image = TestCluster.image(4)
        try await cluster.accept([TestCluster.job("a", image)])
        let clock = ContinuousClock()
        let start = clock.now
        let first = try #require(try await cluster.takeEncode(image, lease: .milliseconds(300)))
        var second: EncodeLease?
        try await eventually("the second take") {
            second = try await cluster.takeEncode(image)
            return second != nil
        }
        #expect(clock.now - start >= .milliseconds(299))
        #expect(second?.attempt == 2)
        #expect(try await !cluster.broker.publish(RedisBytes("late"), for: first, expiry: .seconds(3600)))
        #expect(try await cluster.broker.publish(RedisBytes("good"), for: try #require(second), expiry: .seconds(3600)))
    }

    @Test func aPoisonJobEndsDeadAndTakesNoOtherAlong() async throws {
        let cluster = try await TestCluster.start(settings: ["attempts": 3])
        let broker = cluster.broker
        let image = TestCluster.image(5)
        let references = try await cluster.accept(
            (0..<6).map { TestCluster.job($0 == 2 ? "poison" : "good-\($0)", image) })
        try await cluster.encode(image)
        try await eventually("the end of all jobs") {
            if let batch = try await cluster.takePrompts(image, lease: .milliseconds(20)) {
                // Who takes the poison dies: nothing is heard of the batch again.
                if !batch.leases.contains(where: { $0.reference.id == "poison" }) {
                    _ = try await broker.complete(batch.leases.map { ($0, RedisBytes("mask")) })
                }
            }
            return try await cluster.states(references).allSatisfy { $0?.isTerminal == true }
        }
        let states = try await broker.status(references)
        #expect(states.allSatisfy { $0?.state == ($0?.reference.id == "poison" ? .dead : .done) })
        let letters = try await broker.deadLetters()
        #expect(letters.map(\.job) == ["poison"] && letters[0].reason.contains("ran out"))
        #expect(try await broker.retry(letters) == [.queued])
        let batch = try #require(try await cluster.takePrompts(image))
        #expect(try await broker.complete(batch.leases.map { ($0, RedisBytes("mask")) }) == [.done])
        #expect(try await broker.deadLetters().isEmpty)
    }

    @Test func anEvictedEmbeddingSendsItsJobsBackToWait() async throws {
        let cluster = try await TestCluster.start()
        let broker = cluster.broker
        let image = TestCluster.image(6)
        let references = try await cluster.accept((0..<3).map { TestCluster.job("e\($0)", image) })
        try await cluster.encode(image)
        let batch = try #require(try await cluster.takePrompts(image))
        try await broker.redis.remove([broker.keys.embedding(batch.key, in: batch.partition)])
        try await broker.reportMissing(batch, corrupt: false)
        #expect(try await cluster.states(references).allSatisfy { $0 == .waitingForEmbedding })
        try await cluster.encode(image)
        let again = try #require(try await cluster.takePrompts(image))
        #expect(again.leases.allSatisfy { $0.attempt == 1 })
        _ = try await broker.complete(again.leases.map { ($0, RedisBytes("mask")) })
        #expect(try await cluster.states(references).allSatisfy { $0 == .done })
    }

    @Test func aPictureThatCannotBeReadFailsEveryJobOnIt() async throws {
        let cluster = try await TestCluster.start(settings: ["chunk": 10])
        let image = TestCluster.image(7)
        let references = try await cluster.accept((0..<35).map { TestCluster.job("u\($0)", image) })
        let lease = try #require(try await cluster.takeEncode(image))
        try await cluster.broker.fail(LeaseName(lease), mayPass: false, reason: "not a picture")
        try await eventually("the end of all jobs") {
            _ = try await cluster.broker.keepHouse(cluster.broker.partitions)
            return try await cluster.states(references).allSatisfy { $0 == .failed }
        }
        #expect(try await cluster.broker.status(references).allSatisfy { $0?.error == "not a picture" })
    }

    @Test func cancelledAndExpiredJobsAreNotTaken() async throws {
        let cluster = try await TestCluster.start()
        let broker = cluster.broker
        let image = TestCluster.image(8)
        let references = try await cluster.accept([
            TestCluster.job("stays", image), TestCluster.job("cancelled", image),
            TestCluster.job("expires", image, timeToLive: .milliseconds(1)),
        ])
        try await cluster.encode(image)
        #expect(try await broker.cancel([references[1]]) == [.cancelled])
        try await eventually("the deadline") {
            _ = try await broker.keepHouse(broker.partitions)
            return try await cluster.states(references)[2] == .expired
        }
        let batch = try #require(try await cluster.takePrompts(image))
        #expect(batch.leases.map(\.reference.id) == ["stays"])
        #expect(try await broker.cancel([references[0]]) == [.cancelled])
        #expect(
            try await broker.renew(batch.leases.map { LeaseName($0) }, lease: .seconds(3600)) == [.ended(.cancelled)])
        #expect(try await broker.complete([(batch.leases[0], RedisBytes("mask"))]) == [.ended(.cancelled)])
    }

    @Test func garbageInALineGoesToTheDeadLetters() async throws {
        let cluster = try await TestCluster.start()
        let broker = cluster.broker
        let image = TestCluster.image(9)
        let line = broker.keys.stream(.decode, .bulk, in: broker.partition(of: image))
        for fields: [RedisArgument] in [
            ["hello", "world"], ["job", "nobody", "try", "0"], ["job", .array([0xff, 0]), "x", "y"],
        ] {
            _ = try await broker.redis.send(RedisCommand("XADD", [.string(line), "*"] + fields))
        }
        #expect(try await cluster.takePrompts(image) == nil)
        let letters = try await broker.deadLetters()
        #expect(letters.count == 3 && letters.allSatisfy { $0.job == nil && !$0.reason.isEmpty })
        #expect(try await broker.purge(letters) == 3)
        try await cluster.accept([TestCluster.job("fine", image)])
        try await cluster.encode(image)
        #expect(try await cluster.takePrompts(image)?.leases.count == 1)
    }

    @Test func aWorkersModelIsRespected() async throws {
        let cluster = try await TestCluster.start()
        let image = TestCluster.image(10)
        try await cluster.accept([TestCluster.job("a", image)])
        let partition = cluster.broker.partition(of: image)
        let other = try await cluster.broker.takeEncodes(
            in: partition, worker: "other", model: TestCluster.model("another:fp16"), lease: .seconds(3600))
        guard case .idle = other else {
            Issue.record("\(other)")
            return
        }
        #expect(try await cluster.takeEncode(image) != nil)
    }

    @Test func runsOnARedisCluster() async throws {
        let nodes = try await RedisClusterProcess.start()
        let broker = try await Broker.open(try await RedisClient.connect(nodes.url))
        let images = (0..<12).map { TestCluster.image(100 + $0) }
        for image in images { try await broker.putImage(image, "image") }
        let outcomes = try await broker.submit(images.enumerated().map { TestCluster.job("c\($0.offset)", $0.element) })
        let references = outcomes.compactMap(\.reference)
        #expect(references.count == images.count)
        for image in images {
            let partition = broker.partition(of: image)
            let encode = try await broker.takeEncodes(
                in: partition, worker: "e", model: TestCluster.model, count: 8, lease: .seconds(3600))
            if case .work(let leases, _) = encode {
                for lease in leases {
                    _ = try await broker.publish(RedisBytes("record"), for: lease, expiry: .seconds(3600))
                }
            }
            let decode = try await broker.takePrompts(
                in: partition, worker: "d", model: TestCluster.model, count: 8, lease: .seconds(3600))
            if case .work(let batch, _) = decode {
                _ = try await broker.complete(batch.leases.map { ($0, RedisBytes("mask")) })
            }
        }
        #expect(try await broker.status(references).allSatisfy { $0?.state == .done })
        #expect(try await broker.statistics().total("done:bulk") == images.count)
    }
}
