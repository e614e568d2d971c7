import HTTPTypes
import NIOCore

/// Takes `multipart/form-data` (RFC 7578) apart as it arrives.
///
/// Nothing but a delimiter's length is held back, so a part of any size costs no memory here.
package struct MultipartReader {
    /// What a part's head says.
    package struct Part: Hashable {
        /// Of the form's field.
        package var name = ""
        /// Of the file; nil where the part is none.
        package var fileName: String?
        /// `Content-Type`, in lower case.
        package var contentType: String?
    }

    /// What comes next.
    package enum Event: Equatable {
        case part(Part)
        case body([UInt8])
        case end
    }

    /// A head of more bytes is refused.
    static let longestHead = 8192

    private enum State { case preamble, head, body, epilogue }

    private let delimiter: [UInt8]
    private var state = State.preamble
    private var held: [UInt8] = Array("\r\n".utf8)
    private var parts = 0

    /// A reader of bodies whose parts are divided by `boundary`.
    package init(boundary: String) { delimiter = Array("\r\n--\(boundary)".utf8) }

    /// The boundary of a `Content-Type`; nil where it is none of a form.
    package static func boundary(of contentType: String) -> String? {
        let parts = contentType.split(separator: ";").map { $0.drop { $0 == " " } }
        guard parts.first?.lowercased().filter({ $0 != " " }) == "multipart/form-data" else { return nil }
        for parameter in parts.dropFirst() where parameter.lowercased().hasPrefix("boundary=") {
            var value = parameter.dropFirst("boundary=".count)
            while value.last == " " { value.removeLast() }
            if value.count >= 2, value.first == "\"", value.last == "\"" { value = value.dropFirst().dropLast() }
            return (1...70).contains(value.utf8.count) ? String(value) : nil
        }
        return nil
    }

    /// Whether the last delimiter was read.
    package var isAtEnd: Bool { state == .epilogue }

    /// Takes the next bytes; returns what they complete.
    package mutating func take(_ chunk: some Collection<UInt8>) throws(Problem) -> [Event] {
        if state == .epilogue { return [] }
        held.append(contentsOf: chunk)
        var events: [Event] = []
        while try step(&events) {}
        return events
    }

    private mutating func step(_ events: inout [Event]) throws(Problem) -> Bool {
        switch state {
        case .preamble, .body:
            let (found, safe) = search()
            if let found {
                // Behind a delimiter come two hyphens (the last), or white space and the end of the line.
                let after = found + delimiter.count
                guard let line = endOfDelimiter(after) else {
                    flush(upTo: found, &events)
                    return false
                }
                flush(upTo: found, &events)
                held.removeFirst(line.end - found)
                state = line.isLast ? .epilogue : .head
                if line.isLast {
                    held = []
                    events.append(.end)
                    return false
                }
                return true
            }
            flush(upTo: safe, &events)
            return false
        case .head:
            guard let end = Self.firstIndex(of: Array("\r\n\r\n".utf8), in: held[...]) else {
                if held.starts(with: Array("\r\n".utf8)) {
                    held.removeFirst(2)
                    return try begin(Part(), &events)
                }
                if held.count > Self.longestHead { throw Self.fault("the head of a part is too long") }
                return false
            }
            let part = try Self.part(held[..<end])
            held.removeFirst(end + 4)
            return try begin(part, &events)
        case .epilogue: return false
        }
    }

    private mutating func begin(_ part: Part, _ events: inout [Event]) throws(Problem) -> Bool {
        parts += 1
        if parts > 64 { throw Self.fault("there are more than 64 parts") }
        events.append(.part(part))
        state = .body
        // An empty part's delimiter begins with the end of line that closed the head.
        held.insert(contentsOf: Array("\r\n".utf8), at: 0)
        skipsHeadEnd = true
        return true
    }

    /// Whether the two bytes at the head of `held` are those of ``begin(_:_:)``, which are no part's.
    private var skipsHeadEnd = true

    private mutating func flush(upTo end: Int, _ events: inout [Event]) {
        guard end > 0 else { return }
        var bytes = held[..<end]
        if skipsHeadEnd {
            guard end >= 2 else { return }
            bytes = bytes.dropFirst(2)
            skipsHeadEnd = false
        }
        if state == .body, !bytes.isEmpty { events.append(.body(Array(bytes))) }
        held.removeFirst(end)
    }

    /// Where the delimiter stands, or else up to where no part of it can.
    private func search() -> (found: Int?, safe: Int) {
        if let found = Self.firstIndex(of: delimiter, in: held[...]) { return (found, found) }
        return (nil, max(0, held.count - delimiter.count + 1))
    }

    private func endOfDelimiter(_ start: Int) -> (end: Int, isLast: Bool)? {
        guard held.count >= start + 2 else { return nil }
        if held[start] == UInt8(ascii: "-"), held[start + 1] == UInt8(ascii: "-") { return (start + 2, true) }
        var at = start
        while at < held.count, held[at] == 0x20 || held[at] == 0x09 { at += 1 }
        guard held.count >= at + 2 else { return nil }
        return (held[at] == 0x0D && held[at + 1] == 0x0A ? at + 2 : at, false)
    }

    private static func part(_ head: ArraySlice<UInt8>) throws(Problem) -> Part {
        var part = Part()
        for line in String(decoding: head, as: UTF8.self).split(separator: "\r\n") {
            guard let colon = line.firstIndex(of: ":") else { throw fault("a head without a colon") }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            switch line[..<colon].lowercased() {
            case "content-disposition":
                part.name = parameter("name", of: value) ?? ""
                part.fileName = parameter("filename", of: value)
            case "content-type": part.contentType = value.lowercased()
            default: break
            }
        }
        return part
    }

    private static func parameter(_ name: String, of value: Substring) -> String? {
        for piece in value.split(separator: ";").dropFirst() {
            let piece = piece.drop { $0 == " " }
            guard let equals = piece.firstIndex(of: "="), piece[..<equals].lowercased() == name else { continue }
            return String(piece[piece.index(after: equals)...].filter { $0 != "\"" })
        }
        return nil
    }

    private static func firstIndex(of pattern: [UInt8], in bytes: ArraySlice<UInt8>) -> Int? {
        guard let first = pattern.first, bytes.count >= pattern.count else { return nil }
        return bytes.withUnsafeBufferPointer { memory in
            var at = 0
            let last = memory.count - pattern.count
            while at <= last {
                if memory[at] == first, memory[at...].starts(with: pattern) { return at }
                at += 1
            }
            return nil
        }
    }

    static func fault(_ reason: String) -> Problem {
        Problem(.badRequest, "bad-multipart", "the body is no multipart/form-data: \(reason)")
    }
}
