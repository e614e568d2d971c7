import NeuralNetworks
package import Segmentation
package import Tensors

/// From low-resolution logits to the original picture: bilinear to the model's size, the padding cut off, bilinear to
/// the picture (`Sam.postprocess_masks`, `align_corners=False` both times).
///
/// Both steps are linear and act on rows and columns alike, so together they are one sparse matrix per axis with at
/// most four entries a row. Rows are scaled first, on the few low-resolution columns, and turned; then columns, whole
/// vectors along a column at once, so that each comparison gives the bits in the order in which runs are counted, and
/// nothing of the picture's size is ever stored but those bits.
package struct MaskScaling: Sendable {
    /// Which low-resolution samples make a pixel of one axis.
    private struct Taps: Sendable {
        static let count = 4
        var starts: [Int32] = []
        /// Four per pixel.
        var weights: [Float] = []

        /// Calls `body` with the four samples of a pixel, which are rows of `stride` numbers, and their weights.
        func withTaps(
            _ index: Int, of samples: UnsafePointer<Float>, stride: Int,
            _ body: (UnsafePointer<UnsafePointer<Float>?>, UnsafePointer<Float>) -> Void
        ) {
            let first = samples + Int(starts[index]) * stride
            withUnsafeTemporaryAllocation(of: UnsafePointer<Float>?.self, capacity: Self.count) { rows in
                for tap in 0..<Self.count { rows.initializeElement(at: tap, to: first + tap * stride) }
                weights.withUnsafeBufferPointer { weights in
                    guard let rows = rows.baseAddress, let weights = weights.baseAddress else { return }
                    body(rows, weights + index * Self.count)
                }
            }
        }
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
    package init(side: Int, imageSize: Int, frame: ImageFrame) {
        self.side = side
        width = frame.originalWidth
        height = frame.originalHeight
        columns = Self.taps(from: side, through: imageSize, cutTo: frame.inputWidth, to: width)
        rows = Self.taps(from: side, through: imageSize, cutTo: frame.inputHeight, to: height)
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

    /// A mask and how its area moves with the threshold.
    package struct Answer: Sendable {
        /// Where the logits are above 0.
        package let encoding: RunLengthEncoding
        /// Pixels above 1 and above −1.
        package let inner: Int
        package let outer: Int
    }

    /// Rows of the picture in whole words of bits.
    private var paddedHeight: Int { (height + 63) / 64 * 64 }

    /// The full-size mask of logits (side, side).
    package func mask(_ logits: UnsafePointer<Float>, pool: ThreadPool) -> Answer {
        let wordsPerColumn = paddedHeight / 64
        let columnsAtOnce = 64
        let parts = (width + columnsAtOnce - 1) / columnsAtOnce
        let totals = ConcurrentSlots<(Int, Int)>(count: parts)
        let words = [UInt64](unsafeUninitializedCapacity: wordsPerColumn * width) { words, initialized in
            guard let words = words.baseAddress else { return }
            withTurned(logits, pool: pool) { turned in
                pool.parallel(parts) { part in
                    var (inner, outer) = (0, 0)
                    for x in part * columnsAtOnce..<min(width, (part + 1) * columnsAtOnce) {
                        columns.withTaps(x, of: turned, stride: paddedHeight) { rows, weights in
                            FourRowSums.threshold(
                                paddedHeight, rows, weights: weights, to: words + x * wordsPerColumn, inner: &inner,
                                outer: &outer)
                        }
                    }
                    totals[part] = (inner, outer)
                }
            }
            initialized = wordsPerColumn * width
        }
        let (inner, outer) = totals.values.reduce((0, 0)) { ($0.0 + ($1?.0 ?? 0), $0.1 + ($1?.1 ?? 0)) }
        return Answer(
            encoding: RunLengthEncoding(height: height, width: width, columnWords: words), inner: inner, outer: outer)
    }

    /// The full-size logits, (height, width), of logits (side, side).
    package func fullSize(_ logits: UnsafePointer<Float>) -> [Float] {
        [Float](unsafeUninitializedCapacity: height * width) { values, initialized in
            withTurned(logits, pool: .inline) { turned in
                Scratch.withFloats(paddedHeight) { column in
                    for x in 0..<width {
                        columns.withTaps(x, of: turned, stride: paddedHeight) { rows, weights in
                            FourRowSums.combine(paddedHeight, rows, weights: weights, to: column)
                        }
                        for y in 0..<height { values[y * width + x] = column[y] }
                    }
                }
            }
            initialized = height * width
        }
    }

    /// Calls `body` with the logits scaled along the rows only and turned, (side, padded height); what is padded lies
    /// below every threshold.
    private func withTurned(
        _ logits: UnsafePointer<Float>, pool: ThreadPool, _ body: (UnsafePointer<Float>) -> Void
    ) {
        let lanes = (side + 15) / 16 * 16
        Scratch.withFloats(side * paddedHeight + side * lanes) { turned in
            // A copy whose rows are whole vectors.
            let source = turned + side * paddedHeight
            for row in 0..<side { (source + row * lanes).update(from: logits + row * side, count: side) }
            pool.parallel(paddedHeight / 64) { part in
                Scratch.withFloats(64 * lanes) { scaled in
                    for y in 0..<64 {
                        let row = part * 64 + y
                        if row >= height {
                            (scaled + y * lanes).update(repeating: -1e30, count: lanes)
                        } else {
                            rows.withTaps(row, of: source, stride: lanes) { rows, weights in
                                FourRowSums.combine(lanes, rows, weights: weights, to: scaled + y * lanes)
                            }
                        }
                    }
                    TileSteps.transpose(
                        rows: 64, columns: side, scaled, stride: lanes, to: turned + part * 64, stride: paddedHeight)
                }
            }
            body(turned)
        }
    }
}
