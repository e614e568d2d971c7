public import Redis
import Synchronization

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
}

/// Tells of jobs as they end, any number of them on one subscription.
///
/// Messages are only hints: a job is known to have ended when Redis says so, and jobs of which no message came are asked
/// for every so often. So nothing is missed when a connection breaks, and deadlines pass where no worker is alive.
public struct JobWaiter: Sendable {
    private let broker: Broker
    private let client: String?
    private let interval: Duration

    /// A waiter.
    ///
    /// - Parameters:
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
        let task = Task {
            do {
                try await follow(references) { continuation.yield($0) }
                continuation.finish()
            } catch {
                continuation.finish(throwing: error)
            }
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }

    private func follow(
        _ references: [JobReference], _ tell: @escaping @Sendable (JobEnding) -> Void
    ) async throws {
        let watch = EndingWatch(references)
        if watch.isOver { return }
        let partitions = Set(references.map(\.partition)).sorted()
        let channels = client.map { [broker.keys.reply($0)] } ?? partitions.map { broker.keys.events($0) }
        let subscription = try await broker.redis.subscribe(to: channels)
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask {
                for await notification in subscription {
                    switch notification {
                    case .message(let message): watch.heard(message.payload.string)
                    case .resubscribed: watch.askForAll()
                    }
                }
            }
            group.addTask {
                while !Task.isCancelled {
                    try await Task.sleep(for: interval)
                    // Where no worker is alive, nobody else ends what is past its deadline.
                    _ = try? await broker.keepHouse(partitions)
                    watch.askForSome()
                }
            }
            group.addTask {
                watch.askForAll()
                for await _ in watch.signals {
                    while let batch = watch.nextBatch() {
                        for ending in try await endings(among: batch) where watch.ended(ending.reference) {
                            tell(ending)
                        }
                    }
                    if watch.isOver { return }
                }
            }
            // The first to return is the third, unless the subscription was closed under it.
            try await group.next()
            if !watch.isOver, !Task.isCancelled { throw ClusterError.redis(.closed) }
        }
    }

    /// Those of the jobs that ended, with their results.
    private func endings(among references: [JobReference]) async throws(ClusterError) -> [JobEnding] {
        let statuses = try await broker.status(references)
        let over = zip(references, statuses).filter { $0.1?.state.isTerminal ?? true }
        let done = over.filter { $0.1?.state == .done }.map(\.0)
        let results = Dictionary(
            zip(done, try await broker.results(done)).compactMap { pair in pair.1.map { (pair.0, $0) } },
            uniquingKeysWith: { first, _ in first })
        return over.map { reference, status in
            JobEnding(reference: reference, state: status?.state, result: results[reference], error: status?.error)
        }
    }
}

/// Which jobs are still open, and which of them should be asked for.
private final class EndingWatch: Sendable {
    private struct State: Sendable {
        var open: Set<JobReference>
        var byIdentifier: [String: [JobReference]]
        var toAsk: [JobReference] = []
        /// Where the next round of questions goes on.
        var round: [JobReference] = []
    }

    /// Guards the sets, which the subscription, the timer and the asker share.
    private let state: Mutex<State>
    /// Something is to be asked.
    let signals: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init(_ references: [JobReference]) {
        state = Mutex(State(open: Set(references), byIdentifier: Dictionary(grouping: Set(references), by: \.id)))
        (signals, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    var isOver: Bool { state.withLock { $0.open.isEmpty } }

    /// `<id> <state>`.
    func heard(_ message: String) {
        guard let id = message.split(separator: " ").first.map(String.init) else { return }
        let matters = state.withLock { state in
            guard let references = state.byIdentifier[id] else { return false }
            state.toAsk += references.filter { state.open.contains($0) }
            return true
        }
        if matters { continuation.yield() }
    }

    func askForAll() {
        state.withLock { $0.toAsk = Array($0.open) }
        continuation.yield()
    }

    /// The next few of which nothing was heard: bounded, so that a million open jobs cost no more than a thousand.
    func askForSome() {
        state.withLock { state in
            if state.round.isEmpty { state.round = Array(state.open) }
            let next = state.round.suffix(1024)
            state.round.removeLast(next.count)
            state.toAsk += next.filter { state.open.contains($0) }
        }
        continuation.yield()
    }

    func nextBatch() -> [JobReference]? {
        state.withLock { state in
            guard !state.toAsk.isEmpty else { return nil }
            let batch = state.toAsk.suffix(512)
            state.toAsk.removeLast(batch.count)
            return Array(batch)
        }
    }

    /// Whether this is news.
    func ended(_ reference: JobReference) -> Bool {
        state.withLock { state in
            guard state.open.remove(reference) != nil else { return false }
            state.byIdentifier[reference.id]?.removeAll { $0 == reference }
            if state.byIdentifier[reference.id]?.isEmpty == true { state.byIdentifier[reference.id] = nil }
            return true
        }
    }
}
