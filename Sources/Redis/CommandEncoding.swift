/// Commands as they go over the wire: `*<arguments>\r\n`, then `$<bytes>\r\n<argument>\r\n` for each.
///
/// Small arguments are copied into one buffer; a large one stays where it is and becomes a segment of its own, so that
/// 2 MiB of embedding are read by the system from the caller's memory.
struct CommandEncoding: Sendable {
    /// A stretch of the output.
    enum Segment: Sendable {
        case array([UInt8])
        case bytes(RedisBytes)

        func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
            switch self {
            case .array(let bytes): bytes.withUnsafeBytes(body)
            case .bytes(let bytes): bytes.withUnsafeBytes(body)
            }
        }
    }

    /// From this size on an argument is not copied.
    static let borrowedFrom = 16 * 1024

    /// What precedes ``tail``.
    private(set) var segments: [Segment] = []
    /// The end of the output.
    private(set) var tail: [UInt8] = []
    private var segmentBytes = 0
    /// Where the first command ends: with fewer bytes than these the server can have run none of them.
    private(set) var firstCommandEnd = 0

    /// All bytes.
    var byteCount: Int { segmentBytes + tail.count }

    init() {}

    init(_ command: RedisCommand) {
        tail.reserveCapacity(64 + 24 * command.arguments.count)
        append(command)
        firstCommandEnd = byteCount
    }

    init(_ commands: [RedisCommand]) {
        tail.reserveCapacity(96 * commands.count)
        for (index, command) in commands.enumerated() {
            append(command)
            if index == 0 { firstCommandEnd = byteCount }
        }
    }

    /// Adds other output at the end.
    mutating func append(_ other: CommandEncoding) {
        if !other.segments.isEmpty {
            cut()
            segments.append(contentsOf: other.segments)
            segmentBytes += other.segmentBytes
        }
        tail.append(contentsOf: other.tail)
    }

    /// Everything as segments.
    consuming func finished() -> [Segment] {
        cut()
        return segments
    }

    private mutating func append(_ command: RedisCommand) {
        number(command.arguments.count + 1, after: UInt8(ascii: "*"))
        text(command.name)
        for argument in command.arguments {
            switch argument {
            case .string(let string): text(string)
            case .integer(let value): text(String(value))
            case .array(let bytes):
                if bytes.count < Self.borrowedFrom {
                    small(bytes)
                } else {
                    large(.array(bytes), count: bytes.count)
                }
            case .bytes(let bytes):
                if bytes.count < Self.borrowedFrom {
                    number(bytes.count, after: UInt8(ascii: "$"))
                    bytes.withUnsafeBytes { tail.append(contentsOf: $0) }
                    end()
                } else {
                    large(.bytes(bytes), count: bytes.count)
                }
            }
        }
    }

    private mutating func text(_ string: String) {
        let bytes = string.utf8
        number(bytes.count, after: UInt8(ascii: "$"))
        tail.append(contentsOf: bytes)
        end()
    }

    private mutating func small(_ bytes: [UInt8]) {
        number(bytes.count, after: UInt8(ascii: "$"))
        tail.append(contentsOf: bytes)
        end()
    }

    private mutating func large(_ segment: Segment, count: Int) {
        number(count, after: UInt8(ascii: "$"))
        cut()
        segments.append(segment)
        segmentBytes += count
        end()
    }

    private mutating func number(_ value: Int, after mark: UInt8) {
        tail.append(mark)
        if value < 10 {
            tail.append(UInt8(ascii: "0") + UInt8(value))
        } else {
            tail.append(contentsOf: String(value).utf8)
        }
        end()
    }

    private mutating func end() {
        tail.append(UInt8(ascii: "\r"))
        tail.append(UInt8(ascii: "\n"))
    }

    private mutating func cut() {
        guard !tail.isEmpty else { return }
        segmentBytes += tail.count
        segments.append(.array(tail))
        tail = []
    }
}
