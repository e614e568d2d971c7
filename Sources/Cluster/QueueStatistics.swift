/// How long things took: counts in quarter octaves of microseconds, as the functions keep them.
public struct DurationHistogram: Sendable, Hashable {
    /// Bucket b counts the durations t with 2^(b/4) <= t < 2^((b+1)/4) microseconds; bucket 0 those below too.
    public private(set) var counts: [Int: Int] = [:]

    /// An empty histogram.
    public init() {}

    /// How many durations were counted.
    public var total: Int { counts.values.reduce(0, +) }

    mutating func add(_ count: Int, to bucket: Int) { counts[bucket, default: 0] += count }

    /// The duration below which a part of all lies, to a fifth of its value; nil where nothing was counted.
    ///
    /// The part is from 0 to 1, 0.5 for the median.
    public func quantile(_ part: Double) -> Duration? {
        let total = total
        guard total > 0 else { return nil }
        var left = max(1, Int((part * Double(total)).rounded(.up)))
        for (bucket, count) in counts.sorted(by: { $0.key < $1.key }) {
            left -= count
            if left <= 0 { return Self.middle(of: bucket) }
        }
        return nil
    }

    /// How many durations are shorter than 2 to the power of `octave`, in microseconds: at a power of two buckets meet.
    public func count(below octave: Int) -> Int {
        counts.reduce(0) { $0 + ($1.key < 4 * octave ? $1.value : 0) }
    }

    /// All durations together, each taken for the middle of its bucket: right to a tenth.
    public var sum: Duration { counts.reduce(.zero) { $0 + Self.middle(of: $1.key) * $1.value } }

    /// What was counted here and not yet in an earlier reading.
    public func since(_ earlier: DurationHistogram) -> DurationHistogram {
        var difference = DurationHistogram()
        for (bucket, count) in counts {
            let new = count - (earlier.counts[bucket] ?? 0)
            if new > 0 { difference.add(new, to: bucket) }
        }
        return difference
    }

    /// The geometric middle of a bucket.
    private static func middle(of bucket: Int) -> Duration {
        let steps = [1.0905, 1.2968, 1.5422, 1.8340]  // 2^(1/8 + k/4)
        let octave = bucket / 4
        guard bucket >= 0, octave < 50 else { return .seconds(1 << 30) }
        return .nanoseconds(Int64(Double(1 << octave) * steps[bucket % 4] * 1000))
    }
}

/// One stream's work, in figures.
public struct StreamStatistics: Sendable, Hashable {
    /// What kind of work.
    public var stage: Stage
    /// Whose.
    public var lane: Lane
    /// Jobs parked until their embedding is there; they are counted at the encode stream.
    public var parked = 0
    /// Waiting in the stream: jobs at the decode stream, pictures at the encode stream.
    public var queued = 0
    /// In a pause before the next attempt.
    public var delayed = 0
    /// Under a lease.
    public var inWork = 0
    /// What the streams' groups have not been given yet, summed, without what was set aside for other models' workers; nil where an older
    /// library cannot say.
    public var lag: Int? = 0
    /// Batches that the groups were given and that are not acknowledged.
    public var pending = 0
    /// How long the head of the stream waits; zero where nothing does.
    public var oldest: Duration = .zero
    /// Jobs submitted to the lane a second, over the last minute.
    public var rateIn = 0.0
    /// Jobs of the lane that ended a second, over the last minute.
    public var rateOut = 0.0
    /// From submit to the first take of the job, or of the encode.
    public var wait = DurationHistogram()
    /// From the take to the end.
    public var service = DurationHistogram()
}

/// One tenant in figures.
public struct TenantStatistics: Sendable, Hashable {
    /// What those are called together that are not named; no tenant can be called so.
    public static let others = "(others)"

    /// Whose.
    public let name: String
    /// Unfinished jobs.
    public private(set) var jobs = 0
    /// Bytes of job lines, of pictures that jobs need, and of what is kept of ended jobs.
    public private(set) var bytes = 0
    /// Jobs submitted, as long as the tenant has anything here.
    public private(set) var submitted = 0
    /// Jobs that ended.
    public private(set) var ended = 0
    /// Jobs for which there was no room.
    public private(set) var refused = 0
    /// Pictures whose encodes were begun for it.
    public private(set) var encodes = 0

    init(name: String) { self.name = name }

    var isEmpty: Bool { self == TenantStatistics(name: name) }

    mutating func add(_ number: Int, to field: String) {
        switch field {
        case "jobs": jobs += number
        case "bytes": bytes += number
        case "in": submitted += number
        case "out": ended += number
        case "refused": refused += number
        case "encodes": encodes += number
        default: break
        }
    }

    func amount(of field: String) -> Int {
        switch field {
        case "jobs": jobs
        case "bytes": bytes
        case "in": submitted
        case "out": ended
        case "refused": refused
        case "encodes": encodes
        default: 0
        }
    }
}

/// The whole cluster in figures, from a reply of bounded size a partition.
public struct QueueStatistics: Sendable, Hashable {
    /// Encode and decode, interactive and bulk.
    public private(set) var streams: [StreamStatistics]
    /// Totals since the beginning, such as `done:bulk`, `joins`, `evictions`, `encode_finished` (`Protocol.md`,
    /// `kirie_stats`).
    public private(set) var totals: [String: Int] = [:]
    /// How long the oldest encode that was asked for has been waited for.
    public private(set) var oldestParked: Duration = .zero
    /// What the workers of a stage and model have to do, models without any left out; see ``Broker/demand(_:model:)``.
    public private(set) var demand: [Stage: [String: Int]] = [:]

    /// What tenants have, without the default one: those that stand out in some partition.
    private var standing: [String: TenantStatistics] = [:]

    /// Sums up the replies of the partitions.
    package init(partitions: [[String: String]]) {
        streams = Stage.allCases.flatMap { stage in Lane.allCases.map { StreamStatistics(stage: stage, lane: $0) } }
        for fields in partitions {
            for (name, text) in fields { read(name, text) }
        }
    }

    /// One stream's figures.
    public func stream(_ stage: Stage, _ lane: Lane) -> StreamStatistics {
        streams.first { $0.stage == stage && $0.lane == lane } ?? StreamStatistics(stage: stage, lane: lane)
    }

    /// A total, 0 where nothing was counted.
    public func total(_ name: String) -> Int { totals[name] ?? 0 }

    /// The jobs that have not ended.
    public var unfinished: Int {
        Lane.allCases.reduce(0) { sum, lane in
            let decode = stream(.decode, lane)
            return sum + stream(.encode, lane).parked + decode.queued + decode.delayed + decode.inWork
        }
    }

    /// The tenants that have most, the rest of them as one, and the default tenant; empty where there is only that one.
    ///
    /// Each partition names its 16 busiest and its 16 largest, so that of a tenant's figures those are missing of partitions
    /// where it is neither; they are among the rest's.
    ///
    /// - Parameter limit: how many are named.
    /// - Returns: by unfinished jobs, then by bytes; then ``TenantStatistics/others``, and the default tenant last.
    public func tenants(limit: Int = 20) -> [TenantStatistics] {
        guard total("tenants") > 0 else { return [] }
        func sum(_ name: String) -> Int { Lane.allCases.reduce(0) { $0 + total("\(name):\($1.rawValue)") } }
        let named = standing.values.sorted { ($0.jobs, $0.bytes, $1.name) > ($1.jobs, $1.bytes, $0.name) }.prefix(limit)
        var rest = TenantStatistics(name: TenantStatistics.others)
        var standard = TenantStatistics(name: Tenant.standard.name)
        let whole = [
            "jobs": unfinished + sum("divided"), "bytes": sum("bytes") + total("image_bytes") + total("result_bytes"),
            "in": sum("in"), "out": sum("out"), "refused": sum("refused"), "encodes": total("encode_started"),
        ]
        for (field, amount) in whole {
            let tenants = total("tenants_\(field)")
            rest.add(max(0, named.reduce(tenants) { $0 - $1.amount(of: field) }), to: field)
            standard.add(max(0, amount - tenants), to: field)
        }
        return Array(named) + (rest.isEmpty ? [] : [rest]) + [standard]
    }

    private mutating func read(_ name: String, _ text: String) {
        let words = name.split(separator: ":").map(String.init)
        let number = Int(text) ?? 0
        switch (words.first ?? "", words.count) {
        case ("hist", 4):
            guard let lane = Lane(rawValue: words[2]), let bucket = Int(words[3]) else { return }
            switch words[1] {
            case "wait": change(.decode, lane) { $0.wait.add(number, to: bucket) }
            case "service": change(.decode, lane) { $0.service.add(number, to: bucket) }
            case "encode_wait": change(.encode, lane) { $0.wait.add(number, to: bucket) }
            case "encode_service": change(.encode, lane) { $0.service.add(number, to: bucket) }
            default: break
            }
        case ("tenant", 3): standing[words[2], default: TenantStatistics(name: words[2])].add(number, to: words[1])
        case ("demand", 3...):
            guard let stage = Stage(rawValue: words[1]) else { return }
            demand[stage, default: [:]][words[2...].joined(separator: ":"), default: 0] += number
        case ("lag", 3):
            change(words) { stream in stream.lag = stream.lag.flatMap { sum in Int(text).map { sum + $0 } } }
        case ("pending", 3): change(words) { $0.pending += number }
        case ("age_ms", 3): change(words) { $0.oldest = max($0.oldest, .milliseconds(number)) }
        case ("age_ms", 2): oldestParked = max(oldestParked, .milliseconds(number))
        case (_, 2):
            guard let lane = Lane(rawValue: words[1]) else { return }
            readGauge(words[0], lane, number, text)
            if !words[0].hasPrefix("rate_") { totals[name, default: 0] += number }
        case (_, 1): totals[name, default: 0] += number
        default: break
        }
    }

    private mutating func readGauge(_ gauge: String, _ lane: Lane, _ number: Int, _ text: String) {
        switch gauge {
        case "parked": change(.encode, lane) { $0.parked += number }
        case "encode_queued": change(.encode, lane) { $0.queued += number }
        case "encode_delayed": change(.encode, lane) { $0.delayed += number }
        case "encode_in_work": change(.encode, lane) { $0.inWork += number }
        case "queued": change(.decode, lane) { $0.queued += number }
        case "delayed": change(.decode, lane) { $0.delayed += number }
        case "in_work": change(.decode, lane) { $0.inWork += number }
        case "rate_in": change(.decode, lane) { $0.rateIn += Double(text) ?? 0 }
        case "rate_out": change(.decode, lane) { $0.rateOut += Double(text) ?? 0 }
        default: break
        }
    }

    private mutating func change(_ words: [String], _ body: (inout StreamStatistics) -> Void) {
        guard let stage = Stage(rawValue: words[1]), let lane = Lane(rawValue: words[2]) else { return }
        change(stage, lane, body)
    }

    private mutating func change(_ stage: Stage, _ lane: Lane, _ body: (inout StreamStatistics) -> Void) {
        for index in streams.indices where streams[index].stage == stage && streams[index].lane == lane {
            body(&streams[index])
        }
    }
}
