/// One JSON value whose members keep their order, for lines that people read too.
enum JSONLine: Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral {
    case text(String)
    case whole(Int)
    case number(Double)
    case truth(Bool)
    case none
    case list([JSONLine])
    case object([(String, JSONLine)])
    /// JSON that is there already.
    case written([UInt8])

    init(stringLiteral value: String) { self = .text(value) }
    init(integerLiteral value: Int) { self = .whole(value) }
    init(booleanLiteral value: Bool) { self = .truth(value) }

    /// A text, or null.
    init(_ text: String?) { self = text.map(JSONLine.text) ?? .none }
    /// A number, or null.
    init(_ number: Int?) { self = number.map(JSONLine.whole) ?? .none }

    /// Milliseconds to the microsecond, or null.
    init(milliseconds duration: Duration?) {
        guard let duration else {
            self = .none
            return
        }
        self = .number((duration / .microseconds(1)).rounded() / 1000)
    }

    /// Of several measurements of one form: every number the median of the numbers in its place, all else as in the first.
    static func medians(of measured: [JSONLine]) -> JSONLine {
        guard let first = measured.first else { return .none }
        switch first {
        case .whole:
            let numbers = measured.compactMap { if case .whole(let number) = $0 { number } else { nil } }
            return .whole(numbers.sorted()[numbers.count / 2])
        case .number:
            let numbers = measured.compactMap { if case .number(let number) = $0 { number } else { nil } }
            return .number(numbers.sorted()[numbers.count / 2])
        case .list(let items):
            let lists = measured.compactMap { if case .list(let items) = $0 { items } else { nil } }
            return .list(
                items.indices.map { index in medians(of: lists.filter { index < $0.count }.map { $0[index] }) })
        case .object(let members):
            let objects = measured.compactMap { if case .object(let members) = $0 { members } else { nil } }
            return .object(
                members.map { name, _ in
                    (name, medians(of: objects.compactMap { $0.first { $0.0 == name }?.1 }))
                })
        case .text, .truth, .none, .written: return first
        }
    }

    /// The value and an end of line.
    var line: [UInt8] {
        var bytes: [UInt8] = []
        write(to: &bytes)
        bytes.append(0x0A)
        return bytes
    }

    private func write(to bytes: inout [UInt8]) {
        switch self {
        case .text(let text): Self.quote(text, to: &bytes)
        case .whole(let number): bytes += "\(number)".utf8
        case .number(let number):
            // 3.0 is written as 3.
            if !number.isFinite {
                bytes += "null".utf8
            } else if let whole = Int(exactly: number) {
                bytes += "\(whole)".utf8
            } else {
                bytes += "\(number)".utf8
            }
        case .truth(let truth): bytes += (truth ? "true" : "false").utf8
        case .none: bytes += "null".utf8
        case .list(let values):
            bytes.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                value.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let members):
            bytes.append(UInt8(ascii: "{"))
            for (index, (name, value)) in members.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                Self.quote(name, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                value.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        case .written(let json): bytes += json
        }
    }

    private static func quote(_ text: String, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        for unit in text.utf8 {
            switch unit {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), unit]
            case 0x0A: bytes += "\\n".utf8
            case 0x09: bytes += "\\t".utf8
            case 0x00..<0x20, 0x7F:
                let digits = String(unit, radix: 16)
                bytes += "\\u\(String(repeating: "0", count: 4 - digits.count))\(digits)".utf8
            default: bytes.append(unit)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}

extension JSONLine {
    /// The value as it stands in JSON.
    var plainText: String { String(decoding: line.dropLast(), as: UTF8.self) }
}
