import Glibc

/// The scans of a JPEG file: where the entropy-coded data of each ends, and whether together they hold every coefficient.
///
/// ```text
/// FF DA length components, spectral band, bits | entropy-coded data, FF always followed by 00 or D0…D7 | FF marker …
/// ```
///
/// ITU-T T.81, annexes B and G.
struct JPEGScans {
    /// A stretch of entropy-coded data.
    struct Scan {
        /// The data, up to the marker behind it.
        let data: Range<Int>
        /// The marker behind it; nil where the file ends.
        let marker: UInt8?
    }

    private(set) var scans: [Scan] = []
    /// Whether the end mark (EOI) was found.
    private(set) var hasEnd = false
    /// Bytes between segments that belong to none.
    private(set) var stray: [Range<Int>] = []
    /// Coefficients of each component that have come down to their last bit: bit 0 the DC, bits 1…63 the AC.
    private var finished: [UInt8: UInt64] = [:]

    /// Walks the scans from the first scan's marker at `start`; what is cut short ends the walk.
    init(_ bytes: UnsafeRawBufferPointer, from start: Int) {
        var offset = start
        while bytes.count - offset >= 2 {
            let marker = bytes[offset + 1]
            offset += 2
            if marker == 0xD9 {
                hasEnd = true
                return
            }
            if marker != 0x01, !(0xD0...0xD7).contains(marker) {
                guard bytes.count - offset >= 2 else { return }
                let length = Int(bytes.bigEndian16(at: offset))
                guard length >= 2, bytes.count - offset >= length else { return }
                if marker == 0xDA { note(bytes[(offset + 2)..<(offset + length)]) }
                offset += length
            }
            let next = Self.marker(in: bytes, from: offset, isEntropy: marker == 0xDA)
            if marker == 0xDA {
                scans.append(Scan(data: offset..<next, marker: next + 1 < bytes.count ? bytes[next + 1] : nil))
            } else if next > offset {
                stray.append(offset..<next)
            }
            offset = next
        }
    }

    /// Whether every coefficient of that many components was coded to its last bit.
    func areComplete(components: Int) -> Bool {
        finished.count == components && finished.values.allSatisfy { $0 == ~0 }
    }

    /// Takes down what a scan's header says that it holds.
    private mutating func note(_ header: Slice<UnsafeRawBufferPointer>) {
        let fields = Array(header)
        guard let count = fields.first.map(Int.init), fields.count >= 4 + 2 * count else { return }
        let (first, last, lowBit) = (fields[1 + 2 * count], fields[2 + 2 * count], fields[3 + 2 * count] & 0x0F)
        for index in 0..<count {
            let component = fields[1 + 2 * index]
            var done = finished[component] ?? 0
            if lowBit == 0, first <= last, last <= 63 {
                for coefficient in first...last { done |= 1 << UInt64(coefficient) }
            }
            finished[component] = done
        }
    }

    /// Where the next marker stands, or the end of the bytes.
    private static func marker(in bytes: UnsafeRawBufferPointer, from start: Int, isEntropy: Bool) -> Int {
        var offset = start
        while offset + 1 < bytes.count, let base = bytes.baseAddress {
            guard let found = memchr(base + offset, 0xFF, bytes.count - 1 - offset) else { break }
            offset = UnsafeRawPointer(found) - base
            let code = bytes[offset + 1]
            if code != 0, code != 0xFF, !(isEntropy && (0xD0...0xD7).contains(code)) { return offset }
            offset += 1
        }
        return bytes.count
    }
}
