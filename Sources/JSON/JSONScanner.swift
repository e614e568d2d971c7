/// Reads JSON of a form that is known beforehand, value after value and without a tree.
///
/// ```swift
/// let point = JSONScanner.read(Array("[500, 375.5]".utf8)) { $0.numbers(2) }
/// ```
/// It knows the plain part of JSON, which is most of what travels: texts of ASCII without escapes, numbers of at most 15
/// digits without an exponent. It answers nil, or false, for everything else, whether that is right or wrong: a reader that
/// takes its time reads those texts, and knows what to say of them. What it does answer, every reader of JSON answers as well.
package struct JSONScanner {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var at = 0

    private init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    /// What `body` reads, where that is the whole text.
    ///
    /// - Parameters:
    ///   - text: one value in UTF-8.
    ///   - body: reads the value from the scanner that it is given, and answers nil where it is not what was expected.
    /// - Returns: the value; nil where there is another, or anything behind it.
    package static func read<Value>(_ text: [UInt8], _ body: (inout JSONScanner) -> Value?) -> Value? {
        text.withUnsafeBufferPointer { bytes in
            var scanner = JSONScanner(bytes)
            guard let value = body(&scanner) else { return nil }
            scanner.skipSpace()
            return scanner.at == bytes.count ? value : nil
        }
    }

    /// Takes one sign, spaces before it aside.
    package mutating func take(_ sign: Unicode.Scalar) -> Bool {
        skipSpace()
        guard at < bytes.count, bytes[at] == UInt8(ascii: sign) else { return false }
        at += 1
        return true
    }

    /// An object that is not empty and in which no name comes twice; `member` reads the value behind a name.
    package mutating func object(_ member: (inout JSONScanner, String) -> Bool) -> Bool {
        guard take("{") else { return false }
        var names: [String] = []
        repeat {
            guard let name = string(), !names.contains(name), take(":"), member(&self, name) else { return false }
            names.append(name)
        } while take(",")
        return take("}")
    }

    /// An array, of which `element` reads one value at a time.
    package mutating func array(_ element: (inout JSONScanner) -> Bool) -> Bool {
        guard take("[") else { return false }
        if take("]") { return true }
        repeat { guard element(&self) else { return false } } while take(",")
        return take("]")
    }

    /// An array of so many numbers.
    package mutating func numbers(_ count: Int) -> [Double]? {
        var numbers: [Double] = []
        let isRead = array { scanner in
            guard numbers.count < count, let number = scanner.number() else { return false }
            numbers.append(number)
            return true
        }
        return isRead && numbers.count == count ? numbers : nil
    }

    /// A text of plain ASCII without escapes.
    package mutating func string() -> String? {
        guard take("\"") else { return nil }
        let start = at
        while at < bytes.count, bytes[at] != UInt8(ascii: "\"") {
            guard (0x20..<0x7f).contains(bytes[at]), bytes[at] != UInt8(ascii: "\\") else { return nil }
            at += 1
        }
        guard at < bytes.count else { return nil }
        defer { at += 1 }
        return String(decoding: bytes[start..<at], as: UTF8.self)
    }

    /// `true` or `false`.
    package mutating func boolean() -> Bool? {
        skipSpace()
        for (word, value) in [("true", true), ("false", false)]
        where bytes[at...].prefix(word.utf8.count).elementsEqual(word.utf8) {
            at += word.utf8.count
            return value
        }
        return nil
    }

    /// A number of at most 15 digits without an exponent: two whole numbers below 2^53 and one division, so that the answer
    /// is the nearest double there is.
    package mutating func number() -> Double? {
        let isNegative = take("-")
        if !isNegative { skipSpace() }
        var (digits, value, scale, isFraction) = (0, 0, 1, false)
        let start = at
        while at < bytes.count {
            switch bytes[at] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                digits += 1
                guard digits <= 15 else { return nil }
                value = value * 10 + Int(bytes[at] - UInt8(ascii: "0"))
                if isFraction { scale *= 10 }
            case UInt8(ascii: "."):
                guard !isFraction, digits > 0 else { return nil }
                isFraction = true
            default:
                return ending(start, digits, isNegative, value, scale, isFraction)
            }
            at += 1
        }
        return nil
    }

    private func ending(
        _ start: Int, _ digits: Int, _ isNegative: Bool, _ value: Int, _ scale: Int, _ isFraction: Bool
    ) -> Double? {
        guard digits > 0, !isFraction || scale > 1 else { return nil }
        // JSON has no zero before another digit; an exponent is not for this scanner.
        if bytes[start] == UInt8(ascii: "0"), at - start > 1, bytes[start + 1] != UInt8(ascii: ".") { return nil }
        if bytes[at] == UInt8(ascii: "e") || bytes[at] == UInt8(ascii: "E") { return nil }
        let magnitude = Double(value) / Double(scale)
        return isNegative ? -magnitude : magnitude
    }

    private mutating func skipSpace() {
        while at < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[at]) { at += 1 }
    }
}
