import Redis
public import Segmentation

/// What a call of the janitor found to do in a partition.
public struct Housekeeping: Sendable, Hashable {
    /// Work whose pause was over.
    public let promoted: Int
    /// Leases that had run out.
    public let reclaimed: Int
    /// Jobs whose deadline had passed.
    public let expired: Int
    /// Ended jobs that were forgotten after their retention.
    public let removed: Int
    /// Whether there is more: call again.
    public let unfinished: Bool
    /// Until a lease, a pause or a deadline is due; nil where there is none.
    public let nextDue: Duration?
}

/// A job that was given up, or a stream entry that is none.
public struct DeadLetter: Sendable, Hashable {
    /// The stream entry's id; with the partition it names the letter.
    public let entry: String
    /// Where it lies.
    public let partition: Partition
    /// Everything that is known: job, key, lane, reason, attempts, worker, at (microseconds since 1970), source.
    public let fields: [String: String]

    /// The job; nil for an entry that named none.
    public var job: String? { reference?.id }
    /// The job and whose it is; nil for an entry that named none.
    public var reference: JobReference? {
        fields["source"] == "stream" ? nil : fields["job"].map { JobReference(name: $0, partition: partition) }
    }
    /// Why.
    public var reason: String { fields["reason"] ?? "" }
}

/// What operators and the background of every worker call.
extension Broker {
    /// Does what time brings in some partitions, a bounded part of it; every worker calls it about twice a second.
    public func keepHouse(_ partitions: [Partition], limit: Int = 100) async throws(ClusterError) -> [Housekeeping] {
        let replies = try await callAll(
            partitions.map {
                .call("kirie_janitor", keys: [keys.prefix($0)], [.integer(limit)], repetition: .safe)
            })
        return try replies.map { reply throws(ClusterError) in
            let numbers = reply.array?.compactMap(\.integer) ?? []
            guard numbers.count == 7 else {
                throw .unexpectedReply(function: "kirie_janitor", expected: "seven numbers")
            }
            return Housekeeping(
                promoted: numbers[0], reclaimed: numbers[1], expired: numbers[2], removed: numbers[3],
                unfinished: numbers[5] == 1, nextDue: numbers[6] < 0 ? nil : .milliseconds(numbers[6]))
        }
    }

    /// Changes settings of every partition (`Protocol.md`, "Settings"), such as `jobs:bulk` or `retention_ms`, at once.
    ///
    /// - Throws: where a name is unknown or a number negative.
    public func set(_ settings: [String: Int]) async throws(ClusterError) {
        let fields = settings.sorted { $0.key < $1.key }.flatMap { [RedisArgument.string($0.key), .integer($0.value)] }
        guard !fields.isEmpty else { return }
        _ = try await callAll(
            partitions.map { .call("kirie_limits", keys: [keys.prefix($0)], fields, repetition: .safe) })
    }

    /// The dead letters, oldest first, at most `limit` of each partition.
    public func deadLetters(limit: Int = 1000) async throws(ClusterError) -> [DeadLetter] {
        let replies = try await callAll(
            partitions.map {
                RedisCommand(
                    "XRANGE", .string(keys.deadLetters($0)), "-", "+", "COUNT", .integer(limit), repetition: .safe)
            })
        let letters = zip(partitions, replies).flatMap { Self.letters(in: $1, of: $0) }
        return letters.sorted { ($0.fields["at"] ?? "", $0.entry) < ($1.fields["at"] ?? "", $1.entry) }
    }

    /// One dead letter by its entry; nil where there is none, or no longer.
    package func deadLetter(_ entry: String, in partition: Partition) async throws(ClusterError) -> DeadLetter? {
        // A part of an id means a range to Redis, and what is no id an error.
        let parts = entry.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ UInt64($0) != nil }) else { return nil }
        let replies = try await callAll([
            RedisCommand(
                "XRANGE", .string(keys.deadLetters(partition)), .string(entry), .string(entry), repetition: .safe)
        ])
        return Self.letters(in: replies[0], of: partition).first { $0.entry == entry }
    }

    private static func letters(in reply: RedisValue, of partition: Partition) -> [DeadLetter] {
        (reply.array ?? []).compactMap { entry in
            guard let parts = entry.array, parts.count == 2, let id = parts[0].string else { return nil }
            let fields = (parts[1].fields ?? [:]).compactMapValues(\.string)
            return DeadLetter(entry: id, partition: partition, fields: fields)
        }
    }

    /// Brings dead jobs back; returns for each its new state, or nil where it cannot be (no job, or its image is gone).
    public func retry(_ letters: [DeadLetter]) async throws(ClusterError) -> [JobState?] {
        var states: [JobState?] = Array(repeating: nil, count: letters.count)
        for (partition, indices) in byPartition(letters, \.partition) {
            for chunk in indices.chunks(of: Self.batch) {
                let reply = try await makingRoom(for: partition) { () throws(ClusterError) in
                    try await call("kirie_dead_retry", in: partition, chunk.map { .string(letters[$0].entry) })
                }
                for (item, index) in zip(reply.array ?? [], chunk) {
                    states[index] = item.string.flatMap(JobState.init(rawValue:))
                }
            }
        }
        return states
    }

    /// Removes dead letters with what is left of their jobs; returns how many.
    @discardableResult
    public func purge(_ letters: [DeadLetter]) async throws(ClusterError) -> Int {
        var removed = 0
        for (partition, indices) in byPartition(letters, \.partition) {
            for chunk in indices.chunks(of: Self.batch) {
                let entries = chunk.map { RedisArgument.string(letters[$0].entry) }
                removed += try await call("kirie_dead_purge", in: partition, entries, repetition: .safe).integer ?? 0
            }
        }
        return removed
    }

    /// How much the workers of a stage and model have to do.
    ///
    /// Encodes, or jobs, that wait (queued, set aside, or in a pause) or are in work, in both lanes. The number to scale by; O(partitions), and true when jobs are cancelled or expire.
    public func demand(_ stage: Stage, model: ModelIdentifier) async throws(ClusterError) -> Int {
        let replies = try await callAll(
            partitions.map {
                .callReadOnly(
                    "kirie_demand", keys: [keys.prefix($0)], [.string(stage.rawValue), .string(model.text)])
            })
        return replies.reduce(0) { $0 + ($1.integer ?? 0) }
    }

    /// The same of several models together, in one round trip however many they are.
    public func demand(_ stage: Stage, models: [ModelIdentifier]) async throws(ClusterError) -> Int {
        if models.count == 1 { return try await demand(stage, model: models[0]) }
        let wanted = Set(models.map { "\(stage.rawValue):\($0.text)" })
        let replies = try await callAll(partitions.map { .callReadOnly("kirie_demand", keys: [keys.prefix($0)]) })
        return replies.reduce(0) { sum, reply in
            (reply.fields ?? [:]).reduce(sum) { $0 + (wanted.contains($1.key) ? $1.value.integer ?? 0 : 0) }
        }
    }

    /// What there is to watch, a reply of bounded size from each partition.
    public func statistics() async throws(ClusterError) -> QueueStatistics {
        let replies = try await callAll(
            partitions.map { .callReadOnly("kirie_stats", keys: [keys.prefix($0)]) })
        return QueueStatistics(partitions: replies.map { ($0.fields ?? [:]).compactMapValues(\.string) })
    }
}
