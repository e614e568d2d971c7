/// Writes JSON (RFC 8259) piece by piece, without a tree in between.
public struct JSONWriter: Sendable {
    /// What was written so far.
    public private(set) var bytes: [UInt8] = []
    /// Whether the next member or element follows another.
    private var needsComma = false

    /// A text of which nothing is written.
    public init() {}

    /// `{…}`, of the members that `write` makes.
    public mutating func object<Failure: Error>(_ write: (inout JSONWriter) throws(Failure) -> Void) throws(Failure) {
        bytes.append(UInt8(ascii: "{"))
        needsComma = false
        try write(&self)
        bytes.append(UInt8(ascii: "}"))
        needsComma = true
    }

    /// One member of an object, of which `write` makes the value.
    public mutating func member<Failure: Error>(
        _ name: String, _ write: (inout JSONWriter) throws(Failure) -> Void
    ) throws(Failure) {
        separate()
        string(name)
        bytes.append(UInt8(ascii: ":"))
        needsComma = false
        try write(&self)
        needsComma = true
    }

    /// `[…]`, of one value an element.
    public mutating func array<Element, Failure: Error>(
        _ elements: [Element], _ write: (Element, inout JSONWriter) throws(Failure) -> Void
    ) throws(Failure) {
        bytes.append(UInt8(ascii: "["))
        needsComma = false
        for element in elements {
            separate()
            needsComma = false
            try write(element, &self)
            needsComma = true
        }
        bytes.append(UInt8(ascii: "]"))
        needsComma = true
    }

    /// A value that is JSON already.
    public mutating func written(_ json: [UInt8]) { bytes.append(contentsOf: json) }

    /// `null`.
    public mutating func null() { written(Array("null".utf8)) }

    /// `true` or `false`.
    public mutating func bool(_ value: Bool) { written(Array((value ? "true" : "false").utf8)) }

    /// A whole number.
    public mutating func integer(_ value: Int) { bytes.append(contentsOf: value.description.utf8) }

    /// The shortest digits that are read back as the same number.
    ///
    /// - Throws: `EncodingError` where it is infinite or no number at all: JSON has no word for those.
    public mutating func number(_ value: some BinaryFloatingPoint & LosslessStringConvertible) throws {
        guard value.isFinite else {
            throw EncodingError.invalidValue(
                value, .init(codingPath: [], debugDescription: "\(value) cannot be written as JSON"))
        }
        var digits = value.description
        if digits.hasSuffix(".0") { digits.removeLast(2) }
        bytes.append(contentsOf: digits.utf8)
    }

    /// A text between quotes.
    public mutating func string(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        let characters = Array(text.utf8)
        var written = 0
        for (index, byte) in zip(characters.indices, characters)
        where byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
            bytes.append(contentsOf: characters[written..<index])
            // A quote or backslash is written with the characters that follow it.
            if byte < 0x20 { bytes.append(contentsOf: Self.escape(byte)) } else { bytes.append(UInt8(ascii: "\\")) }
            written = byte < 0x20 ? index + 1 : index
        }
        bytes.append(contentsOf: characters[written...])
        bytes.append(UInt8(ascii: "\""))
    }

    private mutating func separate() { if needsComma { bytes.append(UInt8(ascii: ",")) } }

    private static func escape(_ byte: UInt8) -> [UInt8] {
        switch byte {
        case 0x08: return Array("\\b".utf8)
        case 0x09: return Array("\\t".utf8)
        case 0x0a: return Array("\\n".utf8)
        case 0x0c: return Array("\\f".utf8)
        case 0x0d: return Array("\\r".utf8)
        default:
            let digits = Array("0123456789abcdef".utf8)
            return Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
    }
}
