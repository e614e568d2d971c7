/// A mask with one bit a pixel, each column in 64-bit words of its own: the order in which runs are counted.
///
/// ```text
/// word c * wordsPerColumn + r / 64, bit r % 64: row r of column c
/// ```
///
/// Masks are stored by rows and COCO counts by columns. The turn is done on squares of 8 by 8 pixels in registers, so
/// that a picture's rows are read once and in order, and runs are found 64 pixels at a time. Bytes are taken for parts
/// of words in little-endian order, that of x86-64 and arm64.
struct ColumnBits {
    private let height: Int
    private let width: Int
    private let wordsPerColumn: Int
    private var words: [UInt64]

    /// No pixel set.
    private init(height: Int, width: Int) {
        self.height = height
        self.width = width
        wordsPerColumn = (height + 63) / 64
        words = [UInt64](repeating: 0, count: wordsPerColumn * width)
    }

    /// The pixels that the words say.
    init(height: Int, width: Int, words: [UInt64]) {
        self.height = height
        self.width = width
        wordsPerColumn = (height + 63) / 64
        precondition(words.count == wordsPerColumn * width, "\(words.count) words for \(height) x \(width) pixels")
        self.words = words
    }

    /// The pixels of a mask.
    init(_ mask: Mask) {
        self.init(height: mask.height, width: mask.width)
        mask.pixels.withUnsafeBytes { pixels in
            words.withUnsafeMutableBytes { bits in
                for top in stride(from: 0, to: height, by: 8) {
                    let rows = min(8, height - top)
                    for left in stride(from: 0, to: width, by: 8) {
                        let columns = min(8, width - left)
                        var square: UInt64 = 0
                        for row in 0..<rows {
                            let offset = (top &+ row) &* width &+ left
                            var eight: UInt64 = 0
                            if columns == 8 {
                                eight = pixels.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                            } else {
                                for column in 0..<columns { eight |= UInt64(pixels[offset + column]) << (8 * column) }
                            }
                            square |= Self.packed(eight) << (8 &* UInt64(row))
                        }
                        if square == 0 { continue }
                        square = Self.transposed(square)
                        var target = (left &* wordsPerColumn) &* 8 &+ top / 8
                        for column in 0..<columns {
                            bits[target] = UInt8(truncatingIfNeeded: square >> (8 &* UInt64(column)))
                            target &+= wordsPerColumn &* 8
                        }
                    }
                }
            }
        }
    }

    /// The pixels of an encoding.
    init(_ encoding: RunLengthEncoding) {
        self.init(height: encoding.height, width: encoding.width)
        var position = 0
        for (index, count) in encoding.counts.enumerated() {
            if index % 2 == 1 { set(position..<(position + Int(count))) }
            position += Int(count)
        }
    }

    /// Sets the pixels from one place to another, counted down the columns.
    private mutating func set(_ range: Range<Int>) {
        var position = range.lowerBound
        while position < range.upperBound {
            let (column, row) = position.quotientAndRemainder(dividingBy: height)
            let end = min(height, row + range.upperBound - position)
            var word = column * wordsPerColumn + row / 64
            var bit = row
            while bit < end {
                let stop = min(end, (bit / 64 + 1) * 64)
                let ones = stop - bit == 64 ? ~0 : (UInt64(1) << UInt64(stop - bit)) - 1
                words[word] |= ones << UInt64(bit % 64)
                word += 1
                bit = stop
            }
            position += end - row
        }
    }

    /// The lengths of the runs, background first.
    var counts: [UInt32] {
        Self.counts(height: height, width: width, columns: 0..<width, words: 0..<wordsPerColumn, bits: words)
    }

    /// The lengths of the runs, background first, of a mask of which some columns and words of rows are given and the rest
    /// is background.
    static func counts(
        height: Int, width: Int, columns: Range<Int>, words: Range<Int>, bits: [UInt64]
    ) -> [UInt32] {
        precondition(bits.count == columns.count * words.count, "\(bits.count) words for \(columns) x \(words)")
        var counts: [UInt32] = []
        var previous: UInt64 = 0
        var runStart = 0
        func change(at position: Int) {
            counts.append(UInt32(truncatingIfNeeded: position &- runStart))
            runStart = position
        }
        let reachesEnd = words.upperBound * 64 >= height
        bits.withUnsafeBufferPointer { bits in
            var next = 0
            for column in columns {
                // Only where the rows above the given ones are none does a run go on from the column before.
                if words.lowerBound > 0 { previous = 0 }
                for index in words {
                    let word = bits[next]
                    next &+= 1
                    let rows = min(64, height &- index &* 64)
                    // Bit b is set where pixel b differs from the one before it.
                    var changes = word ^ (word << 1 | previous)
                    if rows < 64 { changes &= (1 << UInt64(rows)) - 1 }
                    let base = column &* height &+ index &* 64
                    while changes != 0 {
                        change(at: base &+ changes.trailingZeroBitCount)
                        changes &= changes &- 1
                    }
                    previous = word >> UInt64(rows - 1) & 1
                }
                let end = reachesEnd ? (column + 1) * height : column * height + words.upperBound * 64
                if previous == 1, !reachesEnd || words.lowerBound > 0 || column + 1 == columns.upperBound,
                    end < height * width
                {
                    change(at: end)
                    previous = 0
                }
            }
        }
        counts.append(UInt32(truncatingIfNeeded: height * width - runStart))
        // Masks are kept by the thousand: room for runs that do not come would double what they take.
        let isRoomy = counts.capacity > counts.count + counts.count / 4 + 64
        return isRoomy ? counts.withUnsafeBufferPointer(Array.init) : counts
    }

    /// The mask by rows, a byte for each pixel.
    var mask: Mask {
        let count = height * width
        let pixels = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            let pixels = UnsafeMutableRawBufferPointer(buffer)
            words.withUnsafeBytes { bits in
                for top in stride(from: 0, to: height, by: 8) {
                    let rows = min(8, height - top)
                    for left in stride(from: 0, to: width, by: 8) {
                        let columns = min(8, width - left)
                        var square: UInt64 = 0
                        var source = (left &* wordsPerColumn) &* 8 &+ top / 8
                        for column in 0..<columns {
                            square |= UInt64(bits[source]) << (8 &* UInt64(column))
                            source &+= wordsPerColumn &* 8
                        }
                        square = Self.transposed(square)
                        for row in 0..<rows {
                            let eight = Self.unpacked(square >> (8 &* UInt64(row)) & 0xFF)
                            let offset = (top &+ row) &* width &+ left
                            if columns == 8 {
                                pixels.storeBytes(of: eight, toByteOffset: offset, as: UInt64.self)
                            } else {
                                for column in 0..<columns {
                                    pixels[offset + column] = UInt8(truncatingIfNeeded: eight >> (8 * UInt64(column)))
                                }
                            }
                        }
                    }
                }
            }
            initialized = count
        }
        return Mask(width: width, height: height, pixels: pixels)
    }

    /// The lowest bits of eight bytes as eight bits, in their order.
    @inline(__always)
    private static func packed(_ bytes: UInt64) -> UInt64 {
        ((bytes & 0x0101_0101_0101_0101) &* 0x0102_0408_1020_4080) >> 56
    }

    /// Eight bits as eight bytes of 0 or 1, in their order.
    @inline(__always)
    private static func unpacked(_ bits: UInt64) -> UInt64 {
        // Each byte keeps its own bit; adding 0x7F carries it into the highest, whatever its place.
        let spread = (bits &* 0x0101_0101_0101_0101) & 0x8040_2010_0804_0201
        return (spread &+ 0x7F7F_7F7F_7F7F_7F7F) >> 7 & 0x0101_0101_0101_0101
    }

    /// A square of 8 by 8 bits mirrored in its diagonal, in three exchanges of ever larger blocks.
    ///
    /// Warren, "Hacker's Delight", section 7-3.
    @inline(__always)
    private static func transposed(_ square: UInt64) -> UInt64 {
        var square = square
        var change = (square ^ (square >> 7)) & 0x00AA_00AA_00AA_00AA
        square ^= change ^ (change << 7)
        change = (square ^ (square >> 14)) & 0x0000_CCCC_0000_CCCC
        square ^= change ^ (change << 14)
        change = (square ^ (square >> 28)) & 0x0000_0000_F0F0_F0F0
        return square ^ change ^ (change << 28)
    }
}

extension RunLengthEncoding {
    /// Encodes a mask.
    ///
    /// - Precondition: the mask has fewer than 2^32 pixels.
    public init(_ mask: Mask) {
        precondition(mask.pixels.count <= Int(UInt32.max), "\(mask.pixels.count) pixels are too many for 32-bit counts")
        self.init(height: mask.height, width: mask.width, canonicalCounts: ColumnBits(mask).counts)
    }

    /// The mask that this encodes.
    ///
    /// Takes `height * width` bytes, which a short string can claim: check the size of what comes from outside first.
    public var mask: Mask { ColumnBits(self).mask }
}
