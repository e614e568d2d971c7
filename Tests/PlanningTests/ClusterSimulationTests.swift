import Planning
import Testing

/// What a simulated cluster does, as far as it can be said without a real one.
@Suite struct ClusterSimulationTests {
    private let one = Counts(encoders: [1], decoders: [1])

    private func plan(_ text: String) throws -> Plan { try PlanFixture.plan(text) }

    private func outcome(_ text: String, _ counts: Counts, seconds: Double = 60) throws -> SimulationOutcome {
        let forecaster = Forecaster(try plan(text), seed: 3, replications: 1, time: 1000 * seconds)
        return forecaster.outcome(counts, hour: 12, replication: 0)
    }

    @Test func everyJobOfAWholeClusterIsAnsweredOnce() throws {
        let forecaster = Forecaster(try plan(PlanFixture.usual), seed: 4, replications: 1, time: 60_000)
        let counts = Counts(encoders: [2], decoders: [2], shards: 2)
        let workload = forecaster.workload(counts, hour: 12, replication: 0)
        let seen = forecaster.outcome(counts, hour: 12, replication: 0)
        let counted = workload.arrivals.count { $0.time >= workload.begin && $0.time < workload.end && !$0.isWarm }
        #expect(seen.waits.reduce(0) { $0 + $1.all.count } == counted && counted > 500)
        #expect(seen.unfinished == 0)
    }

    @Test func workersThatAreKilledLoseNoJob() throws {
        let text = PlanFixture.usual.replacing(
            "\"partitions\": 16", with: "\"partitions\": 16, \"failures_per_day\": 2000")
        let (killed, calm) = (
            try outcome(text, Counts(encoders: [2], decoders: [2]), seconds: 200),
            try outcome(PlanFixture.usual, Counts(encoders: [2], decoders: [2]), seconds: 200)
        )
        #expect(killed.kills > 5 && killed.unfinished == 0)
        // What a killed worker held comes back when its lease runs out.
        #expect(quantile(killed.waits[0].all, 0.999) > 10_000 && quantile(calm.waits[0].all, 0.999) < 5000)
    }

    @Test func aPictureIsEncodedOnceHoweverManyAskForIt() throws {
        let pictures = [Picture(model: 0, partition: 0, bytes: 1000, megapixels: 1)]
        let arrivals = (0..<50).map { Arrival(time: Double($0), picture: 0, lane: $0 % 2 == 0 ? .interactive : .bulk) }
        let cluster = ClusterModel(try plan(PlanFixture.usual), Counts(encoders: [3], decoders: [3]))
        var simulation = ClusterSimulation(
            cluster, Workload(pictures: pictures, arrivals: arrivals, begin: 0, end: 100), seed: 1)
        let seen = simulation.run()
        #expect(seen.encodes == 1 && seen.waits.reduce(0) { $0 + $1.all.count } == 50)
        // They waited for it, were then taken in batches, and the picture was fetched once a decoder at most.
        #expect(seen.waits[0].new.count == 25 && seen.takes < 20 && seen.fetches <= 3)
    }

    @Test func interactiveJobsGoFirstAndBulkOnesAreNotStarved() throws {
        // Twice what one decoder can do comes in the interactive lane alone.
        let pictures = (0..<64).map { _ in
            Picture(model: 0, partition: 0, bytes: 1, megapixels: 1, hasEmbedding: true, isPrepared: true)
        }
        var arrivals: [Arrival] = []
        for number in 0..<4000 {
            arrivals.append(Arrival(time: Double(number), picture: Int32(number % 64), lane: .interactive))
            guard number % 10 == 0 else { continue }
            arrivals.append(Arrival(time: Double(number), picture: Int32(number % 63), lane: .bulk))
        }
        var cluster = ClusterModel(try plan(PlanFixture.usual), one)
        cluster.partitions = 1
        cluster.served[0].decode.batch = 1
        cluster.served[0].decode.click = .constant(2)
        var simulation = ClusterSimulation(
            cluster, Workload(pictures: pictures, arrivals: arrivals, begin: 0, end: 2000), seed: 1)
        let seen = simulation.run(limit: 3000)
        // Of nine takes bulk gets one, all the time, though it alone comes at no more than that.
        let (interactive, bulk) = (seen.waits[0].all.count, seen.waits[1].all.count)
        #expect(interactive > 300 && bulk > 50 && interactive > 5 * bulk && interactive < 12 * bulk, "\(bulk)")
    }

    @Test func moreWorkersThanCoresShareThem() throws {
        // One core: three encoders do no more than one.
        let machine = PlanFixture.usual.replacing(PlanFixture.machines, with: #""machines": {"all": {"cores": 1}}"#)
            .replacing("345600", with: "172800")
        let few = try outcome(machine, Counts(encoders: [1], decoders: [1]))
        let many = try outcome(machine, Counts(encoders: [3], decoders: [3]))
        #expect(abs(few.sharedUse - many.sharedUse) < 0.05 && few.sharedUse > 0.2)
    }

    /// What is left in queues or gauges by a mistake shows after a while: workers are told of less and less.
    @Test func aLongRunWaitsNoLongerThanAShortOne() throws {
        let text = PlanFixture.usual.replacing(
            "\"new\": 1,", with: "\"new\": 0.1, \"warms\": true, \"seen_among\": 50,"
        ).replacing("345600", with: "86400")
        let counts = Counts(encoders: [2], decoders: [2])
        let (short, long) = (
            try outcome(text, counts, seconds: 100), try outcome(text, counts, seconds: 3000)
        )
        #expect(quantile(long.waits[0].seen, 0.95) < 1.2 * quantile(short.waits[0].seen, 0.95))
        #expect(quantile(long.waits[0].seen, 0.95) < 20)
    }

    @Test func moreLoadIsMoreWait() throws {
        let forecaster = Forecaster(try plan(PlanFixture.usual), seed: 2, replications: 2, time: 60_000)
        let counts = Counts(encoders: [2], decoders: [2])
        let waits = [0.2, 0.6, 1.0].map {
            forecaster.forecast(counts, hour: 12, load: $0).lanes[0]?.p95.value ?? 0
        }
        #expect(waits[0] < waits[1] && waits[1] < waits[2], "\(waits)")
    }

    @Test func theLeastMoneyIsNotMetByLess() throws {
        var plan = try plan(PlanFixture.usual)
        plan.targets = [Plan.Target(lane: .interactive, percentile: 95, milliseconds: 600)]
        let forecaster = Forecaster(plan, seed: 1, replications: 3, jobs: 1500)
        var sizing = Sizing(forecaster)
        let best = try sizing.cheapest()
        #expect(best.holds && best.counts.encoders[0] > 1)
        var fewer = best.counts
        fewer.encoders[0] -= 1
        #expect(!forecaster.forecast(fewer, hour: best.hour).holds)
        #expect(best.bottleneck != nil && best.binding?.target.percentile == 95)
        // And a stricter target is not cheaper.
        plan.targets[0].milliseconds = 350
        var stricter = Sizing(Forecaster(plan, seed: 1, replications: 3, jobs: 1500))
        let strict = try stricter.cheapest()
        #expect(plan.needs(strict).pricePerHour >= plan.needs(best).pricePerHour)
    }

    /// A load that no number of machines carries is told so before it is simulated.
    @Test(arguments: [
        (PlanFixture.machines, 1e10, "keeps more encoders of tiny busy than are simulated"),
        (#""machines": {"all": {"cores": 4, "memory_gib": 8, "price_per_hour": 1}}"#, 8e6, "one machine of 4 cores"),
    ]) func aLoadThatNothingCarriesIsRefused(machines: String, pictures: Double, words: String) throws {
        var plan = try plan(
            PlanFixture.usual.replacing(PlanFixture.machines, with: machines).replacing("345600", with: "\(pictures)"))
        plan.targets = [Plan.Target(lane: .interactive, percentile: 95, milliseconds: 600)]
        var sizing = Sizing(Forecaster(plan, seed: 1, replications: 3, jobs: 1500))
        let error = #expect(throws: PlanError.self) { _ = try sizing.cheapest() }
        #expect(error?.description.contains(words) == true, "\(String(describing: error))")
    }
}
