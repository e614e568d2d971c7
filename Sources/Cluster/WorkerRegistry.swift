import FoundationEssentials
public import Redis
public import Segmentation
import Synchronization

/// What a worker says of itself with each heartbeat.
public struct WorkerHeartbeat: Sendable, Hashable, Codable {
    /// What it is.
    public enum Role: String, Sendable, Hashable, Codable, CaseIterable {
        /// Pictures to embeddings.
        case encoder
        /// Prompts to masks.
        case decoder
        /// The HTTP server.
        case gateway
    }

    /// Unique in the cluster: 1 to 128 of `A-Z a-z 0-9 . _ : @ / + -`.
    public var name: String
    /// What it is.
    public var role: Role
    /// The machine.
    public var host: String
    /// The process.
    public var processIdentifier: Int
    /// The model that it serves: of an encoder with its arithmetic, of a decoder the family.
    public var model: String
    /// The identifiers under which it takes work; earlier releases do not say it and take ``model`` alone.
    public var serves: [String]?
    /// How the model is called by people.
    public var modelName: String
    /// Threads that compute.
    public var threads: Int
    /// Pieces of work that it holds now, and at most.
    public var load: Int
    /// How many it can hold.
    public var capacity: Int
    /// Embeddings in its memory.
    public var cachedImages: Int
    /// Their bytes.
    public var cachedBytes: Int
    /// Pieces of work since its start.
    public var completed: Int
    /// Whether it takes no more work and will leave.
    public var draining: Bool
    /// When it was sent: microseconds since 1970 by Redis's clock; set by the registry.
    public var at: Int

    /// A heartbeat of a worker that has just started.
    public init(
        name: String, role: Role, host: String, processIdentifier: Int, model: ModelIdentifier,
        modelName: String = ""
    ) {
        self.name = name
        self.role = role
        self.host = host
        self.processIdentifier = processIdentifier
        self.model = model.text
        self.modelName = modelName
        threads = 1
        load = 0
        capacity = 1
        cachedImages = 0
        cachedBytes = 0
        completed = 0
        draining = false
        at = 0
    }
}

/// Who is there: the hash of heartbeats, and that of the models that workers serve.
///
/// Ages are taken by Redis's clock alone, so clocks of machines need not agree. To look writes nothing: what workers that
/// went without a word left behind is removed by those who send heartbeats.
public struct WorkerRegistry: Sendable {
    /// After which a worker counts as gone: it sends a heartbeat every two seconds.
    public static let patience: Duration = .seconds(8)
    /// After which what it left is removed.
    static let memory: Duration = .seconds(60)

    private let redis: RedisClient
    private let keys: ClusterKeys
    private let partitionCount: Int
    private let now: @Sendable () async throws(RedisError) -> Int
    private let sweep = Sweep()

    /// The registry of a cluster.
    public init(_ broker: Broker) {
        let redis = broker.redis
        self.init(broker) { () async throws(RedisError) -> Int in try await redis.time() }
    }

    /// A registry whose ages are taken by another clock than Redis's own, in microseconds since 1970.
    public init(_ broker: Broker, now: @escaping @Sendable () async throws(RedisError) -> Int) {
        redis = broker.redis
        keys = broker.keys
        partitionCount = broker.partitionCount
        self.now = now
    }

    /// Writes a heartbeat, and now and then removes those that are long gone.
    ///
    /// Where nobody serves the usual model any more this one becomes it, and so an encoder's arithmetic that of its weights.
    public func beat(_ heartbeat: WorkerHeartbeat) async throws(ClusterError) {
        var heartbeat = heartbeat
        do { heartbeat.at = try await now() } catch { throw ClusterError(error) }
        guard let model = ModelIdentifier(heartbeat.model) else { return }
        // Earlier releases read the usual model as it stands, and know families alone.
        let family = model.family
        // A heartbeat is numbers and names; there is nothing in it that JSON cannot say.
        guard let json = try? JSONEncoder().encode(heartbeat) else { return }
        let replies: [RedisValue]
        do {
            // The arithmetic of the first encoder stands before the encoder is seen: whoever sees it names its embeddings right.
            let arithmetic = RedisCommand(
                "HSETNX", .string(keys.models), .string(family.text), .string(model.text), repetition: .safe)
            let isFirstWord = heartbeat.role == .encoder && model != family && !heartbeat.draining
            replies = try await redis.pipeline(
                (isFirstWord ? [arithmetic] : []) + [
                    // A Redis that started empty: whoever joins or sets up there must find the partitions that workers have.
                    RedisCommand(
                        "HSETNX", .string(keys.cluster), "partitions", .integer(partitionCount), repetition: .safe),
                    RedisCommand("HSETNX", .string(keys.models), "default", .string(family.text), repetition: .safe),
                    RedisCommand(
                        "HSET", .string(keys.workers), .string(heartbeat.name), .array(Array(json)), repetition: .safe),
                    RedisCommand("HGET", .string(keys.models), "default"),
                ])
        } catch {
            throw ClusterError(error)
        }
        if let refusal = replies.lazy.compactMap(\.error).first {
            throw ClusterError(.server(refusal, command: "HSET"))
        }
        if sweep.isDue(heartbeat.at) { try await forgetThoseLongGone() }
        guard !heartbeat.draining else { return }
        if heartbeat.role == .encoder, model != family { try await announce(model, of: family) }
        guard let usual = replies.last?.string.flatMap({ ModelIdentifier($0) })?.family, usual != family else { return }
        let isServed = try await living().contains { $0.family == usual }
        if !isServed { try await setDefaultModel(family) }
    }

    /// Makes an encoder's arithmetic that of its weights, where there is none or nobody computes so any more.
    private func announce(_ model: ModelIdentifier, of family: ModelIdentifier) async throws(ClusterError) {
        let usual = try await field(family.text)
        guard usual != model else { return }
        if let usual, try await living().contains(where: { $0.role == .encoder && $0.model == usual.text }) { return }
        do { try await redis.setFields(keys.models, [(family.text, .string(model.text))]) } catch {
            throw ClusterError(error)
        }
    }

    /// Takes a worker's name off.
    public func leave(_ name: String) async throws(ClusterError) {
        do {
            _ = try await redis.send(RedisCommand("HDEL", .string(keys.workers), .string(name), repetition: .safe))
        } catch {
            throw ClusterError(error)
        }
    }

    /// Every worker that was heard of lately, with the age of its last heartbeat.
    public func workers() async throws(ClusterError) -> [(heartbeat: WorkerHeartbeat, age: Duration)] {
        try await look().known
    }

    private func forgetThoseLongGone() async throws(ClusterError) {
        let names = try await look().longGone
        guard !names.isEmpty else { return }
        do {
            _ = try await redis.send(
                RedisCommand("HDEL", [.string(keys.workers)] + names.map { .string($0) }, repetition: .safe))
        } catch { throw ClusterError(error) }
    }

    private func look() async throws(ClusterError) -> (
        known: [(heartbeat: WorkerHeartbeat, age: Duration)], longGone: [String]
    ) {
        do {
            let now = try await now()
            var known: [(heartbeat: WorkerHeartbeat, age: Duration)] = []
            var longGone: [String] = []
            for (name, value) in try await redis.fields(keys.workers) {
                let decoded = value.bytes.flatMap {
                    try? JSONDecoder().decode(WorkerHeartbeat.self, from: Data($0.array))
                }
                // One of the future was sent before the clock was set back: who is alive sends another soon.
                let age = decoded.map { Duration.microseconds(abs(now - $0.at)) }
                if let decoded, let age, age < Self.memory {
                    known.append((decoded, age))
                } else {
                    longGone.append(name)
                }
            }
            known.sort {
                ($0.heartbeat.role.rawValue, $0.heartbeat.name) < ($1.heartbeat.role.rawValue, $1.heartbeat.name)
            }
            return (known, longGone)
        } catch {
            throw ClusterError(error)
        }
    }

    /// The names of the workers of a role and model that are alive and stay: those among whom partitions are shared.
    public func members(_ role: WorkerHeartbeat.Role, model: ModelIdentifier) async throws(ClusterError) -> [String] {
        try await workers().filter { worker in
            worker.age < Self.patience && worker.heartbeat.role == role && worker.heartbeat.model == model.text
                && !worker.heartbeat.draining
        }.map(\.heartbeat.name)
    }

    /// What jobs go under where no model is named; nil where no worker was ever there.
    public func defaultModel() async throws(ClusterError) -> ModelIdentifier? {
        guard let usual = try await field("default") else { return nil }
        return try await identifier(of: usual)
    }

    /// What jobs go under where weights are named and no arithmetic: the one that their encoders announced.
    ///
    /// It stays for as long as an encoder computes so, and when none is there any more, so that what is cached is found.
    /// While only decoders of an earlier release serve the weights it is the family, which is all that they take. An
    /// identifier that says the arithmetic is its own answer.
    public func identifier(of model: ModelIdentifier) async throws(ClusterError) -> ModelIdentifier {
        guard model.arithmetic == nil, let usual = try await field(model.text) else { return model }
        let decoders = try await living().filter { $0.role == .decoder && $0.family == model }
        return decoders.isEmpty || decoders.contains { $0.serves?.contains(usual.text) ?? false } ? usual : model
    }

    private func living() async throws(ClusterError) -> [WorkerHeartbeat] {
        try await workers().filter { $0.age < Self.patience }.map(\.heartbeat)
    }

    private func field(_ name: String) async throws(ClusterError) -> ModelIdentifier? {
        do { return try await redis.fields(keys.models, [name])[0].flatMap { ModelIdentifier($0.string) } } catch {
            throw ClusterError(error)
        }
    }

    /// Makes a model the one that is meant where none is named.
    public func setDefaultModel(_ model: ModelIdentifier) async throws(ClusterError) {
        do { try await redis.setFields(keys.models, [("default", .string(model.text))]) } catch {
            throw ClusterError(error)
        }
    }
}

extension WorkerHeartbeat {
    /// The model without the arithmetic.
    public var family: ModelIdentifier? { ModelIdentifier(model)?.family }
}

/// When those long gone were last looked for: at the first heartbeat, and as often as there can be new ones.
private final class Sweep: Sendable {
    private let last = Atomic(Int.min)

    /// Whether it is time again; who is told so does it.
    func isDue(_ now: Int) -> Bool {
        let before = last.load(ordering: .relaxed)
        let pause = Int(WorkerRegistry.memory / .microseconds(1))
        // A clock that went back makes the last time one of the future.
        guard before == .min || abs(now - before) >= pause else { return false }
        return last.compareExchange(expected: before, desired: now, ordering: .relaxed).exchanged
    }
}
