public import Redis
public import Segmentation

/// The right to encode one picture, until it runs out.
public struct EncodeLease: Sendable, Hashable {
    /// Where the picture lives.
    public let partition: Partition
    /// The picture, and what it is encoded for.
    public let key: EmbeddingKey
    /// Which proves the right.
    public let token: String
    /// 1 for the first.
    public let attempt: Int
    /// When the embedding was first asked for, in microseconds since 1970 by Redis's clock.
    public let since: Int
    /// Whose stream it came from.
    public let lane: Lane

    init?(_ reply: RedisValue, _ partition: Partition) {
        guard let parts = reply.array, parts.count == 5, let key = parts[0].string.flatMap({ EmbeddingKey($0) }),
            let token = parts[1].string,
            let attempt = parts[2].integer, let since = parts[3].integer,
            let lane = parts[4].string.flatMap(Lane.init(rawValue:))
        else { return nil }
        self.partition = partition
        self.key = key
        self.token = token
        self.attempt = attempt
        self.since = since
        self.lane = lane
    }
}

/// The right to do one job, until it runs out.
public struct PromptLease: Sendable, Hashable {
    /// Which job.
    public let reference: JobReference
    /// Which proves the right.
    public let token: String
    /// 1 for the first.
    public let attempt: Int
    /// When the job was submitted, in microseconds since 1970 by Redis's clock.
    public let submitted: Int
    /// The job line.
    public let line: RedisBytes
    /// When it expires, in milliseconds since 1970 by Redis's clock.
    public let deadline: Int?

    init?(_ reply: RedisValue, _ partition: Partition) {
        guard let parts = reply.array, parts.count == 6, let id = parts[0].string, let token = parts[1].string,
            let attempt = parts[2].integer, let submitted = parts[3].integer, let line = parts[4].bytes
        else { return nil }
        reference = JobReference(name: id, partition: partition)
        self.token = token
        self.attempt = attempt
        self.submitted = submitted
        self.line = line
        deadline = parts[5].integer
    }
}

/// Jobs on one picture that were taken together.
public struct PromptBatch: Sendable, Hashable {
    /// Where the picture lives.
    public let partition: Partition
    /// The embedding that they need.
    public let key: EmbeddingKey
    /// Whose stream they came from.
    public let lane: Lane
    /// The jobs.
    public let leases: [PromptLease]
    /// How they stand to other tenants' work.
    public var standing = Standing.usual

    /// How work stands to other tenants' work.
    public enum Standing: Sendable, Hashable {
        /// As all does where nobody shares.
        case usual
        /// It was taken beside what is being done, of a tenant that takes less than its share, and is to pass.
        case passing
        /// Of a tenant that takes its share or more: what passes has the processor first.
        case passed
    }
}

/// A lease by its name, for renewing and handing back.
public enum LeaseName: Sendable, Hashable {
    /// Of an encode.
    case encode(partition: Partition, key: EmbeddingKey, token: String)
    /// Of a job.
    case decode(JobReference, token: String)

    /// The name of an encode's lease.
    public init(_ lease: EncodeLease) {
        self = .encode(partition: lease.partition, key: lease.key, token: lease.token)
    }

    /// The name of a job's lease.
    public init(_ lease: PromptLease) { self = .decode(lease.reference, token: lease.token) }

    /// Where it is kept.
    public var partition: Partition {
        switch self {
        case .encode(let partition, _, _): partition
        case .decode(let reference, _): reference.partition
        }
    }

    var arguments: [RedisArgument] {
        switch self {
        case .encode(_, let key, let token): ["encode", .string(key.description), .string(token)]
        case .decode(let reference, let token): ["decode", .string(reference.name), .string(token)]
        }
    }
}

/// What a take brought.
public enum Taken<Work: Sendable>: Sendable {
    /// Work, under a lease; `isLast` where nothing is left queued in this partition.
    case work(Work, isLast: Bool)
    /// There is nothing to do in this partition.
    case idle
    /// The bound of one call was reached before anything was found: take again.
    case again
    /// There is nothing of what was asked for; for the rest take again after so long.
    case later(Duration)
}

/// What renewing a lease brought.
public enum Renewal: Sendable, Hashable {
    /// It runs anew.
    case renewed
    /// It runs anew, but no job waits for this embedding any more.
    case unwanted
    /// Somebody else has it, or will.
    case lost
    /// The job ended: drop the work.
    case ended(JobState)

    init?(_ word: String) {
        switch word {
        case "renewed": self = .renewed
        case "unwanted": self = .unwanted
        case "lost": self = .lost
        default:
            guard let state = JobState(rawValue: word) else { return nil }
            self = .ended(state)
        }
    }
}

/// What completing a job brought.
public enum Completion: Sendable, Hashable {
    /// The result stands.
    case done
    /// The job had ended before; nothing was changed.
    case ended(JobState)
    /// The lease was lost; nothing was changed.
    case lost
    /// There is no such job, or no longer.
    case unknown
    /// There is no room for the result now: renew the lease, and complete the job again later.
    case full

    init?(_ reply: RedisValue) {
        guard let parts = reply.array, parts.count == 2, let changed = parts[0].integer, let word = parts[1].string
        else { return nil }
        switch (changed, word) {
        case (1, "done"): self = .done
        case (_, "full"): self = .full
        case (_, "lost"): self = .lost
        case (_, "unknown"): self = .unknown
        default:
            guard let state = JobState(rawValue: word) else { return nil }
            self = .ended(state)
        }
    }
}
