import CHiredis
import Glibc

/// One answer of the server (RESP2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).
public enum RedisValue: Sendable, Hashable {
    /// The null string or the null array.
    case null
    /// A 64-bit number.
    case integer(Int)
    /// A short word such as `OK`.
    case status(String)
    /// A string of any bytes.
    case bytes(RedisBytes)
    /// Answers in order.
    case array([RedisValue])
    /// A refusal.
    case error(RedisServerError)
}

extension RedisValue {
    /// Whether this is the null string or array.
    public var isNull: Bool { self == .null }

    /// The bytes of a string; nil for anything else.
    public var bytes: RedisBytes? {
        switch self {
        case .bytes(let bytes): bytes
        case .status(let word): RedisBytes(word)
        default: nil
        }
    }

    /// The text of a string or a status.
    public var string: String? {
        switch self {
        case .bytes(let bytes): bytes.string
        case .status(let word): word
        case .integer(let number): String(number)
        default: nil
        }
    }

    /// A number, be it sent as one or as decimal digits.
    public var integer: Int? {
        switch self {
        case .integer(let number): number
        case .bytes(let bytes): bytes.count <= 20 ? Int(bytes.string) : nil
        default: nil
        }
    }

    /// A floating-point number, be it sent as an integer or as text.
    public var double: Double? {
        switch self {
        case .integer(let number): Double(number)
        case .bytes(let bytes): bytes.count <= 64 ? Double(bytes.string) : nil
        default: nil
        }
    }

    /// The elements of an array.
    public var array: [RedisValue]? {
        if case .array(let elements) = self { elements } else { nil }
    }

    /// The refusal, if it is one.
    public var error: RedisServerError? {
        if case .error(let error) = self { error } else { nil }
    }

    /// An array of names and values by turns, as HGETALL and XINFO send it; nil for anything else.
    ///
    /// Of a name that comes twice the last value holds.
    public var fields: [String: RedisValue]? {
        guard let elements = array, elements.count.isMultiple(of: 2) else { return nil }
        var fields: [String: RedisValue] = Dictionary(minimumCapacity: elements.count / 2)
        for index in stride(from: 0, to: elements.count, by: 2) {
            guard let name = elements[index].string else { return nil }
            fields[name] = elements[index + 1]
        }
        return fields
    }

    /// The kind alone, for messages: never the content.
    var kind: String {
        switch self {
        case .null: "null"
        case .integer: "an integer"
        case .status: "a status"
        case .bytes(let bytes): "a string of \(bytes.count) bytes"
        case .array(let elements): "an array of \(elements.count)"
        case .error(let error): "the error \(error.code)"
        }
    }

    /// Takes what hiredis parsed, strings without copying them, and frees the rest.
    init(consuming reply: UnsafeMutablePointer<redisReply>) {
        self.init(stealingFrom: reply)
        freeReplyObject(reply)
    }

    /// The strings' memory moves over; hiredis allocates each with `malloc` and `freeReplyObject` skips a nil.
    private init(stealingFrom reply: UnsafeMutablePointer<redisReply>) {
        switch reply.pointee.type {
        case REDIS_REPLY_STRING:
            if let text = reply.pointee.str {
                reply.pointee.str = nil
                self = .bytes(RedisBytes(taking: text, count: reply.pointee.len))
            } else {
                self = .null
            }
        case REDIS_REPLY_INTEGER: self = .integer(Int(reply.pointee.integer))
        case REDIS_REPLY_STATUS: self = .status(Self.text(of: reply))
        case REDIS_REPLY_ERROR: self = .error(RedisServerError(Self.text(of: reply)))
        case REDIS_REPLY_ARRAY:
            var elements: [RedisValue] = []
            elements.reserveCapacity(reply.pointee.elements)
            for index in 0..<reply.pointee.elements {
                if let element = reply.pointee.element[index] {
                    elements.append(RedisValue(stealingFrom: element))
                } else {
                    elements.append(.null)
                }
            }
            self = .array(elements)
        default: self = .null
        }
    }

    private static func text(of reply: UnsafeMutablePointer<redisReply>) -> String {
        guard let text = reply.pointee.str else { return "" }
        return String(decoding: UnsafeRawBufferPointer(start: text, count: reply.pointee.len), as: UTF8.self)
    }
}
