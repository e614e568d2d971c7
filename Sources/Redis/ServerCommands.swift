/// Redis Functions: <https://redis.io/docs/latest/develop/programmability/functions-intro/>.
extension RedisClient {
    /// Loads a library on every primary, in the place of one of that name.
    public func loadFunctions(_ source: String) async throws(RedisError) {
        _ = try await sendToEveryPrimary(
            RedisCommand("FUNCTION", "LOAD", "REPLACE", .string(source), repetition: .safe))
    }

    /// Loads a library on each primary that lacks it.
    ///
    /// Redis knows no "replace if newer". Where there is none, it is loaded in a way that fails if another program was
    /// faster, and then what that program loaded is asked about.
    ///
    /// - Parameters:
    ///   - source: the library's text, as FUNCTION LOAD takes it.
    ///   - question: which version is there; an error where there is none.
    ///   - isOlder: whether the answer is that of a library that is to be replaced.
    /// - Throws: ``RedisError/server(_:command:)`` where a primary refuses the question or the library.
    public func loadFunctions(
        _ source: String, asking question: RedisCommand, isOlder: (RedisValue) -> Bool
    ) async throws(RedisError) {
        _ = try await askPrimaries(isSafe: true) { [isCluster] node throws(RedisError) -> Bool? in
            var attempt = 0
            while true {
                let answer = try await node.send(question)
                var load = RedisCommand("FUNCTION", "LOAD", .string(source))
                if answer.error == nil {
                    guard isOlder(answer) else { return true }
                    load = RedisCommand("FUNCTION", "LOAD", "REPLACE", .string(source), repetition: .safe)
                } else if let error = answer.error, !error.message.contains("Function not found") {
                    throw .server(error, command: question.name)
                }
                let reply = try await node.send(load)
                guard let error = reply.error else { return true }
                // The map was old: whoever has taken over is asked instead.
                if isCluster, error.isOfReplica { return nil }
                guard attempt < 3, error.message.contains("already exists") else {
                    throw .server(error, command: load.name)
                }
                attempt += 1
            }
        }
    }

    /// Calls a function of a loaded library.
    ///
    /// - Parameters:
    ///   - function: its name in the library.
    ///   - keys: of one hash tag; the first says which node runs it.
    ///   - arguments: what it is given besides.
    ///   - repetition: ``RedisCommand/Repetition/safe`` where a second run changes nothing.
    /// - Returns: what the function returns.
    /// - Throws: ``RedisError/server(_:command:)`` with the function's own code where it refuses.
    public func call(
        _ function: String, keys: [String], _ arguments: [RedisArgument],
        repetition: RedisCommand.Repetition = .unsafe
    ) async throws(RedisError) -> RedisValue {
        try await send(.call(function, keys: keys, arguments, repetition: repetition))
    }

    /// Calls a function that was registered as one that only reads.
    public func callReadOnly(
        _ function: String, keys: [String], _ arguments: [RedisArgument] = []
    ) async throws(RedisError) -> RedisValue {
        try await send(.callReadOnly(function, keys: keys, arguments))
    }
}

extension RedisCommand {
    /// An FCALL, for pipelines.
    public static func call(
        _ function: String, keys: [String], _ arguments: [RedisArgument] = [], repetition: Repetition = .unsafe
    ) -> RedisCommand {
        RedisCommand(
            "FCALL", [.string(function), .integer(keys.count)] + keys.map { .string($0) } + arguments,
            repetition: repetition)
    }

    /// An FCALL_RO, for pipelines.
    public static func callReadOnly(
        _ function: String, keys: [String], _ arguments: [RedisArgument] = []
    ) -> RedisCommand {
        RedisCommand(
            "FCALL_RO", [.string(function), .integer(keys.count)] + keys.map { .string($0) } + arguments)
    }
}

/// The server itself: <https://redis.io/docs/latest/commands/?group=server>.
extension RedisClient {
    /// Publishes a message; returns how many subscribers of that node took it.
    @discardableResult
    public func publish(_ channel: String, _ payload: RedisArgument) async throws(RedisError) -> Int {
        try await expect(RedisCommand("PUBLISH", .string(channel), payload), "an integer") { $0.integer }
    }

    /// A round trip.
    public func ping() async throws(RedisError) {
        _ = try await send(RedisCommand("PING"))
    }

    /// The server's clock: microseconds since 1970.
    public func time() async throws(RedisError) -> Int {
        try await expect(RedisCommand("TIME"), "seconds and microseconds") { reply in
            guard let parts = reply.array, parts.count == 2, let seconds = parts[0].integer,
                let microseconds = parts[1].integer
            else { return nil }
            return seconds * 1_000_000 + microseconds
        }
    }

    /// The lines of an INFO section, one dictionary a primary.
    public func info(_ section: String) async throws(RedisError) -> [[String: String]] {
        let replies = try await sendToEveryPrimary(RedisCommand("INFO", .string(section)))
        return replies.map { reply in
            var fields: [String: String] = [:]
            for line in (reply.string ?? "").split(whereSeparator: \.isNewline) where line.first != "#" {
                guard let colon = line.firstIndex(of: ":") else { continue }
                fields[String(line[..<colon])] = String(line[line.index(after: colon)...])
            }
            return fields
        }
    }

    /// Settings that match a glob pattern, one dictionary a primary.
    public func settings(_ pattern: String) async throws(RedisError) -> [[String: String]] {
        let replies = try await sendToEveryPrimary(
            RedisCommand("CONFIG", "GET", .string(pattern), repetition: .safe))
        return replies.map { ($0.fields ?? [:]).compactMapValues(\.string) }
    }
}
