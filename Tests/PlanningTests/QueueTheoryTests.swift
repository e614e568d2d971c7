import Foundation
import Planning
import Platform
import Testing

/// The simulation against queues whose answers are known in closed form.
@Suite struct QueueTheoryTests {
    /// A queue of `servers` as a decoder of as many lanes, where all else takes no time.
    private func queue(_ service: Quantiles, servers: Int, load: Double, jobs: Int, seed: UInt64) -> SimulationOutcome {
        let gap = service.mean / (load * Double(servers))
        // Other numbers than those of the service times, which would else go with the gaps.
        var random = SplitMix64(seed: seed &+ 1_000_003)
        var time = 0.0
        var arrivals: [Arrival] = []
        for number in 0..<jobs {
            time += -gap * log(1 - Double(random.next() >> 11) * 0x1p-53)
            arrivals.append(Arrival(time: time, picture: Int32(number % 256), lane: .interactive))
        }
        let pictures = (0..<256).map { _ in
            Picture(model: 0, partition: 0, bytes: 1, megapixels: 1, hasEmbedding: true, isPrepared: true)
        }
        var decode = ClusterModel.DecodeCosts(click: service)
        decode.concurrency = servers
        decode.batch = 1
        var model = ClusterModel(
            served: [
                ClusterModel.Served(
                    name: "queue", encoders: 0, decoders: 1,
                    encode: ClusterModel.EncodeCosts(encode: .constant(1), threads: 1), decode: decode, recordBytes: 1,
                    preparedBytes: 1)
            ])
        model.partitions = 1
        model.hop = 0
        model.bandwidth = .infinity
        model.redis = ClusterModel.RedisCosts().scaled(by: 0)
        model.decoderPlacement = ClusterModel.Placement(cores: servers, each: 1)
        let begin = time * 0.05
        var simulation = ClusterSimulation(
            model, Workload(pictures: pictures, arrivals: arrivals, begin: begin, end: time), seed: seed)
        return simulation.run()
    }

    /// Erlang's C: the chance that all servers are busy.
    private func erlangC(_ servers: Int, _ load: Double) -> Double {
        let offered = load * Double(servers)
        var term = 1.0
        var sum = 1.0
        for number in 1..<max(2, servers) where number < servers {
            term *= offered / Double(number)
            sum += term
        }
        let last = term * offered / Double(servers) / (1 - load)
        return last / (sum + last)
    }

    private func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }

    @Test(arguments: [(1, 0.5), (1, 0.8), (2, 0.7), (3, 0.8), (8, 0.85)])
    func theTimesOfExponentialServersAreErlangs(servers: Int, load: Double) {
        let service = 10.0
        let seen = queue(.exponential(service), servers: servers, load: load, jobs: 800_000, seed: 11)
        let chance = erlangC(servers, load)
        let wait = chance * service / (Double(servers) * (1 - load))
        let waits = seen.waits[0].all
        #expect(abs(mean(waits) / (wait + service) - 1) < 0.035, "\(mean(waits)), not \(wait + service)")
        // With one server the whole time is exponential: its quantiles are known, too.
        if servers == 1 {
            let rest = service / (1 - load)
            for part in [0.5, 0.95, 0.99] {
                let expected = -rest * log(1 - part)
                #expect(abs(quantile(waits, part) / expected - 1) < 0.06, "p\(100 * part): \(quantile(waits, part))")
            }
        }
    }

    @Test(arguments: [0.5, 0.8, 0.9])
    func theTimesOfOneConstantServerArePollaczeksAndKhinchines(load: Double) {
        let seen = queue(.constant(10), servers: 1, load: load, jobs: 400_000, seed: 5)
        let expected = 10 + load * 10 / (2 * (1 - load))
        #expect(abs(mean(seen.waits[0].all) / expected - 1) < 0.03, "\(mean(seen.waits[0].all)), not \(expected)")
    }

    /// Of several constant servers by Cosmetatos' formula, which is within a percent of the exact sum.
    @Test(arguments: [(2, 0.7), (4, 0.8), (8, 0.9)])
    func theTimesOfConstantServersAreCosmetatos(servers: Int, load: Double) {
        let seen = queue(.constant(10), servers: servers, load: load, jobs: 400_000, seed: 7)
        let count = Double(servers)
        let exponential = erlangC(servers, load) * 10 / (count * (1 - load))
        let factor =
            0.5 * (1 + (1 - load) * (count - 1) * ((4 + 5 * count).squareRoot() - 2) / (16 * load * count))
        let expected = 10 + factor * exponential
        #expect(abs(mean(seen.waits[0].all) / expected - 1) < 0.03, "\(mean(seen.waits[0].all)), not \(expected)")
    }

    @Test func theNumberInTheClusterIsLittles() {
        for service in [Quantiles.exponential(10), .constant(10)] {
            let seen = queue(service, servers: 2, load: 0.8, jobs: 200_000, seed: 3)
            let waits = seen.waits[0].all
            let rate = Double(waits.count) / (seen.end - seen.begin)
            #expect(abs(seen.inSystem / (rate * mean(waits)) - 1) < 0.005)
        }
    }

    @Test func noJobIsLostAndNoneComesTwice() {
        let seen = queue(.exponential(10), servers: 2, load: 0.9, jobs: 50_000, seed: 9)
        #expect(seen.unfinished == 0 && !seen.isOverloaded)
        // All that came from the begin of the counted time on.
        #expect((47_000...48_000).contains(seen.waits[0].all.count))
        #expect(seen.waits[0].all.allSatisfy { $0 > 0 })
    }

    /// Much too fast as well, where hardly less is open in the middle of the time than at its end.
    @Test(arguments: [1.2, 2, 5]) func whatComesTooFastIsCalledSo(load: Double) {
        let seen = queue(.constant(10), servers: 2, load: load, jobs: 20_000, seed: 2)
        #expect(seen.isOverloaded)
        // As many are answered as two servers can.
        #expect(abs(Double(seen.answers) / ((seen.end - seen.begin) / 5) - 1) < 0.01)
    }

    @Test func theSameSeedGivesTheSameTimes() {
        func run(_ seed: UInt64) -> [Double] {
            queue(.exponential(4), servers: 3, load: 0.8, jobs: 5000, seed: seed).waits[0].seen
        }
        #expect(run(1) == run(1))
        #expect(run(1) != run(2))
    }

    @Test func quantilesAreStraightLinesBetweenWhatWasMeasured() {
        let times = Quantiles.measured([.init(0, 2), .init(0.5, 4), .init(1, 10)])
        #expect(times.value(0) == 2 && times.value(0.25) == 3 && times.value(0.75) == 7 && times.value(1) == 10)
        #expect(times.mean == 5)
        #expect(times.scaled(by: 2).mean == 10 && times.shifted(by: 1).value(0.5) == 5)
    }

    /// When each token is done, from now on.
    private func ends<Token>(_ machine: inout SharedProcessor<Token>) -> [(at: Double, Token)] {
        var ends: [(at: Double, Token)] = []
        while let end = machine.end {
            ends += machine.takeDone(now: end).map { (end, $0) }
            machine.dispatch(now: end)
        }
        return ends
    }

    @Test func theCoresOfAMachineAreSharedByThreads() {
        var machine = SharedProcessor<Int>(cores: 2)
        machine.add(10, threads: 2, token: 1, now: 0)
        #expect(machine.end == 10)
        // The third of two threads gets the first core at its tick, and in the end the one that is free.
        machine.add(10, threads: 1, token: 2, now: 0.5)
        #expect(ends(&machine).map { [$0.at, Double($0.1)] } == [[14, 1], [16, 2]])
        machine.add(4, threads: 1, token: 3, now: 20)
        machine.add(8, threads: 1, token: 4, now: 20)
        #expect(ends(&machine).map { [$0.at, Double($0.1)] } == [[24, 3], [28, 4]])
        #expect(machine.used == 30 + 12)
    }

    @Test func whoIsWokenGoesAheadAndGivesWayAtATick() {
        func after(_ step: Double, at time: Double) -> Double? {
            var machine = SharedProcessor<String>(cores: 1)
            machine.add(100, threads: 1, token: "always", now: 0)
            machine.add(step, threads: 1, token: "step", now: time)
            return ends(&machine).first { $0.1 == "step" }.map { $0.at - time }
        }
        // At once, of one that has had its slice; a long one waits for a tick's length in the middle.
        #expect(after(0.5, at: 3) == 0.5)
        #expect(after(1.5, at: 3) == 1.5 + 4)
        #expect(after(1.5, at: 3.5) == 1.5)
        // Of one that has not, only at a tick, unless it has hardly got the core.
        #expect(after(0.5, at: 0.25) == 4 - 0.25 + 0.5)
        #expect(after(0.5, at: 0.0625) == 0.5)
    }

    @Test func aThreadGoesOnWithItsNextStep() {
        var machine = SharedProcessor<String>(cores: 1)
        machine.add(1, threads: 1, token: "first", now: 0)
        machine.add(1, threads: 1, token: "other", now: 0.5)
        #expect(machine.takeDone(now: 1) == ["first"])
        machine.add(1, threads: 1, token: "second", continues: true, now: 1)
        machine.dispatch(now: 1)
        #expect(ends(&machine).map(\.1) == ["second", "other"])
    }

    @Test func whoIsKilledLeavesItsCore() {
        var machine = SharedProcessor<String>(cores: 1)
        for (time, token) in [(0, "first"), (0.2, "second"), (0.3, "third")] {
            machine.add(2, threads: 1, token: token, now: time)
        }
        machine.stop(now: 1) { $0 != "third" }
        machine.dispatch(now: 1)
        #expect(ends(&machine).map { $0.at } == [3])
    }

    @Test func theLeastRecentlyUsedPicturesGoFirst() {
        var pictures = PreparedPictures(limit: 30, bytesEach: 10)
        for picture in [1, 2, 3] as [Int32] { pictures.insert(picture) }
        let used = pictures.use(1)
        pictures.insert(4)
        #expect(used && pictures.count == 3 && pictures.bytes == 30)
        let there = ([1, 2, 3, 4] as [Int32]).map { pictures.use($0) }
        #expect(there == [true, false, true, true])
        var none = PreparedPictures(limit: 5, bytesEach: 10)
        none.insert(1)
        #expect(none.count == 0)
    }
}
