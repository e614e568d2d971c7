public import Redis
public import Segmentation

/// One kind of work: how it is taken, and how it is done.
public protocol WorkSource: Sendable {
    /// What a take brings.
    associatedtype Work: Sendable
    /// Which streams it comes from.
    var stage: Stage { get }
    /// The name that leases and consumers show.
    var worker: String { get }
    /// What is served, as heartbeats announce it.
    var model: ModelIdentifier { get }
    /// The identifiers under which work is taken, ``model`` among them.
    var models: [ModelIdentifier] { get }
    /// What it knows of tenants' turns; nil for a source that looks after none.
    var turns: TurnLedger? { get }

    /// Takes work. Runs on a thread of the slot's own, as ``perform(_:)`` does.
    func take(in partition: Partition, lease: Duration, age: Duration) async throws(ClusterError) -> Taken<Work>
    /// Takes work that is to pass what is being done: that of tenants which take less than their share.
    func takeAhead(in partition: Partition, lease: Duration) async throws(ClusterError) -> Taken<Work>
    /// Whether what is taken ahead passes this.
    func isPassed(_ work: Work) -> Bool
    /// The leases under which work is held.
    func leases(of work: Work) -> [LeaseName]
    /// Does the work and tells the cluster what became of it. Its task is cancelled when no lease is left.
    ///
    /// Each slot of a ``WorkLoop`` has a thread of its own and runs this there, outside Swift's cooperative pool: it may
    /// compute as long as it likes.
    func perform(_ work: Work) async throws
}

extension WorkSource {
    /// Nothing.
    public var turns: TurnLedger? { nil }

    /// Nothing passes.
    public func takeAhead(in partition: Partition, lease: Duration) async throws(ClusterError) -> Taken<Work> { .idle }

    /// Nothing is passed.
    public func isPassed(_ work: Work) -> Bool { false }
}

/// What became of a picture.
public enum EncodeOutcome: Sendable {
    /// The embedding's record, and after what time it goes unless memory was short before.
    case embedding(RedisBytes, expiry: Duration)
    /// It cannot be encoded: the picture is to blame, and every job on it fails with the reason.
    case unusable(reason: String)
    /// It was not encoded this time, for a reason that may pass.
    case faulty(reason: String)
    /// The work was left.
    case abandoned
}

/// Pictures to encode, done by a closure that knows the model.
public struct EncodeSource: WorkSource {
    /// What encodes.
    public typealias Encode = @Sendable (EncodeLease) async -> EncodeOutcome

    /// The encode streams.
    public var stage: Stage { .encode }
    /// The worker's name.
    public let worker: String
    /// What makes the embeddings.
    public let model: ModelIdentifier
    /// That, and its family: jobs that do not say the arithmetic go to whichever encoder comes first.
    public var models: [ModelIdentifier] { served.all }
    private let served: ServedIdentifiers
    private let broker: Broker
    private let outage: Outage
    private let encode: Encode
    /// Tenants' turns at the encode streams.
    public let turns: TurnLedger? = TurnLedger()

    /// Work of the encode streams, under the model's identifier and that of its family: the lease's key says which.
    ///
    /// - Parameters:
    ///   - broker: where the pictures come from and their embeddings go.
    ///   - worker: the name that leases and consumers show.
    ///   - model: what makes the embeddings, with its arithmetic.
    ///   - onWait: told of each fault of Redis that is waited out with a picture in hand: for logs.
    ///   - encode: makes a record of one picture; its task is cancelled when the lease is lost.
    public init(
        _ broker: Broker, worker: String, model: ModelIdentifier,
        onWait: @escaping @Sendable (any Error) -> Void = { _ in }, encode: @escaping Encode
    ) {
        self.broker = broker
        self.worker = worker
        self.model = model
        served = ServedIdentifiers(model, others: [model.family])
        outage = Outage(onWait: onWait)
        self.encode = encode
    }

    /// Takes a picture.
    public func take(
        in partition: Partition, lease: Duration, age: Duration
    ) async throws(ClusterError) -> Taken<EncodeLease> {
        try await served.take(in: partition) { model throws(ClusterError) in
            let taken = try await broker.takeEncodes(
                in: partition, worker: worker, model: model, lease: lease, age: age, turns: turns)
            return switch taken {
            case .work(let leases, let isLast): .work(leases[0], isLast: isLast)
            case .idle: .idle
            case .again: .again
            case .later(let pause): .later(pause)
            }
        }
    }

    /// The one lease.
    public func leases(of work: EncodeLease) -> [LeaseName] { [LeaseName(work)] }

    /// Encodes, and publishes the embedding: for as long as the lease is held, whatever Redis says meanwhile.
    public func perform(_ work: EncodeLease) async throws {
        let outcome = await encode(work)
        try await outage.waitOut {
            switch outcome {
            case .embedding(let record, let expiry): _ = try await broker.publish(record, for: work, expiry: expiry)
            case .unusable(let reason): try await broker.fail(LeaseName(work), mayPass: false, reason: reason)
            case .faulty(let reason): try await broker.fail(LeaseName(work), mayPass: true, reason: reason)
            case .abandoned: try await broker.handBack([LeaseName(work)])
            }
        }
    }
}

/// What became of the jobs of a batch.
public enum DecodeOutcome: Sendable {
    /// One answer a job, in order.
    case answers([PromptAnswer])
    /// The embedding is not there, or (corrupt) cannot be used: the jobs go back to waiting.
    case missingEmbedding(corrupt: Bool)
    /// The work was left.
    case abandoned
}

/// What became of one job.
public enum PromptAnswer: Sendable {
    /// The masks, as the job wants them.
    case result(RedisBytes)
    /// It is done in parts from here on.
    case divided([JobPart])
    /// The prompt makes no sense.
    case unusable(reason: String)
    /// It was not done this time, for a reason that may pass.
    case faulty(reason: String)
}

/// Jobs on one picture, done by a closure that knows the model.
public struct DecodeSource: WorkSource {
    /// What decodes.
    public typealias Decode = @Sendable (PromptBatch) async -> DecodeOutcome

    /// The decode streams.
    public var stage: Stage { .decode }
    /// The worker's name.
    public let worker: String
    /// What the embeddings are for.
    public let model: ModelIdentifier
    /// That, and the others under which jobs are taken.
    public var models: [ModelIdentifier] { served.all }
    private let served: ServedIdentifiers
    private let broker: Broker
    private let batch: Int
    private let outage: Outage
    private let decode: Decode
    /// Tenants' turns at the decode streams.
    public let turns: TurnLedger? = TurnLedger()
    /// Beside somebody who waits for clicks prompts are taken so many together: a click waits for the end of a batch.
    private static let sharedBatch = 1

    /// Work of the decode streams.
    ///
    /// - Parameters:
    ///   - broker: where the jobs come from and their answers go.
    ///   - worker: the name that leases and consumers show.
    ///   - model: what heartbeats announce.
    ///   - serving: other identifiers whose embeddings the decoder takes: those of each arithmetic.
    ///   - batch: how many jobs on one picture are taken together at most, 1 to 256.
    ///   - onWait: told of each fault of Redis that is waited out with jobs in hand: for logs.
    ///   - decode: answers the jobs of one picture; its task is cancelled when no lease of theirs is left.
    public init(
        _ broker: Broker, worker: String, model: ModelIdentifier, serving: [ModelIdentifier] = [], batch: Int = 16,
        onWait: @escaping @Sendable (any Error) -> Void = { _ in }, decode: @escaping Decode
    ) {
        self.broker = broker
        outage = Outage(onWait: onWait)
        self.worker = worker
        self.model = model
        served = ServedIdentifiers(model, others: serving)
        self.batch = batch
        self.decode = decode
    }

    /// Takes a batch.
    public func take(
        in partition: Partition, lease: Duration, age: Duration
    ) async throws(ClusterError) -> Taken<PromptBatch> {
        try await served.take(in: partition) { model throws(ClusterError) in
            try await broker.takePrompts(
                in: partition, worker: worker, model: model,
                count: turns?.allowsBatches(in: partition) ?? true ? batch : min(batch, Self.sharedBatch), lease: lease,
                age: age,
                turns: turns)
        }
    }

    /// Takes a click of who clicks little beside others.
    public func takeAhead(in partition: Partition, lease: Duration) async throws(ClusterError) -> Taken<PromptBatch> {
        try await served.take(in: partition) { model throws(ClusterError) in
            try await broker.takePrompts(
                in: partition, worker: worker, model: model, lane: .interactive, count: 1, lease: lease, turns: turns,
                ahead: true)
        }
    }

    /// Whether it is of who has had its share or more.
    public func isPassed(_ work: PromptBatch) -> Bool { work.standing == .passed }

    /// The jobs' leases.
    public func leases(of work: PromptBatch) -> [LeaseName] { work.leases.map { LeaseName($0) } }

    /// Decodes, and completes the jobs: for as long as their leases are held, whatever Redis says meanwhile.
    public func perform(_ work: PromptBatch) async throws {
        switch await decode(work) {
        case .missingEmbedding(let corrupt):
            try await outage.waitOut { try await broker.reportMissing(work, corrupt: corrupt) }
        case .abandoned: try await outage.waitOut { try await broker.handBack(leases(of: work)) }
        case .answers(let answers):
            var results: [(lease: PromptLease, result: RedisBytes)] = []
            for (lease, answer) in zip(work.leases, answers) {
                switch answer {
                case .result(let bytes): results.append((lease, bytes))
                case .divided(let parts):
                    try await outage.waitOut { try await broker.divide(lease, into: parts) }
                case .unusable(let reason): try await fail(lease, mayPass: false, reason)
                case .faulty(let reason): try await fail(lease, mayPass: true, reason)
                }
            }
            try await complete(results)
        }
    }

    private func fail(_ lease: PromptLease, mayPass: Bool, _ reason: String) async throws {
        try await outage.waitOut { try await broker.fail(LeaseName(lease), mayPass: mayPass, reason: reason) }
    }

    /// Results for which there is no room stay here until older ones have gone.
    private func complete(_ results: [(lease: PromptLease, result: RedisBytes)]) async throws {
        var left = results
        try await outage.waitOut {
            if left.isEmpty { return }
            let outcomes = try await broker.complete(left)
            left = zip(left, outcomes).filter { $0.1 == .full }.map(\.0)
            if !left.isEmpty {
                throw ClusterError.backpressure(
                    reason: "there is no room for the results of \(left.count) jobs (result_bytes)",
                    retryAfter: .seconds(1))
            }
        }
    }
}
