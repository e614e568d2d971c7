package import Segmentation

/// A mask as Label Studio's brush has it: the run lengths of thi.ng's rle-pack over red, green, blue and alpha of each pixel.
///
/// The format is `label_studio_sdk/converter/brush.py`'s; a mask's runs are of pixels, so of multiples of four equal bytes:
/// ```text
/// bits, the highest first
/// 32   how many bytes: 4 W H
///  5   bits of a value - 1: 7
///  4   bits of a length of kind 0, 1, 2, 3, less 1: 2, 3, 7, 15
/// then for each run
///  1   1: one value is repeated
///  2   kind of length: the first whose bits hold it
///  n   length - 1
///  8   the value: 0 or 255
/// 1-8  zeros, up to a whole byte; a whole byte of them where there is one
/// ```
package enum BrushEncoding {
    /// The bytes that Label Studio has as a list of numbers.
    package static func bytes(of mask: RunLengthEncoding) -> [UInt8] {
        let pixels = mask.mask.pixels
        var bits = BitWriter()
        bits.append(UInt64(pixels.count) * 4, count: 32)
        bits.append(7, count: 5)
        for size in [2, 3, 7, 15] { bits.append(UInt64(size), count: 4) }
        pixels.withUnsafeBufferPointer { pixels in
            var start = 0
            while start < pixels.count {
                let value = pixels[start]
                var end = start + 1
                while end < pixels.count, pixels[end] == value { end += 1 }
                bits.append(run: (end - start) * 4, value: value == 0 ? 0 : 255)
                start = end
            }
        }
        return bits.finish()
    }
}

/// Bits, the highest of a byte first.
private struct BitWriter {
    private var bytes: [UInt8] = []
    private var held: UInt64 = 0
    private var count = 0

    mutating func append(_ value: UInt64, count bits: Int) {
        // At most 7 bits are held, and 32 come at a time.
        held = held << UInt64(bits) | value
        count += bits
        while count >= 8 {
            count -= 8
            bytes.append(UInt8(truncatingIfNeeded: held >> UInt64(count)))
        }
        held &= 1 << UInt64(count) - 1
    }

    /// A repeated value.
    mutating func append(run length: Int, value: UInt64) {
        var left = length
        while left > 0 {
            let length = min(left, 1 << 16)
            let (kind, bits): (UInt64, Int) =
                length <= 8 ? (0, 3) : length <= 16 ? (1, 4) : length <= 256 ? (2, 8) : (3, 16)
            append(1 << 2 | kind, count: 3)
            append(UInt64(length - 1), count: bits)
            append(value, count: 8)
            left -= length
        }
    }

    consuming func finish() -> [UInt8] {
        append(0, count: 8 - count)
        return bytes
    }
}
