/// How a client behaves towards its server.
public struct RedisConfiguration: Sendable {
    /// What CLIENT LIST shows, without spaces; nil for nothing.
    public var clientName: String?
    /// How long one attempt to connect and log in may take.
    public var connectTimeout: Duration = .seconds(5)
    /// How long a command may go unanswered before its connection is given up; noticed at most a second late.
    public var commandTimeout: Duration = .seconds(10)
    /// How long commands wait for a lost server to come back, counted from the first that found it gone.
    public var patience: Duration = .seconds(15)
    /// How often a command that may be sent again is sent again.
    public var attempts = 3
    /// The pauses between attempts to connect.
    public var backoff = RedisBackoff()
    /// How many blocking commands run at a time, each on a connection of its own; others wait in line.
    public var blockingConnections = 16
    /// From so many unsent bytes on a connection refuses commands.
    public var maximumPendingBytes = 256 << 20
    /// How many messages a subscription keeps for a reader that is slow; the oldest go first.
    public var subscriptionBuffer = 65_536
    /// How often a subscription in a cluster looks whether its node still belongs to it.
    public var mapInterval: Duration = .seconds(15)
    /// The clock that the pauses run on.
    public var clock: any Clock<Duration> = ContinuousClock()
    /// Told about every change of a connection, on whichever thread it happens: for logs and metrics.
    public var onEvent: @Sendable (RedisEvent) -> Void = { _ in }

    /// The defaults, with a name for CLIENT LIST.
    public init(clientName: String? = "kirie") { self.clientName = clientName }
}

/// A change of a connection.
public enum RedisEvent: Sendable, Hashable {
    /// Logged in.
    case connected(server: String)
    /// An attempt failed; the next comes after `delay`.
    case retrying(server: String, attempt: Int, delay: Duration, reason: String)
    /// An established connection broke.
    case disconnected(server: String, reason: String)
    /// The map of a cluster's slots was read anew.
    case clusterMapRead(nodes: Int)
}

/// Exponential backoff with full jitter: before attempt n the pause is uniform in `0 ..< min(limit, base * 2^n)`, so
/// that clients that lost the same server do not come back in step.
///
/// Source: Brooker, "Exponential Backoff And Jitter", 2015,
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
public struct RedisBackoff: Sendable {
    /// The bound of the first pause.
    public var base: Duration
    /// The bound of all pauses.
    public var limit: Duration
    /// A number in `0 ..< 1`.
    public var random: @Sendable () -> Double

    /// Pauses from 20 ms to 2 s, and the system's random numbers, unless told otherwise.
    public init(
        base: Duration = .milliseconds(20), limit: Duration = .seconds(2),
        random: @escaping @Sendable () -> Double = { .random(in: 0..<1) }
    ) {
        self.base = base
        self.limit = limit
        self.random = random
    }

    /// The pause after failure number `attempt`, counted from 0.
    public func delay(_ attempt: Int) -> Duration {
        let bound = min(limit, base * (1 << min(max(attempt, 0), 20)))
        return bound * random()
    }
}
