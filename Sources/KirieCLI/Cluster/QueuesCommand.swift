import ArgumentParser
import Cluster
import JSON
import Redis
import Synchronization
import Terminals

struct QueuesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "queues",
        abstract: "Watch the queues: what waits, what is in work, how fast it goes.",
        discussion: """
            kirie queues --watch
            kirie queues --json | jq .unfinished

            PARKED jobs wait for the embedding of their picture. At the encode streams pictures are counted, at the
            decode streams jobs: QUEUED, PAUSED before another attempt, ACTIVE under a worker's lease. LAG is what the streams' consumer
            groups were not given yet. OLDEST is how long the head of a stream has waited. DEMAND is what the workers of a
            stage and model have to do, waiting or in work: scale by it. WAIT is from submit to the first take, SERVICE from the take to the end: half of
            all took no longer than p50, 99 of 100 no longer than p99; since the beginning, with --watch since the last
            look. Rates are jobs a second over the last minute, with --watch since the last look. Looking costs Redis one
            call a partition, however many jobs there are, and writes nothing; with --partitions it first sets up a cluster
            where there is none, which takes an operator's rights.
            """)

    @OptionGroup var options: WatchOptions
    @OptionGroup var redis: RedisOptions
    @OptionGroup var partitions: PartitionOption

    func run() async throws {
        if let count = partitions.count { try await redis.setUp(partitions: count) }
        let broker = try await redis.watcher(patience: options.watch ? .seconds(1) : nil)
        let memory = Mutex<QueueReading?>(nil)
        let isWatching = options.watch
        let view = LiveView(
            title: "kirie queues  \(broker.redis.url)", interval: options.watch ? options.interval : nil,
            isJSON: options.json)
        try await view.run {
            let reading = QueueReading(statistics: try await broker.statistics(), at: .now)
            let earlier = memory.withLock { memory in
                defer { memory = reading }
                return isWatching ? memory : nil
            }
            let report = QueueReport(reading, since: earlier, partitions: broker.partitionCount)
            return LiveFrame(lines: report.lines, json: report.json)
        }
    }
}

/// The queues at some moment.
struct QueueReading: Sendable {
    let statistics: QueueStatistics
    let at: ContinuousClock.Instant
}

/// What is said of the queues: since the beginning, or between two readings.
struct QueueReport {
    /// One stream and its rates.
    private struct Row {
        let stream: StreamStatistics
        let wait: DurationHistogram
        let service: DurationHistogram
        let rateIn: Double?
        let rateOut: Double?
    }

    private let statistics: QueueStatistics
    private let partitions: Int
    private let rows: [Row]

    /// What happened between two readings, or since the beginning where there is no earlier one.
    init(_ reading: QueueReading, since earlier: QueueReading?, partitions: Int) {
        statistics = reading.statistics
        self.partitions = partitions
        rows = Lane.allCases.flatMap { lane in
            Stage.allCases.map { stage in
                let now = reading.statistics.stream(stage, lane)
                guard let earlier else {
                    // Redis keeps samples of the jobs alone; encodes a second take two readings.
                    return Row(
                        stream: now, wait: now.wait, service: now.service, rateIn: stage == .decode ? now.rateIn : nil,
                        rateOut: stage == .decode ? now.rateOut : nil)
                }
                let before = earlier.statistics.stream(stage, lane)
                let seconds = max(0.001, (reading.at - earlier.at) / .seconds(1))
                let (wait, service) = (now.wait.since(before.wait), now.service.since(before.service))
                func rate(_ total: String) -> Double {
                    let name = "\(total):\(lane.rawValue)"
                    let change = reading.statistics.total(name) - earlier.statistics.total(name)
                    return Double(max(0, change)) / seconds
                }
                guard stage == .decode else {
                    // What came in is what went out and what the stream grew by.
                    let out = Double(service.total) / seconds
                    let held = now.queued + now.delayed + now.inWork - before.queued - before.delayed - before.inWork
                    return Row(
                        stream: now, wait: wait, service: service, rateIn: max(0, out + Double(held) / seconds),
                        rateOut: out)
                }
                return Row(stream: now, wait: wait, service: service, rateIn: rate("in"), rateOut: rate("out"))
            }
        }
    }

    var lines: [TintedLine] {
        streamTable + [TintedLine()] + timeTable + [TintedLine()] + demandTable + tenantTable + totals
    }

    /// What each stage and model have to do; empty where nobody has to do anything.
    private var demands: [(stage: Stage, model: String, amount: Int)] {
        Stage.allCases.flatMap { stage in
            (statistics.demand[stage] ?? [:]).sorted { $0.key < $1.key }.map { (stage, $0.key, $0.value) }
        }
    }

    private var demandTable: [TintedLine] {
        if demands.isEmpty { return [] }
        var table = TextTable([("STAGE", .left, 6), ("MODEL", .left, 11), ("DEMAND", .right, 6)])
        for (stage, model, amount) in demands {
            table.add([TextTable.Cell(stage.rawValue), TextTable.Cell(model), .count(amount)])
        }
        return table.lines + [TintedLine()]
    }

    /// Who has most, where tenants share the cluster.
    private var tenantTable: [TintedLine] {
        let tenants = statistics.tenants(limit: 8)
        if tenants.isEmpty { return [] }
        var table = TextTable([
            ("TENANT", .left, 11), ("JOBS", .right, 6), ("BYTES", .right, 8), ("IN", .right, 6), ("OUT", .right, 6),
            ("ENCODES", .right, 7), ("REFUSED", .right, 7),
        ])
        for tenant in tenants {
            table.add([
                TextTable.Cell(tenant.name), .count(tenant.jobs), TextTable.Cell(Figures.bytes(tenant.bytes)),
                .count(tenant.submitted), .count(tenant.ended), .count(tenant.encodes),
                .count(tenant.refused, .warning),
            ])
        }
        return table.lines + [TintedLine()]
    }

    private var streamTable: [TintedLine] {
        var table = TextTable([
            ("LANE", .left, 11), ("STAGE", .left, 6), ("PARKED", .right, 6), ("QUEUED", .right, 6),
            ("PAUSED", .right, 6), ("ACTIVE", .right, 6), ("LAG", .right, 6), ("OLDEST", .right, 6),
            ("IN/s", .right, 4), ("OUT/s", .right, 5),
        ])
        for (index, row) in rows.enumerated() {
            let stream = row.stream
            table.add([
                laneCell(index), TextTable.Cell(stream.stage.rawValue),
                stream.stage == .encode ? .count(stream.parked) : TextTable.Cell(Figures.nothing, .quiet),
                .count(stream.queued), .count(stream.delayed, .warning), .count(stream.inWork, .good),
                .count(stream.lag),
                stream.oldest == .zero
                    ? TextTable.Cell(Figures.nothing, .quiet) : TextTable.Cell(Figures.duration(stream.oldest)),
                rateCell(row.rateIn), rateCell(row.rateOut),
            ])
        }
        return table.lines
    }

    private var timeTable: [TintedLine] {
        var table = TextTable([
            ("LANE", .left, 11), ("STAGE", .left, 6), ("WAIT p50", .right, 8), ("p95", .right, 6), ("p99", .right, 6),
            ("SERVICE p50", .right, 11), ("p95", .right, 6), ("p99", .right, 6),
        ])
        for (index, row) in rows.enumerated() {
            table.add(
                [laneCell(index), TextTable.Cell(row.stream.stage.rawValue)]
                    + [row.wait, row.service].flatMap { histogram in
                        Self.parts.map { .duration(histogram.quantile($0.part)) }
                    })
        }
        return table.lines
    }

    private func laneCell(_ index: Int) -> TextTable.Cell {
        TextTable.Cell(index % Stage.allCases.count == 0 ? rows[index].stream.lane.rawValue : "")
    }

    private func rateCell(_ rate: Double?) -> TextTable.Cell {
        TextTable.Cell(Figures.rate(rate), rate.map { $0 > 0 } ?? false ? .plain : .quiet)
    }

    private static let parts: [(name: String, part: Double)] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]

    // MARK: Totals

    /// A total over both lanes.
    private func lanes(_ name: String) -> Int {
        Lane.allCases.reduce(0) { $0 + statistics.total("\(name):\($1.rawValue)") }
    }

    private var hitRate: Double? {
        let (hits, fetches) = (statistics.total("hits"), statistics.total("fetches"))
        return hits + fetches == 0 ? nil : Double(hits) / Double(hits + fetches)
    }

    private var totals: [TintedLine] {
        let jobs: [(String, String, Tint)] = [
            amount("unfinished", statistics.unfinished), amount("done", lanes("done"), .good),
            amount("failed", lanes("failed"), .bad), amount("dead", lanes("dead"), .bad),
            amount("cancelled", lanes("cancelled")), amount("expired", lanes("expired"), .warning),
            amount("refused", lanes("refused"), .warning),
        ]
        let encodes: [(String, String, Tint)] = [
            amount("open", statistics.total("encodes_in_flight")),
            amount("done", statistics.total("encode_finished"), .good), amount("shared", statistics.total("joins")),
            amount("retried", statistics.total("encode_retries"), .warning),
            amount("failed", statistics.total("encode_failed") + statistics.total("encode_dead"), .bad),
            (
                "longest open",
                Figures.duration(statistics.oldestParked == .zero ? nil : statistics.oldestParked), .plain
            ),
        ]
        let troubles: [(String, String, Tint)] = [
            amount("retries", statistics.total("retries"), .warning),
            amount("leases run out", statistics.total("reclaimed") + statistics.total("encode_reclaimed"), .warning),
            amount("evicted", statistics.total("evictions"), .warning),
            amount("corrupt", statistics.total("corrupt"), .bad),
            amount("malformed", statistics.total("malformed"), .bad),
            amount("dead letters", statistics.total("dead_letters_kept"), .bad),
        ]
        let memory: [(String, String, Tint)] = [
            ("images", Figures.bytes(statistics.total("image_bytes")), .plain),
            ("results", Figures.bytes(statistics.total("result_bytes")), .plain),
            ("job lines", Figures.bytes(lanes("bytes")), .plain),
            ("decoder hits", Figures.percent(hitRate), .plain),
        ]
        return sentence("jobs", jobs) + sentence("encodes", encodes) + sentence("troubles", troubles)
            + sentence("memory", memory)
    }

    private func amount(_ name: String, _ number: Int, _ tint: Tint = .plain) -> (String, String, Tint) {
        (name, Figures.count(number), number == 0 ? .quiet : tint)
    }

    /// `jobs      unfinished 12 · done 1,234 · …`, on as many lines as 80 columns take.
    private func sentence(_ title: String, _ parts: [(String, String, Tint)]) -> [TintedLine] {
        var lines = [TintedLine(title + String(repeating: " ", count: max(1, 10 - title.count)), .heading)]
        var isFirst = true
        for (name, text, tint) in parts {
            if !isFirst, lines[lines.count - 1].width + name.count + text.count + 4 > 80 {
                lines.append(TintedLine(String(repeating: " ", count: 10)))
                isFirst = true
            }
            if !isFirst { lines[lines.count - 1].add(" · ", .quiet) }
            isFirst = false
            lines[lines.count - 1].add("\(name) ", .quiet)
            lines[lines.count - 1].add(text, tint)
        }
        return lines
    }

    // MARK: JSON

    var json: JSONValue {
        .object([
            ("partitions", .integer(partitions)), ("unfinished", .integer(statistics.unfinished)),
            ("oldest_open_encode_ms", JSONValue(milliseconds: statistics.oldestParked)),
            ("streams", .array(rows.map(Self.json))),
            (
                "demand",
                .array(
                    demands.map {
                        .object([
                            ("stage", .string($0.stage.rawValue)), ("model", .string($0.model)),
                            ("waiting_or_in_work", .integer($0.amount)),
                        ])
                    })
            ),
            (
                "tenants",
                .array(statistics.tenants().map { .object([("tenant", .string($0.name))] + $0.members) })
            ),
            ("totals", .object(statistics.totals.sorted { $0.key < $1.key }.map { ($0.key, .integer($0.value)) })),
        ])
    }

    private static func json(_ row: Row) -> JSONValue {
        .object([
            ("stage", .string(row.stream.stage.rawValue)), ("lane", .string(row.stream.lane.rawValue)),
            ("parked", .integer(row.stream.parked)), ("queued", .integer(row.stream.queued)),
            ("delayed", .integer(row.stream.delayed)), ("in_work", .integer(row.stream.inWork)),
            ("lag", JSONValue(row.stream.lag)), ("pending", .integer(row.stream.pending)),
            ("oldest_ms", JSONValue(milliseconds: row.stream.oldest)),
            ("rate_in", rate(row.rateIn)), ("rate_out", rate(row.rateOut)), ("wait_ms", json(row.wait)),
            ("service_ms", json(row.service)),
        ])
    }

    private static func rate(_ rate: Double?) -> JSONValue {
        rate.map { .number(($0 * 1000).rounded() / 1000) } ?? .null
    }

    private static func json(_ histogram: DurationHistogram) -> JSONValue {
        .object(
            [("count", .integer(histogram.total))]
                + parts.map { ($0.name, JSONValue(milliseconds: histogram.quantile($0.part))) })
    }
}
