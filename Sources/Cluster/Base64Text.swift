import FoundationEssentials

/// Bytes from text, in all forms of base64 that programs write (RFC 4648, RFC 2045, RFC 2397).
///
/// The usual and the URL-safe alphabet, with padding or without, in one piece or wrapped at any length, bare or as
/// `data:image/jpeg;base64,…`.
package enum Base64Text {
    /// What is wrong with a text, and where.
    package struct Fault: Error, Sendable, Hashable {
        /// A clause that begins with the place, where there is one.
        package let reason: String
    }

    /// The bytes; an empty text has none.
    package static func decode(_ text: String) throws(Fault) -> [UInt8] {
        try Array(text.utf8).withUnsafeBufferPointer { bytes throws(Fault) in try decode(bytes) }
    }

    private static func decode(_ text: UnsafeBufferPointer<UInt8>) throws(Fault) -> [UInt8] {
        let start = try payload(of: text)
        let isData = start > 0
        var digits: [UInt8] = []
        digits.reserveCapacity(text.count - start + 3)
        var padding = 0
        var alphabet: UInt8?
        var at = start
        while at < text.count {
            let place = at
            var sign = text[at]
            at += 1
            if isData, sign == UInt8(ascii: "%") {
                // In a URL some signs are written as their codes.
                guard let code = code(text, at) else {
                    throw Fault(reason: "character \(place + 1): % is no code here")
                }
                sign = code
                at += 2
            }
            switch sign {
            case 0x20, 0x09, 0x0A, 0x0D: continue
            case UInt8(ascii: "="):
                padding += 1
                continue
            case UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: "_"):
                let isSafe = sign == UInt8(ascii: "-") || sign == UInt8(ascii: "_")
                let kind: UInt8 = isSafe ? 1 : 0
                guard alphabet == nil || alphabet == kind else {
                    throw Fault(reason: "\(name(text, place)) belongs to another alphabet than the signs before it")
                }
                alphabet = kind
                sign =
                    sign == UInt8(ascii: "-") ? UInt8(ascii: "+") : sign == UInt8(ascii: "_") ? UInt8(ascii: "/") : sign
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                break
            default: throw Fault(reason: "\(name(text, place)) is no sign of base64")
            }
            guard padding == 0 else { throw Fault(reason: "\(name(text, place)) stands behind the padding") }
            digits.append(sign)
        }
        guard digits.count % 4 != 1 else {
            throw Fault(
                reason: "the text ends inside a byte: \(digits.count) signs are one too many, or it was cut off")
        }
        let missing = (4 - digits.count % 4) % 4
        guard padding == 0 || padding == missing else {
            throw Fault(reason: "\(padding) = at the end where \(missing) belong: something is missing before them")
        }
        digits.append(contentsOf: repeatElement(UInt8(ascii: "="), count: missing))
        // Foundation alone would also read `AQ=D` and `AQI==`, and make of them what nobody wrote.
        guard let data = Data(base64Encoded: Data(digits)) else {
            throw Fault(reason: "the last sign holds more than the last byte: it was cut off or changed")
        }
        return Array(data)
    }

    /// Where the digits begin: behind the comma of a data URI, else at the start.
    private static func payload(of text: UnsafeBufferPointer<UInt8>) throws(Fault) -> Int {
        let head = String(decoding: text.prefix(256), as: UTF8.self)
        guard head.prefix(5).lowercased() == "data:" else { return 0 }
        guard let comma = text.prefix(256).firstIndex(of: UInt8(ascii: ",")) else {
            throw Fault(reason: "the data URI has no comma, behind which its bytes would stand")
        }
        guard head.prefix(while: { $0 != "," }).lowercased().hasSuffix(";base64") else {
            throw Fault(reason: "the data URI is not in base64: ;base64 is expected before its comma")
        }
        return comma + 1
    }

    /// The byte that two hexadecimal digits stand for.
    private static func code(_ text: UnsafeBufferPointer<UInt8>, _ at: Int) -> UInt8? {
        guard at + 1 < text.count else { return nil }
        return UInt8(String(decoding: text[at...at + 1], as: UTF8.self), radix: 16)
    }

    /// The character at a place, as people find it.
    private static func name(_ text: UnsafeBufferPointer<UInt8>, _ place: Int) -> String {
        let rest = String(decoding: text[place..<min(place + 8, text.count)], as: UTF8.self)
        return "character \(place + 1), \(CharacterName.of(rest.unicodeScalars.first ?? "?")),"
    }
}

/// How a character is shown in a complaint about it.
package enum CharacterName {
    /// `"é" (U+00E9)`; spaces and signs that cannot be seen by name alone.
    package static func of(_ scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16, uppercase: true)
        let code = "U+" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
        switch scalar {
        case " ": return "a space (\(code))"
        case "\t": return "a tab (\(code))"
        case _ where scalar.properties.generalCategory == .control || scalar.properties.isWhitespace: return code
        default: return "\"\(scalar)\" (\(code))"
        }
    }
}
