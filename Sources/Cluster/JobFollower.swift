import Redis
import Synchronization

/// Tells of jobs as they end while more of them are added: what a submitter of millions of jobs waits with.
///
/// ```swift
/// let follower = JobFollower(broker)
/// async let told: Void = follower.run { endings in report(endings) }
/// follower.add(references)  // any number of times
/// follower.close()  // run() returns with the last ending
/// try await told
/// ```
/// A message that brings a small result along tells all there is to know; any other is only a hint, upon which Redis is
/// asked. Jobs of which no message came are asked for every so often, so nothing is missed when a connection breaks, and
/// deadlines pass where no worker is alive. Its memory is that of the open jobs' names and of a few results: no more are
/// kept or fetched before these were taken.
public final class JobFollower: Sendable {
    /// How many jobs are asked for in one go: their results are in memory together.
    private static let batch = 64

    private struct State: Sendable {
        var open: Set<JobReference> = []
        var byName: [String: [JobReference]] = [:]
        /// To be asked for, the longest waiting first.
        var line: ArraySlice<JobReference> = []
        var inLine: Set<JobReference> = []
        /// Endings that came with their results and were not told of yet; at most ``JobFollower/batch``.
        var heard: [JobEnding] = []
        /// Where the next round of questions goes on.
        var round: [JobReference] = []
        var isClosed = false

        mutating func enqueue(_ references: some Sequence<JobReference>) {
            for reference in references where open.contains(reference) && inLine.insert(reference).inserted {
                line.append(reference)
            }
        }
    }

    private let broker: Broker
    private let client: String?
    private let partitions: [Partition]
    private let interval: Duration
    /// Guards the sets, which the subscription, the timer, the asker and those who add share.
    private let state = Mutex(State())
    private let questions: AsyncStream<Void>
    private let question: AsyncStream<Void>.Continuation
    private let room: AsyncStream<Void>
    private let roomMade: AsyncStream<Void>.Continuation

    /// A follower of no job yet.
    ///
    /// - Parameters:
    ///   - broker: the cluster of the jobs.
    ///   - client: the name under which the jobs are submitted; nil for jobs of anybody.
    ///   - partitions: in which the jobs are; nil for all.
    ///   - interval: between questions after jobs of which nothing was heard.
    public init(
        _ broker: Broker, client: String? = nil, partitions: [Partition]? = nil, interval: Duration = .seconds(1)
    ) {
        self.broker = broker
        self.client = client
        self.partitions = partitions ?? broker.partitions
        self.interval = interval
        (questions, question) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (room, roomMade) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Follows these jobs too; those that ended before are told of as well.
    public func add(_ references: [JobReference]) {
        state.withLock { state in
            for reference in references where state.open.insert(reference).inserted {
                state.byName[reference.name, default: []].append(reference)
            }
            state.enqueue(references)
        }
        question.yield()
    }

    /// No more jobs will be added.
    public func close() {
        state.withLock { $0.isClosed = true }
        question.yield()
    }

    /// The jobs that were not seen to end.
    public var open: [JobReference] { state.withLock { Array($0.open) } }

    /// How many jobs were not seen to end.
    public var openCount: Int { state.withLock { $0.open.count } }

    /// Returns when fewer than `limit` jobs are open, or when the task is cancelled; for one task at a time.
    public func waitUntilOpen(isBelow limit: Int) async {
        if openCount < limit { return }
        for await _ in room where openCount < limit { return }
    }

    /// Follows the jobs; returns when it was closed and the last of them has ended.
    ///
    /// - Parameter tell: is given the endings, each once, in the order in which they are seen.
    /// - Throws: what `tell` throws; ``ClusterError`` where Redis is gone for longer than the client's patience.
    public func run(_ tell: @escaping @Sendable ([JobEnding]) async throws -> Void) async throws {
        if isOver { return }
        let channels = client.map { [broker.keys.reply($0)] } ?? partitions.map { broker.keys.events($0) }
        let listening = try await broker.redis.listen(to: channels) { [self] notification in
            switch notification {
            case .message(let message): heard(message.payload)
            case .resubscribed: askForAll()
            }
        }
        defer { listening.cancel() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { await listening.waitUntilEnded() }
            group.addTask {
                while !Task.isCancelled {
                    try await Task.sleep(for: self.interval)
                    // Where no worker is alive, nobody else ends what is past its deadline.
                    _ = try? await self.broker.keepHouse(self.partitions)
                    self.askForSome()
                }
            }
            group.addTask {
                self.askForAll()
                for await _ in self.questions {
                    while let endings = try await self.nextEndings() {
                        let news = endings.filter { self.ended($0.reference) }
                        if !news.isEmpty { try await tell(news) }
                    }
                    if self.isOver { return }
                }
            }
            // The first to return is the third, unless the subscription was closed under it.
            try await group.next()
            if !isOver, !Task.isCancelled { throw ClusterError.redis(.closed) }
        }
    }

    // MARK: Who is open

    private var isOver: Bool { state.withLock { $0.isClosed && $0.open.isEmpty } }

    /// `<id> <state>`, of a job that is done also ` <result>` where that is small.
    private func heard(_ message: RedisBytes) {
        let message = EndingMessage(message)
        let matters = state.withLock { state in
            guard let references = state.byName[message.id] else { return false }
            // One id may stand for jobs of several partitions, and the message does not say in which.
            if references.count == 1, let result = message.result, state.heard.count < Self.batch {
                state.heard.append(JobEnding(reference: references[0], state: .done, result: result, error: nil))
            } else {
                state.enqueue(references)
            }
            return true
        }
        if matters { question.yield() }
    }

    private func askForAll() {
        state.withLock { $0.enqueue($0.open) }
        question.yield()
    }

    /// The next few of which nothing was heard: bounded, so that a million open jobs cost no more than a thousand.
    private func askForSome() {
        state.withLock { state in
            if state.round.isEmpty { state.round = Array(state.open) }
            let next = state.round.suffix(1024)
            state.round.removeLast(next.count)
            state.enqueue(next)
        }
        question.yield()
    }

    /// What was heard, or else what the next few questions bring; nil where there is nothing to ask.
    private func nextEndings() async throws(ClusterError) -> [JobEnding]? {
        let (heard, batch): ([JobEnding], [JobReference]) = state.withLock { state in
            if !state.heard.isEmpty {
                defer { state.heard = [] }
                return (state.heard, [])
            }
            let batch = Array(state.line.prefix(Self.batch))
            state.line.removeFirst(batch.count)
            state.inLine.subtract(batch)
            return ([], batch)
        }
        if !heard.isEmpty { return heard }
        return batch.isEmpty ? nil : try await endings(among: batch)
    }

    /// Whether this is news.
    private func ended(_ reference: JobReference) -> Bool {
        let isNews = state.withLock { state in
            guard state.open.remove(reference) != nil else { return false }
            state.byName[reference.name]?.removeAll { $0 == reference }
            if state.byName[reference.name]?.isEmpty == true { state.byName[reference.name] = nil }
            return true
        }
        if isNews { roomMade.yield() }
        return isNews
    }

    /// Those of the jobs that ended, with their results.
    ///
    /// A job has a result exactly when it is done, so the result alone tells, at the price of a GET: a click's answer is
    /// mostly one job that has just ended well. Only jobs without one are asked how they are.
    private func endings(among references: [JobReference]) async throws(ClusterError) -> [JobEnding] {
        var results: [JobReference: RedisBytes] = [:]
        for (reference, result) in zip(references, try await broker.results(references)) {
            if let result { results[reference] = result }
        }
        let others = references.filter { results[$0] == nil }
        let statuses = others.isEmpty ? [] : try await broker.status(others)
        let over = zip(others, statuses).filter { $0.1?.state.isTerminal ?? true }
        // Jobs that ended between the two answers.
        let late = over.filter { $0.1?.state == .done }.map(\.0)
        let lateResults = late.isEmpty ? [] : try await broker.results(late)
        let found = Dictionary(zip(late, lateResults), uniquingKeysWith: { first, _ in first })
        let done = references.compactMap { reference in
            results[reference].map { JobEnding(reference: reference, state: .done, result: $0, error: nil) }
        }
        let silent = over.filter { $0.1.map { $0.state != .done && $0.origin.isEmpty } ?? false }.map(\.0)
        let kept = Dictionary(
            zip(silent, try await broker.origins(silent)), uniquingKeysWith: { first, _ in first })
        return done
            + over.map { reference, status in
                JobEnding(
                    reference: reference, state: status?.state, result: found[reference] ?? nil, error: status?.error,
                    origin: status?.origin.or(kept[reference]) ?? JobOrigin())
            }
    }
}

/// What is published when a job ends, as `Protocol.md` describes it under WAKING.
private struct EndingMessage {
    let id: String
    /// The result, where it came along.
    let result: RedisBytes?

    init(_ message: RedisBytes) {
        (id, result) = message.withUnsafeBytes { bytes in
            let parts = bytes.split(separator: UInt8(ascii: " "), maxSplits: 2, omittingEmptySubsequences: false)
            let id = String(decoding: parts[0], as: UTF8.self)
            guard parts.count == 3, parts[1].elementsEqual("done".utf8) else { return (id, nil) }
            return (id, RedisBytes(borrowing: UnsafeRawBufferPointer(rebasing: parts[2]), from: message))
        }
    }
}
