public import Redis
public import Segmentation

/// One kind of work: how it is taken, and how it is done.
public protocol WorkSource: Sendable {
    /// What a take brings.
    associatedtype Work: Sendable
    /// Which lines it comes from.
    var stage: Stage { get }
    /// The name that leases and consumers show.
    var worker: String { get }
    /// What is served.
    var model: ModelIdentifier { get }

    /// Takes work. Runs on a thread of the slot's own, as ``perform(_:)`` does.
    func take(in partition: Partition, lease: Duration, age: Duration) async throws(ClusterError) -> Taken<Work>
    /// The leases under which work is held.
    func leases(of work: Work) -> [LeaseName]
    /// Does the work and tells the cluster what became of it. Its task is cancelled when no lease is left.
    ///
    /// Each slot of a ``WorkLoop`` has a thread of its own and runs this there, outside Swift's cooperative pool: it may
    /// compute as long as it likes.
    func perform(_ work: Work) async throws(ClusterError)
}

/// What became of a picture.
public enum EncodeOutcome: Sendable {
    /// The embedding's record.
    case embedding(RedisBytes)
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

    /// The encode lines.
    public var stage: Stage { .encode }
    /// The worker's name.
    public let worker: String
    /// What the embeddings are for.
    public let model: ModelIdentifier
    private let broker: Broker
    private let expiry: Duration
    private let encode: Encode

    /// Work of the encode lines.
    ///
    /// - Parameter expiry: of the embeddings.
    public init(
        _ broker: Broker, worker: String, model: ModelIdentifier, expiry: Duration = .seconds(86_400),
        encode: @escaping Encode
    ) {
        self.broker = broker
        self.worker = worker
        self.model = model
        self.expiry = expiry
        self.encode = encode
    }

    /// Takes a picture.
    public func take(
        in partition: Partition, lease: Duration, age: Duration
    ) async throws(ClusterError) -> Taken<EncodeLease> {
        let taken = try await broker.takeEncodes(in: partition, worker: worker, model: model, lease: lease, age: age)
        return switch taken {
        case .work(let leases, let isLast): .work(leases[0], isLast: isLast)
        case .idle: .idle
        case .again: .again
        }
    }

    /// The one lease.
    public func leases(of work: EncodeLease) -> [LeaseName] { [LeaseName(work)] }

    /// Encodes, and publishes the embedding.
    public func perform(_ work: EncodeLease) async throws(ClusterError) {
        switch await encode(work) {
        case .embedding(let record): try await publish(record, work)
        case .unusable(let reason): try await broker.fail(LeaseName(work), mayPass: false, reason: reason)
        case .faulty(let reason): try await broker.fail(LeaseName(work), mayPass: true, reason: reason)
        case .abandoned: try await broker.handBack([LeaseName(work)])
        }
    }

    /// Where Redis is out of memory the embedding is offered a few times more, while the lease is being renewed.
    private func publish(_ record: RedisBytes, _ work: EncodeLease) async throws(ClusterError) {
        for attempt in 0..<5 {
            do throws(ClusterError) {
                _ = try await broker.publish(record, for: work, expiry: expiry)
                return
            } catch .backpressure(let reason, _) {
                guard attempt < 4 else {
                    try await broker.fail(LeaseName(work), mayPass: true, reason: reason)
                    return
                }
                try? await Task.sleep(for: .milliseconds(100 << attempt))
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
    /// The prompt makes no sense.
    case unusable(reason: String)
    /// It was not done this time, for a reason that may pass.
    case faulty(reason: String)
}

/// Jobs on one picture, done by a closure that knows the model.
public struct DecodeSource: WorkSource {
    /// What decodes.
    public typealias Decode = @Sendable (PromptBatch) async -> DecodeOutcome

    /// The decode lines.
    public var stage: Stage { .decode }
    /// The worker's name.
    public let worker: String
    /// What the embeddings are for.
    public let model: ModelIdentifier
    private let broker: Broker
    private let batch: Int
    private let decode: Decode

    /// Work of the decode lines.
    ///
    /// - Parameter batch: how many jobs on one picture are taken together at most, 1 to 256.
    public init(_ broker: Broker, worker: String, model: ModelIdentifier, batch: Int = 16, decode: @escaping Decode) {
        self.broker = broker
        self.worker = worker
        self.model = model
        self.batch = batch
        self.decode = decode
    }

    /// Takes a batch.
    public func take(
        in partition: Partition, lease: Duration, age: Duration
    ) async throws(ClusterError) -> Taken<PromptBatch> {
        try await broker.takePrompts(
            in: partition, worker: worker, model: model, count: batch, lease: lease, age: age)
    }

    /// The jobs' leases.
    public func leases(of work: PromptBatch) -> [LeaseName] { work.leases.map { LeaseName($0) } }

    /// Decodes, and completes the jobs.
    public func perform(_ work: PromptBatch) async throws(ClusterError) {
        switch await decode(work) {
        case .missingEmbedding(let corrupt): try await broker.reportMissing(work, corrupt: corrupt)
        case .abandoned: try await broker.handBack(leases(of: work))
        case .answers(let answers):
            var results: [(lease: PromptLease, result: RedisBytes)] = []
            for (lease, answer) in zip(work.leases, answers) {
                switch answer {
                case .result(let bytes): results.append((lease, bytes))
                case .unusable(let reason): try await broker.fail(LeaseName(lease), mayPass: false, reason: reason)
                case .faulty(let reason): try await broker.fail(LeaseName(lease), mayPass: true, reason: reason)
                }
            }
            if !results.isEmpty { _ = try await broker.complete(results) }
        }
    }
}
