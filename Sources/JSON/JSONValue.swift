import Platform

/// A JSON value (RFC 8259) whose members keep their order: read strictly, or built to be written.
///
/// Read, a name that comes twice in an object is an error, and nesting, values and text are bounded; Foundation's decoder
/// gives none of these guarantees, and what comes from outside (headers of checkpoints, indexes, manifests) needs them.
public indirect enum JSONValue: Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral
{
    /// A member of an object.
    public typealias Member = (name: String, value: JSONValue)

    /// `null`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// A number without fraction and exponent that fits 64 bits.
    case integer(Int)
    /// Any other number; one that is infinite or none is written as null, for which JSON has no word.
    case number(Double)
    /// A text.
    case string(String)
    /// Values one after the other.
    case array([JSONValue])
    /// Names and their values.
    case object([Member])
    /// JSON that is there already; never read, only written.
    case verbatim([UInt8])

    /// Where the text stops being JSON, and why.
    public struct Fault: Error {
        /// Bytes from the start of the text.
        public let offset: Int
        /// What is wrong there.
        public let reason: String
    }

    /// Reads a whole text.
    public init(_ text: UnsafeRawBufferPointer) throws(Fault) {
        var parser = JSONParser(text: text)
        self = try parser.document()
    }

    /// Reads a whole text.
    public init(parsing text: [UInt8]) throws(Fault) {
        let result = text.withUnsafeBytes { bytes in Result { () throws(Fault) in try JSONValue(bytes) } }
        self = try result.get()
    }

    /// A text.
    public init(stringLiteral value: String) { self = .string(value) }
    /// A whole number.
    public init(integerLiteral value: Int) { self = .integer(value) }
    /// A truth.
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    /// A text, or null.
    public init(_ text: String?) { self = text.map(JSONValue.string) ?? .null }
    /// A number, or null.
    public init(_ number: Int?) { self = number.map(JSONValue.integer) ?? .null }

    /// Milliseconds to the microsecond, or null.
    public init(milliseconds duration: Duration?) {
        self = duration.map { .number(($0 / .microseconds(1)).rounded() / 1000) } ?? .null
    }

    /// The members of an object, or nil for anything else.
    public var members: [Member]? { if case .object(let members) = self { members } else { nil } }
    /// The elements of an array, or nil for anything else.
    public var elements: [JSONValue]? { if case .array(let elements) = self { elements } else { nil } }
    /// The integer, or nil for anything else.
    public var integer: Int? { if case .integer(let value) = self { value } else { nil } }
    /// The number, whole or not, or nil for anything else.
    public var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }
    /// The text of a string, or nil for anything else.
    public var string: String? { if case .string(let text) = self { text } else { nil } }

    /// The member of that name, or nil.
    public subscript(_ name: String) -> JSONValue? { members?.first { $0.name == name }?.value }

    /// The value as it is written, without spaces.
    public var bytes: [UInt8] {
        var writer = JSONWriter()
        write(to: &writer)
        return writer.bytes
    }

    /// The value and an end of line.
    public var line: [UInt8] { bytes + [0x0A] }

    /// The value as it is written.
    public var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Writes the value.
    public func write(to writer: inout JSONWriter) {
        switch self {
        case .null: writer.null()
        case .bool(let truth): writer.bool(truth)
        case .integer(let number): writer.integer(number)
        case .number(let number): if (try? writer.number(number)) == nil { writer.null() }
        case .string(let text): writer.string(text)
        case .array(let values): writer.array(values) { value, writer in value.write(to: &writer) }
        case .object(let members):
            writer.object { writer in
                for (name, value) in members { writer.member(name) { value.write(to: &$0) } }
            }
        case .verbatim(let json): writer.written(json)
        }
    }
}

/// The recursive descent behind ``JSONValue``; its depth is bounded by ``depthLimit``.
private struct JSONParser {
    let text: UnsafeRawBufferPointer
    var offset = 0
    var values = 0

    /// Arrays and objects inside each other.
    static let depthLimit = 32
    /// Values in one text: some 100 MB of memory at most.
    static let valueLimit = 2_000_000

    init(text: UnsafeRawBufferPointer) { self.text = text }

    mutating func document() throws(JSONValue.Fault) -> JSONValue {
        let value = try value(depth: 0)
        skipSpace()
        guard offset == text.count else { throw fault("has content after its end") }
        return value
    }

    func fault(_ reason: String) -> JSONValue.Fault { JSONValue.Fault(offset: offset, reason: reason) }

    var peek: UInt8? { offset < text.count ? text[offset] : nil }

    mutating func skipSpace() {
        while let byte = peek, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { offset += 1 }
    }

    mutating func takes(_ character: Unicode.Scalar) -> Bool {
        guard peek == UInt8(ascii: character) else { return false }
        offset += 1
        return true
    }

    mutating func value(depth: Int) throws(JSONValue.Fault) -> JSONValue {
        skipSpace()
        values += 1
        guard values <= Self.valueLimit else { throw fault("holds more than \(Self.valueLimit) values") }
        guard depth < Self.depthLimit else { throw fault("is nested more than \(Self.depthLimit) deep") }
        switch peek {
        case UInt8(ascii: "{"): return .object(try object(depth: depth))
        case UInt8(ascii: "["): return .array(try array(depth: depth))
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case nil: throw fault("ends where a value is expected")
        default: return try number()
        }
    }

    mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONValue.Fault) -> JSONValue {
        let count = word.utf8CodeUnitCount
        guard text.count - offset >= count,
            text[offset..<offset + count].elementsEqual(UnsafeBufferPointer(start: word.utf8Start, count: count))
        else { throw fault("has an unknown word") }
        offset += count
        return value
    }

    mutating func object(depth: Int) throws(JSONValue.Fault) -> [(name: String, value: JSONValue)] {
        offset += 1
        var members: [(name: String, value: JSONValue)] = []
        var names: Set<String> = []
        skipSpace()
        if takes("}") { return members }
        while true {
            skipSpace()
            guard peek == UInt8(ascii: "\"") else { throw fault("lacks a member's name") }
            let name = try string()
            guard names.insert(name).inserted else { throw fault("has \(Quotation.of(name)) twice") }
            skipSpace()
            guard takes(":") else { throw fault("lacks a colon") }
            members.append((name, try value(depth: depth + 1)))
            skipSpace()
            if takes("}") { return members }
            guard takes(",") else { throw fault("lacks a comma or the end of an object") }
        }
    }

    mutating func array(depth: Int) throws(JSONValue.Fault) -> [JSONValue] {
        offset += 1
        var elements: [JSONValue] = []
        skipSpace()
        if takes("]") { return elements }
        while true {
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if takes("]") { return elements }
            guard takes(",") else { throw fault("lacks a comma or the end of an array") }
        }
    }

    mutating func string() throws(JSONValue.Fault) -> String {
        offset += 1
        let start = offset
        while let byte = peek, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 { offset += 1 }
        if peek == UInt8(ascii: "\"") {
            let bytes = text[start..<offset]
            guard let value = String(validating: bytes, as: UTF8.self) else {
                throw fault("has text that is not UTF-8")
            }
            offset += 1
            return value
        }
        var bytes = Array(text[start..<offset])
        while let byte = peek {
            offset += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let value = String(validating: bytes, as: UTF8.self) else {
                    throw fault("has text that is not UTF-8")
                }
                return value
            case UInt8(ascii: "\\"): bytes.append(contentsOf: try escape())
            case 0..<0x20: throw fault("has a control character in a string")
            default: bytes.append(byte)
            }
        }
        throw fault("ends inside a string")
    }

    private mutating func escape() throws(JSONValue.Fault) -> [UInt8] {
        guard let byte = peek else { throw fault("ends inside a string") }
        offset += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
        case UInt8(ascii: "b"): return [0x08]
        case UInt8(ascii: "f"): return [0x0c]
        case UInt8(ascii: "n"): return [0x0a]
        case UInt8(ascii: "r"): return [0x0d]
        case UInt8(ascii: "t"): return [0x09]
        case UInt8(ascii: "u"):
            var code = try hexadecimal()
            if (0xd800..<0xdc00).contains(code), takes("\\"), takes("u") {
                let low = try hexadecimal()
                guard (0xdc00..<0xe000).contains(low) else { throw fault("has half a surrogate pair") }
                code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw fault("has half a surrogate pair") }
            return Array(String(Character(scalar)).utf8)
        default: throw fault("has an unknown escape")
        }
    }

    private mutating func hexadecimal() throws(JSONValue.Fault) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek, let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
                throw fault("has an escape without four hexadecimal digits")
            }
            code = code << 4 | UInt32(digit)
            offset += 1
        }
        return code
    }

    private mutating func number() throws(JSONValue.Fault) -> JSONValue {
        let start = offset
        var isInteger = true
        while let byte = peek {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): break
            case UInt8(ascii: "+"), UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"): isInteger = false
            default: return try number(from: start, isInteger: isInteger)
            }
            offset += 1
        }
        return try number(from: start, isInteger: isInteger)
    }

    private func number(from start: Int, isInteger: Bool) throws(JSONValue.Fault) -> JSONValue {
        let digits = String(decoding: text[start..<min(offset, start + 64)], as: UTF8.self)
        guard offset > start else { throw fault("has an unexpected character") }
        guard offset - start <= 64 else { throw fault("has a number of \(offset - start) characters") }
        let unsigned = digits.hasPrefix("-") ? digits.dropFirst() : digits[...]
        let leadingZero = unsigned.hasPrefix("0") && unsigned.dropFirst().first?.isNumber == true
        let fraction = unsigned.firstIndex(of: ".").map { unsigned[unsigned.index(after: $0)...] }
        guard unsigned.first?.isNumber == true, !leadingZero, unsigned.last?.isNumber == true,
            fraction?.first?.isNumber ?? true
        else {
            throw fault("has a malformed number")
        }
        if isInteger, let value = Int(digits) { return .integer(value) }
        guard let value = Double(digits), value.isFinite else { throw fault("has a number out of range") }
        return .number(value)
    }
}
