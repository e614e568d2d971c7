import Cluster
import ClusterTesting
import Redis
import RedisTesting
import Segmentation
import Testing

/// Random steps of submitters, workers that die and operators, against what must always hold.
@Suite struct RandomWalkTests {
    /// What a step knows, and what has been promised so far.
    private struct Walk {
        let cluster: TestCluster
        var random: SeededGenerator
        var accepted: [JobReference: Job] = [:]
        var completed: [JobReference: Int] = [:]
        var encodes: [EncodeLease] = []
        var batches: [PromptBatch] = []
        var next = 0

        var broker: Broker { cluster.broker }

        mutating func submit() async throws {
            let jobs = (0..<Int.random(in: 1...20, using: &random)).map { _ -> Job in
                next += 1
                // Now and then an id that was used before.
                let number =
                    Int.random(in: 0..<10, using: &random) == 0 ? Int.random(in: 0...next, using: &random) : next
                let image = TestCluster.image(number % 6)
                let lane: Lane = Bool.random(using: &random) ? .interactive : .bulk
                return TestCluster.job("j\(number)", image, lane: lane, line: number % 17 == 0 ? "" : "line \(number)")
            }
            for image in Set(jobs.map(\.image)) { try await broker.putImage(image, "image") }
            let before = try await broker.status(
                jobs.map { JobReference(id: $0.id, partition: broker.partition(of: $0.image)) })
            for (index, outcome) in try await broker.submit(jobs).enumerated() {
                let (job, state) = (jobs[index], before[index]?.state)
                let mayBeAnew = state.map { $0.isTerminal && $0 != .done } ?? true
                switch outcome {
                case .accepted(let reference, _):
                    #expect(mayBeAnew, "accepted twice: it was \(String(describing: state))")
                    accepted[reference] = job
                case .known(let reference, _):
                    // Or one that stands twice among these jobs.
                    #expect(accepted[reference] != nil && (!mayBeAnew || jobs[..<index].contains { $0.id == job.id }))
                case .refused(_, let error):
                    guard case .backpressure = error else { throw error }
                }
            }
        }

        mutating func takeEncode() async throws {
            let partition = Partition(Int.random(in: 0..<2, using: &random))
            let taken = try await broker.takeEncodes(
                in: partition, worker: "e", model: TestCluster.model, count: 2, lease: .seconds(36_000))
            guard case .work(let leases, _) = taken else { return }
            for lease in leases {
                #expect(!encodes.contains { $0.key == lease.key }, "two live leases on one key")
                encodes.append(lease)
            }
        }

        mutating func finishEncode() async throws {
            guard let lease = encodes.randomElement(using: &random) else { return }
            encodes.removeAll { $0.key == lease.key }
            switch Int.random(in: 0..<8, using: &random) {
            case 0: try await broker.fail(LeaseName(lease), mayPass: true, reason: "a fault")
            case 1: try await broker.fail(LeaseName(lease), mayPass: false, reason: "a bad picture")
            case 2: try await broker.handBack([LeaseName(lease)])
            case 3: try await letRunOut("e:\(lease.key)", in: lease.partition)
            default: #expect(try await broker.publish(RedisBytes("record"), for: lease, expiry: .seconds(36_000)))
            }
        }

        mutating func takePrompts() async throws {
            let partition = Partition(Int.random(in: 0..<2, using: &random))
            let taken = try await broker.takePrompts(
                in: partition, worker: "d", model: TestCluster.model, count: 8, lease: .seconds(36_000))
            guard case .work(let batch, _) = taken else { return }
            let held = Set(batches.flatMap(\.leases).map(\.reference))
            #expect(batch.leases.allSatisfy { !held.contains($0.reference) }, "two leases on one job")
            #expect(batch.leases.count == 1 || batch.leases.allSatisfy { $0.attempt == 1 }, "who failed is alone")
            #expect(batch.leases.allSatisfy { accepted[$0.reference]?.line == $0.line })
            batches.append(batch)
        }

        mutating func finishPrompts() async throws {
            guard !batches.isEmpty else { return }
            let batch = batches.remove(at: Int.random(in: 0..<batches.count, using: &random))
            switch Int.random(in: 0..<10, using: &random) {
            case 0:
                for lease in batch.leases { try await broker.fail(LeaseName(lease), mayPass: true, reason: "a fault") }
            case 1:
                for lease in batch.leases { try await broker.fail(LeaseName(lease), mayPass: false, reason: "bad") }
            case 2: try await broker.handBack(batch.leases.map { LeaseName($0) })
            case 3: for lease in batch.leases { try await letRunOut("d:\(lease.reference.id)", in: batch.partition) }
            case 4:
                try await broker.redis.remove([broker.keys.embedding(batch.key, in: batch.partition)])
                try await broker.reportMissing(batch, corrupt: false)
            default:
                let results = batch.leases.map { ($0, RedisBytes("mask of \($0.reference.id)")) }
                for _ in 0..<2 {
                    let done = try await broker.complete(results)
                    for (lease, outcome) in zip(batch.leases, done) where outcome == .done {
                        completed[lease.reference, default: 0] += 1
                    }
                }
            }
        }

        /// The holder has died; nobody renews.
        func letRunOut(_ member: String, in partition: Partition) async throws {
            let key = "\(broker.keys.prefix(partition))leases"
            _ = try await broker.redis.send(RedisCommand("ZADD", .string(key), "XX", "0", .string(member)))
            _ = try await broker.keepHouse([partition])
        }

        mutating func operate() async throws {
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                guard let victim = accepted.keys.sorted(by: { $0.id < $1.id }).randomElement(using: &random) else {
                    return
                }
                _ = try await broker.cancel([victim])
            case 1: _ = try await broker.retry(try await broker.deadLetters(limit: 3))
            case 2: try await passTime()
            default:
                let line = broker.keys.stream(.decode, .bulk, in: Partition(0))
                _ = try await broker.redis.send(RedisCommand("XADD", .string(line), "*", "no", "ticket"))
            }
        }

        /// The pauses before the next attempts are over.
        func passTime() async throws {
            for partition in broker.partitions {
                let key = "\(broker.keys.prefix(partition))delayed"
                let members = try await broker.redis.members(key, scores: -1...Double.infinity, limit: 1000)
                if !members.isEmpty { try await broker.redis.setScores(key, members.map { (.bytes($0), 0) }) }
            }
            while try await broker.keepHouse(broker.partitions).contains(where: \.unfinished) {}
        }

        /// The figures that are watched are those of the jobs.
        func check() async throws {
            let references = Array(accepted.keys)
            let states = try await broker.status(references).map { $0?.state }
            #expect(!states.contains { $0 == nil }, "an accepted job is gone")
            let statistics = try await broker.statistics()
            var parked = 0
            var waiting = 0
            var inWork = 0
            for lane in Lane.allCases {
                parked += statistics.stream(.encode, lane).parked
                waiting += statistics.stream(.decode, lane).queued + statistics.stream(.decode, lane).delayed
                inWork += statistics.stream(.decode, lane).inWork
            }
            #expect(parked == states.count { $0 == .waitingForEmbedding })
            #expect(try await broker.demand(.decode, model: TestCluster.model) == waiting + inWork)
            #expect(
                try await broker.demand(.encode, model: TestCluster.model)
                    == Lane.allCases.reduce(0) {
                        let line = statistics.stream(.encode, $1)
                        return $0 + line.queued + line.delayed + line.inWork
                    })
            // Every queued job has one entry; those of a batch share one.
            let pending = Lane.allCases.reduce(0) { $0 + statistics.stream(.decode, $1).pending }
            #expect(pending <= inWork, "\(pending) entries are pending for \(inWork) jobs")
            #expect(waiting == states.count { $0 == .queued })
            #expect(inWork == states.count { $0 == .inWork })
            #expect(completed.values.allSatisfy { $0 == 1 }, "completed twice")
        }

        /// Everybody does his work until there is nothing left.
        mutating func drain() async throws {
            try await broker.handBack(
                encodes.map { LeaseName($0) } + batches.flatMap(\.leases).map { LeaseName($0) })
            (encodes, batches) = ([], [])
            for _ in 0..<10_000 {
                if try await broker.statistics().unfinished == 0 { return }
                try await passTime()
                try await takeEncode()
                for lease in encodes {
                    _ = try await broker.publish(RedisBytes("record"), for: lease, expiry: .seconds(36_000))
                }
                encodes = []
                try await takePrompts()
                for batch in batches {
                    let results = batch.leases.map { ($0, RedisBytes("mask of \($0.reference.id)")) }
                    for (lease, outcome) in zip(batch.leases, try await broker.complete(results)) where outcome == .done
                    {
                        completed[lease.reference, default: 0] += 1
                    }
                }
                batches = []
            }
        }
    }

    @Test(arguments: [UInt64.random(in: 1...999_999), 1, 2])
    func everyAcceptedJobEndsInOneState(seed: UInt64) async throws {
        print("random walk, seed \(seed)")
        let cluster = try await TestCluster.start(
            settings: [
                "attempts": 3, "misses": 5, "backoff_ms": 10_000_000, "backoff_max_ms": 10_000_000, "chunk": 7,
                "jobs:bulk": 60, "jobs:interactive": 60,
            ], partitions: 2)
        var walk = Walk(cluster: cluster, random: SeededGenerator(seed))
        for step in 0..<500 {
            switch Int.random(in: 0..<20, using: &walk.random) {
            case 0..<4: try await walk.submit()
            case 4..<8: try await walk.takeEncode()
            case 8..<11: try await walk.finishEncode()
            case 11..<15: try await walk.takePrompts()
            case 15..<19: try await walk.finishPrompts()
            default: try await walk.operate()
            }
            if step % 50 == 0 { try await walk.check() }
        }
        try await walk.drain()
        try await walk.check()
        let statuses = try await cluster.broker.status(Array(walk.accepted.keys)).compactMap(\.self)
        #expect(statuses.allSatisfy { $0.state.isTerminal })
        let done = statuses.filter { $0.state == .done }.map(\.reference)
        #expect(done.count > 20)
        for (reference, result) in zip(done, try await cluster.broker.results(done)) {
            let wanted = walk.accepted[reference]?.line.count == 0 ? "{\"embedding\":" : "mask of \(reference.id)"
            #expect(result?.string.hasPrefix(wanted) == true)
        }
        // What was written into a stream by hand goes when it is reached, nothing else is left there.
        for partition in cluster.broker.partitions {
            try await walk.passTime()
            _ = try await cluster.broker.takePrompts(
                in: partition, worker: "d", model: TestCluster.model, count: 1, lease: .seconds(1))
        }
        let audit = try await ClusterAudit(of: cluster.broker)
        #expect(audit.findings.isEmpty, "\(audit.findings)")
        #expect(Set(audit.states.keys) == Set(walk.accepted.keys))
    }
}
