/// Finds the least money that meets the targets.
///
/// More encoders, or more decoders, never make a wait longer (Redis aside, which gets shards as it needs them), so the
/// counts that meet the targets have a lower border in each direction. The least count of each role is found by
/// bisection while all others are plenty; from that corner candidates are tried by their price, those that a failed one
/// has at least as much of everything as being left out. Each trial is a forecast by simulation, and holds where the
/// upper bound of its confidence interval does.
package struct Sizing {
    private let plan: Plan
    private let forecaster: Forecaster
    private let tell: (String) -> Void
    private let hours: [Int]
    private var tried: [Counts: Forecast] = [:]
    /// Shards that some load of Redis asked for: more workers never ask for fewer.
    private var shards = 1
    /// How far up counts are tried.
    private static let most = 4096
    /// Of its time that Redis may be busy.
    private static let redisLimit = 0.7
    /// And others: a queue that is fuller swings for longer than a simulation lasts.
    private static let busyLimit = 0.9

    /// - Parameters:
    ///   - forecaster: of the plan.
    ///   - tell: told of each trial, for people.
    package init(_ forecaster: Forecaster, tell: @escaping (String) -> Void = { _ in }) {
        self.forecaster = forecaster
        self.tell = tell
        plan = forecaster.plan
        hours = plan.busiestHours
    }

    /// The cheapest counts that meet the targets, and their forecast.
    ///
    /// - Returns: the forecast in the hour that is the worst for them.
    /// - Throws: ``PlanError`` where no number of machines meets a target, with the reason.
    package mutating func cheapest() throws(PlanError) -> Forecast {
        guard !plan.targets.isEmpty else {
            throw PlanError(
                .wrongPlan, at: "targets", "there are none, so every number of machines would do",
                remedy: "give \"targets\" or --target interactive:p95=200, or --encoders and --decoders")
        }
        for target in plan.targets where (0..<24).allSatisfy({ plan.jobs(target.lane, hour: $0) == 0 }) {
            throw PlanError(
                .wrongPlan, at: "targets", "\(target.text): nothing comes into that lane",
                remedy: "give it \"pictures_per_day\" under \"load\", or take the target out")
        }
        try checkWorkAlone()
        try checkServiceAlone()
        let plenty = try plentiful()
        // Each role's least, the others being plenty.
        var corner = plenty
        for role in roles {
            corner[role] = least(role, in: plenty)
            tell("at least \(corner[role] * step(role.role)) \(name(role))")
        }
        return try cheapest(from: corner, to: plenty)
    }

    // MARK: Counts, in steps that cost something

    /// A role of a model.
    private struct Place: Hashable {
        let role: Plan.Role
        let model: Int
    }

    private struct Steps: Hashable {
        /// Encoders, then decoders, of each model in turn: machines of them, or workers where all share one.
        var values: [Int]

        subscript(_ place: Place) -> Int {
            get { values[2 * place.model + (place.role == .encoder ? 0 : 1)] }
            set { values[2 * place.model + (place.role == .encoder ? 0 : 1)] = newValue }
        }

        func isNoMore(than other: Steps) -> Bool { zip(values, other.values).allSatisfy { $0 <= $1 } }
    }

    private var roles: [Place] {
        plan.models.indices.flatMap { [Place(role: .encoder, model: $0), Place(role: .decoder, model: $0)] }
    }

    private func name(_ place: Place) -> String { "\(place.role.rawValue)s of \(plan.models[place.model].name)" }

    /// Workers of a step: what one machine holds costs the same.
    private func step(_ role: Plan.Role) -> Int { plan.isShared ? 1 : plan.each(role) }

    private func counts(_ steps: Steps) -> Counts {
        Counts(
            encoders: plan.models.indices.map { steps[Place(role: .encoder, model: $0)] * step(.encoder) },
            decoders: plan.models.indices.map { steps[Place(role: .decoder, model: $0)] * step(.decoder) },
            shards: 1, gateways: plan.gateways)
    }

    private func price(_ steps: Steps) -> Double {
        roles.reduce(0) { sum, place in
            // Of two that cost the same, the one with fewer workers.
            sum + Double(steps[place]) * ((plan.isShared ? 0 : plan.machine(place.role)?.pricePerHour ?? 0) + 1e-6)
        }
    }

    // MARK: Trials

    private mutating func trial(_ steps: Steps) -> Forecast {
        let base = counts(steps)
        if let known = tried[base] { return known }
        var worst: Forecast?
        for hour in hours {
            var counts = base
            counts.shards = shards
            var forecast = forecaster.forecast(counts, hour: hour)
            // Redis gets as many shards as it needs: a busy one costs waits before it costs throughput.
            for _ in 0..<8 where !plan.isShared {
                let busy = forecast.uses.first { $0.role == .redis }?.busy ?? 0
                let wanted = max(
                    Int((Double(counts.shards) * busy / Self.redisLimit).rounded(.up)),
                    plan.shardsForMemory(plan.needs(forecast)))
                guard wanted > counts.shards, counts.shards < plan.partitions else { break }
                counts.shards = min(plan.partitions, max(wanted, counts.shards + 1))
                shards = max(shards, counts.shards)
                forecast = forecaster.forecast(counts, hour: hour)
            }
            if let so = worst, badness(so) >= badness(forecast) { continue }
            worst = forecast
            if !isEnough(forecast) { break }
        }
        guard let worst else { preconditionFailure("a plan has a busiest hour") }
        tried[base] = worst
        let verdict =
            isEnough(worst)
            ? "holds" : worst.isOverloaded ? "falls behind" : worst.holds ? "is too busy" : "does not hold"
        let binding = worst.binding.map { ": \($0.target.text), \(Figure.milliseconds($0.wait.value))" } ?? ""
        tell("\(worst.counts.text(plan)) \(verdict)\(binding)")
        return worst
    }

    /// Whether a cluster of that size is good enough: it meets the targets, and no role is busy nearly all of its time.
    private func isEnough(_ forecast: Forecast) -> Bool {
        forecast.holds && forecast.uses.allSatisfy { max($0.busy, $0.cores) <= Self.busyLimit }
    }

    private func badness(_ forecast: Forecast) -> Double {
        if forecast.isOverloaded { return .infinity }
        return forecast.binding.map { $0.wait.upper / $0.target.milliseconds } ?? 0
    }

    /// What the work alone keeps busy, before anything is simulated: so many workers that it would take hours.
    private func checkWorkAlone() throws(PlanError) {
        if case .shared(let machine) = plan.machines {
            // At least: of a decoder's threads as many are busy as it has prompts.
            let cores = roles.reduce(0) { sum, place in
                sum + offered(place) * Double(place.role == .encoder ? plan.models[place.model].encoderThreads : 1)
            }
            guard cores > Double(machine.cores) else { return }
            throw PlanError(
                .impossible, at: "load",
                "\(Self.shortMachine(machine.cores)): it keeps \(PlanFields.shown(cores.rounded(.up))) busy",
                remedy: Self.moreMachines)
        }
        for place in roles {
            let machines = (offered(place) / Double(step(place.role))).rounded(.up)
            guard machines > Double(Self.most) else { continue }
            throw PlanError(
                .impossible, at: "load",
                "keeps more \(name(place)) busy than are simulated: \(PlanFields.shown(machines)) on as many machines of "
                    + "\(step(place.role)), and \(Self.most) are the most of a role",
                remedy: "share it out among several clusters (--load says what of it comes to each), or measure larger "
                    + "machines")
        }
    }

    private static func shortMachine(_ cores: Int) -> String {
        "one machine of \(cores) cores does not carry this load"
    }
    private static let moreMachines = "give roles machines of their own, more cores, or less load (--load)"

    /// A load that makes nobody wait for another: what is too slow then is so with any number of machines.
    private func checkServiceAlone() throws(PlanError) {
        // Of the load a tenth, and ten times what that keeps busy; of one machine's a hundredth.
        let quiet = plan.loaded(by: plan.isShared ? 0.01 : 0.1)
        let alone = Forecaster(quiet, seed: forecaster.seed, replications: 2, jobs: 1000)
        var steps = Steps(values: Array(repeating: 1, count: 2 * plan.models.count))
        for place in roles { steps[place] = 1 + Int((offered(place) / Double(step(place.role))).rounded(.up)) }
        var counts = counts(steps)
        counts.shards = plan.isShared ? 1 : min(plan.partitions, 8)
        for hour in hours {
            let forecast = alone.forecast(counts, hour: hour)
            for verdict in forecast.verdicts where verdict.wait.value > verdict.target.milliseconds {
                throw impossible(verdict, forecast)
            }
        }
    }

    private func impossible(_ verdict: Forecast.Verdict, _ forecast: Forecast) -> PlanError {
        let (target, lane) = (verdict.target, plan.lanes[verdict.target.lane.rawValue])
        let encode = plan.models.compactMap(\.figures.encode?.median).max() ?? 0
        let decode = plan.models.compactMap(\.figures.decode[1]?.median).max() ?? 0
        let new = forecast.lanes[target.lane.rawValue]?.new ?? 0
        var reason =
            "cannot be met by any number of machines: where nobody waits for another "
            + "p\(PlanFields.shown(target.percentile)) is \(Figure.milliseconds(verdict.wait.value)) already"
        var remedy = "raise it, measure faster machines, or take a smaller model"
        if target.jobs != .seen, new > 1 - target.percentile / 100, encode > target.milliseconds / 2 {
            reason +=
                " (one encode takes \(Figure.milliseconds(encode)), and \(Figure.percent(new)) of the jobs wait for one)"
            remedy =
                "raise it, have pictures encoded before the first click (\"warms\"), or ask it of \"pictures\": \"seen\""
        } else if decode > target.milliseconds / 2 {
            reason += " (one prompt takes \(Figure.milliseconds(decode)))"
        } else if lane?.kinds[JobKind.everything.rawValue] ?? 0 > 0 || lane?.kinds[JobKind.text.rawValue] ?? 0 > 0 {
            reason += " (everything mode is in it)"
        }
        return PlanError(.impossible, at: target.text, reason, remedy: remedy)
    }

    /// So many of everything that the targets hold.
    private mutating func plentiful() throws(PlanError) -> Steps {
        var steps = Steps(values: Array(repeating: 1, count: 2 * plan.models.count))
        for place in roles {
            steps[place] = max(1, Int((1.5 * offered(place) / Double(step(place.role))).rounded(.up)))
        }
        var last: Forecast?
        while steps.values.max() ?? 0 <= Self.most {
            let forecast = trial(steps)
            if isEnough(forecast) { return steps }
            // On one machine more workers share the same cores: beyond those there is nothing to gain.
            if plan.isShared, let last, badness(forecast) >= badness(last), steps.values.min() ?? 0 >= sharedCores {
                break
            }
            last = forecast
            steps.values = steps.values.map { $0 * 2 }
        }
        throw unreachable(last)
    }

    private var sharedCores: Int { if case .shared(let machine) = plan.machines { 2 * machine.cores } else { 0 } }

    private func unreachable(_ last: Forecast?) -> PlanError {
        let target = last?.binding?.target
        let bottleneck = last?.bottleneck
        let busy = bottleneck.map { max($0.busy, $0.cores) } ?? 0
        let what =
            plan.isShared
            ? Self.shortMachine(sharedCores / 2)
            : "is not met by \(last?.counts.text(plan) ?? "any number of workers")"
        let who = bottleneck.map { ": \($0.name) \(Figure.percent(busy)) busy" } ?? ""
        return PlanError(
            .impossible, at: target?.text ?? "targets", what + who,
            remedy: bottleneck?.role == .redis && !plan.isShared
                ? "give more \"partitions\", which shards share out, or fewer and larger workers"
                : Self.moreMachines)
    }

    /// Workers that the work alone keeps busy.
    private func offered(_ place: Place) -> Double {
        let model = plan.models[place.model]
        let served = ClusterModel(plan, counts(Steps(values: Array(repeating: 1, count: 2 * plan.models.count))))
            .served[place.model]
        return hours.map { hour in
            let rates = plan.rates(hour: hour)
            if place.role == .encoder {
                let time = served.encode.encode.mean + served.encode.readOfMegapixel * plan.meanMegapixels
                return rates.new * model.share * time / 1000 / Double(plan.encoderConcurrency)
            }
            return rates.jobs * model.share * served.decode.click.mean / 1000 / Double(served.decode.concurrency)
        }.max() ?? 1
    }

    /// The least of a role with which the targets hold while all others are plenty.
    private mutating func least(_ place: Place, in plenty: Steps) -> Int {
        var (low, high) = (0, plenty[place])
        while high - low > 1 {
            let middle = (low + high) / 2
            var steps = plenty
            steps[place] = middle
            if isEnough(trial(steps)) { high = middle } else { low = middle }
        }
        return high
    }

    /// The cheapest from the corner of each role's least up.
    private mutating func cheapest(from corner: Steps, to plenty: Steps) throws(PlanError) -> Forecast {
        var open: Set<Steps> = [corner]
        var seen: Set<Steps> = [corner]
        var failed: [Steps] = []
        while let steps = open.min(by: { price($0) < price($1) }) {
            open.remove(steps)
            if !failed.contains(where: { steps.isNoMore(than: $0) }) {
                let forecast = trial(steps)
                if isEnough(forecast) { return forecast }
                failed.append(steps)
            }
            // Simulations tell near ones hardly apart: beside the corner a few steps are enough.
            guard failed.count < 40 else { break }
            for place in roles where steps[place] < plenty[place] {
                var next = steps
                next[place] += max(1, steps[place] / 16)
                if seen.insert(next).inserted { open.insert(next) }
            }
        }
        return trial(plenty)
    }
}

extension Plan {
    /// Gateways that the load keeps busy for no more than half of their time; none where none was measured or has a machine.
    package var gateways: Int {
        guard case .own(_, _, _, let gateway?) = machines,
            let own = models.lazy.compactMap(\.figures.gateway).first
        else { return 0 }
        let jobs = (0..<24).map { rates(hour: $0).jobs }.max() ?? 0
        return max(1, Int((jobs * own.mean / 1000 / (0.5 * Double(gateway.cores))).rounded(.up)))
    }
}
