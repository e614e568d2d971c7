/// Torchvision's `Resize` of a picture that was made a tensor first: bilinear, antialiased, in single precision and without
/// rounding to 8 bits (`torch.nn.functional.interpolate(mode="bilinear", antialias=True)`).
///
/// The filter is that of ``Resampler``; each row is resampled first, then the columns. Rows are made when an answer needs them
/// and kept as long as one does, so that a picture of any height takes the memory of a few of its rows.
struct FloatResampler {
    /// A run of input pixels for each output pixel, and what each of them counts.
    private struct Filter {
        let starts: [Int]
        let counts: [Int]
        /// `width` for each output pixel.
        let weights: [Float]
        let width: Int

        /// The filter from `input` to `output` pixels, each at least 1, in the order of PyTorch's own operations.
        init(from input: Int, to output: Int) {
            let scale = Float(input) / Float(output)
            let support = max(scale, 1)
            let inverse = scale >= 1 ? 1 / scale : 1
            let width = Int(support.rounded(.up)) * 2 + 1
            var (starts, counts): ([Int], [Int]) = ([], [])
            var weights = [Float](repeating: 0, count: output * width)
            for index in 0..<output {
                let center = scale * (Float(index) + 0.5)
                let start = max(Int(center - support + 0.5), 0)
                let count = min(Int(center + support + 0.5), input) - start
                var sum: Float = 0
                for tap in 0..<count {
                    let weight = max(1 - abs((Float(tap + start) - center + 0.5) * inverse), 0)
                    weights[index * width + tap] = weight
                    sum += weight
                }
                if sum != 0 { for tap in 0..<count { weights[index * width + tap] /= sum } }
                starts.append(start)
                counts.append(count)
            }
            (self.starts, self.counts, self.weights, self.width) = (starts, counts, weights, width)
        }
    }

    private let columns: Filter
    private let rows: Filter
    private let width: Int
    private let target: (width: Int, height: Int)

    /// From one size to another, each at least 1.
    init(from size: (width: Int, height: Int), to target: (width: Int, height: Int)) {
        columns = Filter(from: size.width, to: target.width)
        rows = Filter(from: size.height, to: target.height)
        width = size.width
        self.target = target
    }

    /// Calls `body` with one row of the answer after the other, (width, 3), from 0 to 255.
    func resample(_ pixels: [UInt8], _ body: (_ row: Int, UnsafePointer<Float>) -> Void) {
        let line = target.width * 3
        var made = 0
        // Rows that a run covers are side by side in a ring.
        var ring = [Float](repeating: 0, count: rows.width * line)
        var answer = [Float](repeating: 0, count: line)
        pixels.withUnsafeBufferPointer { pixels in
            ring.withUnsafeMutableBufferPointer { ring in
                answer.withUnsafeMutableBufferPointer { answer in
                    guard let pixels = pixels.baseAddress, let ring = ring.baseAddress,
                        let answer = answer.baseAddress
                    else { return }
                    for row in 0..<target.height {
                        let (start, count) = (rows.starts[row], rows.counts[row])
                        made = max(made, start)
                        while made < start + count {
                            resample(pixels + made * width * 3, to: ring + made % rows.width * line)
                            made += 1
                        }
                        answer.update(repeating: 0, count: line)
                        for tap in 0..<count {
                            let weight = rows.weights[row * rows.width + tap]
                            let source = ring + (start + tap) % rows.width * line
                            for index in 0..<line { answer[index] += weight * source[index] }
                        }
                        body(row, answer)
                    }
                }
            }
        }
    }

    private func resample(_ row: UnsafePointer<UInt8>, to answer: UnsafeMutablePointer<Float>) {
        for column in 0..<target.width {
            let source = row + columns.starts[column] * 3
            var sum = SIMD3<Float>.zero
            for tap in 0..<columns.counts[column] {
                let pixel = SIMD3(Float(source[3 * tap]), Float(source[3 * tap + 1]), Float(source[3 * tap + 2]))
                sum += columns.weights[column * columns.width + tap] * pixel
            }
            for channel in 0..<3 { answer[3 * column + channel] = sum[channel] }
        }
    }
}

extension Image {
    /// Calls `body` with the rows of the picture at another size, (width, 3) each, from 0 to 255, as torchvision resizes a
    /// tensor: bilinear, antialiased, not rounded.
    ///
    /// - Precondition: the picture is not empty; `width` and `height` are at least 1.
    public func forEachResizedRow(
        width: Int, height: Int, _ body: (_ row: Int, UnsafePointer<Float>) -> Void
    ) {
        precondition(width > 0 && height > 0, "a picture cannot be \(width) x \(height)")
        precondition(self.width > 0 && self.height > 0, "an empty picture cannot be resized")
        FloatResampler(from: (self.width, self.height), to: (width, height)).resample(pixels, body)
    }
}
