import Cluster
import ClusterTesting
import Redis
import RedisTesting
import Segmentation
import Synchronization
import Testing

/// Those who share a cluster: turns by weight, quotas, and what is nobody else's.
@Suite struct TenantTests {
    private static func tenant(_ name: String) throws -> Tenant { try #require(Tenant(name)) }

    /// Stores pictures and submits jobs in a tenant's name, which must all be accepted.
    @discardableResult
    private static func accept(
        _ jobs: [Job], of tenant: Tenant, _ cluster: TestCluster
    ) async throws -> [JobReference] {
        let broker = try await cluster.broker.serving(tenant)
        for image in Set(jobs.map(\.image)) { try await broker.putImage(image, .string("image \(image)")) }
        return try await broker.submit(jobs).map { outcome in
            guard case .accepted(let reference, _) = outcome else { throw UnexpectedAnswer(description: "\(outcome)") }
            return reference
        }
    }

    /// One worker that takes from all partitions as a work loop does, without waiting for anything.
    private struct Worker {
        let broker: Broker
        let turns = TurnLedger()
        var schedule: TakeSchedule
        let now = ContinuousClock.now

        init(_ broker: Broker) {
            self.broker = broker
            schedule = TakeSchedule(
                partitions: broker.partitionCount, poll: .seconds(1), patience: .milliseconds(20), now: now)
        }

        private mutating func next() -> TakeSchedule.Action {
            schedule.renew(turns)
            return schedule.next(now: now)
        }

        /// Whose encode it takes and finishes; nil where there is none.
        mutating func encode(_ owners: [ImageDigest: Tenant]) async throws -> Tenant? {
            while case .take(let partition, _) = next() {
                let taken = try await broker.takeEncodes(
                    in: partition, worker: "e", model: TestCluster.model, lease: .seconds(3600), turns: turns)
                schedule.note(turns.hint(for: partition), for: partition)
                guard case .work(let leases, let isLast) = taken else { continue }
                if !isLast { schedule.lookAgain(partition, now: now) }
                #expect(try await broker.publish(RedisBytes("record"), for: leases[0], expiry: .seconds(36_000)))
                return owners[leases[0].key.image]
            }
            return nil
        }

        /// The jobs of a batch, which it completes; nil where there is none.
        mutating func decode(_ count: Int) async throws -> PromptBatch? {
            while case .take(let partition, _) = next() {
                let taken = try await broker.takePrompts(
                    in: partition, worker: "d", model: TestCluster.model, count: count, lease: .seconds(3600),
                    turns: turns)
                schedule.note(turns.hint(for: partition), for: partition)
                guard case .work(let batch, let isLast) = taken else { continue }
                if !isLast { schedule.lookAgain(partition, now: now) }
                _ = try await broker.complete(batch.leases.map { ($0, RedisBytes("mask")) })
                return batch
            }
            return nil
        }
    }

    // MARK: Shares

    /// What a tenant with a weight gets of the takes while all have more to do, in each lane, of encodes and of decodes;
    /// one of them has all of its pictures in one partition.
    @Test(arguments: [UInt64.random(in: 1...999_999), 1], [[1, 1, 1], [1, 3, 2]])
    func takesAreSharedByWeight(seed: UInt64, weights: [Int]) async throws {
        print("shares of weights \(weights), seed \(seed)")
        var random = SeededGenerator(seed)
        let cluster = try await TestCluster.start(partitions: 8)
        let tenants = [Tenant.standard, try Self.tenant("lab"), try Self.tenant("one-place")]
        for (tenant, weight) in zip(tenants, weights) {
            try await cluster.broker.set(TenantTerms(weight: weight), for: tenant)
        }
        for lane in Lane.allCases {
            var owners: [ImageDigest: Tenant] = [:]
            var number = Int.random(in: 0..<1_000_000, using: &random)
            for (index, tenant) in tenants.enumerated() {
                var jobs: [Job] = []
                while jobs.count < 400 {
                    number += 1
                    let image = TestCluster.image(number)
                    if index == 2, cluster.broker.partition(of: image).index != 5 { continue }
                    owners[image] = tenant
                    jobs.append(TestCluster.job("\(lane.rawValue)-\(number)", image, lane: lane))
                }
                try await Self.accept(jobs, of: tenant, cluster)
            }
            var counts: [Tenant: Int] = [:]
            var worker = Worker(cluster.broker)
            for _ in 0..<360 {
                let owner = try #require(try await worker.encode(owners))
                counts[owner, default: 0] += 1
            }
            Self.expectShares(counts, of: 360, tenants, weights, "encodes, \(lane.rawValue)")
            // All that is left is encoded, so that every tenant has jobs enough.
            while try await worker.encode(owners) != nil {}
            counts = [:]
            var taken = 0
            var decoder = Worker(cluster.broker)
            while taken < 600 {
                let batch = try #require(try await decoder.decode(16))
                let owner = Set(batch.leases.map(\.reference.tenant))
                #expect(owner.count == 1, "a batch is one tenant's")
                counts[try #require(owner.first), default: 0] += batch.leases.count
                taken += batch.leases.count
            }
            Self.expectShares(counts, of: taken, tenants, weights, "decodes, \(lane.rawValue)")
            while try await decoder.decode(16) != nil {}
        }
        let audit = try await ClusterAudit(of: cluster.broker)
        #expect(audit.findings.isEmpty, "\(audit.findings.prefix(10))")
    }

    private static func expectShares(
        _ counts: [Tenant: Int], of all: Int, _ tenants: [Tenant], _ weights: [Int], _ what: String
    ) {
        let shares = tenants.map { Double(counts[$0] ?? 0) / Double(all) }
        print("  \(what): \(zip(tenants, shares).map { "\($0) \(($1 * 1000).rounded() / 1000)" })")
        for (index, share) in shares.enumerated() {
            let due = Double(weights[index]) / Double(weights.reduce(0, +))
            #expect(
                abs(share - due) <= 0.1 * due, "\(tenants[index]) has \(share) of the \(what), and \(due) is its due")
        }
    }

    /// Whose sixty jobs are taken, one at a time, when a tenant comes behind another's on the same picture, of which so many
    /// were taken alone.
    private static func order(
        of first: Tenant, jobs: Int, taken: Int, then second: Tenant, jobs late: Int
    ) async throws -> [Tenant] {
        let cluster = try await TestCluster.start(partitions: 1)
        let image = TestCluster.image(1)
        try await accept((0..<jobs).map { TestCluster.job("\($0)", image) }, of: first, cluster)
        try await cluster.encode(image)
        var worker = Worker(cluster.broker)
        for _ in 0..<taken { #expect(try await worker.decode(1)?.leases[0].reference.tenant == first) }
        try await accept((0..<late).map { TestCluster.job("\($0)", image) }, of: second, cluster)
        worker.schedule.wake(Partition(0), now: worker.now)
        var order: [Tenant] = []
        for _ in 0..<60 { order.append(try #require(try await worker.decode(1)).leases[0].reference.tenant) }
        return order
    }

    /// What one tenant leaves the others share; who comes late begins with them, and has no claim to what was before.
    @Test func whatOneLeavesTheOthersShareAndNobodySavesUp() async throws {
        let (few, busy) = (try Self.tenant("few"), try Self.tenant("busy"))
        let order = try await Self.order(of: busy, jobs: 300, taken: 100, then: few, jobs: 20)
        #expect(
            order.prefix(40).count { $0 == few } == 20, "each gets every second take while both have work: \(order)")
        #expect(order.suffix(20).allSatisfy { $0 == busy })
    }

    /// Who takes less than its share goes ahead of who takes more, by sixteen takes and no more.
    @Test func whoTakesLittleGoesAheadForAWhile() async throws {
        let (clicks, flood) = (try Self.tenant("clicks"), try Self.tenant("flood"))
        let order = try await Self.order(of: flood, jobs: 200, taken: 60, then: clicks, jobs: 60)
        #expect(order.prefix(15).allSatisfy { $0 == clicks }, "\(order.map(\.name))")
        // From there on they take turns.
        #expect((18...24).contains(order.suffix(42).count { $0 == clicks }), "\(order.map(\.name))")
    }

    /// What is to pass is of who takes less than its share, and of nobody else; the take says who may be passed.
    @Test func onlyWhoTakesLittlePasses() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (clicks, flood) = (try Self.tenant("clicks"), try Self.tenant("flood"))
        let image = TestCluster.image(1)
        let turns = TurnLedger()
        func take(ahead: Bool) async throws -> PromptBatch? {
            let taken = try await cluster.broker.takePrompts(
                in: Partition(0), worker: "d", model: TestCluster.model, lane: .interactive, count: 1,
                lease: .seconds(3600), turns: turns, ahead: ahead)
            guard case .work(let batch, _) = taken else { return nil }
            _ = try await cluster.broker.complete(batch.leases.map { ($0, RedisBytes("mask")) })
            return batch
        }
        // Where nobody shares nothing passes.
        try await Self.accept([TestCluster.job("0", image, lane: .interactive)], of: .standard, cluster)
        try await cluster.encode(image)
        #expect(try await take(ahead: true) == nil)
        #expect(try await take(ahead: false)?.standing == .usual)
        try await Self.accept(
            (0..<60).map { TestCluster.job("\($0)", image, lane: .interactive) }, of: flood, cluster)
        for _ in 0..<30 {
            let batch = try #require(try await take(ahead: false))
            #expect(batch.standing == .passed && batch.leases[0].reference.tenant == flood)
        }
        #expect(try await take(ahead: true) == nil, "a flood passes nobody")
        try await Self.accept(
            (0..<2).map { TestCluster.job("\($0)", image, lane: .interactive) }, of: clicks, cluster)
        let passing = try #require(try await take(ahead: true))
        #expect(passing.standing == .passing && passing.leases[0].reference.tenant == clicks)
        let next = try #require(try await take(ahead: false))
        #expect(next.standing == .usual && next.leases[0].reference.tenant == clicks)
        #expect(try await take(ahead: true) == nil)
        #expect(try await take(ahead: false)?.leases[0].reference.tenant == flood)
    }

    /// Takes that are under way at the same time are charged all of them, also where one tenant's lie in one partition.
    @Test func sharesHoldWithTakesAtTheSameTime() async throws {
        let cluster = try await TestCluster.start(partitions: 8)
        let tenants = [try Self.tenant("lab"), try Self.tenant("archive"), try Self.tenant("one-place")]
        var number = 0
        var images: [ImageDigest] = []
        for (index, tenant) in tenants.enumerated() {
            var jobs: [Job] = []
            while jobs.count < 400 {
                number += 1
                let image = TestCluster.image(number)
                if index == 2, cluster.broker.partition(of: image).index != 5 { continue }
                images.append(image)
                jobs.append(TestCluster.job("\(number)", image, lane: .interactive))
            }
            try await Self.accept(jobs, of: tenant, cluster)
        }
        for image in images { try await cluster.encode(image) }
        let counts = Mutex<[Tenant: Int]>([:])
        let source = DecodeSource(cluster.broker, worker: "d", model: TestCluster.model) { batch in
            counts.withLock { counts in
                guard counts.values.reduce(0, +) < 600 else { return }
                for lease in batch.leases { counts[lease.reference.tenant, default: 0] += 1 }
            }
            return .answers(batch.leases.map { _ in .result(RedisBytes("mask")) })
        }
        let loop = WorkLoop(
            source, broker: cluster.broker, settings: WorkLoopSettings(concurrency: 4), members: { ["d"] })
        async let running: Void = loop.run()
        try await eventually("600 are done") { counts.withLock { $0.values.reduce(0, +) >= 600 } }
        loop.drain()
        await running
        let found = counts.withLock { $0 }
        for tenant in tenants { #expect((180...220).contains(found[tenant] ?? 0), "\(found)") }
    }

    /// An encode that two ask for is done once, charged to the first, and stands where it comes sooner.
    @Test func anEncodeOfTwoIsOneAndChargedToTheFirst() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (flood, click) = (try Self.tenant("flood"), try Self.tenant("click"))
        let images = (0..<50).map { TestCluster.image($0) }
        try await Self.accept(images.enumerated().map { TestCluster.job("f\($0)", $1) }, of: flood, cluster)
        // The last of them.
        try await Self.accept([TestCluster.job("c", images[49])], of: click, cluster)
        var worker = Worker(cluster.broker)
        var owners: [ImageDigest: Tenant] = [:]
        for image in images { owners[image] = flood }
        owners[images[49]] = click
        let order = [try await worker.encode(owners), try await worker.encode(owners)]
        #expect(order.contains(click), "it did not wait for the 49 before it: \(order)")
        let statistics = try await cluster.broker.statistics()
        #expect(statistics.total("encodes") == 50)
        let tenants = statistics.tenants()
        #expect(tenants.first { $0.name == "flood" }?.encodes == 2)
        #expect(tenants.first { $0.name == "click" }?.encodes == 0)
        while try await worker.encode(owners) != nil {}
        #expect(try await cluster.broker.statistics().total("encode_finished") == 50)
    }

    // MARK: What is nobody else's

    @Test func nobodyNamesAPictureThatAnotherHasSent() async throws {
        let cluster = try await TestCluster.start()
        let (a, b) = (try Self.tenant("a"), try Self.tenant("b"))
        let image = TestCluster.image(7)
        // One of nobody's, beside it.
        let nobodys = try #require(
            (8...).lazy.map { TestCluster.image($0) }.first {
                cluster.broker.partition(of: $0) == cluster.broker.partition(of: image)
            })
        let mine = try await cluster.broker.serving(a)
        #expect(try await mine.putImage(image, "bytes"))
        try await Self.accept([TestCluster.job("x", image)], of: a, cluster)
        try await cluster.encode(image)
        for other in [try await cluster.broker.serving(b), cluster.broker] {
            #expect(try await other.presence(of: [image, nobodys]) == [.unknown, .unknown])
            let answers = try await other.submit([
                TestCluster.job("y", image), TestCluster.job("z", nobodys),
            ])
            var reasons: [String] = []
            for answer in answers {
                guard case .refused(_, .noImage(let reason)) = answer else {
                    throw UnexpectedAnswer(description: "\(answer)")
                }
                reasons.append(String(reason.drop { $0 != ":" }))
            }
            #expect(reasons[0] == reasons[1], "the same words as of a picture that nobody knows")
            // The id is the other tenant's own, on the same picture too.
            let find = try await other.find(["x"])
            #expect(find.isEmpty)
            #expect(
                try await other.cancel([JobReference(id: "x", partition: cluster.broker.partition(of: image))]) == [nil]
            )
        }
        // Who has sent the same bytes shares the embedding, and is told that its picture is new.
        let other = try await cluster.broker.serving(b)
        #expect(try await other.putImage(image, "bytes"))
        #expect(try await other.putImage(image, "bytes") == false)
        guard case .accepted(let reference, .queued) = try await other.submit([TestCluster.job("x", image)])[0] else {
            throw UnexpectedAnswer(description: "not queued at once")
        }
        #expect(reference.name == "b~x")
        #expect(try await mine.find(["x"])["x"]?.count == 1)
        // A tenant's jobs have no other name.
        #expect(try await cluster.broker.find(["a~x", "b~x", "~x"]).isEmpty)
        guard case .refused(_, .badJob) = try await cluster.broker.submit([TestCluster.job("a~w", image)])[0] else {
            throw UnexpectedAnswer(description: "an id with a tilde")
        }
    }

    /// What was there before the first tenant stays the default tenant's, and nobody else's.
    @Test func picturesOfBeforeAreTheDefaultTenants() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let (before, after) = (TestCluster.image(1), TestCluster.image(2))
        try await cluster.broker.putImage(before, "bytes")
        #expect(try await cluster.broker.presence(of: [before]) == [.stored])
        let other = try await cluster.broker.serving(try Self.tenant("a"))
        #expect(try await other.presence(of: [before]) == [.unknown])
        try await other.putImage(after, "bytes")
        #expect(try await other.presence(of: [before]) == [.unknown])
        // From now on it has to send what it names by its hash.
        #expect(try await cluster.broker.presence(of: [before]) == [.unknown])
        #expect(try await cluster.broker.putImage(before, "bytes"))
        #expect(try await cluster.broker.presence(of: [before, after]) == [.stored, .unknown])
    }

    @Test func largePicturesInPartsAreEachTenantsOwn() async throws {
        let cluster = try await TestCluster.start()
        let image = TestCluster.image(3)
        let bytes = [UInt8](repeating: 7, count: 100_000)
        @Sendable func part(_ offset: Int, _ limit: Int) -> RedisBytes {
            RedisBytes(Array(bytes[offset..<min(offset + limit, bytes.count)]))
        }
        for name in ["a", "b"] {
            let broker = try await cluster.broker.serving(try Self.tenant(name))
            #expect(try await broker.putImage(image, bytes: bytes.count, part: 30_000, read: part), "new to \(name)")
            #expect(try await broker.presence(of: [image]) == [.stored])
        }
        #expect(try await cluster.broker.presence(of: [image]) == [.unknown])
    }

    // MARK: Quotas

    @Test func quotasAreKeptAndSaid() async throws {
        let cluster = try await TestCluster.start()
        let tenant = try Self.tenant("visitors")
        try await cluster.broker.set(TenantTerms(jobs: 10), for: tenant)
        #expect(try await cluster.broker.terms() == [tenant: TenantTerms(jobs: 10)])
        let broker = try await cluster.broker.serving(tenant)
        let images = (0..<12).map { TestCluster.image($0) }
        for image in images { try await broker.putImage(image, "0123456789") }
        // Over all partitions together.
        let outcomes = try await broker.submit(images.enumerated().map { TestCluster.job("\($0)", $1) })
        #expect(outcomes.count { if case .accepted = $0 { true } else { false } } == 10)
        for outcome in outcomes.suffix(2) {
            guard case .refused(_, .backpressure(let reason, let time)) = outcome else {
                throw UnexpectedAnswer(description: "\(outcome)")
            }
            #expect(reason.contains("visitors") && time > .zero)
        }
        guard
            case .refused(_, .backpressure(let reason, let time)) = try await broker.submit([
                TestCluster.job("12", images[11])
            ])[0]
        else { throw UnexpectedAnswer(description: "the eleventh job") }
        #expect(reason.contains("tenant visitors has 10 unfinished jobs of 10") && time == .seconds(1))
        // Others are not concerned; what ended makes room.
        try await Self.accept([TestCluster.job("1", images[0])], of: try Self.tenant("others"), cluster)
        _ = try await broker.cancel([try #require(outcomes[0].reference)])
        try await Self.accept([TestCluster.job("12", images[11])], of: tenant, cluster)
        #expect(try await broker.holdings(of: tenant).jobs == 10)

        try await cluster.broker.set(TenantTerms(bytes: 100), for: tenant)
        guard
            case .refused(_, .backpressure(let bytes, _)) = try await broker.submit([
                TestCluster.job("13", images[3])
            ])[0]
        else { throw UnexpectedAnswer(description: "more bytes than 100") }
        #expect(bytes.contains("visitors") && bytes.contains("of 100"))
        try await cluster.broker.forget(tenant)
        try await Self.accept([TestCluster.job("13", images[3])], of: tenant, cluster)
        #expect(try await cluster.broker.terms().isEmpty)
    }

    /// The bucket goes by the functions' lease clock, which this test turns.
    @Test func aRateLetsThroughWhatTimeBrings() async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let tenant = try Self.tenant("slow")
        try await cluster.broker.set(TenantTerms(jobsPerSecond: 4), for: tenant)
        let broker = try await cluster.broker.serving(tenant)
        let image = TestCluster.image(1)
        try await broker.putImage(image, "bytes")
        func submit(_ ids: Range<Int>) async throws -> Int {
            try await broker.submit(ids.map { TestCluster.job("\($0)", image) }).count {
                if case .accepted = $0 { true } else { false }
            }
        }
        /// Sets back when tokens were counted last.
        func pass(milliseconds: Int) async throws {
            let key = "\(broker.keys.prefix(Partition(0)))spent:slow"
            let at = try #require(try await broker.redis.fields(key, ["at"])[0].flatMap { Int($0.string) })
            _ = try await broker.redis.send(RedisCommand("HSET", .string(key), "at", .integer(at - milliseconds)))
        }
        #expect(try await submit(0..<4) == 4, "a second's jobs at once")
        // A repetition costs nothing; an own clock goes on meanwhile, by less than a job's time or the job is let in.
        let outcome = try await broker.submit([TestCluster.job("0", image)])[0]
        switch outcome {
        case .known: break
        case .refused(_, .backpressure(let reason, let time)):
            #expect(reason.contains("tenant slow has its 4 jobs a second") && time <= .milliseconds(250))
        default: throw UnexpectedAnswer(description: "\(outcome)")
        }
        try await pass(milliseconds: 500)
        let some = try await submit(10..<20)
        #expect((2...4).contains(some), "half a second's jobs, and what the test took")
        try await pass(milliseconds: 3_600_000)
        #expect(try await submit(20..<40) == 4, "an hour saves up no more than a second")
    }

    // MARK: Bounds

    @Test(arguments: [
        "", "A", "a b", "-a", ".a", "a~b", "a:b", "a@b", "ä", String(repeating: "a", count: 65), "a/b", "a\u{0}",
    ])
    func whatIsNoNameIsRefusedEverywhere(_ name: String) async throws {
        #expect(Tenant(name) == nil)
        #expect(Tenant.fault(in: name) != nil)
        let server = try await TestCluster.start(partitions: 1)
        let prefix = server.broker.keys.prefix(Partition(0))
        for call: [String] in [
            ["kirie_tenant", "1", prefix, name, "1"], ["kirie_admit", "1", prefix, name, "1", "1"],
            ["kirie_image", "1", prefix, TestCluster.image(1).hexadecimal, "bytes", name.isEmpty ? "A" : name],
        ] {
            let reply = try await server.broker.redis.pipeline([
                RedisCommand("FCALL", call.map { .string($0) })
            ])[0]
            #expect(reply.error?.code == "BADCALL", "\(call): \(reply)")
        }
    }

    @Test(arguments: [
        ["a", "-1"], ["a", "101"], ["a", "1.5"], ["a", "x"], ["a", "1", "-1", "0", "0"], ["a", "1", "0", "0", "-1"],
        ["a", "1", "1e99", "0", "0"], ["a", "1", "0", "0", "nan"], ["a", "1", "5"], ["default", "1", "5", "0", "0"],
        ["a", "1", "0", "0", "1e9"],
    ])
    func termsThatMakeNoSenseAreRefused(_ arguments: [String]) async throws {
        let cluster = try await TestCluster.start(partitions: 1)
        let words = ["kirie_tenant", "1", cluster.broker.keys.prefix(Partition(0))] + arguments
        let reply = try await cluster.broker.redis.pipeline([RedisCommand("FCALL", words.map { .string($0) })])[0]
        #expect(reply.error?.code == "BADCALL", "\(reply)")
        #expect(try await cluster.broker.terms().isEmpty)
    }

    /// A hundred thousand tenants with a job each: a take looks at a bounded part of them, and all of them have their turn.
    @Test func aHundredThousandTenantsCostATakeNoMoreThanAFew() async throws {
        let cluster = try await TestCluster.start(settings: ["jobs:bulk": 1_000_000], partitions: 1)
        let broker = cluster.broker
        let image = TestCluster.image(1)
        let prefix = broker.keys.prefix(Partition(0))
        let before = try await broker.redis.info("memory")[0]["used_memory"].flatMap { Int($0) } ?? 0
        let count = 100_000
        for start in stride(from: 0, to: count, by: 1000) {
            var commands: [RedisCommand] = []
            for number in start..<start + 1000 {
                let tenant = "tenant-\(number)"
                commands.append(
                    .call(
                        "kirie_image", keys: [prefix], [.string(image.hexadecimal), "bytes", .string(tenant)],
                        repetition: .safe))
                commands.append(
                    .call(
                        "kirie_submit", keys: [prefix],
                        [
                            "", .string("\(tenant)~1"), "bulk", .string(image.hexadecimal),
                            .string(TestCluster.model.text), "0", "{}",
                        ], repetition: .safe))
            }
            for reply in try await broker.redis.pipeline(commands) { #expect(reply.error == nil, "\(reply)") }
        }
        try await cluster.encode(image)
        while try await broker.keepHouse([Partition(0)]).contains(where: \.unfinished) {}
        let held = try await broker.redis.info("memory")[0]["used_memory"].flatMap { Int($0) } ?? 0
        print("\(count) tenants: \((held - before) / count) bytes each, with a job")
        #expect((held - before) / count < 8192)
        let statistics = try await broker.statistics()
        #expect(statistics.tenants().count <= 22 && statistics.total("tenants") == count)
        #expect(
            statistics.tenants().first { $0.name == TenantStatistics.others }.map { $0.jobs >= count - 40 } ?? false)
        // What a take does is counted, not timed: commands that Redis ran within it.
        func commands() async throws -> Int {
            let lines = try await broker.redis.info("commandstats")[0]
            return lines.values.reduce(0) { sum, text in
                sum + (text.split(separator: ",").first.flatMap { Int($0.drop { $0 != "=" }.dropFirst()) } ?? 0)
            }
        }
        var worker = Worker(broker)
        var seen: Set<Tenant> = []
        for _ in 0..<200 {
            let first = try await commands()
            let batch = try #require(try await worker.decode(16))
            let used = try await commands() - first
            #expect(used < 400, "\(used) commands in a take")
            seen.formUnion(batch.leases.map(\.reference.tenant))
        }
        #expect(seen.count == 200, "each take was another tenant's")
    }
}
