public import Redis
public import Segmentation

/// What workers call.
extension Broker {
    /// Takes pictures to encode.
    ///
    /// - Parameters:
    ///   - partition: whose streams are looked at.
    ///   - worker: the name that leases and consumers show.
    ///   - model: what this worker can encode for; entries of others are set aside for theirs.
    ///   - lane: nil for the rule, interactive before bulk.
    ///   - count: 1 to 256.
    ///   - lease: how long the right lasts unless renewed; whole milliseconds.
    ///   - age: only from streams whose head has waited for so long, to help out where a partition's owner is behind.
    ///   - turns: what the worker knows of tenants' turns elsewhere, and learns of them here.
    /// - Returns: a lease for each picture, and whether the queue holds no more; ``Taken/again`` where the bound of one
    ///   call was reached before anything was found, ``Taken/idle`` where there is nothing.
    /// - Throws: ``ClusterError`` where Redis does not answer, or not as the functions do.
    public func takeEncodes(
        in partition: Partition, worker: String, model: ModelIdentifier, lane: Lane? = nil, count: Int = 1,
        lease: Duration,
        age: Duration = .zero, turns: TurnLedger? = nil
    ) async throws(ClusterError) -> Taken<[EncodeLease]> {
        let (parts, isLast, _) = try await take(.encode, partition, worker, model, lane, count, lease, age, turns)
        guard let isLast else { return parts.first?.string == "again" ? .again : .idle }
        let leases = parts.dropFirst().compactMap { EncodeLease($0, partition) }
        guard leases.count == parts.count - 1, !leases.isEmpty else {
            throw .unexpectedReply(function: "kirie_take", expected: "leases of encodes")
        }
        return .work(leases, isLast: isLast)
    }

    /// Takes jobs on one picture; the parameters are those of an encoder's take.
    ///
    /// With `ahead`, only those of tenants that take less than their share, which are to pass what is being done.
    public func takePrompts(
        in partition: Partition, worker: String, model: ModelIdentifier, lane: Lane? = nil, count: Int, lease: Duration,
        age: Duration = .zero, turns: TurnLedger? = nil, ahead: Bool = false
    ) async throws(ClusterError) -> Taken<PromptBatch> {
        let (parts, isLast, isPassed) = try await take(
            .decode, partition, worker, model, lane, count, lease, age, turns, ahead: ahead)
        guard let isLast else { return parts.first?.string == "again" ? .again : .idle }
        let leases = parts.dropFirst(3).compactMap { PromptLease($0, partition) }
        guard leases.count == parts.count - 3, !leases.isEmpty, let key = parts[1].string.flatMap({ EmbeddingKey($0) }),
            let lane = parts[2].string.flatMap(Lane.init(rawValue:))
        else { throw .unexpectedReply(function: "kirie_take", expected: "leases of jobs") }
        var batch = PromptBatch(partition: partition, key: key, lane: lane, leases: leases)
        batch.standing = ahead ? .passing : isPassed ? .passed : .usual
        return .work(batch, isLast: isLast)
    }

    /// The reply, and, where it brings work, whether that is the last in the queue, and whether others may pass it.
    private func take(
        _ stage: Stage, _ partition: Partition, _ worker: String, _ model: ModelIdentifier, _ lane: Lane?, _ count: Int,
        _ lease: Duration, _ age: Duration, _ turns: TurnLedger?, ahead: Bool = false
    ) async throws(ClusterError) -> (parts: [RedisValue], isLast: Bool?, isPassed: Bool) {
        let reply = try await call(
            "kirie_take", in: partition,
            [
                .string(stage.rawValue), .string(worker), .string(model.text), .string(lane?.rawValue ?? "any"),
                .integer(count), .integer(max(1, lease.milliseconds)), .integer(max(0, age.milliseconds)), "last",
            ] + (turns?.arguments(ahead: ahead) ?? []))
        var parts = reply.array ?? []
        var isPassed = false
        if parts.count == 3, parts[0].string == "turns" {
            isPassed = turns?.note(parts[2].array ?? [], in: partition) ?? false
            parts = parts[1].array ?? []
        } else if !ahead {
            turns?.forget(partition, broughtWork: ["work", "last"].contains(parts.first?.string))
        }
        switch parts.first?.string {
        case "work": return (parts, false, isPassed)
        case "last": return (parts, true, isPassed)
        default: return (parts, nil, isPassed)
        }
    }

    /// Extends leases; they run `lease` from now.
    public func renew(_ names: [LeaseName], lease: Duration) async throws(ClusterError) -> [Renewal] {
        let words = try await forEach("kirie_renew", names, head: [.integer(max(1, lease.milliseconds))])
        return try read(words, "kirie_renew", "what became of each lease") { $0.string.flatMap(Renewal.init) }
    }

    /// Hands work back unfinished: at once queued again, and no attempt is counted.
    public func handBack(_ names: [LeaseName]) async throws(ClusterError) {
        _ = try await forEach("kirie_return", names, head: [])
    }

    private func forEach(
        _ function: String, _ names: [LeaseName], head: [RedisArgument]
    ) async throws(ClusterError) -> [RedisValue] {
        var commands: [RedisCommand] = []
        var places: [[Int]] = []
        for (partition, indices) in byPartition(names, \.partition) {
            for chunk in indices.chunks(of: Self.batch) {
                commands.append(
                    .call(
                        function, keys: [keys.prefix(partition)], head + chunk.flatMap { names[$0].arguments },
                        repetition: .safe))
                places.append(chunk)
            }
        }
        let replies = try await callAll(commands)
        var answers: [RedisValue] = Array(repeating: .null, count: names.count)
        for (reply, chunk) in zip(replies, places) {
            for (item, index) in zip(reply.array ?? [], chunk) { answers[index] = item }
        }
        return answers
    }

    private func read<Answer>(
        _ replies: [RedisValue], _ function: String, _ promise: String, _ take: (RedisValue) -> Answer?
    ) throws(ClusterError) -> [Answer] {
        var answers: [Answer] = []
        answers.reserveCapacity(replies.count)
        for reply in replies {
            guard let answer = take(reply) else { throw .unexpectedReply(function: function, expected: promise) }
            answers.append(answer)
        }
        return answers
    }

    /// Publishes an embedding and releases all jobs parked on it.
    ///
    /// - Parameters:
    ///   - record: the embedding's record, or a short mark where embeddings are kept in another Redis.
    ///   - lease: the right to encode that picture, as it was taken.
    ///   - expiry: after which the embedding goes unless memory was short before; whole milliseconds, at least one.
    /// - Returns: false where the lease was lost.
    /// - Throws: ``ClusterError/backpressure(reason:retryAfter:)`` when Redis is out of memory and nothing in it can
    ///   go: renew, and try again.
    public func publish(
        _ record: RedisBytes, for lease: EncodeLease, expiry: Duration
    ) async throws(ClusterError) -> Bool {
        let arguments: [RedisArgument] = [
            .string(lease.key.description), .string(lease.token), .integer(max(1, expiry.milliseconds)),
            .bytes(record),
        ]
        let reply = try await makingRoom(for: lease.partition) { () throws(ClusterError) in
            try await call("kirie_ready", in: lease.partition, arguments, repetition: .safe)
        } whenFull: { () throws(ClusterError) in
            try await call("kirie_ready_full", in: lease.partition, arguments, repetition: .safe)
        }
        guard let parts = reply.array, parts.count == 3, let word = parts[0].string, var left = parts[2].integer else {
            throw .unexpectedReply(function: "kirie_ready", expected: "how many jobs were released")
        }
        while left > 0 {
            let more = try await call(
                "kirie_release", in: lease.partition, [.string(lease.key.description)], repetition: .safe)
            left = more.array?.last?.integer ?? 0
        }
        return word == "published"
    }

    /// Sends jobs back to wait for their embedding, which was evicted, or is there and `corrupt`: then it is removed.
    public func reportMissing(_ batch: PromptBatch, corrupt: Bool) async throws(ClusterError) {
        for chunk in batch.leases.chunks(of: Self.batch) {
            let arguments: [RedisArgument] =
                [.string(batch.key.description), .integer(corrupt ? 1 : 0)]
                + chunk.flatMap { [.string($0.reference.name), .string($0.token)] }
            _ = try await call("kirie_missing", in: batch.partition, arguments, repetition: .safe)
        }
    }

    /// Ends jobs with their results.
    ///
    /// - Throws: ``ClusterError/backpressure(reason:retryAfter:)`` when Redis is out of memory and nothing in it can go;
    ///   some of the jobs may have ended, and to end them again changes nothing.
    public func complete(
        _ results: [(lease: PromptLease, result: RedisBytes)]
    ) async throws(ClusterError) -> [Completion] {
        guard let partition = results.first?.lease.reference.partition else { return [] }
        return try await makingRoom(for: partition) { () throws(ClusterError) in
            try await complete(results, by: "kirie_complete")
        } whenFull: { () throws(ClusterError) in
            try await complete(results, by: "kirie_complete_full")
        }
    }

    private func complete(
        _ results: [(lease: PromptLease, result: RedisBytes)], by function: String
    ) async throws(ClusterError) -> [Completion] {
        var commands: [RedisCommand] = []
        var places: [[Int]] = []
        for (partition, indices) in byPartition(results, { $0.lease.reference.partition }) {
            for chunk in indices.chunks(of: Self.batch) {
                let arguments = chunk.flatMap { index -> [RedisArgument] in
                    let (lease, result) = results[index]
                    return [.string(lease.reference.name), .string(lease.token), .bytes(result)]
                }
                commands.append(.call(function, keys: [keys.prefix(partition)], arguments, repetition: .safe))
                places.append(chunk)
            }
        }
        let replies = try await callAll(commands)
        var answers: [RedisValue] = Array(repeating: .null, count: results.count)
        for (reply, chunk) in zip(replies, places) {
            for (item, index) in zip(reply.array ?? [], chunk) { answers[index] = item }
        }
        return try read(answers, function, "what became of each job", Completion.init)
    }

    /// Ends, or tries again, work that could not be done.
    ///
    /// Where the fault `mayPass`, the work is tried again after a pause, until its attempts are used up. Of the
    /// `reason`, which is said of the jobs, the first 1000 bytes are kept.
    public func fail(_ name: LeaseName, mayPass: Bool, reason: String) async throws(ClusterError) {
        let arguments =
            name.arguments + [.integer(mayPass ? 1 : 0), .string(reason.isEmpty ? "no reason given" : reason)]
        _ = try await call("kirie_fail", in: name.partition, arguments, repetition: .safe)
    }

    /// Adds to what is watched: how often decoders fetched an embedding from Redis, and had it in their memory.
    public func count(fetches: Int, hits: Int, in partition: Partition) async throws(ClusterError) {
        let key = RedisArgument.string(keys.counters(partition))
        _ = try await callAll([
            RedisCommand("HINCRBY", key, "fetches", .integer(fetches)),
            RedisCommand("HINCRBY", key, "hits", .integer(hits)),
        ])
    }
}
