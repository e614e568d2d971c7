public import Redis
public import Segmentation

/// The cluster's functions as typed calls; it holds no state of its own beside the client.
///
/// ```swift
/// let broker = try await Broker.open(RedisClient.connect(url))
/// try await broker.putImage(digest, .bytes(file))
/// let outcomes = try await broker.submit([Job(id: "a", lane: .bulk, image: digest, model: model, line: line)])
/// ```
/// Calls that name several jobs are sorted by partition and sent in one go; answers come in the order of the questions.
public struct Broker: Sendable {
    /// The connection.
    public let redis: RedisClient
    /// The names of things.
    public let keys: ClusterKeys
    /// P: how many shares the images have.
    public let partitionCount: Int
    /// Whose jobs and pictures these are, where calls do not say.
    public internal(set) var tenant: Tenant = .standard
    /// How many replicas a job is on before it counts as accepted; nil for the primary alone.
    public var replication: Replication?

    /// A number of replicas that have to have a job, and how long they are waited for.
    public struct Replication: Sendable, Hashable {
        /// At least 1.
        public var replicas: Int
        /// After which a job that fewer have is refused, although the primary has it.
        public var limit: Duration

        /// So many replicas within so long.
        public init(replicas: Int, limit: Duration = .seconds(1)) {
            self.replicas = replicas
            self.limit = limit
        }
    }

    /// How many jobs one call names: a function may take 1024, but Redis serves nobody else meanwhile, and 64 of them
    /// already cost it two milliseconds.
    static let batch = 64

    /// A broker over a cluster that was set up.
    public init(redis: RedisClient, keys: ClusterKeys = ClusterKeys(), partitionCount: Int = 16) {
        self.redis = redis
        self.keys = keys
        self.partitionCount = partitionCount
    }

    /// Sets up what is missing: the functions, the number of partitions, the consumer groups.
    ///
    /// - Parameters:
    ///   - redis: a client that stays the caller's to close.
    ///   - keys: under which names the cluster keeps what it has.
    ///   - partitions: how many the cluster has, 1 to 16,384; nil for what one has that exists, and 16 in a new one.
    /// - Returns: a broker of the cluster, with its number of partitions.
    /// - Throws: what ``FunctionsLibrary/ensure(in:)`` throws; ``ClusterError/badSetting(name:found:allowed:server:)``
    ///   where the stored number of partitions is none; ``ClusterError/otherPartitions(found:asked:server:)`` where there
    ///   is a cluster with another number than the one asked for.
    public static func open(
        _ redis: RedisClient, keys: ClusterKeys = ClusterKeys(), partitions: Int? = nil
    ) async throws(ClusterError) -> Broker {
        let wanted = partitions ?? 16
        // Judged before it is stored: what stands there is the cluster's for good.
        _ = try Self.partitionCount("\(wanted)", keys, redis)
        try await FunctionsLibrary.ensure(in: redis)
        let count: Int
        do {
            _ = try await redis.send(
                RedisCommand("HSETNX", .string(keys.cluster), "partitions", .integer(wanted), repetition: .safe))
            let stored = try await redis.fields(keys.cluster, ["partitions"])[0]
            count = try Self.partitionCount(stored?.string ?? "\(wanted)", keys, redis)
        } catch let error as ClusterError {
            throw error
        } catch let error as RedisError {
            throw ClusterError(error)
        } catch {
            throw .unexpectedReply(function: "HGET", expected: "how many partitions there are")
        }
        // Pictures have their places by this number, so nobody can change it under those that are there.
        guard partitions == nil || partitions == count else {
            throw .otherPartitions(found: count, asked: wanted, server: "\(redis.url)")
        }
        let broker = Broker(redis: redis, keys: keys, partitionCount: count)
        _ = try await broker.callAll(
            broker.partitions.map {
                .call("kirie_prepare", keys: [keys.prefix($0)], [.integer(count)], repetition: .safe)
            })
        return broker
    }

    /// How many partitions a cluster may have.
    public static let partitionBounds = 1...16_384

    /// The number of partitions as it is stored.
    static func partitionCount(
        _ text: String, _ keys: ClusterKeys, _ redis: RedisClient
    ) throws(ClusterError) -> Int {
        guard let count = Int(text), partitionBounds.contains(count) else {
            throw .badSetting(
                name: "\(keys.cluster) partitions", found: String(text.prefix(40)),
                allowed: "a number from \(partitionBounds.lowerBound) to \(partitionBounds.upperBound)",
                server: "\(redis.url)")
        }
        return count
    }

    /// All partitions.
    public var partitions: [Partition] { (0..<partitionCount).map { Partition($0) } }

    /// Where an image lives.
    public func partition(of image: ImageDigest) -> Partition { Partition(of: image, among: partitionCount) }

    // MARK: Images

    /// Which of these images are in the cluster, for this tenant.
    public func hasImages(_ images: [ImageDigest]) async throws(ClusterError) -> [Bool] {
        try await presence(of: images).map { $0 == .stored }
    }

    /// Which of these embeddings are in the cluster: a job on one needs no picture.
    public func hasEmbeddings(_ embeddings: [EmbeddingKey]) async throws(ClusterError) -> [Bool] {
        let replies = try await callAll(
            embeddings.map {
                RedisCommand("EXISTS", .string(keys.embedding($0, in: partition(of: $0.image))))
            })
        return replies.map { $0.integer == 1 }
    }

    /// Stores an image file once; returns whether it is new.
    ///
    /// `bytes` are the file, or `ref:` and the path of a file below the encoders' shared folder.
    ///
    /// - Throws: ``ClusterError/backpressure(reason:retryAfter:)`` where Redis is full of what jobs need.
    @discardableResult
    public func putImage(
        _ image: ImageDigest, _ bytes: RedisArgument, for tenant: Tenant? = nil
    ) async throws(ClusterError) -> Bool {
        let reply = try await makingRoom(for: partition(of: image)) { () throws(ClusterError) in
            try await call(
                "kirie_image", in: partition(of: image),
                [.string(image.hexadecimal), bytes] + mention(tenant ?? self.tenant), repetition: .safe)
        }
        return reply.integer == 1
    }

    /// Stores an image file in parts, so that neither side holds all of it in one piece.
    ///
    /// - Parameters:
    ///   - image: the file's name.
    ///   - count: its bytes, at most 512 MiB.
    ///   - part: bytes of one call.
    ///   - read: the bytes from an offset, at most so many.
    /// - Returns: whether it is new.
    /// - Throws: what `read` throws; ``ClusterError/backpressure(reason:retryAfter:)`` where Redis is full of what jobs need.
    public func putImage(
        _ image: ImageDigest, bytes count: Int, part: Int = 1 << 20,
        read: @Sendable (_ offset: Int, _ limit: Int) async throws -> RedisBytes
    ) async throws -> Bool {
        if try await hasImages([image])[0] { return false }
        let place = partition(of: image)
        let upload = Job.makeIdentifier()
        for _ in 0..<3 {
            for offset in stride(from: 0, to: count, by: part) {
                let bytes = try await read(offset, part)
                _ = try await makingRoom(for: place) { () throws(ClusterError) in
                    try await call(
                        "kirie_image_part", in: place,
                        [.string(image.hexadecimal), .string(upload), .integer(offset), .bytes(bytes)],
                        repetition: .safe)
                }
            }
            let reply = try await makingRoom(for: place) { () throws(ClusterError) in
                try await call(
                    "kirie_image_whole", in: place,
                    [.string(image.hexadecimal), .string(upload), .integer(count)] + mention(tenant),
                    repetition: .safe)
            }
            // Parts may have been evicted, or gone with a Redis that lost what it had.
            if let answer = reply.integer, answer >= 0 { return answer == 1 }
        }
        throw ClusterError.backpressure(
            reason: "Redis is so short of memory that parts of pictures are evicted before the last comes",
            retryAfter: .seconds(1))
    }

    /// An image file; nil where it is not there.
    public func image(_ image: ImageDigest) async throws(ClusterError) -> RedisBytes? {
        do { return try await redis.get(keys.image(image, in: partition(of: image))) } catch {
            throw ClusterError(error)
        }
    }

    // MARK: Jobs

    /// Submits any number of jobs; each is accepted or refused for itself.
    ///
    /// Safe to repeat after a broken connection, as each job has its id.
    ///
    /// - Parameters:
    ///   - jobs: of any images and lanes.
    ///   - client: who is told of the ends, see ``ClusterKeys/reply(_:)``.
    /// - Returns: what became of each job, in their order.
    /// - Throws: where Redis as a whole does not do its work, also ``ClusterError/backpressure(reason:retryAfter:)``
    ///   when it is out of memory; some of the jobs may have been accepted.
    public func submit(_ jobs: [Job], client: String? = nil) async throws(ClusterError) -> [Submission] {
        let refusals = try await refusals(of: jobs)
        var outcomes = jobs.enumerated().map { index, job in
            Submission.refused(
                id: job.id, refusals[index] ?? .unexpectedReply(function: "kirie_submit", expected: "it"))
        }
        let open = jobs.indices.filter { refusals[$0] == nil }
        let offered = open.map { jobs[$0] }
        for (index, outcome) in zip(open, try await offer(offered, client: client)) { outcomes[index] = outcome }
        let lost = open.filter { if case .accepted = outcomes[$0] { false } else { true } }
        // Whoever repeats himself, or sends a picture first, is not charged for it.
        if !lost.isEmpty { try await giveBack(lost.map { jobs[$0] }) }
        return outcomes
    }

    /// Hands over jobs that no quota is against.
    private func offer(_ jobs: [Job], client: String?) async throws(ClusterError) -> [Submission] {
        var commands: [RedisCommand] = []
        var places: [[Int]] = []
        for (partition, indices) in byPartition(jobs, { partition(of: $0.image) }) {
            for chunk in indices.chunks(of: Self.batch) {
                var arguments: [RedisArgument] = [.string(client ?? "")]
                arguments.reserveCapacity(1 + 6 * chunk.count)
                for index in chunk {
                    let job = jobs[index]
                    arguments += [
                        .string((job.tenant ?? tenant).scoped(job.id)), .string(job.lane.rawValue),
                        .string(job.image.hexadecimal),
                        .string(job.model.text),
                        .integer(job.timeToLive.map { max(1, $0.milliseconds) } ?? 0), .bytes(job.line),
                    ]
                }
                commands.append(.call("kirie_submit", keys: [keys.prefix(partition)], arguments, repetition: .safe))
                places.append(chunk)
            }
        }
        var (replies, shortfalls) = try await submitAll(commands)
        // What Redis refuses for want of memory has not begun: only that is asked for again, where room can be made.
        for position in commands.indices where replies[position].outOfMemory != nil {
            let place = partition(of: jobs[places[position][0]].image)
            do throws(ClusterError) {
                (replies[position], shortfalls[position]) = try await makingRoom(for: place) {
                    () throws(ClusterError) in
                    let (again, shortfalls) = try await submitAll([commands[position]])
                    if let error = again[0].outOfMemory { throw error }
                    return (again[0], shortfalls[0])
                }
            } catch {
                guard error.isOutOfMemory else { throw error }
                break
            }
        }
        var outcomes = jobs.map {
            Submission.refused(id: $0.id, .unexpectedReply(function: "kirie_submit", expected: "it"))
        }
        for (position, chunk) in places.enumerated() {
            let reply = replies[position]
            if let refusal = reply.error {
                // A single job's refusal comes as an error; that of a whole call of several is the server's.
                guard let error = ClusterError(refusal: refusal), chunk.count == 1 else {
                    throw ClusterError(.server(refusal, command: "FCALL"))
                }
                outcomes[chunk[0]] = .refused(id: jobs[chunk[0]].id, error)
                continue
            }
            guard let items = reply.array, items.count == chunk.count else {
                throw .unexpectedReply(function: "kirie_submit", expected: "an answer for each job")
            }
            for (item, index) in zip(items, chunk) {
                outcomes[index] = try submission(item, partition(of: jobs[index].image))
                if let shortfall = shortfalls[position], outcomes[index].reference != nil {
                    outcomes[index] = .refused(id: jobs[index].id, shortfall)
                }
            }
        }
        return outcomes
    }

    /// The answers, and for which of the calls too few replicas have what it wrote.
    private func submitAll(
        _ commands: [RedisCommand]
    ) async throws(ClusterError) -> (replies: [RedisValue], shortfalls: [Int: ClusterError]) {
        guard let replication else { return (try await pipeline(commands), [:]) }
        let results = await withTaskGroup(of: (Int, Result<(reply: RedisValue, replicas: Int), RedisError>).self) {
            [redis] group in
            for (position, command) in commands.enumerated() {
                group.addTask {
                    do throws(RedisError) {
                        let answer = try await redis.sendReplicated(
                            command, to: replication.replicas, within: replication.limit)
                        return (position, .success(answer))
                    } catch {
                        return (position, .failure(error))
                    }
                }
            }
            var results: [Int: Result<(reply: RedisValue, replicas: Int), RedisError>] = [:]
            for await (position, result) in group { results[position] = result }
            return results
        }
        var replies: [RedisValue] = []
        var shortfalls: [Int: ClusterError] = [:]
        for position in commands.indices {
            let (reply, replicas): (RedisValue, Int)
            do throws(RedisError) {
                (reply, replicas) = try results[position]?.get() ?? (.null, 0)
            } catch {
                throw ClusterError(error)
            }
            replies.append(reply)
            guard replicas < replication.replicas else { continue }
            shortfalls[position] = .cannotServe(
                reason: "\(replicas) of the \(replication.replicas) replicas asked for had the job within "
                    + "\(replication.limit); the primary has it, and may lose it with itself",
                remedy: "submit it again under its id, and see to the replicas (INFO replication)",
                retryAfter: .seconds(1))
        }
        return (replies, shortfalls)
    }

    private func submission(_ reply: RedisValue, _ partition: Partition) throws(ClusterError) -> Submission {
        guard let parts = reply.array, parts.count == 3, let id = parts[0].string, let word = parts[1].string else {
            throw .unexpectedReply(function: "kirie_submit", expected: "id, state and whether it is new")
        }
        let reference = JobReference(name: id, partition: partition)
        if let state = JobState(rawValue: word) {
            return parts[2].integer == 1 ? .accepted(reference, state) : .known(reference, state)
        }
        guard word == "refused", let text = parts[2].string else {
            throw .unexpectedReply(function: "kirie_submit", expected: "a state")
        }
        return .refused(id: reference.id, ClusterError(refusal: RedisServerError(text)) ?? .badJob(reason: text))
    }

    /// Where jobs stand; nil for those that are not known, or no longer.
    public func status(_ references: [JobReference]) async throws(ClusterError) -> [JobStatus?] {
        let answers = try await ask("kirie_status", references, readOnly: true)
        return zip(references, answers).map { reference, reply in reply.fields.flatMap { JobStatus(reference, $0) } }
    }

    /// Looks for jobs by id in all partitions; an id that was used for several images is found several times.
    public func find(_ ids: [String]) async throws(ClusterError) -> [String: [JobStatus]] {
        let references = partitions.flatMap { partition in
            ids.map { JobReference(id: $0, partition: partition, tenant: tenant) }
        }
        var found: [String: [JobStatus]] = [:]
        for case let status? in try await status(references) { found[status.reference.id, default: []].append(status) }
        return found
    }

    /// Ends jobs that have not ended; returns the state of each, nil for those that are not known.
    public func cancel(_ references: [JobReference]) async throws(ClusterError) -> [JobState?] {
        let answers = try await ask("kirie_cancel", references, readOnly: false)
        return answers.map { $0.array?.last?.string.flatMap(JobState.init(rawValue:)) }
    }

    /// The results of jobs; nil for those that have none, or no longer.
    public func results(_ references: [JobReference]) async throws(ClusterError) -> [RedisBytes?] {
        let replies = try await callAll(
            references.map { RedisCommand("GET", .string(keys.result($0.name, in: $0.partition))) })
        return replies.map(\.bytes)
    }

    // MARK: Calls

    /// One call of a function.
    func call(
        _ function: String, in partition: Partition, _ arguments: [RedisArgument],
        repetition: RedisCommand.Repetition = .unsafe
    ) async throws(ClusterError) -> RedisValue {
        do {
            return try await redis.call(
                function, keys: [keys.prefix(partition)], arguments, repetition: repetition)
        } catch {
            throw ClusterError(error)
        }
    }

    func pipeline(_ commands: [RedisCommand]) async throws(ClusterError) -> [RedisValue] {
        if commands.isEmpty { return [] }
        do { return try await redis.pipeline(commands) } catch { throw ClusterError(error) }
    }

    /// Several commands in one go; the first error is thrown.
    func callAll(_ commands: [RedisCommand]) async throws(ClusterError) -> [RedisValue] {
        let replies = try await pipeline(commands)
        for (reply, command) in zip(replies, commands) {
            if let refusal = reply.error { throw ClusterError(.server(refusal, command: command.name)) }
        }
        return replies
    }

    /// A function that takes ids and answers for each.
    private func ask(
        _ function: String, _ references: [JobReference], readOnly: Bool
    ) async throws(ClusterError) -> [RedisValue] {
        var commands: [RedisCommand] = []
        var places: [[Int]] = []
        for (partition, indices) in byPartition(references, \.partition) {
            for chunk in indices.chunks(of: Self.batch) {
                let prefix = [keys.prefix(partition)]
                let ids = chunk.map { RedisArgument.string(references[$0].name) }
                commands.append(
                    readOnly
                        ? .callReadOnly(function, keys: prefix, ids)
                        : .call(function, keys: prefix, ids, repetition: .safe))
                places.append(chunk)
            }
        }
        let replies = try await callAll(commands)
        var answers: [RedisValue] = Array(repeating: .null, count: references.count)
        for (reply, chunk) in zip(replies, places) {
            guard let items = reply.array, items.count == chunk.count else {
                throw .unexpectedReply(function: function, expected: "an answer for each job")
            }
            for (item, index) in zip(items, chunk) { answers[index] = item }
        }
        return answers
    }

    /// The indices of the elements, by partition.
    func byPartition<Element>(
        _ elements: [Element], _ partition: (Element) -> Partition
    ) -> [(Partition, [Int])] {
        Dictionary(grouping: elements.indices) { partition(elements[$0]) }.sorted { $0.key < $1.key }
            .map { ($0.key, $0.value) }
    }
}

extension Array {
    /// Stretches of at most `size` elements.
    package func chunks(of size: Int) -> [[Element]] {
        stride(from: 0, to: count, by: size).map { Array(self[$0..<Swift.min($0 + size, count)]) }
    }
}

extension Duration {
    /// Whole milliseconds, rounded down.
    var milliseconds: Int {
        let (seconds, attoseconds) = components
        let (product, overflow) = Int(seconds).multipliedReportingOverflow(by: 1000)
        return overflow ? (seconds < 0 ? .min : .max) : product + Int(attoseconds / 1_000_000_000_000_000)
    }
}
