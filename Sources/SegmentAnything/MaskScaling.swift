import Tensors

/// From low-resolution logits to the original picture: bilinear to the model's size, the padding cut off, bilinear to
/// the picture (`Sam.postprocess_masks`, `align_corners=False` both times).
///
/// Both steps are linear and act on rows and columns alike, so together they are one sparse matrix per axis with at
/// most four entries a row. Columns are scaled first, on the few low-resolution rows; then rows, whole vectors at once.
package struct MaskScaling: Sendable {
    /// Which low-resolution samples make a pixel of one axis.
    private struct Taps: Sendable {
        static let count = 4
        var starts: [Int32] = []
        /// Four per pixel.
        var weights: [Float] = []
    }

    /// Columns of the original picture.
    package let width: Int
    /// Rows of the original picture.
    package let height: Int
    private let side: Int
    private let columns: Taps
    private let rows: Taps

    /// - Parameters:
    ///   - side: rows and columns of the logits, 4g.
    ///   - imageSize: the model's size S.
    ///   - frame: how the picture was resized.
    package init(side: Int, imageSize: Int, frame: ResizeLongestSide) {
        self.side = side
        width = frame.originalWidth
        height = frame.originalHeight
        columns = Self.taps(from: side, through: imageSize, cutTo: frame.width, to: width)
        rows = Self.taps(from: side, through: imageSize, cutTo: frame.height, to: height)
    }

    /// One axis of a bilinear resize from `input` to `output` samples: two neighbours and the second one's weight.
    private static func linear(_ index: Int, input: Int, output: Int) -> (Int, Int, Float) {
        let place = max(0, Float(input) / Float(output) * (Float(index) + 0.5) - 0.5)
        let first = min(Int(place), input - 1)
        return (first, min(first + 1, input - 1), place - Float(first))
    }

    private static func taps(from input: Int, through middle: Int, cutTo cut: Int, to output: Int) -> Taps {
        var taps = Taps()
        for index in 0..<output {
            let (a, b, weight) = linear(index, input: cut, output: output)
            var entries: [Int: Float] = [:]
            for (place, share) in [(a, 1 - weight), (b, weight)] {
                let (c, d, inner) = linear(place, input: input, output: middle)
                entries[c, default: 0] += share * (1 - inner)
                entries[d, default: 0] += share * inner
            }
            // A picture much larger or smaller than the model's frame still reads neighbours only: a and b are at most
            // one apart, and so are the samples behind each of them.
            let start = min(entries.keys.min() ?? 0, input - min(Taps.count, input))
            taps.starts.append(Int32(start))
            for offset in 0..<Taps.count { taps.weights.append(entries[start + offset] ?? 0) }
        }
        return taps
    }

    /// Calls `body` with every row of full-size logits, `width` numbers each, from the upper edge down.
    ///
    /// - Parameter logits: (side, side).
    package func forEachRow(_ logits: UnsafePointer<Float>, _ body: (Int, UnsafePointer<Float>) -> Void) {
        Scratch.withFloats((side + Taps.count + 1) * width) { memory in
            let line = memory + (side + Taps.count) * width
            memory.update(repeating: 0, count: (side + Taps.count) * width)
            let reach = min(Taps.count, side)
            for row in 0..<side {
                let (source, target) = (logits + row * side, memory + row * width)
                columns.starts.withUnsafeBufferPointer { starts in
                    columns.weights.withUnsafeBufferPointer { weights in
                        for x in 0..<width {
                            let from = source + Int(starts[x])
                            var sum: Float = 0
                            for tap in 0..<reach { sum += weights[x * Taps.count + tap] * from[tap] }
                            target[x] = sum
                        }
                    }
                }
            }
            for y in 0..<height {
                let from = memory + Int(rows.starts[y]) * width
                let (a, b) = (rows.weights[y * Taps.count], rows.weights[y * Taps.count + 1])
                let (c, d) = (rows.weights[y * Taps.count + 2], rows.weights[y * Taps.count + 3])
                for x in 0..<width {
                    line[x] = a * from[x] + b * from[width + x] + c * from[2 * width + x] + d * from[3 * width + x]
                }
                body(y, line)
            }
        }
    }
}
