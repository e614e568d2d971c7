/// What a simulation saw in its counted time, in milliseconds.
package struct SimulationOutcome: Sendable {
    /// A lane's waits, from the submit to the answer.
    package struct Waits: Sendable {
        /// Of jobs whose embedding was there, and of those that waited for an encode.
        package var seen: [Double] = []
        package var new: [Double] = []

        package var all: [Double] { seen + new }
    }

    package let begin: Double
    package let end: Double
    package internal(set) var waits = [Waits(), Waits()]
    /// The same by Redis's clock, from one call to the other: what a real cluster keeps of its jobs.
    package internal(set) var byRedis: [[Double]] = [[], []]
    package internal(set) var prompts = 0
    /// Between the begin of the counted time and the end of the simulation: of what the counts below are.
    package internal(set) var lasted = 0.0
    /// Counted jobs that had no answer when the simulation was left.
    package internal(set) var unfinished = 0
    package internal(set) var isOverloaded = false
    /// Jobs in the cluster at a time, on average, in the counted time: what Little's law speaks of.
    package var inSystem: Double { area / max(1e-9, end - begin) }
    /// Answers that came in the counted time.
    package internal(set) var answers = 0
    package internal(set) var encodes = 0
    package internal(set) var fetches = 0
    package internal(set) var takes = 0
    package internal(set) var batched = 0
    package internal(set) var idleLooks = 0
    package internal(set) var kills = 0
    /// Bytes to Redis and from it.
    package internal(set) var bytesIn = 0
    package internal(set) var bytesOut = 0
    /// The share of its time that each Redis has a call in hand.
    package internal(set) var redisUse: [Double] = []
    /// The share of the shared machine's cores, and of each role's machines by model.
    package internal(set) var sharedUse = 0.0
    package internal(set) var gatewayUse = 0.0
    package internal(set) var machineUse: [(encode: Double, decode: Double)] = []
    /// The share of their time that encoders' slots and decoders' lanes work, by model.
    package internal(set) var busy: [(encode: Double, decode: Double)] = []
    /// The most that a decoder of each model had in memory.
    package internal(set) var cached: [Int] = []

    var usedBefore: [Double] = []
    private var area = 0.0
    private var since: [Int: Double] = [:]

    init(begin: Double, end: Double, models: Int) {
        self.begin = begin
        self.end = end
        busy = Array(repeating: (0, 0), count: models)
    }

    /// The counted time begins: what was counted before is void.
    mutating func beginCounting() {
        (encodes, fetches, takes, batched, idleLooks, bytesIn, bytesOut) = (0, 0, 0, 0, 0, 0, 0)
    }

    mutating func add(wait: Double, lane: PlanLane, isNew: Bool, prompts: Int) {
        self.prompts += prompts
        if isNew { waits[lane.rawValue].new.append(wait) } else { waits[lane.rawValue].seen.append(wait) }
    }

    mutating func stay(from: Double, to: Double) { area += max(0, min(to, end) - max(from, begin)) }

    mutating func ended(at time: Double) { if time >= begin, time < end { answers += 1 } }

    mutating func network(_ bytes: Int, toRedis: Bool) {
        if toRedis { bytesIn += bytes } else { bytesOut += bytes }
    }

    /// A slot begins to work, and ends; what was before the counted time is left out.
    mutating func enter(_ model: Int, _ stage: PartitionQueues.Stage, _ now: Double, _ worker: Int, _ slot: Int) {
        since[worker << 10 | slot] = now
    }

    mutating func leave(_ model: Int, _ stage: PartitionQueues.Stage, _ now: Double, _ worker: Int, _ slot: Int) {
        guard let start = since.removeValue(forKey: worker << 10 | slot) else { return }
        let time = max(0, now - max(start, begin))
        if stage == .encode { busy[model].encode += time } else { busy[model].decode += time }
    }
}

/// The value below which a part of all lies, by the nearest rank; of none, zero.
package func quantile(_ values: [Double], _ part: Double) -> Double {
    guard !values.isEmpty else { return 0 }
    let sorted = values.sorted()
    return sorted[min(sorted.count - 1, Int(part * Double(sorted.count)))]
}
