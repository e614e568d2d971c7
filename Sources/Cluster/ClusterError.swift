public import Platform
public import Redis

/// Why the cluster did not do what it was asked to.
public enum ClusterError: TransientError, Sendable {
    /// Redis could not be reached, or refused.
    case redis(RedisError)
    /// The lane, the images or the results are at their limit, or Redis is out of memory or of disk; nothing was accepted.
    case backpressure(reason: String, retryAfter: Duration)
    /// Redis is there and does not do its work now, such as a replica; nothing was accepted.
    case cannotServe(reason: String, remedy: String, retryAfter: Duration)
    /// Neither the image nor its embedding is there: store the image, then submit again.
    case noImage(reason: String)
    /// A job that no cluster can accept.
    case badJob(reason: String)
    /// The id is that of another job, which has not ended or has a result.
    case conflict(reason: String)
    /// A setting of the cluster, as it is stored, makes no sense.
    case badSetting(name: String, found: String, allowed: String, server: String)
    /// The cluster has another number of partitions than was asked for.
    case otherPartitions(found: Int, asked: Int, server: String)
    /// Redis would evict queues.
    case memoryPolicy(found: String, server: String)
    /// Redis is older than 7.0 and has no functions.
    case serverTooOld(found: String)
    /// The functions in Redis speak another protocol than this program.
    case otherProtocol(found: Int, expected: Int)
    /// The functions in Redis are of an older release, which lacks something.
    case functionsTooOld(found: Int, needed: Int, what: String)
    /// The functions are not there, or old ones are, and this user may not load them.
    case setUpForbidden(server: String)
    /// No worker ever set up a cluster there.
    case notSetUp(server: String, namespace: String)
    /// A function answered what it never should.
    case unexpectedReply(function: String, expected: String)

    /// Takes what a call of a function threw.
    init(_ error: RedisError) {
        guard case .server(let refusal, _) = error else {
            self = .redis(error)
            return
        }
        self = ClusterError(refusal: refusal) ?? .redis(error)
    }

    /// Takes a refusal of a function or of Redis; nil where it is none that has a meaning here.
    init?(refusal: RedisServerError) {
        let reason = String(refusal.message.dropFirst(refusal.code.count).drop { $0 == " " })
        switch refusal.code {
        case "BACKPRESSURE":
            self = .backpressure(reason: reason, retryAfter: Self.retryAfter(reason))
        case "OOM":
            self = .backpressure(reason: Self.outOfMemory, retryAfter: .seconds(5))
        case "MISCONF":
            self = .backpressure(reason: "Redis cannot write to its disk (\(reason))", retryAfter: .seconds(10))
        case "READONLY", "MASTERDOWN":
            self = .cannotServe(
                reason: "it is a replica, which takes no writes",
                remedy: "name its primary (INFO replication tells it), or the sentinels (redis+sentinel://)",
                retryAfter: .seconds(5))
        case "NOREPLICAS":
            self = .cannotServe(
                reason: "fewer replicas keep up with it than its min-replicas-to-write asks for",
                remedy: "see to its replicas (INFO replication)", retryAfter: .seconds(2))
        case "LOADING", "BUSY", "CLUSTERDOWN", "TRYAGAIN":
            self = .cannotServe(
                reason: "it says \(refusal.message)", remedy: "come back after 2 seconds", retryAfter: .seconds(2))
        case "CONFLICT": self = .conflict(reason: reason)
        case "NOIMAGE": self = .noImage(reason: reason)
        case "BADJOB", "BADCALL": self = .badJob(reason: reason)
        default: return nil
        }
    }

    /// Whether time mends it and nothing is wrong with what was asked: the cluster is full, or Redis is away or cannot serve.
    public var isTransient: Bool {
        switch self {
        case .backpressure, .cannotServe: true
        case .redis(let error): error.isTransient
        default: false
        }
    }

    /// Why, and after which time, the same may be asked again; nil where it is not the cluster's state that refuses.
    package var comeBack: (reason: String, sentence: String, time: Duration)? {
        switch self {
        case .backpressure(let reason, let time): (reason, "the cluster is full: \(reason)", time)
        case .cannotServe(let reason, let remedy, let time):
            ("Redis takes nothing now: \(reason)", "Redis takes nothing now: \(reason): \(remedy)", time)
        default: nil
        }
    }

    /// Whether Redis has no memory left.
    var isOutOfMemory: Bool {
        if case .backpressure(Self.outOfMemory, _) = self { true } else { false }
    }

    private static let outOfMemory = "Redis has reached its maxmemory"

    /// The number in `… retry after <n> ms`; a second where there is none.
    private static func retryAfter(_ reason: String) -> Duration {
        let words = reason.split(separator: " ")
        guard words.count >= 2, words.last == "ms", let wait = Int(words[words.count - 2]), wait >= 0 else {
            return .seconds(1)
        }
        return .milliseconds(wait)
    }
}

extension ClusterError: ReportableError {
    /// Full or away is to come back later; what was asked of it is input; what is stored wrongly is ours.
    public var report: ErrorReport {
        switch self {
        case .redis(let error):
            var report = error.report
            report.cause = error
            return report
        case .backpressure(let reason, let wait):
            return ErrorReport(
                .comeBackLater, "backpressure", "the cluster is full: \(reason)", remedy: "come back after \(wait)",
                retryAfter: wait)
        case .cannotServe(let reason, let remedy, let wait):
            return ErrorReport(
                .comeBackLater, "redis-cannot-serve", "Redis takes nothing now: \(reason)", remedy: remedy,
                retryAfter: wait)
        case .noImage(let reason):
            return ErrorReport(.notFound, "no-image", "the image is not in the cluster: \(reason)")
        case .badJob(let reason): return ErrorReport(.input, "bad-job", "the job was refused: \(reason)")
        case .conflict(let reason): return ErrorReport(.input, "conflict", "the id is taken: \(reason)")
        case .badSetting(let name, let found, let allowed, let server):
            return ErrorReport(
                .ours, "bad-setting", at: server, "\(name) = \(found) makes no sense: it takes \(allowed)",
                remedy: "correct it there")
        case .otherPartitions(let found, let asked, let server):
            return ErrorReport(
                .usage, "other-partitions", at: server,
                "holds a cluster of \(found) partitions, and not of \(asked): where pictures lie depends on the number",
                remedy: "leave the number out, or set up another cluster under another --namespace")
        case .memoryPolicy(let found, let server):
            return ErrorReport(
                .ours, "memory-policy", at: server,
                "has maxmemory-policy \(found), under which it would throw away queued jobs",
                remedy: "set it to volatile-lru or noeviction (CONFIG SET maxmemory-policy volatile-lru)")
        case .serverTooOld(let found):
            return ErrorReport(
                .ours, "redis-too-old", "Redis \(found) has no functions", remedy: "Kirie needs Redis 7.0 or later")
        case .otherProtocol(let found, let expected):
            return ErrorReport(
                .ours, "other-protocol",
                "the functions in Redis speak protocol \(found), this program speaks \(expected)",
                remedy: "use the same version of Kirie everywhere")
        case .functionsTooOld(let found, let needed, let what):
            return ErrorReport(
                .ours, "functions-too-old",
                "the functions in Redis (revision \(found)) know no \(what), which came with revision \(needed)",
                remedy:
                    "have the operator's user load this release's: kirie queues --partitions 16 --redis redis://operator@…"
            )
        case .setUpForbidden(let server):
            return ErrorReport(
                .ours, "set-up-forbidden", at: server,
                "lacks the functions of this release, and this user may not load them",
                remedy: "have the operator's user do it once: kirie queues --partitions 16 --redis redis://operator@…")
        case .notSetUp(let server, let namespace):
            return ErrorReport(
                .notFound, "no-cluster", at: server, "holds no cluster of the namespace \(namespace)",
                remedy: "start `kirie up`, or `kirie encoder` and `kirie decoder`, or name another Redis with --redis")
        case .unexpectedReply(let function, let expected):
            return ErrorReport(.ours, "unexpected-reply", "\(function) did not answer with \(expected)")
        }
    }

    /// The report in one line.
    public var description: String { report.text }
}
