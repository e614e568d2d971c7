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

        /// By sample, the pixels of which it is a part.
        func pixelsOfSamples(_ count: Int) -> [Range<Int>] {
            var ranges = Array(repeating: 0..<0, count: count)
            for (pixel, start) in starts.enumerated() {
                for tap in 0..<Self.count where weights[pixel * Self.count + tap] != 0 {
                    let sample = Int(start) + tap
                    guard sample < count else { continue }
                    let range = ranges[sample]
                    ranges[sample] = (range.isEmpty ? pixel : range.lowerBound)..<pixel + 1
                }
            }
            return ranges
        }

        /// The pixels of which any of those samples is a part, or next to one that is.
        func pixels(of samples: Range<Int>) -> Range<Int> {
            guard let first = starts.firstIndex(where: { Int($0) + Self.count > samples.lowerBound }),
                let last = starts.lastIndex(where: { Int($0) < samples.upperBound }), first <= last
            else { return 0..<0 }
            return first..<last + 1
        }

        /// The samples, of so many, that those pixels are read from.
        func samples(of pixels: Range<Int>, count: Int) -> Range<Int> {
            guard let first = pixels.first, let last = pixels.last else { return 0..<0 }
            return Int(starts[first])..<min(count, Int(starts[last]) + Self.count)
        }

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
    /// How the picture lay in the model's frame, and the frame's size.
    private let frame: ImageFrame
    private let imageSize: Int
    private let columns: Taps
    private let rows: Taps
    /// By sample of an axis, the pixels of which it is a part.
    private let columnsOfSamples: [Range<Int>]
    private let rowsOfSamples: [Range<Int>]

    /// - Parameters:
    ///   - side: rows and columns of the logits, 4g.
    ///   - imageSize: the model's size S.
    ///   - frame: how the picture was resized.
    ///   - resize: where both sides were brought to S, there is no padding to cut off, and the logits go to the picture in one
    ///     step, as SAM 2 takes them.
    package init(side: Int, imageSize: Int, frame: ImageFrame, resize: ImagePreprocessing.Resize = .longestSide) {
        self.side = side
        self.frame = frame
        self.imageSize = imageSize
        width = frame.originalWidth
        height = frame.originalHeight
        switch resize {
        case .square:
            columns = Self.taps(from: side, through: side, cutTo: side, to: width)
            rows = Self.taps(from: side, through: side, cutTo: side, to: height)
        case .longestSide:
            columns = Self.taps(from: side, through: imageSize, cutTo: frame.inputWidth, to: width)
            rows = Self.taps(from: side, through: imageSize, cutTo: frame.inputHeight, to: height)
        }
        columnsOfSamples = columns.pixelsOfSamples(side)
        rowsOfSamples = rows.pixelsOfSamples(side)
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
        /// Pixels above the offset and above its negative: 1 and −1 unless another one is asked for.
        package let inner: Int
        package let outer: Int

        /// The area at the higher threshold over that at the lower one; 0 where nothing is above either.
        package var stabilityScore: Float { outer == 0 ? 0 : Float(inner) / Float(outer) }
    }

    /// A part of the picture outside of which no pixel is above any threshold, and the samples that its pixels are made of.
    private struct Region {
        /// Columns of the picture.
        let columns: Range<Int>
        /// Rows of the picture in words of 64.
        let words: Range<Int>
        /// Samples along a row, in whole vectors, and the rows of samples.
        let sampleColumns: Range<Int>
        let sampleRows: Range<Int>
    }

    /// The full-size mask of logits (side, side).
    ///
    /// - Parameters:
    ///   - logits: rows first.
    ///   - offset: how far the threshold is moved both ways to see how stable the mask is.
    ///   - pool: the threads that share the work.
    /// - Returns: the mask, and its areas.
    package func mask(_ logits: UnsafePointer<Float>, offset: Float = 1, pool: ThreadPool) -> Answer {
        guard let region = region(of: logits, above: min(0, offset, -offset)) else {
            return Answer(encoding: RunLengthEncoding(emptyHeight: height, width: width), inner: 0, outer: 0)
        }
        let (left, wordCount) = (region.columns.lowerBound, region.words.count)
        let columnsAtOnce = 64
        let parts = (region.columns.count + columnsAtOnce - 1) / columnsAtOnce
        let totals = ConcurrentSlots<(Int, Int)>(count: parts)
        let words = [UInt64](unsafeUninitializedCapacity: wordCount * region.columns.count) { words, initialized in
            guard let words = words.baseAddress else { return }
            withTurned(logits, region, pool: pool) { turned in
                pool.parallel(parts) { part in
                    var (inner, outer) = (0, 0)
                    let first = left + part * columnsAtOnce
                    for x in first..<min(region.columns.upperBound, first + columnsAtOnce) {
                        columns.withTaps(x, of: turned, stride: 64 * wordCount) { rows, weights in
                            FourRowSums.threshold(
                                64 * wordCount, rows, weights: weights, offset: offset,
                                to: words + (x - left) * wordCount, inner: &inner, outer: &outer)
                        }
                    }
                    totals[part] = (inner, outer)
                }
            }
            initialized = wordCount * region.columns.count
        }
        let (inner, outer) = totals.values.reduce((0, 0)) { ($0.0 + ($1?.0 ?? 0), $0.1 + ($1?.1 ?? 0)) }
        return Answer(
            encoding: RunLengthEncoding(
                height: height, width: width, columns: region.columns, words: region.words, columnWords: words),
            inner: inner, outer: outer)
    }

    /// The part of the picture whose pixels may be above a threshold; nil where there is none.
    ///
    /// A pixel is a mean of samples, so where all of its samples are below the threshold by more than rounding could
    /// change, the pixel is, too.
    private func region(of logits: UnsafePointer<Float>, above threshold: Float) -> Region? {
        let floor = threshold - 1e-3 * (1 + abs(threshold))
        var (left, right, top, bottom) = (side, 0, side, 0)
        for row in 0..<side {
            let samples = logits + row * side
            guard let first = (0..<side).first(where: { !(samples[$0] <= floor) }),
                let last = (0..<side).last(where: { !(samples[$0] <= floor) })
            else { continue }
            left = min(left, first)
            right = max(right, last + 1)
            top = min(top, row)
            bottom = row + 1
        }
        let (across, down) = (columns.pixels(of: left..<max(left, right)), rows.pixels(of: top..<max(top, bottom)))
        guard top < bottom, !across.isEmpty, !down.isEmpty else { return nil }
        let sampleColumns = columns.samples(of: across, count: side)
        return Region(
            columns: across, words: down.lowerBound / 64..<(down.upperBound + 63) / 64,
            sampleColumns: sampleColumns.lowerBound / 16 * 16..<(sampleColumns.upperBound + 15) / 16 * 16,
            sampleRows: rows.samples(
                of: down.lowerBound / 64 * 64..<min(height, (down.upperBound + 63) / 64 * 64), count: side))
    }

    /// What the logits say of a mask before they are scaled.
    package struct Draft: Sendable {
        /// First and last column and row of the mask in pixels of the picture, `(x0, y0, x1, y1)`.
        package let box: SIMD4<Int32>
        /// Samples above the offset over those above its negative; 0 where there are none.
        package let stabilityScore: Float
        /// Whether no pixel is above 0.
        package let isEmpty: Bool
    }

    /// A mask's box, and its stability as its low-resolution logits, (side, side), have it, at a small part of the cost of
    /// ``mask(_:offset:pool:)``.
    ///
    /// The box is that of the mask: which of two masks non-maximum suppression drops may hang on a single pixel. Only the
    /// few columns and rows of pixels are computed between which the mask begins and ends.
    package func draft(_ logits: UnsafePointer<Float>, offset: Float = 1) -> Draft {
        let across = max(1, min(side, (side * frame.inputWidth + imageSize - 1) / imageSize))
        let down = max(1, min(side, (side * frame.inputHeight + imageSize - 1) / imageSize))
        var (inner, outer): (Int32, Int32) = (0, 0)
        return Scratch.withFloats(2 * side) { highest in
            highest.update(repeating: -.infinity, count: 2 * side)
            let rowsHighest = highest + side
            for y in 0..<side {
                let samples = logits + y * side
                var most = -Float.infinity
                for x in 0..<side {
                    let sample = samples[x]
                    most = sample > most ? sample : most
                    highest[x] = sample > highest[x] ? sample : highest[x]
                }
                rowsHighest[y] = most
                guard y < down else { continue }
                for x in 0..<across {
                    inner &+= samples[x] > offset ? 1 : 0
                    outer &+= samples[x] > -offset ? 1 : 0
                }
            }
            let stability = outer == 0 ? 0 : Float(inner) / Float(outer)
            let columnSamples = Line(taps: columns, pixels: columnsOfSamples, stride: 1)
            let rowSamples = Line(taps: rows, pixels: rowsOfSamples, stride: side)
            guard let x = extent(logits, highest, along: columnSamples, across: rowSamples),
                let y = extent(logits, rowsHighest, along: rowSamples, across: columnSamples)
            else { return Draft(box: .zero, stabilityScore: stability, isEmpty: true) }
            return Draft(
                box: SIMD4(Int32(x.first), Int32(y.first), Int32(x.last), Int32(y.last)), stabilityScore: stability,
                isEmpty: false)
        }
    }

    /// An axis of the picture, and how far apart its samples lie in memory.
    private struct Line {
        let taps: Taps
        let pixels: [Range<Int>]
        let stride: Int
    }

    /// The first and the last line of pixels with one above 0, columns along the columns' axis and rows along the rows'.
    ///
    /// `highest` are the highest samples of each line of samples: before the first that is above 0, no pixel is.
    private func extent(
        _ logits: UnsafePointer<Float>, _ highest: UnsafePointer<Float>, along: Line, across: Line
    ) -> (first: Int, last: Int)? {
        guard let low = (0..<side).first(where: { highest[$0] > 0 && !along.pixels[$0].isEmpty }),
            let high = (0..<side).last(where: { highest[$0] > 0 && !along.pixels[$0].isEmpty })
        else { return nil }
        let places = along.pixels[low].lowerBound..<along.pixels[high].upperBound
        // No pixel of a line is higher than the highest samples that it is a mean of.
        func mayBeAboveZero(_ place: Int) -> Bool {
            let start = Int(along.taps.starts[place])
            var bound: Float = 0
            for tap in 0..<min(Taps.count, side - start) {
                bound += along.taps.weights[place * Taps.count + tap] * highest[start + tap]
            }
            return bound > -1e-3
        }
        func isAbove(_ place: Int) -> Bool {
            mayBeAboveZero(place) && isAboveZero(logits, place, along: along, across: across)
        }
        guard let first = places.first(where: isAbove), let last = places.last(where: isAbove) else { return nil }
        return (first, last)
    }

    /// Whether a pixel of a line across the axis is above 0.
    private func isAboveZero(
        _ logits: UnsafePointer<Float>, _ place: Int, along: Line, across: Line
    ) -> Bool {
        let start = Int(along.taps.starts[place])
        let taps = min(Taps.count, side - start)
        return Scratch.withFloats(side) { samples in
            along.taps.weights.withUnsafeBufferPointer { weights in
                for index in 0..<side {
                    var sum: Float = 0
                    for tap in 0..<taps {
                        sum +=
                            weights[place * Taps.count + tap]
                            * logits[index * across.stride + (start + tap) * along.stride]
                    }
                    samples[index] = sum
                }
            }
            return across.taps.weights.withUnsafeBufferPointer { weights in
                for index in 0..<side where samples[index] > 0 {
                    for pixel in across.pixels[index] {
                        let start = Int(across.taps.starts[pixel])
                        var sum: Float = 0
                        for tap in 0..<min(Taps.count, side - start) {
                            sum += weights[pixel * Taps.count + tap] * samples[start + tap]
                        }
                        if sum > 0 { return true }
                    }
                }
                return false
            }
        }
    }

    /// The full-size logits, (height, width), of logits (side, side).
    package func fullSize(_ logits: UnsafePointer<Float>) -> [Float] {
        let paddedHeight = (height + 63) / 64 * 64
        let whole = Region(
            columns: 0..<width, words: 0..<paddedHeight / 64, sampleColumns: 0..<(side + 15) / 16 * 16,
            sampleRows: 0..<side)
        return [Float](unsafeUninitializedCapacity: height * width) { values, initialized in
            withTurned(logits, whole, pool: .inline) { turned in
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

    /// Calls `body` with the region's samples scaled along the rows only and turned, (side, rows of the region), of which
    /// the region's samples are filled in; rows below the picture lie below every threshold.
    private func withTurned(
        _ logits: UnsafePointer<Float>, _ region: Region, pool: ThreadPool, _ body: (UnsafePointer<Float>) -> Void
    ) {
        let (first, lanes) = (region.sampleColumns.lowerBound, region.sampleColumns.count)
        let stride = 64 * region.words.count
        Scratch.withFloats(side * stride + side * lanes) { turned in
            // A copy whose rows are whole vectors.
            let source = turned + side * stride
            let samples = min(side, region.sampleColumns.upperBound) - first
            for row in region.sampleRows {
                (source + row * lanes).update(from: logits + row * side + first, count: samples)
            }
            pool.parallel(region.words.count) { part in
                Scratch.withFloats(64 * lanes) { scaled in
                    for y in 0..<64 {
                        let row = (region.words.lowerBound + part) * 64 + y
                        if row >= height {
                            (scaled + y * lanes).update(repeating: -1e30, count: lanes)
                        } else {
                            rows.withTaps(row, of: source, stride: lanes) { rows, weights in
                                FourRowSums.combine(lanes, rows, weights: weights, to: scaled + y * lanes)
                            }
                        }
                    }
                    TileSteps.transpose(
                        rows: 64, columns: samples, scaled, stride: lanes, to: turned + first * stride + part * 64,
                        stride: stride)
                }
            }
            body(turned)
        }
    }
}
