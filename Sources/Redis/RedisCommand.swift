/// One argument of a command.
public enum RedisArgument: Sendable {
    /// Text, sent as UTF-8.
    case string(String)
    /// A number, sent as decimal digits.
    case integer(Int)
    /// Bytes of any kind.
    case array([UInt8])
    /// Bytes that are sent from where they lie.
    case bytes(RedisBytes)

    /// A number in the shortest form that reads back as the same.
    public static func double(_ number: Double) -> RedisArgument { .string("\(number)") }
}

extension RedisArgument: ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral {
    /// Text.
    public init(stringLiteral value: String) { self = .string(value) }
    /// A number.
    public init(integerLiteral value: Int) { self = .integer(value) }
}

/// A command with its arguments, and what a client must know to send it.
public struct RedisCommand: Sendable {
    /// What may be done when the connection broke after the command was sent and before it was answered.
    public enum Repetition: Sendable, Hashable {
        /// To run it twice is the same as once (reads, a plain SET, DEL): it is sent again.
        case safe
        /// It is not: the caller gets ``RedisError/connectionLost(server:mayHaveRun:reason:)`` and decides.
        case unsafe
    }

    /// The command's name in upper case.
    public let name: String
    /// What follows the name.
    public let arguments: [RedisArgument]
    /// Whether it may be sent twice.
    public var repetition: Repetition

    /// A command with any number of arguments; ``Repetition/unsafe`` unless told otherwise or named as one that only
    /// reads.
    public init(_ name: String, _ arguments: [RedisArgument], repetition: Repetition? = nil) {
        self.name = name
        self.arguments = arguments
        self.repetition = repetition ?? (Self.readOnly.contains(name) ? .safe : .unsafe)
    }

    /// A command with its arguments written out.
    public init(_ name: String, _ arguments: RedisArgument..., repetition: Repetition? = nil) {
        self.init(name, arguments, repetition: repetition)
    }

    private static let readOnly: Set<String> = [
        "GET", "MGET", "GETRANGE", "STRLEN", "EXISTS", "TTL", "PTTL", "TYPE", "HGET", "HMGET", "HGETALL", "HLEN",
        "LLEN",
        "LRANGE", "ZCARD", "ZSCORE", "ZRANGE", "ZRANGEBYSCORE", "ZCOUNT", "XLEN", "XRANGE", "XREVRANGE", "XINFO",
        "XPENDING", "FCALL_RO", "INFO", "TIME", "SCAN", "PING", "DBSIZE", "MEMORY", "CLUSTER", "SMEMBERS", "SISMEMBER",
        "SCARD", "ACL", "HELLO", "SENTINEL",
    ]
}

extension RedisCommand {
    /// The place of the argument whose hash slot says which node of a cluster runs the command; nil for commands that
    /// any node runs.
    package var keyIndex: Int? {
        switch name {
        case "PING", "INFO", "TIME", "FUNCTION", "CONFIG", "SCAN", "PUBLISH", "CLIENT", "CLUSTER", "DBSIZE", "ACL",
            "HELLO",
            "AUTH", "SELECT", "COMMAND", "DEBUG", "FLUSHALL", "SCRIPT", "LATENCY", "SLOWLOG", "ASKING", "WAIT",
            "MEMORY",
            "SUBSCRIBE", "PSUBSCRIBE", "SENTINEL", "SHUTDOWN", "BGREWRITEAOF", "LASTSAVE", "ECHO":
            return nil
        case "FCALL", "FCALL_RO", "EVAL", "EVALSHA", "EVAL_RO":
            guard arguments.count > 2, case .some(let count) = arguments[1].number, count > 0 else { return nil }
            return 2
        case "XREAD", "XREADGROUP":
            guard let streams = arguments.firstIndex(where: { $0.equals("STREAMS") }) else { return nil }
            return streams + 1 < arguments.count ? streams + 1 : nil
        case "XINFO", "XGROUP", "OBJECT": return arguments.count > 1 ? 1 : nil
        default: return arguments.isEmpty ? nil : 0
        }
    }

    /// The slot of the key, see ``HashSlot``; nil for a command without one.
    package var slot: Int? {
        guard let index = keyIndex else { return nil }
        return arguments[index].withBytes { HashSlot.of($0) }
    }
}

extension RedisArgument {
    fileprivate var number: Int? {
        switch self {
        case .integer(let number): number
        case .string(let text): Int(text)
        default: nil
        }
    }

    fileprivate func equals(_ word: String) -> Bool {
        if case .string(let text) = self { text == word } else { false }
    }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        switch self {
        case .string(var text): text.withUTF8 { body(UnsafeRawBufferPointer($0)) }
        case .integer(let number): Array(String(number).utf8).withUnsafeBytes(body)
        case .array(let bytes): bytes.withUnsafeBytes(body)
        case .bytes(let bytes): bytes.withUnsafeBytes(body)
        }
    }
}
