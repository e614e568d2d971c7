/// Hashes: <https://redis.io/docs/latest/commands/?group=hash>.
extension RedisClient {
    /// Sets fields; returns how many of them are new.
    @discardableResult
    public func setFields(
        _ key: String, _ fields: [(name: String, value: RedisArgument)]
    ) async throws(RedisError) -> Int {
        let arguments = [.string(key)] + fields.flatMap { [.string($0.name), $0.value] }
        return try await expect(RedisCommand("HSET", arguments, repetition: .safe), "an integer") { $0.integer }
    }

    /// All fields; empty where there is no such hash.
    public func fields(_ key: String) async throws(RedisError) -> [String: RedisValue] {
        try await expect(RedisCommand("HGETALL", .string(key)), "fields") { $0.fields }
    }

    /// Some fields in the order asked for; nil for those that are not there.
    public func fields(_ key: String, _ names: [String]) async throws(RedisError) -> [RedisBytes?] {
        let command = RedisCommand("HMGET", [.string(key)] + names.map { .string($0) })
        return try await expect(command, "an array of \(names.count)") { reply in
            reply.array.flatMap { $0.count == names.count ? $0.map(\.bytes) : nil }
        }
    }

    /// Adds to a number in a field; a missing one counts as 0.
    @discardableResult
    public func incrementField(_ key: String, _ name: String, by amount: Int = 1) async throws(RedisError) -> Int {
        let command = RedisCommand("HINCRBY", .string(key), .string(name), .integer(amount))
        return try await expect(command, "an integer") { $0.integer }
    }
}

/// An end of a list.
public enum ListEnd: String, Sendable, Hashable {
    /// The first element.
    case left = "LEFT"
    /// The last element.
    case right = "RIGHT"
}

/// Lists: <https://redis.io/docs/latest/commands/?group=list>.
extension RedisClient {
    /// Puts values at an end, one after another; returns the list's length.
    @discardableResult
    public func push(
        _ key: String, _ values: [RedisArgument], at end: ListEnd = .right
    ) async throws(RedisError) -> Int {
        let command = RedisCommand(end == .left ? "LPUSH" : "RPUSH", [.string(key)] + values)
        return try await expect(command, "an integer") { $0.integer }
    }

    /// Takes the first element of the first list that has one, waiting for it; nil when the time is over.
    ///
    /// Not safe against a broken connection: an element on its way is lost. See ``moveWaiting(from:_:to:_:for:)``.
    public func popFirst(
        _ keys: [String], for wait: Duration
    ) async throws(RedisError) -> (key: String, value: RedisBytes)? {
        let command = RedisCommand("BLPOP", keys.map { .string($0) } + [.double(wait.decimalSeconds)])
        let reply = try await block(command, for: wait)
        if reply.isNull { return nil }
        guard let parts = reply.array, parts.count == 2, let key = parts[0].string, let value = parts[1].bytes else {
            throw .unexpectedReply(command: "BLPOP", expected: "a key and a value", found: reply.kind)
        }
        return (key, value)
    }

    /// Moves an element from one list to another, waiting for it; nil when the time is over.
    ///
    /// From a list to itself it tells that there is something and leaves it for others.
    public func moveWaiting(
        from source: String, _ from: ListEnd, to target: String, _ to: ListEnd, for wait: Duration
    ) async throws(RedisError) -> RedisBytes? {
        let command = RedisCommand(
            "BLMOVE", .string(source), .string(target), .string(from.rawValue), .string(to.rawValue),
            .double(wait.decimalSeconds), repetition: source == target && from == to ? .safe : .unsafe)
        let reply = try await block(command, for: wait)
        return reply.bytes
    }

    /// Elements `first ... last`; negative numbers count from the end.
    public func list(_ key: String, first: Int = 0, last: Int = -1) async throws(RedisError) -> [RedisBytes] {
        let command = RedisCommand("LRANGE", .string(key), .integer(first), .integer(last))
        return try await expect(command, "an array") { $0.array?.compactMap(\.bytes) }
    }
}

/// Sorted sets: <https://redis.io/docs/latest/commands/?group=sorted-set>.
extension RedisClient {
    /// Sets the scores of members; returns how many of them are new.
    @discardableResult
    public func setScores(
        _ key: String, _ members: [(member: RedisArgument, score: Double)]
    ) async throws(RedisError) -> Int {
        let arguments = [.string(key)] + members.flatMap { [.double($0.score), $0.member] }
        return try await expect(RedisCommand("ZADD", arguments, repetition: .safe), "an integer") { $0.integer }
    }

    /// The members whose scores lie in a closed range, lowest first.
    public func members(
        _ key: String, scores: ClosedRange<Double>, limit: Int
    ) async throws(RedisError) -> [RedisBytes] {
        let command = RedisCommand(
            "ZRANGEBYSCORE", .string(key), .score(scores.lowerBound), .score(scores.upperBound), "LIMIT", 0,
            .integer(limit))
        return try await expect(command, "an array") { $0.array?.compactMap(\.bytes) }
    }

    /// Removes members; returns how many there were.
    @discardableResult
    public func removeMembers(_ key: String, _ members: [RedisArgument]) async throws(RedisError) -> Int {
        let command = RedisCommand("ZREM", [.string(key)] + members, repetition: .safe)
        return try await expect(command, "an integer") { $0.integer }
    }

    /// The number of members.
    public func memberCount(_ key: String) async throws(RedisError) -> Int {
        try await expect(RedisCommand("ZCARD", .string(key)), "an integer") { $0.integer }
    }
}

extension RedisArgument {
    fileprivate static func score(_ score: Double) -> RedisArgument {
        score.isInfinite ? .string(score < 0 ? "-inf" : "+inf") : .double(score)
    }
}

extension Duration {
    /// Seconds for BLPOP and BLMOVE, at least a millisecond: 0 would be for ever.
    fileprivate var decimalSeconds: Double { Double(wholeMilliseconds) / 1000 }
}
