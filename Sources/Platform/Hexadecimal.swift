/// Bytes as pairs of hexadecimal digits.
package enum Hexadecimal {
    /// What a digit of either case stands for; nil for any other sign.
    package static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    /// The bytes in lower-case digits, with the separator between any two bytes.
    package static func text(of bytes: some Sequence<UInt8>, separator: String = "") -> String {
        let digits = Array("0123456789abcdef".utf8)
        let pairs = bytes.map { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
        return String(decoding: Array(pairs.joined(separator: separator.utf8)), as: UTF8.self)
    }

    /// The bytes that pairs of digits stand for; nil where the text is anything else.
    package static func bytes(of text: some StringProtocol) -> [UInt8]? {
        let values = text.utf8.compactMap(value(of:))
        guard values.count == text.utf8.count, values.count.isMultiple(of: 2) else { return nil }
        return stride(from: 0, to: values.count, by: 2).map { values[$0] << 4 | values[$0 + 1] }
    }
}
