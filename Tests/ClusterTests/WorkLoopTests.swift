import Cluster
import Redis
import RedisTesting
import Segmentation
import Synchronization
import Testing

/// Counts by name, from any task.
private final class Tally: Sendable {
    /// Guards the counts.
    private let counts = Mutex<[String: Int]>([:])
    func add(_ name: String, _ n: Int = 1) { counts.withLock { $0[name, default: 0] += n } }
    subscript(_ name: String) -> Int { counts.withLock { $0[name] ?? 0 } }
    var all: [String: Int] { counts.withLock { $0 } }
}

/// A group of workers that can be drained together, or killed: their tasks go and nothing is handed back.
private struct Crew: Sendable {
    let encoders: [WorkLoop<EncodeSource>]
    let decoders: [WorkLoop<DecodeSource>]

    init(_ cluster: TestCluster, encoders: Int, decoders: Int, tally: Tally, settings: WorkLoopSettings) {
        let broker = cluster.broker
        let names = (0..<decoders).map { "decoder-\($0)" }
        self.encoders = (0..<encoders).map { number in
            let source = EncodeSource(broker, worker: "encoder-\(number)", model: TestCluster.model) { lease in
                tally.add("encode \(lease.key)")
                await Task.yield()
                return .embedding(RedisBytes("record of \(lease.key)"), expiry: .seconds(600))
            }
            return WorkLoop(source, broker: broker, settings: settings, members: { ["encoder-\(number)"] })
        }
        self.decoders = names.map { name in
            let source = DecodeSource(broker, worker: name, model: TestCluster.model, batch: 8) { batch in
                let key = broker.keys.embedding(batch.key, in: batch.partition)
                guard (try? await broker.redis.get(key)) != nil else { return .missingEmbedding(corrupt: false) }
                tally.add("batches")
                return .answers(
                    batch.leases.map { lease in
                        tally.add("decode \(lease.reference.id)")
                        return lease.line.string == "bad"
                            ? .unusable(reason: "a bad prompt") : .result(RedisBytes("mask of \(lease.reference.id)"))
                    })
            }
            return WorkLoop(source, broker: broker, settings: settings, members: { names })
        }
    }

    func run(while body: @escaping @Sendable () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for loop in encoders { group.addTask { await loop.run() } }
            for loop in decoders { group.addTask { await loop.run() } }
            do { try await body() } catch {
                group.cancelAll()
                throw error
            }
            for loop in encoders { loop.drain() }
            for loop in decoders { loop.drain() }
        }
    }
}

@Suite struct WorkLoopTests {
    private var settings: WorkLoopSettings {
        var settings = WorkLoopSettings(concurrency: 2)
        settings.poll = .milliseconds(200)
        settings.housekeeping = .milliseconds(50)
        // No lease ends by itself, however long a task waits for its turn; tests of that say so.
        settings.lease = .seconds(3600)
        return settings
    }

    @Test func everyJobEndsOnceAndItsSubmitterIsTold() async throws {
        let cluster = try await TestCluster.start()
        let tally = Tally()
        let crew = Crew(cluster, encoders: 2, decoders: 3, tally: tally, settings: settings)
        let images = (0..<25).map { TestCluster.image($0) }
        let jobs = (0..<500).map {
            TestCluster.job(
                "j\($0)", images[$0 % 25], lane: $0 % 3 == 0 ? .interactive : .bulk, line: $0 % 50 == 7 ? "bad" : "{}")
        }
        try await crew.run {
            let references = try await cluster.accept(jobs, client: "tester")
            let endings = try await within(.hang, "the end of 500 jobs") {
                var endings: [JobEnding] = []
                let waiter = JobWaiter(cluster.broker, client: "tester", interval: .milliseconds(200))
                for try await ending in waiter.endings(of: references) { endings.append(ending) }
                return endings
            }
            #expect(endings.count == 500 && Set(endings.map(\.reference)).count == 500)
            for ending in endings {
                if jobs.first(where: { $0.id == ending.reference.id })?.line.string == "bad" {
                    #expect(ending.state == .failed && ending.error == "a bad prompt")
                } else {
                    #expect(ending.state == .done && ending.result?.string == "mask of \(ending.reference.id)")
                }
            }
        }
        #expect(tally.all.filter { $0.key.hasPrefix("encode ") }.values.allSatisfy { $0 == 1 }, "one encode an image")
        #expect(tally.all.filter { $0.key.hasPrefix("decode ") }.count == 500)
        let statistics = try await cluster.broker.statistics()
        #expect(statistics.unfinished == 0)
        for stream in statistics.streams {
            #expect(stream.lag == 0 && stream.pending == 0 && stream.inWork == 0, "\(stream)")
        }
    }

    @Test func twoHundredJobsOnAColdImageAreOneEncode() async throws {
        let cluster = try await TestCluster.start()
        let tally = Tally()
        let image = TestCluster.image(77)
        try await Crew(cluster, encoders: 3, decoders: 1, tally: tally, settings: settings).run {
            let references = try await cluster.accept((0..<200).map { TestCluster.job("s\($0)", image) })
            try await eventually("the end of 200 jobs") {
                try await cluster.states(references).allSatisfy { $0 == .done }
            }
        }
        #expect(tally["encode \(image):\(TestCluster.model)"] == 1)
        #expect(tally["batches"] >= 25)
    }

    @Test func aDrainHandsBackWhatIsNotDoneInTime() async throws {
        let cluster = try await TestCluster.start()
        let broker = cluster.broker
        let image = TestCluster.image(5)
        let references = try await cluster.accept([TestCluster.job("slow", image)])
        var settings = settings
        settings.drainLimit = .milliseconds(50)
        let (taken, signal) = AsyncStream.makeStream(of: Void.self)
        let source = EncodeSource(broker, worker: "slow", model: TestCluster.model) { _ in
            signal.yield()
            while !Task.isCancelled { await Task.yield() }
            return .abandoned
        }
        let loop = WorkLoop(source, broker: broker, settings: settings, members: { ["slow"] })
        try await within(.hang, "the drain") {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await loop.run() }
                for await _ in taken { break }
                loop.drain()
            }
        }
        #expect(try await cluster.states(references) == [.waitingForEmbedding])
        let lease = try #require(try await cluster.takeEncode(image))
        #expect(lease.attempt == 1, "handing back costs no attempt")
    }

    @Test func aJobThatIsCancelledStopsItsWork() async throws {
        // A lease so short may end unrenewed, as often as it likes.
        let cluster = try await TestCluster.start(settings: ["attempts": 100_000])
        let broker = cluster.broker
        let image = TestCluster.image(6)
        let references = try await cluster.accept([TestCluster.job("endless", image)])
        try await cluster.encode(image)
        var settings = settings
        settings.lease = .milliseconds(150)
        let (taken, signal) = AsyncStream.makeStream(of: Void.self)
        let source = DecodeSource(broker, worker: "d", model: TestCluster.model) { batch in
            signal.yield()
            while !Task.isCancelled { await Task.yield() }
            signal.finish()
            return .answers(batch.leases.map { _ in .result(RedisBytes("late")) })
        }
        let loop = WorkLoop(source, broker: broker, settings: settings, members: { ["d"] })
        try await within(.hang, "the end of the work") {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await loop.run() }
                for await _ in taken { _ = try await broker.cancel(references) }
                loop.drain()
            }
        }
        #expect(try await cluster.states(references) == [.cancelled])
        #expect(try await broker.results(references)[0] == nil)
    }

    @Test func workersGoOnWhenRedisComesBack() async throws {
        // What was taken by an answer that was lost with Redis comes back with the end of its lease, and so may the rest.
        let cluster = try await TestCluster.start(
            .init(appendOnly: true, appendFsync: .always), settings: ["attempts": 100_000])
        let tally = Tally()
        let images = (0..<10).map { TestCluster.image($0) }
        var settings = settings
        settings.lease = .seconds(2)
        try await Crew(cluster, encoders: 1, decoders: 2, tally: tally, settings: settings).run {
            let first = try await cluster.accept((0..<200).map { TestCluster.job("a\($0)", images[$0 % 10]) })
            await cluster.server.kill()
            try await cluster.server.restart()
            let second = try await cluster.accept((0..<50).map { TestCluster.job("b\($0)", images[$0 % 10]) })
            try await eventually("the end of 250 jobs") {
                try await cluster.states(first + second).allSatisfy { $0 == .done }
            }
        }
        #expect(try await cluster.broker.statistics().unfinished == 0)
    }
}
