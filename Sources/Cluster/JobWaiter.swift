public import Redis

/// A job that ended, with what came of it.
public struct JobEnding: Sendable {
    /// Which job.
    public let reference: JobReference
    /// How it ended; nil where nobody knows the job, or no longer.
    public let state: JobState?
    /// The result; nil unless it is done.
    public let result: RedisBytes?
    /// Why it failed.
    public let error: String?
    /// Where it came from, as far as the cluster says beside the result.
    public var origin = JobOrigin()
}

/// Tells of some jobs as they end, by one ``JobFollower``.
public struct JobWaiter: Sendable {
    private let broker: Broker
    private let client: String?
    private let interval: Duration

    /// A waiter.
    ///
    /// - Parameters:
    ///   - broker: the cluster of the jobs.
    ///   - client: the name under which the jobs were submitted; nil for jobs of anybody.
    ///   - interval: between questions after jobs of which nothing was heard.
    public init(_ broker: Broker, client: String? = nil, interval: Duration = .seconds(1)) {
        self.broker = broker
        self.client = client
        self.interval = interval
    }

    /// The endings of these jobs, each once, in the order in which they are seen; ends with the last.
    public func endings(of references: [JobReference]) -> AsyncThrowingStream<JobEnding, any Error> {
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: JobEnding.self, throwing: (any Error).self)
        let follower = JobFollower(
            broker, client: client, partitions: Set(references.map(\.partition)).sorted(), interval: interval)
        follower.add(references)
        follower.close()
        let task = Task {
            do {
                try await follower.run { endings in
                    for ending in endings { continuation.yield(ending) }
                }
                continuation.finish()
            } catch {
                continuation.finish(throwing: error)
            }
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }
}
