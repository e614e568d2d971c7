/// Which samples of a 16-bit picture become black and white.
///
/// Cameras, microscopes and scanners write 10, 12 or 14 bits into files of 16: the upper byte of such samples is all but
/// black. Pictures of 8 bits and less have no use for it and are left as they are.
public enum Levels: Sendable, Hashable {
    /// ``full``, but where at least the two upper bits are empty in every sample of the picture, the bits that are in
    /// use are shown, and a note says so.
    ///
    /// One empty bit is no reason: a photograph may be that dark, a sensor of 15 bits does not exist.
    case auto
    /// 0 to 65535: the upper byte of every sample.
    case full
    /// From the sample that is black to the one that is white, linearly, rounded to the nearest level.
    case window(low: UInt16, high: UInt16)

    /// Reads `auto`, `full` or `min,max` with `min` below `max`; nil for anything else.
    public init?(_ text: String) {
        switch text {
        case "auto": self = .auto
        case "full": self = .full
        default:
            let ends = text.split(separator: ",", omittingEmptySubsequences: false)
            guard ends.count == 2, let low = UInt16(ends[0]), let high = UInt16(ends[1]), low < high else { return nil }
            self = .window(low: low, high: high)
        }
    }
}

extension Levels: CustomStringConvertible {
    /// As ``init(_:)`` reads it.
    public var description: String {
        switch self {
        case .auto: "auto"
        case .full: "full"
        case .window(let low, let high): "\(low),\(high)"
        }
    }
}

/// The 8-bit level of each 16-bit sample.
struct LevelTable {
    private let levels: [UInt8]
    /// What was done that nobody asked for.
    let note: ImageNote?

    /// The table of a picture whose largest colour sample is `largest`, of files that keep `bits` of each sample.
    init(_ choice: Levels, largest: UInt16, bits width: Int = 16) {
        var shift = width - 8
        var window: (low: Int, high: Int)?
        var note: ImageNote?
        switch choice {
        case .full: break
        case .window(let low, let high):
            // Ends that are no window would divide by nothing.
            window = (Int(low), max(Int(high), Int(low) + 1))
        case .auto:
            if largest > 0, Int(largest) < 1 << (width - 2) {
                let bits = max(8, UInt16.bitWidth - largest.leadingZeroBitCount)
                shift = bits - 8
                let top = (1 << bits) - 1
                note = ImageNote(
                    .emptyUpperBits,
                    "the samples have \(width) bits, and only the lower \(bits) are in use (the largest is \(largest)): "
                        + "0 to \(top) are shown as black to white, as --levels 0,\(top) does; --levels full shows all \(width)"
                )
            }
        }
        self.note = note
        levels = (0...0xFFFF).map { sample in
            guard let window else { return UInt8(truncatingIfNeeded: min(sample >> shift, 255)) }
            let range = window.high - window.low
            let above = min(max(sample - window.low, 0), range)
            return UInt8(truncatingIfNeeded: (above * 255 + range / 2) / range)
        }
    }

    subscript(sample: UInt16) -> UInt8 { levels[Int(sample)] }
}
