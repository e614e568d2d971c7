import Platform
public import Redis
public import Segmentation

/// What a submitter hands to the cluster.
public struct Job: Sendable {
    /// Unique in the partition of the image; the same id again changes nothing.
    ///
    /// 1 to 128 of `A-Z a-z 0-9 . _ : @ / + -`.
    public var id: String
    /// Whose stream it waits in.
    public var lane: Lane
    /// The picture.
    public var image: ImageDigest
    /// Weights, preprocessing and dtype of the embedding, as workers announce them.
    public var model: ModelIdentifier
    /// After which it expires; nil for never.
    public var timeToLive: Duration?
    /// The job line as JSON, without the image's bytes, and behind it a note of its origin; empty to ask for the embedding
    /// alone.
    public var line: RedisBytes
    /// Whose it is; nil for the tenant of the broker that it is handed to.
    public var tenant: Tenant?

    /// A job of all its parts.
    public init(
        id: String, lane: Lane, image: ImageDigest, model: ModelIdentifier, timeToLive: Duration? = nil,
        line: RedisBytes, tenant: Tenant? = nil
    ) {
        self.id = id
        self.lane = lane
        self.image = image
        self.model = model
        self.timeToLive = timeToLive
        self.line = line
        self.tenant = tenant
    }

    /// An id that nobody else has: 128 random bits in hexadecimal digits.
    public static func makeIdentifier() -> String {
        var generator = SystemRandomNumberGenerator()
        return Hexadecimal.text(
            of: (0..<2).flatMap { _ in
                withUnsafeBytes(of: UInt64.random(in: .min ... .max, using: &generator)) { Array($0) }
            })
    }
}

/// Where a job is found.
public struct JobReference: Sendable, Hashable {
    /// The job's id, which is unique within its tenant and partition.
    public let id: String
    /// Where its image lives.
    public let partition: Partition
    /// Whose it is.
    public let tenant: Tenant

    /// A job of a partition.
    public init(id: String, partition: Partition, tenant: Tenant = .standard) {
        self.id = id
        self.partition = partition
        self.tenant = tenant
    }

    /// The job that the functions call so.
    public init(name: String, partition: Partition) {
        let parts = name.split(separator: "~", maxSplits: 1, omittingEmptySubsequences: false)
        if parts.count == 2, let tenant = Tenant(parts[0]) {
            self.init(id: String(parts[1]), partition: partition, tenant: tenant)
        } else {
            self.init(id: name, partition: partition)
        }
    }

    /// What the functions call it: the id, behind its tenant's name and a tilde unless that is the default one.
    public var name: String { tenant.scoped(id) }
}

/// What became of a submitted job.
public enum Submission: Sendable {
    /// It is new, and in this state.
    case accepted(JobReference, JobState)
    /// The id was known; that job is in this state, and nothing was changed.
    case known(JobReference, JobState)
    /// It was not accepted.
    case refused(id: String, ClusterError)

    /// Where the job is; nil for one that was refused.
    public var reference: JobReference? {
        switch self {
        case .accepted(let reference, _), .known(let reference, _): reference
        case .refused: nil
        }
    }
}

/// A job as Redis has it.
public struct JobStatus: Sendable {
    /// Which job.
    public let reference: JobReference
    /// Where it stands.
    public let state: JobState
    /// Whose stream.
    public let lane: Lane
    /// The picture.
    public let image: ImageDigest
    /// Takes so far.
    public let attempts: Int
    /// When it was submitted, in microseconds since 1970 by Redis's clock.
    public let submitted: Int
    /// When it was taken last.
    public let started: Int?
    /// When it ended.
    public let finished: Int?
    /// Who took it last.
    public let worker: String?
    /// Why it failed, or why its last attempt did.
    public let error: String?
    /// Of a job that is done in parts: how many there are so far, and how many of them are done.
    public let parts: (all: Int, done: Int)?
    /// Where it came from, as far as it is kept: of jobs that ended without a result.
    public let origin: JobOrigin

    init?(_ reference: JobReference, _ fields: [String: RedisValue]) {
        guard let state = fields["state"]?.string.flatMap(JobState.init(rawValue:)),
            let lane = fields["lane"]?.string.flatMap(Lane.init(rawValue:)),
            let image = fields["image"]?.string.flatMap({ ImageDigest($0) })
        else { return nil }
        self.reference = reference
        self.state = state
        self.lane = lane
        self.image = image
        attempts = fields["attempts"]?.integer ?? 0
        submitted = fields["submitted"]?.integer ?? 0
        started = fields["started"]?.integer
        finished = fields["finished"]?.integer
        worker = fields["worker"]?.string
        error = fields["error"]?.string
        parts = fields["parts"]?.integer.map { all in
            (all, all - (state == .waitingForParts ? fields["parts_left"]?.integer ?? 0 : 0))
        }
        origin = JobOrigin(note: fields["note"]?.bytes?.array ?? [])
    }
}
