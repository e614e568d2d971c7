/// When SET writes.
public enum SetCondition: Sendable, Hashable {
    /// In any case.
    case always
    /// Where the key does not exist (NX).
    case ifAbsent
    /// Where it does (XX).
    case ifPresent
}

/// Keys and their values: <https://redis.io/docs/latest/commands/?group=string>.
extension RedisClient {
    /// The value of a key; nil where there is none.
    public func get(_ key: String) async throws(RedisError) -> RedisBytes? {
        let reply = try await send(RedisCommand("GET", .string(key)))
        return reply.bytes
    }

    /// Bytes `first ... last` of a value, counted from 0; empty where there are none.
    public func getRange(_ key: String, first: Int, last: Int) async throws(RedisError) -> RedisBytes {
        let command = RedisCommand("GETRANGE", .string(key), .integer(first), .integer(last))
        return try await expect(command, "a string") { $0.bytes }
    }

    /// Sets a key in one step; returns false where the condition did not hold.
    ///
    /// After `expiry`, in whole milliseconds and at least one, the key is gone; nil for never.
    @discardableResult
    public func set(
        _ key: String, _ value: RedisArgument, expiry: Duration? = nil, condition: SetCondition = .always
    ) async throws(RedisError) -> Bool {
        let reply = try await send(.set(key, value, expiry: expiry, condition: condition))
        return !reply.isNull
    }

    /// Adds to a number that is kept as text; a missing key counts as 0.
    public func increment(_ key: String, by amount: Int = 1) async throws(RedisError) -> Int {
        try await expect(RedisCommand("INCRBY", .string(key), .integer(amount)), "an integer") { $0.integer }
    }

    /// How many of the keys exist; keys of one hash tag.
    public func exists(_ keys: [String]) async throws(RedisError) -> Int {
        try await expect(RedisCommand("EXISTS", keys.map { .string($0) }), "an integer") { $0.integer }
    }

    /// Whether a key exists.
    public func exists(_ key: String) async throws(RedisError) -> Bool { try await exists([key]) > 0 }

    /// Removes keys of one hash tag, freeing their memory in the background; returns how many there were.
    @discardableResult
    public func remove(_ keys: [String]) async throws(RedisError) -> Int {
        let command = RedisCommand("UNLINK", keys.map { .string($0) }, repetition: .safe)
        return try await expect(command, "an integer") { $0.integer }
    }

    /// Lets a key end after a time; returns false where there is no such key.
    @discardableResult
    public func expire(_ key: String, after time: Duration) async throws(RedisError) -> Bool {
        let command = RedisCommand("PEXPIRE", .string(key), .integer(time.wholeMilliseconds), repetition: .safe)
        return try await expect(command, "an integer") { $0.integer } > 0
    }

    /// How long a key has to live; nil where it does not exist or never ends.
    public func timeToLive(_ key: String) async throws(RedisError) -> Duration? {
        let left = try await expect(RedisCommand("PTTL", .string(key)), "an integer") { $0.integer }
        return left < 0 ? nil : .milliseconds(left)
    }

    /// Sends a command and takes from its answer what it promises.
    func expect<Answer>(
        _ command: RedisCommand, _ promise: String, _ take: (RedisValue) -> Answer?
    ) async throws(RedisError) -> Answer {
        let reply = try await send(command)
        guard let answer = take(reply) else {
            throw .unexpectedReply(command: command.name, expected: promise, found: reply.kind)
        }
        return answer
    }
}

extension RedisCommand {
    /// A SET, for pipelines.
    public static func set(
        _ key: String, _ value: RedisArgument, expiry: Duration? = nil, condition: SetCondition = .always
    ) -> RedisCommand {
        var arguments: [RedisArgument] = [.string(key), value]
        if let expiry { arguments += ["PX", .integer(expiry.wholeMilliseconds)] }
        switch condition {
        case .always: break
        case .ifAbsent: arguments.append("NX")
        case .ifPresent: arguments.append("XX")
        }
        return RedisCommand("SET", arguments, repetition: condition == .always ? .safe : .unsafe)
    }
}

extension Duration {
    /// Milliseconds, at least 1: Redis refuses 0.
    var wholeMilliseconds: Int { max(1, Int(Monotonic.nanoseconds(self) / 1_000_000)) }
}
