/// One JSON value (RFC 8259) as somebody wrote it, to the byte: numbers of any length, members in their order.
public struct JSONText: Sendable, Hashable {
    /// The value's UTF-8, without white space around it.
    public let bytes: [UInt8]

    /// Lists and objects inside each other that are read.
    static let deepest = 512

    /// Takes a text that is one whole JSON value; nil where it is none.
    public init?(_ text: some Collection<UInt8>) {
        var walker = JSONWalker(Array(text))
        guard let range = walker.value(), walker.isAtEnd else { return nil }
        let bytes = Array(walker.bytes[range])
        guard String(validating: bytes, as: UTF8.self) != nil else { return nil }
        self.bytes = bytes
    }

    fileprivate init(checked bytes: ArraySlice<UInt8>) { self.bytes = Array(bytes) }

    /// The members of an object in their order; nil where the text is none.
    public static func members(of text: some Collection<UInt8>) -> [(name: String, value: JSONText)]? {
        var walker = JSONWalker(Array(text))
        guard let ranges = walker.members(), walker.isAtEnd else { return nil }
        return ranges.map { name, value in
            (JSONWalker.text(walker.bytes[name]), JSONText(checked: walker.bytes[value]))
        }
    }

    /// The text where it is a string.
    public var string: String? {
        guard bytes.count >= 2, bytes.first == UInt8(ascii: "\"") else { return nil }
        return JSONWalker.text(bytes[...])
    }

    /// The whole number that it is.
    public var wholeNumber: Int? { Int(String(decoding: bytes, as: UTF8.self)) }

    /// A string as JSON.
    public static func quoting(_ text: String) -> JSONText {
        var writer = JSONWriter()
        writer.string(text)
        return JSONText(checked: writer.bytes[...])
    }
}

/// Walks over JSON and says where its parts stand, without making anything of them.
private struct JSONWalker {
    let bytes: [UInt8]
    private var at = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Whether nothing but white space follows.
    var isAtEnd: Bool {
        mutating get {
            skipSpace()
            return at == bytes.count
        }
    }

    /// Where the next value stands.
    mutating func value(depth: Int = 0) -> Range<Int>? {
        skipSpace()
        let start = at
        guard at < bytes.count, depth <= JSONText.deepest else { return nil }
        let isRead =
            switch bytes[at] {
            case UInt8(ascii: "{"): members(depth: depth + 1) != nil
            case UInt8(ascii: "["): elements(depth: depth + 1)
            case UInt8(ascii: "\""): string() != nil
            case UInt8(ascii: "t"): word("true")
            case UInt8(ascii: "f"): word("false")
            case UInt8(ascii: "n"): word("null")
            default: number()
            }
        return isRead ? start..<at : nil
    }

    /// Where the names, with their quotes, and the values of an object stand.
    mutating func members(depth: Int = 1) -> [(name: Range<Int>, value: Range<Int>)]? {
        guard take("{") else { return nil }
        var members: [(Range<Int>, Range<Int>)] = []
        if take("}") { return members }
        repeat {
            skipSpace()
            guard let name = string(), take(":"), let value = value(depth: depth) else { return nil }
            members.append((name, value))
        } while take(",")
        return take("}") ? members : nil
    }

    private mutating func elements(depth: Int) -> Bool {
        guard take("[") else { return false }
        if take("]") { return true }
        repeat { guard value(depth: depth) != nil else { return false } } while take(",")
        return take("]")
    }

    private mutating func string() -> Range<Int>? {
        let start = at
        guard at < bytes.count, bytes[at] == UInt8(ascii: "\"") else { return nil }
        at += 1
        while at < bytes.count {
            switch bytes[at] {
            case UInt8(ascii: "\""):
                at += 1
                return start..<at
            case UInt8(ascii: "\\"):
                guard at + 1 < bytes.count else { return nil }
                at += 1
                if bytes[at] == UInt8(ascii: "u") {
                    let digits = bytes[(at + 1)...].prefix(4)
                    guard digits.count == 4, digits.allSatisfy(Self.isHexadecimal) else { return nil }
                    at += 4
                } else if !"\"\\/bfnrt".utf8.contains(bytes[at]) {
                    return nil
                }
            case ..<0x20: return nil
            default: break
            }
            at += 1
        }
        return nil
    }

    private mutating func number() -> Bool {
        if at < bytes.count, bytes[at] == UInt8(ascii: "-") { at += 1 }
        let start = at
        guard digits() else { return false }
        if bytes[start] == UInt8(ascii: "0"), at - start > 1 { return false }
        if at < bytes.count, bytes[at] == UInt8(ascii: ".") {
            at += 1
            guard digits() else { return false }
        }
        if at < bytes.count, bytes[at] | 0x20 == UInt8(ascii: "e") {
            at += 1
            if at < bytes.count, bytes[at] == UInt8(ascii: "+") || bytes[at] == UInt8(ascii: "-") { at += 1 }
            guard digits() else { return false }
        }
        return true
    }

    private mutating func digits() -> Bool {
        let start = at
        while at < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[at]) { at += 1 }
        return at > start
    }

    private mutating func word(_ word: StaticString) -> Bool {
        let letters = UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
        guard bytes[at...].starts(with: letters) else { return false }
        at += letters.count
        return true
    }

    private mutating func take(_ sign: Unicode.Scalar) -> Bool {
        skipSpace()
        guard at < bytes.count, bytes[at] == UInt8(ascii: sign) else { return false }
        at += 1
        return true
    }

    private mutating func skipSpace() {
        while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 0x0A || bytes[at] == 0x0D || bytes[at] == 0x09 {
            at += 1
        }
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"):
            true
        default: false
        }
    }

    /// A string of JSON, with its quotes, as text.
    ///
    /// Half a surrogate pair becomes U+FFFD.
    static func text(_ quoted: ArraySlice<UInt8>) -> String {
        let inner = quoted.dropFirst().dropLast()
        guard inner.contains(UInt8(ascii: "\\")) else { return String(decoding: inner, as: UTF8.self) }
        var units: [UInt16] = []
        var rest = inner
        while let byte = rest.first {
            guard byte == UInt8(ascii: "\\") else {
                let plain = rest.prefix { $0 != UInt8(ascii: "\\") }
                units += Array(String(decoding: plain, as: UTF8.self).utf16)
                rest = rest.dropFirst(plain.count)
                continue
            }
            let sign = rest.dropFirst().first ?? byte
            rest = rest.dropFirst(2)
            switch sign {
            case UInt8(ascii: "u"):
                units.append(UInt16(String(decoding: rest.prefix(4), as: UTF8.self), radix: 16) ?? 0xFFFD)
                rest = rest.dropFirst(4)
            case UInt8(ascii: "b"): units.append(0x08)
            case UInt8(ascii: "f"): units.append(0x0C)
            case UInt8(ascii: "n"): units.append(0x0A)
            case UInt8(ascii: "r"): units.append(0x0D)
            case UInt8(ascii: "t"): units.append(0x09)
            default: units.append(UInt16(sign))
            }
        }
        return String(decoding: units, as: UTF16.self)
    }
}
