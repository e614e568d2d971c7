import Cluster
import Embeddings
import JSON
import Redis
import ServiceLifecycle
import Synchronization

/// What `/v1/queues` answers: the queues, workers and cache in figures, with what happened in the last seconds.
///
/// It looks at Redis once a second while somebody listens, however many do.
final class ClusterWatch: Service, Sendable {
    private struct Reading: Sendable {
        let at: ContinuousClock.Instant
        let statistics: QueueStatistics
    }

    private let broker: Broker
    private let cache: RedisEmbeddingCache
    private struct State {
        var readings: [Reading] = []
        var listeners: [Int: AsyncStream<[UInt8]>.Continuation] = [:]
        var next = 0
        var latest: (at: ContinuousClock.Instant, bytes: [UInt8])?
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
                if hasListeners, let bytes = try? await self.look() {
                    let listeners = self.state.withLock { $0.listeners.values.map(\.self) }
                    for listener in listeners { listener.yield(bytes) }
                }
                try? await Task.sleep(for: .seconds(1))
            }
        }
        for listener in state.withLock({ $0.listeners.values.map(\.self) }) { listener.finish() }
    }

    /// The figures, a second old at most.
    func figures() async throws -> [UInt8] {
        if let latest = state.withLock({ $0.latest }), ContinuousClock.now - latest.at < .seconds(1) {
            return latest.bytes
        }
        return try await look()
    }

    /// The figures, once a second.
    func listen() -> AsyncStream<[UInt8]> {
        let (stream, continuation) = AsyncStream.makeStream(of: [UInt8].self, bufferingPolicy: .bufferingNewest(1))
        let token = state.withLock { state in
            state.next += 1
            state.listeners[state.next] = continuation
            return state.next
        }
        continuation.onTermination = { [self] _ in state.withLock { _ = $0.listeners.removeValue(forKey: token) } }
        return stream
    }

    private func look() async throws -> [UInt8] {
        async let statistics = broker.statistics()
        async let workers = WorkerRegistry(broker).workers()
        async let cached = cache.statistics()
        async let server = broker.redis.info("memory")
        let reading = Reading(at: .now, statistics: try await statistics)
        let earlier = state.withLock { state in
            state.readings.removeAll { reading.at - $0.at > .seconds(11) }
            let earlier = state.readings.first
            if state.readings.last.map({ reading.at - $0.at > .milliseconds(500) }) ?? true {
                state.readings.append(reading)
            }
            return earlier
        }
        let memory = try await server
        let bytes = JSONValue.object([
            ("streams", .array(Self.streams(reading.statistics))),
            ("dead", .integer(reading.statistics.total("dead"))),
            ("jobs", .object([("open", .integer(reading.statistics.unfinished))])),
            ("workers", .array(try await workers.map { Self.worker($0.heartbeat, age: $0.age) })),
            ("cache", Self.cache(try await cached, memory: memory)),
            ("rates", Self.rates(reading, since: earlier)),
            ("latency_ms", Self.latencies(reading, since: earlier)),
        ]).bytes
        state.withLock { $0.latest = (.now, bytes) }
        return bytes
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

    /// A worker as `/v1/workers` tells of it.
    static func worker(_ heartbeat: WorkerHeartbeat, age: Duration) -> JSONValue {
        .object([
            ("name", .string(heartbeat.name)), ("role", .string(heartbeat.role.rawValue)),
            ("model", .string(heartbeat.modelName)), ("identifier", .string(heartbeat.model)),
            ("host", .string(heartbeat.host)),
            ("state", .string(age > WorkerRegistry.patience ? "silent" : heartbeat.draining ? "draining" : "ready")),
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

    private static func rates(_ reading: Reading, since earlier: Reading?) -> JSONValue {
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

    private static func latencies(_ reading: Reading, since earlier: Reading?) -> JSONValue {
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
