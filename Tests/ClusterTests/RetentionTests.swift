import Cluster
import ClusterTesting
import Redis
import RedisTesting
import Segmentation
import Testing

/// What stays of jobs that ended is counted and bounded, and a known id says what it stands for.
@Suite struct RetentionTests {
    /// Submits one job and says what became of it.
    private func submit(_ job: Job, _ broker: Broker, client: String? = nil) async throws -> Submission {
        try await broker.submit([job], client: client)[0]
    }

    private func finish(_ image: ImageDigest, _ cluster: TestCluster, result: String = "mask") async throws {
        let batch = try #require(try await cluster.takePrompts(image))
        let outcomes = try await cluster.broker.complete(batch.leases.map { ($0, RedisBytes(result)) })
        #expect(outcomes.allSatisfy { $0 == .done })
    }

    /// Writes until Redis takes no more.
    private func fill(_ redis: RedisClient) async throws {
        let bytes = RedisBytes([UInt8](repeating: 1, count: 32 << 10))
        for count in 0... {
            do { _ = try await redis.send(RedisCommand("SET", .string("filler\(count)"), .bytes(bytes))) } catch {
                guard error.serverCode == "OOM" else { throw error }
                return
            }
        }
    }

    /// Pictures that no job needs have filled Redis, and the one that a job needs is there: nobody sends a picture any more,
    /// for which room would be made.
    @Test func aJobMakesRoomWhereItsPictureIsThere() async throws {
        let cluster = try await TestCluster.start(partitions: 2)
        let (broker, redis) = (cluster.broker, cluster.broker.redis)
        let file = RedisBytes([UInt8](repeating: 7, count: 64 << 10))
        for number in 1...40 { try await broker.putImage(TestCluster.image(number), .bytes(file)) }
        let memory = try #require(try await redis.send(RedisCommand("INFO", "memory")).string)
        let used = try #require(memory.firstMatch(of: /used_memory:(\d+)/).flatMap { Int($0.1) })
        _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", .integer(used - (200 << 10))))
        #expect(try await broker.hasImages([40, 99].map(TestCluster.image)) == [true, false])
        #expect(try await broker.statistics().total("room_made") > 0)
        // The room that was made is taken again.
        try await fill(redis)
        let outcomes = try await broker.submit([
            TestCluster.job("a", TestCluster.image(39)), TestCluster.job("b", TestCluster.image(40)),
        ])
        #expect(outcomes.allSatisfy { if case .accepted = $0 { true } else { false } }, "\(outcomes)")

        // Where nothing can go they are refused, each for itself.
        _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "100kb"))
        for outcome in try await broker.submit([
            TestCluster.job("c", TestCluster.image(39)), TestCluster.job("d", TestCluster.image(40)),
        ]) {
            guard case .refused(_, .backpressure) = outcome else {
                Issue.record("\(outcome)")
                continue
            }
        }
        _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "0"))
        for image in [39, 40].map(TestCluster.image) {
            try await cluster.encode(image)
            try await finish(image, cluster)
        }
        #expect(try await ClusterAudit(of: broker).findings.isEmpty)
    }

    @Test func anotherLineUnderAKnownIdIsAConflict() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        try await broker.putImage(TestCluster.image(2), .string("image"))
        try await cluster.accept([TestCluster.job("a", image, line: "one")])
        func conflict(_ job: Job, names what: String, in state: String) async throws {
            guard case .refused("a", .conflict(let reason)) = try await submit(job, broker) else {
                Issue.record("no conflict")
                return
            }
            #expect(reason.contains(what) && reason.contains(state), "\(reason)")
        }
        try await conflict(TestCluster.job("a", image, line: "two"), names: "job line", in: "waiting_embedding")
        try await conflict(TestCluster.job("a", TestCluster.image(2), line: "one"), names: "image", in: "waiting")
        try await cluster.encode(image)
        try await finish(image, cluster)
        try await conflict(TestCluster.job("a", image, line: "two"), names: "job line", in: "done")
        guard case .known(_, .done) = try await submit(TestCluster.job("a", image, line: "one"), broker) else {
            Issue.record("the same line is not known")
            return
        }
        #expect(try await ClusterAudit(of: broker).findings.isEmpty)
    }

    @Test(arguments: [JobState.cancelled, .expired, .failed, .dead])
    func anIdThatEndedWithoutAResultMayBeSubmittedAnew(state: JobState) async throws {
        let cluster = try await TestCluster.start(settings: ["attempts": 1], partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        try await cluster.accept([TestCluster.job("warm", image, line: "")])
        try await cluster.encode(image)
        let brief: Duration? = state == .expired ? .milliseconds(1) : nil
        let reference = try await cluster.accept(
            [TestCluster.job("a", image, timeToLive: brief, line: "one")], client: "first-run")[0]
        switch state {
        case .cancelled: _ = try await broker.cancel([reference])
        case .expired:
            try await eventually("it expires") {
                _ = try await broker.keepHouse(broker.partitions)
                return try await cluster.states([reference]) == [.expired]
            }
        default:
            let batch = try #require(try await cluster.takePrompts(image))
            try await broker.fail(LeaseName(batch.leases[0]), mayPass: state == .dead, reason: "a fault")
        }
        #expect(try await cluster.states([reference]) == [state])
        // The client that repeats itself after a broken connection learns the end; whoever comes later begins anew.
        let again = try await submit(TestCluster.job("a", image, line: "one"), broker, client: "first-run")
        guard case .known(_, state) = again else {
            Issue.record("\(again)")
            return
        }
        guard case .accepted = try await submit(TestCluster.job("a", image, line: "two"), broker, client: "second")
        else {
            Issue.record("not accepted anew")
            return
        }
        #expect(try await broker.deadLetters().isEmpty)
        // What was noted of the first job's end does not touch the second.
        try await broker.set(["retention_ms": 0])
        _ = try await broker.keepHouse(broker.partitions)
        try await broker.set(["retention_ms": 3_600_000])
        #expect(try await cluster.states([reference]) == [.queued])
        try await finish(image, cluster)
        #expect(try await ClusterAudit(of: broker).findings.isEmpty)
    }

    @Test func resultsStayWithinTheirBytesAndTheWorkerKeepsWhatHasNoRoom() async throws {
        let cluster = try await TestCluster.start(settings: ["result_bytes": 10_000], partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        let references = try await cluster.accept((0..<4).map { TestCluster.job("r\($0)", image) })
        try await cluster.encode(image)
        let batch = try #require(try await cluster.takePrompts(image))
        let results = batch.leases.map { ($0, RedisBytes(String(repeating: "m", count: 4000))) }
        // 512 bytes of each job are counted beside its result.
        #expect(try await broker.complete(results) == [.done, .done, .full, .full])
        #expect(try await cluster.states(references) == [.done, .done, .inWork, .inWork])
        #expect(try await broker.statistics().total("result_bytes") == 9024)
        // A result that can never fit fails its job and says why.
        let large = [(batch.leases[2], RedisBytes(String(repeating: "m", count: 9900)))]
        #expect(try await broker.complete(large) == [.ended(.failed)])
        #expect(try await broker.status([references[2]])[0]?.error?.contains("result_bytes") == true)
        // Older ones leave; the worker completes again.
        try await broker.set(["retention_ms": 0])
        let first = try await broker.redis.members("kirie:{0}:ends", scores: -1...Double.infinity, limit: 100)
        try await broker.redis.setScores("kirie:{0}:ends", first.map { (.bytes($0), 0) })
        _ = try await broker.keepHouse(broker.partitions)
        #expect(try await broker.complete([results[3]]) == [.done])
        #expect(try await broker.statistics().total("result_bytes") == 4512)
    }

    @Test func nothingIsTakenWhileResultsHaveNoRoomAndNothingIsAccepted() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        try await cluster.accept([TestCluster.job("a", image), TestCluster.job("b", image)])
        try await cluster.encode(image)
        try await broker.set(["result_bytes": 0])
        #expect(try await cluster.takePrompts(image) == nil)
        guard case .refused(_, .backpressure(let reason, _)) = try await submit(TestCluster.job("c", image), broker)
        else {
            Issue.record("accepted")
            return
        }
        #expect(reason.contains("results"))
        try await broker.set(["result_bytes": 100_000])
        #expect(try await cluster.takePrompts(image)?.leases.count == 2)
    }

    /// Jobs that end without a result leave something behind as well: a flood of them is refused in time.
    @Test func endedJobsWithoutResultsAreCounted() async throws {
        let cluster = try await TestCluster.start(settings: ["result_bytes": 512 * 50], partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        try await broker.putImage(image, .string("image"))
        var accepted = 0
        for number in 0..<80 {
            guard case .accepted(let reference, _) = try await submit(TestCluster.job("f\(number)", image), broker)
            else { continue }
            accepted += 1
            _ = try await broker.cancel([reference])
        }
        #expect(accepted == 50)
    }

    @Test func deadLettersStayWithinTheirBytes() async throws {
        let cluster = try await TestCluster.start(
            settings: ["attempts": 1, "dead_bytes": 50_000], partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        let line = String(repeating: "x", count: 9_488)  // with 512 beside it 10,000
        let references = try await cluster.accept((0..<8).map { TestCluster.job("d\($0)", image, line: line) })
        try await cluster.encode(image)
        let batch = try #require(try await cluster.takePrompts(image))
        for lease in batch.leases { try await broker.fail(LeaseName(lease), mayPass: true, reason: "a fault") }
        #expect(try await broker.deadLetters().compactMap(\.job) == (3..<8).map { "d\($0)" }, "the oldest went")
        #expect(try await broker.statistics().total("dead_bytes") == 50_000)
        #expect(try await cluster.states(references) == [nil, nil, nil] + Array(repeating: .dead, count: 5))
        let letters = try await broker.deadLetters()
        #expect(try await broker.retry([letters[0]]) == [.queued])
        try await broker.purge([letters[1]])
        #expect(try await broker.statistics().total("dead_bytes") == 30_000)
        try await finish(image, cluster)
        try await broker.purge(try await broker.deadLetters())
        #expect(try await broker.statistics().total("dead_bytes") == 0)
    }

    /// An embedding whose picture is gone stays for as long as a job needs it.
    @Test func anEmbeddingWithoutItsImageIsPinnedOrTheImageIsAskedFor() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        let redis = broker.redis
        func job(_ id: String) -> Job { TestCluster.job(id, image) }
        let name = broker.keys.embedding(EmbeddingKey(image: image, model: TestCluster.model), in: Partition(0))
        func embed(_ record: String) async throws {
            try await cluster.accept([TestCluster.job("warm-\(record.count)", image, line: "")])
            let lease = try #require(try await cluster.takeEncode(image))
            #expect(try await broker.publish(RedisBytes(record), for: lease, expiry: .seconds(36_000)))
            try await redis.remove([broker.keys.image(image, in: Partition(0))])
        }
        try await embed(String(repeating: "record ", count: 100))
        guard case .accepted(let reference, .queued) = try await submit(job("a"), broker) else {
            Issue.record("not accepted")
            return
        }
        guard case .accepted = try await submit(job("b"), broker) else { return }
        #expect(try await redis.timeToLive(name) == nil, "it may be evicted while jobs need it")
        _ = try await broker.cancel([reference])
        #expect(try await redis.timeToLive(name) == nil)
        try await finish(image, cluster)
        let left = try #require(try await redis.timeToLive(name))
        #expect(left <= .seconds(36_000) && left > .seconds(18_000))
        // A mark stands for an embedding in another Redis, which cannot be pinned here.
        try await redis.remove([name])
        try await embed("elsewhere")
        guard case .refused(_, .noImage) = try await submit(job("c"), broker) else {
            Issue.record("accepted without its image")
            return
        }
    }

    /// Whoever lost its lease and is heard of again was not killed by what it held.
    @Test func aLeaseThatRanOutIsNoAttemptWhenItsHolderIsHeardOfAgain() async throws {
        let cluster = try await TestCluster.start(settings: ["attempts": 2], partitions: 1)
        let (broker, image) = (cluster.broker, TestCluster.image(1))
        let reference = try await cluster.accept([TestCluster.job("a", image)])[0]
        func runOut(_ member: String) async throws {
            _ = try await broker.redis.send(RedisCommand("ZADD", "kirie:{0}:leases", "XX", "0", .string(member)))
            #expect(try await broker.keepHouse(broker.partitions)[0].reclaimed == 1)
        }
        for _ in 0..<5 {
            let lease = try #require(try await cluster.takeEncode(image))
            #expect(lease.attempt == 1)
            try await runOut("e:\(lease.key)")
            #expect(try await broker.renew([LeaseName(lease)], lease: .seconds(9)) == [.lost])
        }
        try await cluster.encode(image)
        for _ in 0..<5 {
            let batch = try #require(try await cluster.takePrompts(image))
            #expect(batch.leases[0].attempt == 1)
            try await runOut("d:a")
            #expect(try await broker.complete([(batch.leases[0], RedisBytes("late"))]) == [.lost])
        }
        // One that is never heard of again counts.
        for attempt in 1...2 {
            let batch = try #require(try await cluster.takePrompts(image))
            #expect(batch.leases[0].attempt == attempt)
            try await runOut("d:a")
        }
        #expect(try await cluster.states([reference]) == [.dead])
        #expect(try await broker.statistics().total("forgiven") == 10)
    }
}
