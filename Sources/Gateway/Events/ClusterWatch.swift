import Cluster
import Embeddings
import JSON
import Redis
import ServiceLifecycle
import Synchronization

/// One look at a cluster.
struct ClusterReading: Sendable {
    /// When it was taken.
    let at: ContinuousClock.Instant
    /// The queues, and what the functions counted.
    let statistics: QueueStatistics
    /// Who was heard of in the last minute.
    let workers: [(heartbeat: WorkerHeartbeat, age: Duration)]
    /// The embeddings in Redis; nil where Redis lets this user not ask.
    let cached: EmbeddingCacheStatistics?
    /// INFO's section on memory, a dictionary a primary; none where Redis lets this user not ask.
    let memory: [[String: String]]

    /// Asks Redis: a bounded reply for each partition, and five commands.
    init(_ broker: Broker, _ cache: RedisEmbeddingCache) async throws {
        async let statistics = broker.statistics()
        async let workers = WorkerRegistry(broker).workers()
        // A user of a role without +info sees the rest all the same.
        async let cached = try? cache.statistics()
        async let memory = try? broker.redis.info("memory")
        at = .now
        self.statistics = try await statistics
        self.workers = try await workers
        self.cached = await cached
        self.memory = await memory ?? []
    }
}

/// The figures as JSON: with those of tenants, for who may see everybody's, and without.
struct ClusterFigures: Sendable {
    fileprivate let all: [UInt8]
    fileprivate let common: [UInt8]

    /// What a caller may see.
    func bytes(for caller: Caller) -> [UInt8] { caller.seesAll ? all : common }
}

/// What `/v1/queues` answers: the queues, workers and cache in figures, with what happened in the last seconds.
///
/// It looks at Redis once a second while somebody listens, however many do.
final class ClusterWatch: Service, Sendable {
    private let broker: Broker
    private let cache: RedisEmbeddingCache
    private struct State {
        var readings: [ClusterReading] = []
        var listeners: [Int: AsyncStream<ClusterFigures>.Continuation] = [:]
        var next = 0
        var latest: (reading: ClusterReading, figures: ClusterFigures)?
    }
    /// Guards the readings and the listeners.
    private let state = Mutex(State())

    init(_ broker: Broker) {
        self.broker = broker
        cache = RedisEmbeddingCache(broker.redis, namespace: broker.keys.namespace)
    }

    /// Looks and tells until shutdown.
    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                let hasListeners = self.state.withLock { !$0.listeners.isEmpty }
                if hasListeners, let (_, figures) = try? await self.look() {
                    let listeners = self.state.withLock { $0.listeners.values.map(\.self) }
                    for listener in listeners { listener.yield(figures) }
                }
                try? await Task.sleep(for: .seconds(1))
            }
        }
        for listener in state.withLock({ $0.listeners.values.map(\.self) }) { listener.finish() }
    }

    /// The figures, a second old at most.
    func figures(of caller: Caller) async throws -> [UInt8] { try await latest().figures.bytes(for: caller) }

    /// The look that the figures are of, a second old at most.
    func reading() async throws -> ClusterReading { try await latest().reading }

    private func latest() async throws -> (reading: ClusterReading, figures: ClusterFigures) {
        if let latest = state.withLock({ $0.latest }), ContinuousClock.now - latest.reading.at < .seconds(1) {
            return latest
        }
        return try await look()
    }

    /// The figures, once a second.
    func listen() -> AsyncStream<ClusterFigures> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: ClusterFigures.self, bufferingPolicy: .bufferingNewest(1))
        let token = state.withLock { state in
            state.next += 1
            state.listeners[state.next] = continuation
            return state.next
        }
        continuation.onTermination = { [self] _ in state.withLock { _ = $0.listeners.removeValue(forKey: token) } }
        return stream
    }

    private func look() async throws -> (reading: ClusterReading, figures: ClusterFigures) {
        let reading = try await ClusterReading(broker, cache)
        let earlier = state.withLock { state in
            state.readings.removeAll { reading.at - $0.at > .seconds(11) }
            let earlier = state.readings.first
            if state.readings.last.map({ reading.at - $0.at > .milliseconds(500) }) ?? true {
                state.readings.append(reading)
            }
            return earlier
        }
        let common: [JSONValue.Member] = [
            ("streams", .array(Self.streams(reading.statistics))),
            ("dead", .integer(reading.statistics.total("dead_letters_kept"))),
            ("jobs", .object([("open", .integer(reading.statistics.unfinished))])),
            ("workers", .array(reading.workers.map { Self.worker($0.heartbeat, age: $0.age) })),
            ("cache", Self.cache(reading.cached ?? EmbeddingCacheStatistics(), memory: reading.memory)),
            ("rates", Self.rates(reading, since: earlier)),
            ("latency_ms", Self.latencies(reading, since: earlier)),
        ]
        let tenants = reading.statistics.tenants().map(Self.tenant)
        let figures = ClusterFigures(
            all: JSONValue.object(common + [("tenants", .array(tenants))]).bytes, common: JSONValue.object(common).bytes
        )
        state.withLock { $0.latest = (reading, figures) }
        return (reading, figures)
    }

    private static func streams(_ statistics: QueueStatistics) -> [JSONValue] {
        Lane.allCases.flatMap { lane in
            Stage.allCases.map { stage in
                let stream = statistics.stream(stage, lane)
                return .object([
                    ("role", .string(stage.rawValue)), ("lane", .string(lane.rawValue)),
                    ("waiting", .integer(stream.queued + stream.delayed)), ("parked", .integer(stream.parked)),
                    ("in_work", .integer(stream.inWork)),
                    ("oldest_ms", .integer(Int(stream.oldest / .milliseconds(1)))),
                ])
            }
        }
    }

    private static func tenant(_ tenant: TenantStatistics) -> JSONValue {
        .object([
            ("name", .string(tenant.name)), ("jobs", .integer(tenant.jobs)), ("bytes", .integer(tenant.bytes)),
            ("submitted", .integer(tenant.submitted)), ("ended", .integer(tenant.ended)),
            ("refused", .integer(tenant.refused)), ("encodes", .integer(tenant.encodes)),
        ])
    }

    /// A worker as `/v1/workers` tells of it.
    static func worker(_ heartbeat: WorkerHeartbeat, age: Duration) -> JSONValue {
        .object([
            ("name", .string(heartbeat.name)), ("role", .string(heartbeat.role.rawValue)),
            ("model", .string(heartbeat.modelName)), ("identifier", .string(heartbeat.model)),
            ("host", .string(heartbeat.host)),
            ("state", .string(WorkerState(heartbeat, age: age).rawValue)),
            ("threads", .integer(heartbeat.threads)), ("load", .integer(heartbeat.load)),
            ("capacity", .integer(heartbeat.capacity)), ("cached", .integer(heartbeat.cachedImages)),
            ("cached_bytes", .integer(heartbeat.cachedBytes)), ("completed", .integer(heartbeat.completed)),
            ("age_ms", .integer(Int(age / .milliseconds(1)))),
        ])
    }

    private static func cache(_ cached: EmbeddingCacheStatistics, memory: [[String: String]]) -> JSONValue {
        func sum(_ name: String) -> Int { memory.reduce(0) { $0 + ($1[name].flatMap { Int($0) } ?? 0) } }
        return .object([
            ("embeddings", .integer(cached.entries)), ("bytes", .integer(cached.bytes)),
            ("hits", .integer(cached.hits)), ("misses", .integer(cached.misses)),
            ("evictions", .integer(cached.evictions)), ("used_bytes", .integer(sum("used_memory"))),
            ("limit_bytes", .integer(sum("maxmemory"))),
        ])
    }

    private static func rates(_ reading: ClusterReading, since earlier: ClusterReading?) -> JSONValue {
        let lanes = Lane.allCases
        guard let earlier, reading.at - earlier.at > .milliseconds(200) else {
            let (into, out) = lanes.reduce((0.0, 0.0)) { sum, lane in
                let stream = reading.statistics.stream(.decode, lane)
                return (sum.0 + stream.rateIn, sum.1 + stream.rateOut)
            }
            return .object([("submitted", .number(into)), ("done", .number(out)), ("failed", 0), ("encodes", 0)])
        }
        let seconds = (reading.at - earlier.at) / .seconds(1)
        func rate(_ names: [String]) -> JSONValue {
            let change = names.reduce(0) { $0 + reading.statistics.total($1) - earlier.statistics.total($1) }
            return .number((Double(max(0, change)) / seconds * 100).rounded() / 100)
        }
        func each(_ name: String) -> [String] { lanes.map { "\(name):\($0.rawValue)" } }
        return .object([
            ("submitted", rate(each("in"))), ("done", rate(each("done"))),
            ("failed", rate(each("failed") + each("dead"))), ("encodes", rate(["encode_finished"])),
        ])
    }

    private static func latencies(_ reading: ClusterReading, since earlier: ClusterReading?) -> JSONValue {
        func quantiles(_ part: (StreamStatistics) -> DurationHistogram) -> JSONValue {
            var both: [DurationHistogram] = []
            for lane in Lane.allCases {
                let now = part(reading.statistics.stream(.decode, lane))
                both.append(earlier.map { now.since(part($0.statistics.stream(.decode, lane))) } ?? now)
            }
            let busiest = both.max { $0.total < $1.total } ?? DurationHistogram()
            return .object([
                ("p50", JSONValue(milliseconds: busiest.quantile(0.5))),
                ("p99", JSONValue(milliseconds: busiest.quantile(0.99))),
            ])
        }
        return .object([("wait", quantiles(\.wait)), ("service", quantiles(\.service))])
    }
}
