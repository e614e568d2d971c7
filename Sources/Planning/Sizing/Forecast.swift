import Dispatch
import Synchronization

/// A figure of several simulations: its mean, and how far the true one may be from it at a confidence of 95 %, on one side.
package struct Estimate: Sendable, Equatable {
    package var value: Double
    package var spread: Double

    init(_ values: [Double]) {
        let mean = values.reduce(0, +) / Double(max(1, values.count))
        value = mean
        guard values.count > 1 else {
            spread = 0
            return
        }
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count - 1)
        // Student's t at 95 %, one side, for 1, 2, … degrees of freedom.
        let t = [6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83]
        let factor = values.count - 2 < t.count ? t[values.count - 2] : 1.7
        spread = factor * (variance / Double(values.count)).squareRoot()
    }

    /// The greatest that it may be.
    package var upper: Double { value + spread }
}

/// What a cluster of some size is going to do under a load.
package struct Forecast: Sendable {
    /// What people see of a lane.
    package struct Lane: Sendable {
        package var offered: Double
        package var answered: Double
        package var p50: Estimate
        package var p95: Estimate
        package var p99: Estimate
        /// The first two by Redis's clock, without the way there and back.
        package var byRedis: (p50: Double, p95: Double)
        /// The share of its jobs that waited for an encode.
        package var new: Double
    }

    package struct Verdict: Sendable {
        package var target: Plan.Target
        package var wait: Estimate
        package var holds: Bool
    }

    /// How much of its time a role works.
    package struct Use: Sendable {
        package var name: String
        package var role: Plan.Role
        package var model: Int
        /// Slots of encoders, lanes of decoders, Redis's one thread.
        package var busy: Double
        /// The cores of its machines.
        package var cores: Double
    }

    package var counts: Counts
    package var hour: Int
    package var load: Double
    package var lanes: [Lane?]
    package var verdicts: [Verdict]
    package var uses: [Use]
    package var isOverloaded: Bool
    /// A second.
    package var encodes: Double
    package var bytesIn: Double
    package var bytesOut: Double
    package var fetches: Double
    package var redisCalls: Double
    /// Takes that found nothing, for each that found work.
    package var idleLooks: Double
    package var jobsOfTake: Double
    package var inSystem: Double
    /// Answers of all lanes in a second of the counted time.
    package var answers: Double
    /// The most that a decoder has in its memory, by model.
    package var cached: [Int]
    package var kills: Int

    package var holds: Bool { !isOverloaded && verdicts.allSatisfy(\.holds) }

    /// The target that is the nearest to its bound, or the farthest beyond it.
    package var binding: Verdict? {
        verdicts.max { $0.wait.upper / $0.target.milliseconds < $1.wait.upper / $1.target.milliseconds }
    }

    /// The role that has the least left: it is the first that cannot carry more.
    package var bottleneck: Use? { uses.max { max($0.busy, $0.cores) < max($1.busy, $1.cores) } }
}

/// Makes forecasts by simulation.
package struct Forecaster: Sendable {
    package let plan: Plan
    package let seed: UInt64
    /// Simulations, each with a seed of its own.
    package let replications: Int
    /// Milliseconds that are counted; nil for as long as there are enough jobs.
    package let time: Double?
    /// Jobs of the rarer lane that are to be counted in one simulation.
    package let jobs: Double

    package init(_ plan: Plan, seed: UInt64, replications: Int = 5, time: Double? = nil, jobs: Double = 4000) {
        self.plan = plan
        self.seed = seed
        self.replications = replications
        self.time = time
        self.jobs = jobs
    }

    /// The counted time of a simulation, and what goes before it.
    package func times(hour: Int) -> (before: Double, counted: Double) {
        let rates = PlanLane.allCases.map { plan.jobs($0, hour: hour) }.filter { $0 > 0 }
        let encode = plan.models.compactMap(\.figures.encode?.median).max() ?? 0
        let wanted = time ?? max(10_000, 30 * encode, 1000 * jobs / max(1e-9, rates.min() ?? 1))
        // Neither more jobs altogether than are simulated in a second or two, nor more idle time.
        let most = time ?? min(900_000, 1000 * 60_000 / max(1e-9, rates.reduce(0, +)))
        let counted = max(min(wanted, most), time == nil ? max(5000, 10 * encode) : 0)
        return (max(0.25 * counted, 5 * encode, 2000), counted)
    }

    /// The arrivals of one simulation.
    package func workload(_ counts: Counts, hour: Int, replication: Int) -> Workload {
        let (before, counted) = times(hour: hour)
        var maker = WorkloadMaker(
            plan, hour: hour, decoders: counts.decoders.reduce(0, +), seed: seed &+ UInt64(replication) &* 7919)
        return maker.make(begin: before, end: before + counted, last: before + 1.25 * counted)
    }

    /// What one simulation saw.
    package func outcome(_ counts: Counts, hour: Int, replication: Int) -> SimulationOutcome {
        var simulation = ClusterSimulation(
            ClusterModel(plan, counts), workload(counts, hour: hour, replication: replication),
            seed: seed &+ UInt64(replication) &* 104_729)
        return simulation.run()
    }

    /// The forecast for so many of each.
    package func forecast(_ counts: Counts, hour: Int, load: Double = 1) -> Forecast {
        let forecaster = load == 1 ? self : self.loaded(by: load)
        let outcomes = Mutex<[Int: SimulationOutcome]>([:])
        DispatchQueue.concurrentPerform(iterations: replications) { replication in
            let outcome = forecaster.outcome(counts, hour: hour, replication: replication)
            outcomes.withLock { $0[replication] = outcome }
        }
        let all = outcomes.withLock { found in found.sorted { $0.key < $1.key }.map(\.value) }
        return forecaster.forecast(of: all, counts, hour: hour, load: load)
    }

    private func loaded(by factor: Double) -> Forecaster {
        Forecaster(plan.loaded(by: factor), seed: seed, replications: replications, time: time, jobs: jobs)
    }

    /// Puts together what simulations of one cluster saw.
    package func forecast(of outcomes: [SimulationOutcome], _ counts: Counts, hour: Int, load: Double = 1) -> Forecast {
        func mean(_ value: (SimulationOutcome) -> Double) -> Double {
            outcomes.reduce(0) { $0 + value($1) } / Double(max(1, outcomes.count))
        }
        let lanes = PlanLane.allCases.map { lane -> Forecast.Lane? in
            guard plan.jobs(lane, hour: hour) > 0 else { return nil }
            let waits = outcomes.map { $0.waits[lane.rawValue].all.sorted() }
            func at(_ part: Double) -> Estimate { Estimate(waits.map { Self.sorted($0, part) }) }
            let new = mean { Double($0.waits[lane.rawValue].new.count) }
            let count = mean { Double($0.waits[lane.rawValue].all.count) }
            let seconds = max(1e-9, mean { ($0.end - $0.begin) / 1000 })
            return Forecast.Lane(
                offered: plan.jobs(lane, hour: hour), answered: count / seconds, p50: at(0.5), p95: at(0.95),
                p99: at(0.99),
                byRedis: (
                    mean { quantile($0.byRedis[lane.rawValue], 0.5) },
                    mean { quantile($0.byRedis[lane.rawValue], 0.95) }
                ), new: new / max(1, count))
        }
        let isOverloaded = outcomes.contains(where: \.isOverloaded)
        let verdicts = plan.targets.compactMap { target -> Forecast.Verdict? in
            guard plan.jobs(target.lane, hour: hour) > 0 else { return nil }
            let wait = Estimate(outcomes.map { Self.wait($0, target) })
            return Forecast.Verdict(
                target: target, wait: wait, holds: !isOverloaded && wait.upper <= target.milliseconds)
        }
        var uses: [Forecast.Use] = []
        for (index, model) in plan.models.enumerated() {
            let shared = plan.isShared
            uses.append(
                Forecast.Use(
                    name: "encoders of \(model.name)", role: .encoder, model: index,
                    busy: mean { $0.busy[index].encode }, cores: shared ? 0 : mean { $0.machineUse[index].encode }))
            uses.append(
                Forecast.Use(
                    name: "decoders of \(model.name)", role: .decoder, model: index,
                    busy: mean { $0.busy[index].decode }, cores: shared ? 0 : mean { $0.machineUse[index].decode }))
        }
        uses.append(
            Forecast.Use(
                name: "Redis", role: .redis, model: 0, busy: mean { $0.redisUse.max() ?? 0 },
                cores: mean { $0.sharedUse }))
        if counts.gateways > 0 {
            uses.append(
                Forecast.Use(name: "gateways", role: .gateway, model: 0, busy: 0, cores: mean(\.gatewayUse)))
        }
        let seconds = max(1e-9, mean { $0.lasted / 1000 })
        return Forecast(
            counts: counts, hour: hour, load: load, lanes: lanes, verdicts: verdicts, uses: uses,
            isOverloaded: isOverloaded, encodes: mean { Double($0.encodes) } / seconds,
            bytesIn: mean { Double($0.bytesIn) } / seconds, bytesOut: mean { Double($0.bytesOut) } / seconds,
            fetches: mean { Double($0.fetches) } / seconds,
            redisCalls: mean { Double($0.takes + $0.idleLooks) } / seconds,
            idleLooks: mean { Double($0.idleLooks) / Double(max(1, $0.takes)) },
            jobsOfTake: mean { Double($0.batched) } / max(1, mean { Double($0.takes - $0.encodes) }),
            inSystem: mean(\.inSystem),
            answers: mean { Double($0.answers) * 1000 / max(1e-9, $0.end - $0.begin) },
            cached: plan.models.indices.map { index in
                outcomes.map { $0.cached[index] }.max() ?? 0
            }, kills: outcomes.reduce(0) { $0 + $1.kills })
    }

    private static func wait(_ outcome: SimulationOutcome, _ target: Plan.Target) -> Double {
        let waits = outcome.waits[target.lane.rawValue]
        let values =
            switch target.jobs {
            case .all: waits.all
            case .new: waits.new
            case .seen: waits.seen
            }
        return quantile(values, target.percentile / 100)
    }

    private static func sorted(_ values: [Double], _ part: Double) -> Double {
        values.isEmpty ? 0 : values[min(values.count - 1, Int(part * Double(values.count)))]
    }
}

extension Plan {
    /// Whether all run on one machine.
    package var isShared: Bool { if case .shared = machines { true } else { false } }

    /// The hours in which the most work comes: of all together, and of each lane.
    package var busiestHours: [Int] {
        func work(_ lane: Lane, _ hour: Int) -> Double {
            let encode = models.reduce(0) { $0 + $1.share * ($1.figures.encode?.median ?? 0) }
            let decode = models.reduce(0) { $0 + $1.share * ($1.figures.decode[1]?.median ?? 0) }
            return lane.rate(hour: hour) * (lane.new * encode + lane.jobs.mean * (decode + 1))
        }
        let lanes = lanes.compactMap(\.self)
        let all = (0..<24).max { left, right in
            lanes.reduce(0) { $0 + work($1, left) } < lanes.reduce(0) { $0 + work($1, right) }
        }
        let each = lanes.compactMap { lane in (0..<24).max { lane.rate(hour: $0) < lane.rate(hour: $1) } }
        var hours: [Int] = []
        for hour in [all].compactMap(\.self) + each where !hours.contains(hour) { hours.append(hour) }
        return hours
    }
}
