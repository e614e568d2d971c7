public import Redis
public import Segmentation

/// A part of a job, which any decoder does.
public struct JobPart: Sendable {
    /// The picture that it is done on, of the job's partition.
    public let image: ImageDigest
    /// What is stored under that name unless something is, such as how it is cut out of another; nil where it is there.
    public let stored: RedisBytes?
    /// What is to be done.
    public let line: RedisBytes

    /// A part on a picture.
    public init(image: ImageDigest, stored: RedisBytes?, line: RedisBytes) {
        self.image = image
        self.stored = stored
        self.line = line
    }
}

/// Jobs that are done in parts, and what they find.
extension Broker {
    /// The most parts that a job may have.
    public static let mostParts = 1024

    /// Has a job done in parts; it comes back when all of them are done.
    ///
    /// - Parameters:
    ///   - lease: the right to the job.
    ///   - parts: at least one; they come behind those that it has.
    /// - Throws: ``ClusterError`` where Redis does not answer, or has no room.
    public func divide(_ lease: PromptLease, into parts: [JobPart]) async throws(ClusterError) {
        let partition = lease.reference.partition
        let arguments: [RedisArgument] =
            [.string(lease.reference.name), .string(lease.token)]
            + parts.flatMap { part -> [RedisArgument] in
                [.string(part.image.hexadecimal), part.stored.map { .bytes($0) } ?? .string(""), .bytes(part.line)]
            }
        _ = try await makingRoom(for: partition) { () throws(ClusterError) in
            try await call("kirie_divide", in: partition, arguments, repetition: .safe)
        }
    }

    /// Bytes of the results of a job's parts, of those that are done.
    public func partResultBytes(of job: JobReference) async throws(ClusterError) -> Int {
        var bytes = 0
        for chunk in try await parts(of: job).chunks(of: Self.batch) {
            for reply in try await callAll(
                chunk.map { RedisCommand("STRLEN", .string(keys.result($0, in: job.partition))) })
            {
                bytes += Int(reply.integer ?? 0)
            }
        }
        return bytes
    }

    /// The results of a job's parts in their order; empty for a job that was not divided.
    public func partResults(of job: JobReference) async throws(ClusterError) -> [RedisBytes] {
        let ids = try await parts(of: job)
        var results: [RedisBytes] = []
        for chunk in ids.chunks(of: Self.batch) {
            for reply in try await callAll(
                chunk.map { RedisCommand("GET", .string(keys.result($0, in: job.partition))) })
            {
                guard let bytes = reply.bytes else {
                    throw .unexpectedReply(function: "kirie_divide", expected: "a result of each part")
                }
                results.append(bytes)
            }
        }
        return results
    }

    /// The results of a job's parts that are done by now, by the part's name: for those who want to see them as they come.
    ///
    /// - Parameters:
    ///   - job: which.
    ///   - known: names of parts whose results are not wanted again.
    /// - Returns: by name, the results of the others that are done.
    /// - Throws: where Redis does not answer.
    public func partResults(
        of job: JobReference, besides known: Set<String>
    ) async throws(ClusterError) -> [String: RedisBytes] {
        let ids = try await parts(of: job).filter { !known.contains($0) }
        var results: [String: RedisBytes] = [:]
        for chunk in ids.chunks(of: Self.batch) {
            let replies = try await callAll(
                chunk.map { RedisCommand("GET", .string(keys.result($0, in: job.partition))) })
            for (id, reply) in zip(chunk, replies) { results[id] = reply.bytes }
        }
        return results
    }

    /// The names of a job's parts.
    private func parts(of job: JobReference) async throws(ClusterError) -> [String] {
        let key = "\(keys.prefix(job.partition))parts:\(job.name)"
        return (try await callAll([RedisCommand("LRANGE", .string(key), "0", "-1")]).first?.array ?? [])
            .compactMap(\.string)
    }

    /// Keeps what was found and can be found again.
    public func keep(
        _ bytes: RedisBytes, as name: String, in partition: Partition, timeToLive: Duration
    ) async throws(ClusterError) {
        _ = try await call(
            "kirie_keep", in: partition, [.string(name), .integer(max(1, timeToLive.milliseconds)), .bytes(bytes)],
            repetition: .safe)
    }

    /// What was kept under a name; nil where it is gone.
    public func kept(_ name: String, in partition: Partition) async throws(ClusterError) -> RedisBytes? {
        try await callAll([RedisCommand("GET", .string("\(keys.prefix(partition))candidates:\(name)"))]).first?.bytes
    }
}
