public import Cluster
public import Logging
import Redis
public import ServiceLifecycle
import Synchronization

/// An encoder or decoder worker as a service: works, sends heartbeats, drains when it is told to, and leaves.
///
/// ```swift
/// let encoder = WorkerService(source, broker: broker, settings: settings, heartbeat: heartbeat, logger: logger)
/// try await ServiceGroup(services: [encoder], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger).run()
/// ```
public struct WorkerService<Source: WorkSource>: Service {
    private let loop: WorkLoop<Source>
    private let registry: WorkerRegistry
    private let demand: @Sendable () async throws -> Int
    private let heartbeat: WorkerHeartbeat
    private let report: @Sendable (inout WorkerHeartbeat) async -> Void
    private let logger: Logger
    private let pulse = Pulse()

    /// A worker.
    ///
    /// - Parameters:
    ///   - source: the kind of work, and what does it.
    ///   - broker: the cluster that the work is taken from.
    ///   - settings: those of its ``WorkLoop``.
    ///   - heartbeat: what is said of the worker, load and counts aside.
    ///   - logger: told what went wrong and was gone on from, among others.
    ///   - report: sets what only the role knows, before each heartbeat.
    public init(
        _ source: Source, broker: Broker, settings: WorkLoopSettings, heartbeat: WorkerHeartbeat, logger: Logger,
        report: @escaping @Sendable (inout WorkerHeartbeat) async -> Void = { _ in }
    ) {
        let registry = WorkerRegistry(broker)
        let (role, model, pulse) = (heartbeat.role, source.model, pulse)
        self.registry = registry
        demand = { [stage = source.stage, models = source.models] in try await broker.demand(stage, models: models) }
        self.heartbeat = heartbeat
        self.report = report
        self.logger = logger
        loop = WorkLoop(
            source, broker: broker, settings: settings,
            members: { try await registry.members(role, model: model) },
            onError: { error in
                WorkerMetrics.failed()
                pulse.complain(error, to: logger)
            })
    }

    /// Whether the worker's heart beats, and whether it takes work.
    public var health: (isDraining: Bool, sinceHeartbeat: Duration?) { pulse.health }

    /// Whether the loop of heartbeats goes round, Redis or no Redis: each call to Redis ends within its patience.
    public var isAlive: Bool { pulse.sinceTurn < .seconds(180) }

    /// Works until graceful shutdown; returns when everything that was held is done or handed back.
    public func run() async throws {
        WorkerMetrics.begin(heartbeat.role)
        logger.info(
            "ready", metadata: ["worker": "\(heartbeat.name)", "model": "\(heartbeat.model)"])
        await withGracefulShutdownHandler {
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await self.beat() }
                await loop.run()
                group.cancelAll()
            }
        } onGracefulShutdown: {
            logger.info("draining", metadata: ["load": "\(loop.load)"])
            pulse.drain()
            loop.drain()
        }
        do { try await registry.leave(heartbeat.name) } catch {
            logger.warning("could not take my name off", metadata: ["error": "\(error)"])
        }
        logger.info("left")
    }

    /// Every two seconds, and at once when a drain begins, so that others take over its partitions.
    private func beat() async {
        while !Task.isCancelled {
            pulse.turned()
            var heartbeat = heartbeat
            heartbeat.load = loop.load
            heartbeat.completed = loop.completed
            heartbeat.draining = pulse.health.isDraining
            await report(&heartbeat)
            do {
                try await registry.beat(heartbeat)
                pulse.confirmed()
            } catch {
                pulse.complain(error, to: logger)
            }
            // For autoscalers; an older library in Redis has no such function.
            if let demand = try? await demand() {
                WorkerMetrics.demand(demand, role: heartbeat.role.rawValue, model: heartbeat.model)
            }
            WorkerMetrics.set("kirie_load", Double(heartbeat.load))
            WorkerMetrics.set("kirie_capacity", Double(heartbeat.capacity))
            if heartbeat.role == .decoder {
                WorkerMetrics.set("kirie_owned_partitions", Double(loop.ownedPartitions.count))
                WorkerMetrics.set("kirie_cached_images", Double(heartbeat.cachedImages))
                WorkerMetrics.set("kirie_cached_bytes", Double(heartbeat.cachedBytes))
            }
            await pulse.pause(.seconds(2))
        }
    }
}

/// Logs what a worker waits out with work in its hands, the same fault at most once in five seconds.
public final class WaitLog: Sendable {
    private let logger: Logger
    private let pulse = Pulse()

    /// A log of no fault yet.
    public init(_ logger: Logger) { self.logger = logger }

    /// Takes a fault that will pass; see ``WorkerMetrics``.
    public var note: @Sendable (any Error) -> Void {
        { [self] error in
            WorkerMetrics.waited()
            pulse.complain(error, to: logger, as: "waiting with work in hand")
        }
    }
}

/// When the loop of heartbeats last went round and was confirmed, and whether the worker drains.
private final class Pulse: Sendable {
    private struct State: Sendable {
        var isDraining = false
        var turned = ContinuousClock.now
        var confirmed: ContinuousClock.Instant?
        var complaint = ""
        var complained: ContinuousClock.Instant?
        var pause: Task<Void, Never>?
        /// Whether a heartbeat began after the drain did.
        var announcedDrain = false
    }

    /// Guards what the heartbeat, the drain and the monitor share.
    private let state = Mutex(State())

    var health: (isDraining: Bool, sinceHeartbeat: Duration?) {
        state.withLock { ($0.isDraining, $0.confirmed.map { ContinuousClock.now - $0 }) }
    }

    var sinceTurn: Duration { state.withLock { ContinuousClock.now - $0.turned } }

    func turned() { state.withLock { $0.turned = ContinuousClock.now } }

    func confirmed() { state.withLock { $0.confirmed = ContinuousClock.now } }

    func drain() {
        let pause = state.withLock { state in
            state.isDraining = true
            return state.pause
        }
        pause?.cancel()
    }

    /// Returns after a while, or earlier when a drain begins or the task is cancelled.
    func pause(_ time: Duration) async {
        let pause = Task { _ = try? await Task.sleep(for: time) }
        let isNews = state.withLock { state in
            state.pause = pause
            defer { state.announcedDrain = state.isDraining }
            return state.isDraining && !state.announcedDrain
        }
        if isNews { pause.cancel() }
        await withTaskCancellationHandler {
            await pause.value
        } onCancel: {
            pause.cancel()
        }
    }

    /// Logs a fault, the same one at most once in five seconds: while Redis is away every part of the worker has it.
    func complain(_ error: any Error, to logger: Logger, as message: Logger.Message = "went on after a fault") {
        let text = "\(error)"
        let isNew = state.withLock { state in
            let now = ContinuousClock.now
            if state.complaint == text, let last = state.complained, now - last < .seconds(5) { return false }
            state.complaint = text
            state.complained = now
            return true
        }
        if isNew { logger.warning(message, metadata: ["error": "\(text)"]) }
    }
}
