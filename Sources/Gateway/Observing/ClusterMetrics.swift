import Cluster
import Embeddings
import Telemetry

/// What a gateway tells Prometheus of the whole cluster, from one look at Redis.
///
/// Queues, lanes, dead letters and the cache are of no worker's own: the Redis functions count them, and any gateway can
/// tell. Several gateways tell the same, so dashboards take the greatest (`max without (instance)`) and not the sum. The
/// counters are those in Redis: they go on where they were when a gateway starts anew, and a name that nothing was counted
/// under is 0 from the beginning.
struct ClusterMetrics: Sendable {
    /// So long a scrape waits for Redis; Prometheus itself gives up after 10 s, and what the gateway counts is told anyhow.
    static let patience: Duration = .seconds(4)

    private let watch: ClusterWatch

    init(_ watch: ClusterWatch) { self.watch = watch }

    /// The metrics; where Redis does not answer in time `kirie_redis_up` is 0 and there are no others.
    func collect(for caller: Caller = .local) async -> [CollectedMetric] {
        let watch = watch
        // A client that waits for its server to come back would hold the scrape: the first of the two is taken.
        let (answers, continuation) = AsyncStream.makeStream(
            of: ClusterReading?.self, bufferingPolicy: .bufferingOldest(1))
        let look = Task { continuation.yield(try? await watch.reading()) }
        let clock = Task {
            try? await Task.sleep(for: Self.patience)
            continuation.yield(nil)
        }
        defer {
            look.cancel()
            clock.cancel()
        }
        let reading = await answers.first { _ in true } ?? nil
        let up = CollectedMetric(
            .gauge, "kirie_redis_up", "Whether Redis answered this scrape: 1, or 0.", value: reading == nil ? 0 : 1)
        let tenants = caller.seesAll ? reading.map { Self.tenants($0.statistics) } ?? [] : []
        return [up] + (reading.map(Self.metrics) ?? []) + tenants
    }

    /// All that a reading tells.
    static func metrics(of reading: ClusterReading) -> [CollectedMetric] {
        queues(reading.statistics) + [demand(reading)] + times(reading.statistics) + jobs(reading.statistics)
            + encodes(reading.statistics) + workers(reading.workers) + memory(reading)
    }

    // MARK: Tenants

    /// The tenants that have most, the rest as one: a label has no more values however many tenants there are.
    private static func tenants(_ statistics: QueueStatistics) -> [CollectedMetric] {
        var jobs = CollectedMetric(
            .gauge, "kirie_tenant_jobs", "Unfinished jobs of the tenants that have most, and of the others together.")
        var bytes = CollectedMetric(
            .gauge, "kirie_tenant_bytes", "Bytes of a tenant's job lines, pictures that its jobs need, and ended jobs.")
        for tenant in statistics.tenants() {
            jobs.add(Double(tenant.jobs), labels: [("tenant", tenant.name)])
            bytes.add(Double(tenant.bytes), labels: [("tenant", tenant.name)])
        }
        return [jobs, bytes]
    }

    // MARK: Queues

    private static func queues(_ statistics: QueueStatistics) -> [CollectedMetric] {
        var waiting = CollectedMetric(
            .gauge, "kirie_queue_jobs",
            "What is in the queues, by state: at stage decode jobs, at stage encode pictures.")
        var parked = CollectedMetric(.gauge, "kirie_queue_parked_jobs", "Jobs that wait for their picture's embedding.")
        var oldest = CollectedMetric(
            .gauge, "kirie_queue_oldest_seconds", "How long the head of a queue has been waiting; 0 where none waits.")
        for stream in statistics.streams {
            let labels = [("stage", stream.stage.rawValue), ("lane", stream.lane.rawValue)]
            for (state, count) in [
                ("queued", stream.queued), ("delayed", stream.delayed), ("in_work", stream.inWork),
            ] {
                waiting.add(Double(count), labels: labels + [("state", state)])
            }
            if stream.stage == .encode {
                parked.add(Double(stream.parked), labels: [("lane", stream.lane.rawValue)])
            }
            oldest.add(stream.oldest / .seconds(1), labels: labels)
        }
        return [
            waiting, parked, oldest,
            CollectedMetric(
                .gauge, "kirie_queue_oldest_encode_seconds",
                "How long the oldest embedding that was asked for has been waited for, its encode included.",
                value: statistics.oldestParked / .seconds(1)),
            CollectedMetric(
                .gauge, "kirie_jobs_unfinished", "Jobs that were accepted and have not ended.",
                value: Double(statistics.unfinished)),
            CollectedMetric(
                .gauge, "kirie_dead_letters", "Dead letters that are kept.",
                value: Double(statistics.total("dead_letters_kept"))),
        ]
    }

    /// What is to be done, by stage and model; 0 for what somebody serves and nobody asks for, so that scaling by it can end.
    private static func demand(_ reading: ClusterReading) -> CollectedMetric {
        var demand = reading.statistics.demand
        for (heartbeat, _) in reading.workers {
            let stage: Stage? =
                switch heartbeat.role {
                case .encoder: .encode
                case .decoder: .decode
                case .gateway: nil
                }
            guard let stage else { continue }
            for model in heartbeat.serves ?? [heartbeat.model] { demand[stage, default: [:]][model, default: 0] += 0 }
        }
        var metric = CollectedMetric(
            .gauge, "kirie_queue_demand",
            "What the workers of a stage and model have to do: what waits and what is in work; to scale by.")
        for stage in Stage.allCases {
            for (model, amount) in (demand[stage] ?? [:]).sorted(by: { $0.key < $1.key }) {
                metric.add(Double(amount), labels: [("stage", stage.rawValue), ("model", model)])
            }
        }
        return metric
    }

    /// The octaves of microseconds that bound the buckets: 256 µs to 72 minutes.
    private static let octaves = 8...32

    private static func times(_ statistics: QueueStatistics) -> [CollectedMetric] {
        var wait = CollectedMetric(
            .histogram, "kirie_queue_wait_seconds",
            "From the submit of a job, or the request for an encode, to its first take.")
        var service = CollectedMetric(
            .histogram, "kirie_queue_service_seconds", "From the take of a job, or of an encode, to its end.")
        for stream in statistics.streams {
            let labels = [("stage", stream.stage.rawValue), ("lane", stream.lane.rawValue)]
            func add(_ histogram: DurationHistogram, to metric: inout CollectedMetric) {
                metric.add(
                    upTo: octaves.map { (Double(1 << $0) / 1e6, histogram.count(below: $0)) },
                    total: histogram.total, sum: histogram.sum / .seconds(1), labels: labels)
            }
            add(stream.wait, to: &wait)
            add(stream.service, to: &service)
        }
        return [wait, service]
    }

    // MARK: Totals

    private static func jobs(_ statistics: QueueStatistics) -> [CollectedMetric] {
        func byLane(_ name: String, _ help: String, _ total: String) -> CollectedMetric {
            var metric = CollectedMetric(.counter, name, help)
            for lane in Lane.allCases {
                metric.add(Double(statistics.total("\(total):\(lane.rawValue)")), labels: [("lane", lane.rawValue)])
            }
            return metric
        }
        var ended = CollectedMetric(.counter, "kirie_jobs_ended_total", "Jobs that ended, by state.")
        for lane in Lane.allCases {
            for state in JobState.allCases where state.isTerminal {
                ended.add(
                    Double(statistics.total("\(state.rawValue):\(lane.rawValue)")),
                    labels: [("lane", lane.rawValue), ("state", state.rawValue)])
            }
        }
        return [
            byLane("kirie_jobs_submitted_total", "Jobs that were accepted.", "in"),
            byLane("kirie_jobs_refused_total", "Jobs that were refused because the cluster was full.", "refused"),
            ended,
            counter(
                statistics, "kirie_jobs_repeated_total", "Submits of a job that was there already.", "duplicates"),
            counter(
                statistics, "kirie_dead_letters_written_total",
                "Dead letters written: jobs given up, and stream entries that are none.", "dead_letters"),
            byStage(
                statistics, "kirie_retries_total", "Attempts that failed and will be made again, by stage.", "retries"),
            byStage(
                statistics, "kirie_leases_expired_total",
                "Leases that ran out, so that others took the work over, by stage.", "reclaimed"),
        ]
    }

    private static func encodes(_ statistics: QueueStatistics) -> [CollectedMetric] {
        var ended = CollectedMetric(.counter, "kirie_encodes_ended_total", "Encodes that ended, by state.")
        for (state, total) in [
            ("done", "encode_finished"), ("failed", "encode_failed"), ("dead", "encode_dead"),
            ("unwanted", "encode_unwanted"), ("late", "encode_late"),
        ] {
            ended.add(Double(statistics.total(total)), labels: [("state", state)])
        }
        return [
            ended,
            counter(statistics, "kirie_encodes_requested_total", "Embeddings that had to be computed.", "encodes"),
            counter(
                statistics, "kirie_encodes_shared_total", "Jobs that waited for an encode that was asked for already.",
                "joins"),
            counter(
                statistics, "kirie_embeddings_lost_total",
                "Embeddings that were evicted before the jobs that were queued for them came, and encoded again.",
                "evictions"),
            counter(
                statistics, "kirie_embeddings_corrupt_total", "Embeddings that were damaged, and encoded again.",
                "corrupt"),
            counter(
                statistics, "kirie_decoders_hits_total", "Jobs whose embedding was in their decoder's memory.", "hits"),
            counter(
                statistics, "kirie_decoders_fetches_total", "Jobs whose embedding their decoder fetched from Redis.",
                "fetches"),
        ]
    }

    private static func counter(
        _ statistics: QueueStatistics, _ name: String, _ help: String, _ total: String
    ) -> CollectedMetric {
        CollectedMetric(.counter, name, help, value: Double(statistics.total(total)))
    }

    private static func byStage(
        _ statistics: QueueStatistics, _ name: String, _ help: String, _ total: String
    ) -> CollectedMetric {
        var metric = CollectedMetric(.counter, name, help)
        metric.add(Double(statistics.total("encode_\(total)")), labels: [("stage", Stage.encode.rawValue)])
        metric.add(Double(statistics.total(total)), labels: [("stage", Stage.decode.rawValue)])
        return metric
    }

    // MARK: Workers

    private static func workers(_ workers: [(heartbeat: WorkerHeartbeat, age: Duration)]) -> [CollectedMetric] {
        var count = CollectedMetric(
            .gauge, "kirie_workers", "Workers, by role and state: ready, draining, or silent for some seconds.")
        var load = CollectedMetric(.gauge, "kirie_workers_load", "Pieces of work in the hands of a role's workers.")
        var capacity = CollectedMetric(
            .gauge, "kirie_workers_capacity", "Pieces of work that a role's workers can hold.")
        var age = CollectedMetric(
            .gauge, "kirie_workers_heartbeat_age_seconds", "The age of the oldest heartbeat of a role's workers.")
        for role in [WorkerHeartbeat.Role.encoder, .decoder] {
            let labels = [("role", role.rawValue)]
            let ours = workers.filter { $0.heartbeat.role == role }
            for state in WorkerState.allCases {
                let number = ours.filter { WorkerState($0.heartbeat, age: $0.age) == state }.count
                count.add(Double(number), labels: labels + [("state", state.rawValue)])
            }
            let alive = ours.filter { $0.age <= WorkerRegistry.patience }
            load.add(Double(alive.reduce(0) { $0 + $1.heartbeat.load }), labels: labels)
            capacity.add(Double(alive.reduce(0) { $0 + $1.heartbeat.capacity }), labels: labels)
            age.add((ours.map(\.age).max() ?? .zero) / .seconds(1), labels: labels)
        }
        return [count, load, capacity, age]
    }

    // MARK: Memory

    private static func memory(_ reading: ClusterReading) -> [CollectedMetric] {
        let statistics = reading.statistics
        var stored = CollectedMetric(
            .gauge, "kirie_stored_bytes", "What Redis holds for the jobs and cannot evict, by kind.")
        for (kind, bytes) in [
            ("images", statistics.total("image_bytes")), ("results", statistics.total("result_bytes")),
            ("dead_letters", statistics.total("dead_bytes")),
            ("job_lines", Lane.allCases.reduce(0) { $0 + statistics.total("bytes:\($1.rawValue)") }),
        ] {
            stored.add(Double(bytes), labels: [("kind", kind)])
        }
        let dropped = statistics.total("room_made")
        return [stored] + (reading.cached.map { cache($0, dropped: dropped) } ?? []) + redis(reading.memory)
    }

    private static func cache(_ cached: EmbeddingCacheStatistics, dropped: Int) -> [CollectedMetric] {
        [
            CollectedMetric(
                .gauge, "kirie_cache_embeddings",
                "Keys in Redis that may go: embeddings, and pictures that no job needs.", value: Double(cached.entries)),
            CollectedMetric(
                .gauge, "kirie_cache_bytes", "Their bytes, by the mean size of an embedding.",
                value: Double(cached.bytes)),
            CollectedMetric(
                .counter, "kirie_cache_hits_total", "Embeddings that were asked of Redis and were there.",
                value: Double(cached.hits)),
            CollectedMetric(
                .counter, "kirie_cache_misses_total", "Embeddings that were asked of Redis and were not there.",
                value: Double(cached.misses)),
            CollectedMetric(
                .counter, "kirie_cache_stores_total", "Embeddings that were stored in Redis.",
                value: Double(cached.stores)),
            CollectedMetric(
                .counter, "kirie_cache_evictions_total", "Keys that Redis evicted because its memory was short.",
                value: Double(cached.evictions)),
            CollectedMetric(
                .counter, "kirie_cache_dropped_total",
                "Pictures and embeddings that Kirie itself dropped, from a full Redis that evicts nothing.",
                value: Double(dropped)),
            CollectedMetric(
                .counter, "kirie_cache_expirations_total", "Keys that Redis removed because their time was over.",
                value: Double(cached.expirations)),
        ]
    }

    /// The primaries together, and how full the fullest is: that one evicts first.
    private static func redis(_ primaries: [[String: String]]) -> [CollectedMetric] {
        guard !primaries.isEmpty else { return [] }
        func numbers(_ name: String) -> [Double] { primaries.map { $0[name].flatMap { Double($0) } ?? 0 } }
        let (used, limits) = (numbers("used_memory"), numbers("maxmemory"))
        var metrics = [
            CollectedMetric(
                .gauge, "kirie_redis_memory_bytes", "Memory that Redis uses, of all primaries.",
                value: used.reduce(0, +)),
            CollectedMetric(
                .gauge, "kirie_redis_memory_limit_bytes", "Redis's maxmemory, of all primaries; 0 where there is none.",
                value: limits.reduce(0, +)),
        ]
        if let fullest = zip(used, limits).filter({ $0.1 > 0 }).map({ $0.0 / $0.1 }).max() {
            metrics.append(
                CollectedMetric(
                    .gauge, "kirie_redis_memory_used_ratio", "How much of its maxmemory the fullest primary uses.",
                    value: fullest))
        }
        return metrics
    }
}

/// How a worker looks to others.
enum WorkerState: String, CaseIterable {
    /// It takes work.
    case ready
    /// It takes no more and will leave.
    case draining
    /// It was not heard of for longer than a heartbeat may take.
    case silent

    init(_ heartbeat: WorkerHeartbeat, age: Duration) {
        self = age > WorkerRegistry.patience ? .silent : heartbeat.draining ? .draining : .ready
    }
}
