import Platform

/// Draws what comes: pictures by a Poisson process in each lane, and the jobs on each.
package struct WorkloadMaker {
    private let plan: Plan
    private let hour: Int
    private let decoders: Int
    private var random: SplitMix64
    private var pictures: [Picture] = []
    private var arrivals: [Arrival] = []
    /// Of each model those pictures whose embedding is there, the latest at the end.
    private var known: [[Int32]]

    /// - Parameters:
    ///   - plan: what comes, and what is kept.
    ///   - hour: of the day.
    ///   - decoders: of all models, whose memories are full when it begins.
    ///   - seed: the same arrivals for the same one.
    package init(_ plan: Plan, hour: Int, decoders: Int, seed: UInt64) {
        self.plan = plan
        self.hour = hour
        self.decoders = decoders
        random = SplitMix64(seed: seed ^ 0x5eed_0f_a11)
        known = Array(repeating: [], count: plan.models.count)
    }

    /// Arrivals from 0 on: waits are counted from `begin` to `end`, and more comes up to `last`.
    package mutating func make(begin: Double, end: Double, last: Double) -> Workload {
        // With numbers of their own: the same pictures come, whatever decoders held before.
        let before = random
        for model in plan.models.indices {
            let held = decoders * plan.cacheBytes / max(1, prepared(model))
            for _ in 0..<min(keeps(model), max(1, held), 50_000) {
                known[model].append(addPicture(model, hasEmbedding: true, isPrepared: true))
            }
        }
        random = before
        _ = random.next()
        for lane in PlanLane.allCases {
            guard let load = plan.lanes[lane.rawValue], load.rate(hour: hour) > 0 else { continue }
            let gap = 1000 / load.rate(hour: hour)
            // Those that came before and still have jobs to come.
            var time = -min(3_600_000, 5 * load.pause * (load.jobs.mean + (load.warms ? 1 : 0)))
            while true {
                time += random.exponential(mean: gap)
                if time >= last { break }
                addSession(lane, load, at: time, last: last)
            }
        }
        // Ties stay as they were drawn.
        let order = arrivals.indices.sorted {
            arrivals[$0].time != arrivals[$1].time ? arrivals[$0].time < arrivals[$1].time : $0 < $1
        }
        return Workload(pictures: pictures, arrivals: order.map { arrivals[$0] }, begin: begin, end: end)
    }

    private func prepared(_ model: Int) -> Int {
        plan.models[model].preparedBytes ?? ClusterModel.usualPreparedBytes * plan.models[model].embeddingValues
    }

    /// How many embeddings of a model Redis keeps.
    private func keeps(_ model: Int) -> Int { plan.keeps(model) }

    private mutating func addPicture(_ model: Int, hasEmbedding: Bool, isPrepared: Bool) -> Int32 {
        let kind = plan.pictures[pick(plan.pictures.map(\.share))]
        pictures.append(
            Picture(
                model: model, partition: Int(random.next() % UInt64(plan.partitions)), bytes: kind.bytes,
                megapixels: kind.megapixels, hasEmbedding: hasEmbedding, isPrepared: isPrepared))
        return Int32(pictures.count - 1)
    }

    private mutating func pick(_ shares: [Double]) -> Int {
        if shares.count == 1 { return 0 }
        var place = random.part() * shares.reduce(0, +)
        for (index, share) in shares.enumerated() {
            place -= share
            if place < 0 { return index }
        }
        return shares.count - 1
    }

    /// A picture and all jobs on it.
    private mutating func addSession(_ lane: PlanLane, _ load: Plan.Lane, at time: Double, last: Double) {
        let model = pick(plan.models.map(\.share))
        let (picture, isNew) = choose(model, load, isOver: time < 0)
        let count: Int
        switch load.jobs {
        case .exactly(let number): count = number
        case .around(let mean):
            var number = 1
            while random.part() < 1 - 1 / mean, number < 100_000 { number += 1 }
            count = number
        }
        var due = time
        var sends = isNew && time >= 0
        if load.warms {
            add(lane, load, picture, at: due, last: last, sends: &sends, isWarm: true)
            due += load.pause > 0 ? random.exponential(mean: load.pause) : 0
        }
        for number in 0..<count {
            if number > 0, load.pause > 0 { due += random.exponential(mean: load.pause) }
            add(lane, load, picture, at: due, last: last, sends: &sends, isWarm: false)
        }
    }

    private mutating func add(
        _ lane: PlanLane, _ load: Plan.Lane, _ picture: Int32, at time: Double, last: Double, sends: inout Bool,
        isWarm: Bool
    ) {
        let kind = JobKind(rawValue: pick(load.kinds)) ?? .points
        guard time >= 0, time < last else { return }
        arrivals.append(
            Arrival(
                time: time, picture: picture, lane: lane, kind: isWarm ? .points : kind, prompts: load.promptsOfJob,
                sendsPicture: sends, isWarm: isWarm))
        sends = false
    }

    /// A picture that nobody has seen, or one of the last.
    private mutating func choose(_ model: Int, _ load: Plan.Lane, isOver: Bool) -> (Int32, isNew: Bool) {
        if random.part() < load.new {
            let picture = addPicture(model, hasEmbedding: isOver, isPrepared: isOver)
            known[model].append(picture)
            return (picture, true)
        }
        let back = Int(random.exponential(mean: load.seenAmong))
        // What Redis does not keep any more is as good as new.
        if back >= keeps(model) {
            let picture = addPicture(model, hasEmbedding: isOver, isPrepared: isOver)
            known[model].append(picture)
            return (picture, true)
        }
        if back < known[model].count { return (known[model][known[model].count - 1 - back], false) }
        return (addPicture(model, hasEmbedding: true, isPrepared: false), false)
    }
}

extension Plan {
    /// New pictures a second of a model, over the day.
    func newPictures(_ model: Int) -> Double {
        lanes.compactMap(\.self).reduce(0) { $0 + $1.picturesPerDay * $1.new } / 86_400 * models[model].share
    }

    /// How many embeddings of a model Redis keeps: as long as their time to live, as far as there is memory.
    package func keeps(_ model: Int) -> Int {
        let byTime = max(1, newPictures(model) * timeToLive)
        let bytes = Double(embeddingBytes ?? Int.max) * models[model].share
        return Int(max(0, min(byTime, bytes / Double(models[model].recordBytes(self)), 1e9)))
    }

    /// What comes in a second of an hour: pictures, of which new, and jobs.
    package func rates(hour: Int) -> (pictures: Double, new: Double, jobs: Double) {
        lanes.compactMap(\.self).reduce((0, 0, 0)) { sum, lane in
            let rate = lane.rate(hour: hour)
            return (sum.0 + rate, sum.1 + rate * lane.new, sum.2 + rate * lane.jobs.mean)
        }
    }

    /// Jobs a second of a lane.
    package func jobs(_ lane: PlanLane, hour: Int) -> Double {
        lanes[lane.rawValue].map { $0.rate(hour: hour) * $0.jobs.mean } ?? 0
    }
}
