/// One entry of a stream.
public struct StreamEntry: Sendable, Hashable {
    /// `<milliseconds>-<sequence>`.
    public let id: String
    /// Names and values by turns, as they were added.
    public let fields: [String: RedisValue]

    init?(_ reply: RedisValue) {
        guard let parts = reply.array, parts.count == 2, let id = parts[0].string else { return nil }
        self.id = id
        // An entry that was deleted while pending has an identifier and no fields.
        fields = parts[1].fields ?? [:]
    }
}

/// What a consumer group has and has not read.
public struct StreamGroup: Sendable, Hashable {
    /// Its name.
    public let name: String
    /// Consumers it knows.
    public let consumers: Int
    /// Entries delivered and not acknowledged.
    public let pending: Int
    /// The last entry delivered.
    public let lastDelivered: String
    /// Entries not yet delivered; nil where the server cannot tell, because entries in between were deleted.
    public let lag: Int?

    /// A group of its parts.
    public init(name: String, consumers: Int, pending: Int, lastDelivered: String, lag: Int?) {
        self.name = name
        self.consumers = consumers
        self.pending = pending
        self.lastDelivered = lastDelivered
        self.lag = lag
    }
}

/// What is pending in a consumer group.
public struct StreamPending: Sendable, Hashable {
    /// Entries delivered and not acknowledged.
    public let count: Int
    /// The oldest of them.
    public let first: String?
    /// The newest of them.
    public let last: String?
    /// How many each consumer holds.
    public let consumers: [String: Int]
}

/// Streams: <https://redis.io/docs/latest/commands/?group=stream>.
extension RedisClient {
    /// Adds an entry; returns its identifier.
    ///
    /// About `limit` of the newest entries are kept; nil for all.
    @discardableResult
    public func appendEntry(
        _ key: String, _ fields: [(name: String, value: RedisArgument)], limit: Int? = nil
    ) async throws(RedisError) -> String {
        var arguments: [RedisArgument] = [.string(key)]
        if let limit { arguments += ["MAXLEN", "~", .integer(limit)] }
        arguments.append("*")
        for field in fields { arguments += [.string(field.name), field.value] }
        return try await expect(RedisCommand("XADD", arguments), "an identifier") { $0.string }
    }

    /// The number of entries.
    public func entryCount(_ key: String) async throws(RedisError) -> Int {
        try await expect(RedisCommand("XLEN", .string(key)), "an integer") { $0.integer }
    }

    /// Entries from `first` to `last`, both included; `-` and `+` are the ends of the stream.
    public func entries(
        _ key: String, first: String = "-", last: String = "+", limit: Int
    ) async throws(RedisError) -> [StreamEntry] {
        let command = RedisCommand(
            "XRANGE", .string(key), .string(first), .string(last), "COUNT", .integer(limit))
        return try await expect(command, "entries") { $0.array?.compactMap(StreamEntry.init) }
    }

    /// Removes entries; returns how many there were.
    @discardableResult
    public func removeEntries(_ key: String, _ ids: [String]) async throws(RedisError) -> Int {
        let command = RedisCommand("XDEL", [.string(key)] + ids.map { .string($0) }, repetition: .safe)
        return try await expect(command, "an integer") { $0.integer }
    }

    /// Makes a consumer group, and the stream where there is none; returns false where the group was there.
    @discardableResult
    public func makeGroup(
        _ key: String, _ group: String, from start: String = "0"
    ) async throws(RedisError) -> Bool {
        let command = RedisCommand(
            "XGROUP", "CREATE", .string(key), .string(group), .string(start), "MKSTREAM", repetition: .safe)
        do throws(RedisError) {
            _ = try await send(command)
            return true
        } catch {
            guard error.serverCode == "BUSYGROUP" else { throw error }
            return false
        }
    }

    /// Reads new entries for a consumer, waiting for the first; empty when the time is over, and at once without one.
    public func readGroup(
        _ group: String, consumer: String, streams keys: [String], limit: Int, for wait: Duration? = nil
    ) async throws(RedisError) -> [(key: String, entries: [StreamEntry])] {
        var arguments: [RedisArgument] = ["GROUP", .string(group), .string(consumer), "COUNT", .integer(limit)]
        if let wait { arguments += ["BLOCK", .integer(wait.wholeMilliseconds)] }
        arguments.append("STREAMS")
        arguments += keys.map { .string($0) } + keys.map { _ in ">" }
        let command = RedisCommand("XREADGROUP", arguments)
        let reply = if let wait { try await block(command, for: wait) } else { try await send(command) }
        guard let streams = reply.array else { return [] }
        return streams.compactMap { stream in
            guard let parts = stream.array, parts.count == 2, let key = parts[0].string else { return nil }
            return (key, (parts[1].array ?? []).compactMap(StreamEntry.init))
        }
    }

    /// Acknowledges entries; returns how many were pending.
    @discardableResult
    public func acknowledge(_ key: String, _ group: String, _ ids: [String]) async throws(RedisError) -> Int {
        let arguments = [.string(key), .string(group)] + ids.map { RedisArgument.string($0) }
        return try await expect(RedisCommand("XACK", arguments, repetition: .safe), "an integer") { $0.integer }
    }

    /// The consumer groups of a stream; empty where there is no such stream.
    public func groups(_ key: String) async throws(RedisError) -> [StreamGroup] {
        do throws(RedisError) {
            return try await expect(RedisCommand("XINFO", "GROUPS", .string(key)), "groups") { reply in
                reply.array?.compactMap { group in
                    guard let fields = group.fields, let name = fields["name"]?.string else { return nil }
                    return StreamGroup(
                        name: name, consumers: fields["consumers"]?.integer ?? 0,
                        pending: fields["pending"]?.integer ?? 0,
                        lastDelivered: fields["last-delivered-id"]?.string ?? "0-0", lag: fields["lag"]?.integer)
                }
            }
        } catch {
            guard error.serverCode == "ERR" else { throw error }
            return []
        }
    }

    /// What a consumer group holds.
    public func pending(_ key: String, _ group: String) async throws(RedisError) -> StreamPending {
        try await expect(RedisCommand("XPENDING", .string(key), .string(group)), "a summary") { reply in
            guard let parts = reply.array, parts.count == 4, let count = parts[0].integer else { return nil }
            var consumers: [String: Int] = [:]
            for consumer in parts[3].array ?? [] {
                guard let pair = consumer.array, pair.count == 2, let name = pair[0].string else { continue }
                consumers[name] = pair[1].integer ?? 0
            }
            return StreamPending(count: count, first: parts[1].string, last: parts[2].string, consumers: consumers)
        }
    }
}
