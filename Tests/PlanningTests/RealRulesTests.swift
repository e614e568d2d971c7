import Cluster
import ClusterTesting
import Planning
import Redis
import RedisTesting
import Segmentation
import Testing

/// The rules of the simulation against the real ones: the workers' own code, and the functions in a real Redis.
@Suite struct RealRulesTests {
    /// What a walk of random events finds where the two schedules are asked the same.
    @Test(arguments: 1...20 as ClosedRange<UInt64>) func workersLookWhereTheRealOnesDo(seed: UInt64) {
        var random = SeededGenerator(seed)
        let count = Int.random(in: 1...70, using: &random)
        let start = ContinuousClock.now
        var real = TakeSchedule(partitions: count, poll: .seconds(1), patience: .milliseconds(20), now: start)
        var simulated = LookSchedule(partitions: count, poll: 1000, patience: 20, now: 0)
        // Halves of a millisecond are the same in both clocks.
        var now = 0.0
        var instant: ContinuousClock.Instant { start + .microseconds(Int64(now * 1000)) }
        for step in 0..<3000 {
            if Bool.random(using: &random) { now += Double(Int.random(in: 0...30, using: &random)) / 2 }
            if Int.random(in: 0..<200, using: &random) == 0 { now += 700 }
            let partition = Int.random(in: 0..<count, using: &random)
            switch Int.random(in: 0..<12, using: &random) {
            case 0..<4:
                real.wake(Partition(partition), now: instant)
                simulated.wake(partition, now: now)
            case 4:
                real.lookAgain(Partition(partition), now: instant)
                simulated.lookAgain(partition, now: now)
            case 5 where step % 10 == 0:
                let own = Set((0..<count).filter { _ in Bool.random(using: &random) })
                real.own(Set(own.map { Partition($0) }), now: instant)
                simulated.own(own, now: now)
            default:
                let action = simulated.next(now: now)
                switch real.next(now: instant) {
                case .take(let partition, let age):
                    #expect(action == .take(partition.index, age: age / .milliseconds(1)), "step \(step)")
                case .wait(let until):
                    #expect(action == .wait(until: (until - start) / .milliseconds(1)), "step \(step)")
                }
            }
        }
    }

    @Test func partitionsBelongToWhomTheyReallyDo() {
        for count in [1, 2, 3, 7, 24] {
            let workers = (0..<count).map { "decoder-0-\($0)" }
            let owners = Rendezvous.owners(among: workers, partitions: 128)
            for partition in 0..<128 {
                let real = RendezvousHashing.owner(of: Partition(partition), among: workers)
                #expect(workers[owners[partition]] == real)
            }
        }
    }

    /// Jobs of both lanes on a few pictures of one partition, submitted, taken, encoded and completed in a random order:
    /// what is taken is the same, to the job and its batch.
    @Test(arguments: 1...4 as ClosedRange<UInt64>) func workIsTakenAsByTheFunctionsInRedis(seed: UInt64) async throws {
        let server = try await RedisServerProcess.start(.init())
        let broker = try await Broker.open(try await RedisClient.connect(server.url), partitions: 1)
        let model = try #require(ModelIdentifier("test:fp16"))
        var random = SeededGenerator(seed)
        let images = (0..<6).map { number in
            ImageDigest(bytes: (0..<32).map { UInt8(truncatingIfNeeded: number &* 37 &+ $0) })
        }
        for image in images { try await broker.putImage(image, .string("image \(image)")) }
        var queues = PartitionQueues(partitions: 1, models: 1, streak: 8)
        for _ in images { queues.add(PartitionQueues.Picture(model: 0, partition: 0, hasEmbedding: false)) }
        var encodes: [EncodeLease] = []
        var batches: [PromptBatch] = []
        var taken = 0
        for step in 0..<500 {
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let picture = Int.random(in: 0..<images.count, using: &random)
                let isBulk = Int.random(in: 0..<3, using: &random) == 0
                let (job, _) = queues.submit(
                    Int32(picture), isBulk ? .bulk : .interactive, isAlone: false, now: Double(step))
                let real = Job(
                    id: "\(job)", lane: isBulk ? .bulk : .interactive, image: images[picture], model: model,
                    line: RedisBytes("{}"))
                _ = try await broker.submit([real])
            case 5:
                let expected = queues.take(.encode, 0, model: 0, count: 1, age: 0, now: Double(step))
                let real = try await broker.takeEncodes(
                    in: Partition(0), worker: "encoder", model: model, lease: .seconds(3600))
                guard case .work(let leases, let isLast) = real else {
                    #expect(expected == nil, "step \(step)")
                    continue
                }
                #expect(leases.map(\.key.image) == expected?.taken.map { images[Int($0)] }, "step \(step)")
                #expect(isLast == expected?.isLast, "step \(step)")
                encodes += leases
            case 6 where !encodes.isEmpty:
                let lease = encodes.removeFirst()
                let published = try await broker.publish(RedisBytes("record"), for: lease, expiry: .seconds(36_000))
                let picture = try #require(images.firstIndex(of: lease.key.image))
                for job in queues.publish(Int32(picture), now: Double(step)) { queues.enqueue(job, now: Double(step)) }
                #expect(published)
            case 7 where !batches.isEmpty:
                let batch = batches.removeFirst()
                _ = try await broker.complete(batch.leases.map { ($0, RedisBytes("{}")) })
                for lease in batch.leases { queues.complete(try #require(Int32(lease.reference.id))) }
            default:
                let count = Int.random(in: 1...5, using: &random)
                let expected = queues.take(.decode, 0, model: 0, count: count, age: 0, now: Double(step))
                let real = try await broker.takePrompts(
                    in: Partition(0), worker: "decoder", model: model, count: count, lease: .seconds(3600))
                guard case .work(let batch, let isLast) = real else {
                    #expect(expected == nil, "step \(step): \(expected?.taken ?? [])")
                    continue
                }
                #expect(batch.leases.map(\.reference.id) == expected?.taken.map { "\($0)" }, "step \(step)")
                #expect(isLast == expected?.isLast, "step \(step)")
                taken += batch.leases.count
                batches.append(batch)
            }
        }
        #expect(taken > 100)
        _ = server
    }
}
