/// `Image.resize(size, Resampling.BILINEAR)` and `BICUBIC` of Pillow 13 on 8-bit pictures, to the bit.
///
/// A filter whose support grows with the factor of reduction, so that nothing aliases. Each output value is a sum over a
/// run of input pixels with coefficients of 22 fraction bits, rounded to 8 bits. One direction is resampled first and
/// rounded, then the other; a direction whose size does not change is left out. Coordinates are those of pixel areas
/// (half-pixel centres).
///
/// The rows come first, unless more than twice as many rows as columns fall away: then the columns do. Found by
/// experiment on 3,746 sizes; up to Pillow 12 the rows always came first, so of tall pictures that shrink some levels
/// are 1 off from those.
struct Resampler {
    /// What a pixel at a distance counts.
    enum Kernel {
        /// A triangle over two pixels.
        case bilinear
        /// Keys' cubic over four pixels with a = -0.5, whose outer parts are negative: Keys, "Cubic Convolution Interpolation
        /// for Digital Image Processing", 1981.
        case bicubic

        /// The distance from which on a pixel does not count.
        var support: Double { self == .bilinear ? 1 : 2 }

        /// The weight at a distance, in the order of Pillow's own operations.
        func weight(_ distance: Double) -> Double {
            let x = abs(distance)
            switch self {
            case .bilinear: return max(1 - x, 0)
            case .bicubic:
                let a = -0.5
                if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
                if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
                return 0
            }
        }
    }

    /// The fraction bits of a coefficient: 32, less 8 for the pixel and 2 for the sum.
    static let fractionBits = 22

    /// The coefficients of one direction, a run of input pixels for each output pixel.
    struct Filter {
        /// The first input pixel of every run.
        let starts: [Int]
        /// The input pixels of every run.
        let counts: [Int]
        /// `width` coefficients for each output pixel, zero past its run.
        let coefficients: [Int32]
        /// Coefficients kept for each output pixel: the longest run, rounded up.
        let width: Int

        /// The filter from `input` to `output` pixels, each at least 1.
        init(from input: Int, to output: Int, kernel: Kernel) {
            // Pillow keeps the box that is resampled in single precision.
            let scale = Double(Float(input)) / Double(output)
            let filterScale = max(scale, 1)
            let support = kernel.support * filterScale
            let width = Int(support.rounded(.up)) * 2 + 1
            var starts: [Int] = []
            var counts: [Int] = []
            var coefficients = [Int32](repeating: 0, count: output * width)
            var weights = [Double](repeating: 0, count: width)
            for index in 0..<output {
                let center = (Double(index) + 0.5) * scale
                let start = max(Int(center - support + 0.5), 0)
                let count = min(Int(center + support + 0.5), input) - start
                var sum = 0.0
                for tap in 0..<count {
                    weights[tap] = kernel.weight((Double(tap + start) - center + 0.5) * (1 / filterScale))
                    sum += weights[tap]
                }
                for tap in 0..<count {
                    let weight = sum == 0 ? weights[tap] : weights[tap] / sum
                    let half = weight < 0 ? -0.5 : 0.5
                    coefficients[index * width + tap] = Int32(half + weight * Double(1 << fractionBits))
                }
                starts.append(start)
                counts.append(count)
            }
            self.starts = starts
            self.counts = counts
            self.coefficients = coefficients
            self.width = width
        }
    }

    /// Whether more than twice as many rows as columns fall away.
    private static func columnsComeFirst(
        from size: (width: Int, height: Int), to target: (width: Int, height: Int)
    ) -> Bool {
        size.height - target.height > 2 * (size.width - target.width)
    }

    /// Resamples rows of 1 or of 3 interleaved channels.
    static func resample(
        _ pixels: [UInt8], from size: (width: Int, height: Int), to target: (width: Int, height: Int), channels: Int,
        kernel: Kernel
    ) -> [UInt8] {
        precondition(target.width > 0 && target.height > 0, "a picture cannot be \(target.width) x \(target.height)")
        precondition(size.width > 0 && size.height > 0, "an empty picture cannot be resized")
        var pixels = pixels
        var height = size.height
        func resampleColumns(ofWidth width: Int) {
            guard target.height != size.height else { return }
            let filter = Filter(from: size.height, to: target.height, kernel: kernel)
            pixels = pixels.resampledColumns(filter, rowBytes: width * channels)
            height = target.height
        }
        let columnsFirst = target.height < size.height && columnsComeFirst(from: size, to: target)
        if columnsFirst { resampleColumns(ofWidth: size.width) }
        if target.width != size.width {
            let filter = Filter(from: size.width, to: target.width, kernel: kernel)
            pixels = pixels.resampledRows(filter, width: size.width, height: height, channels: channels)
        }
        if !columnsFirst { resampleColumns(ofWidth: target.width) }
        return pixels
    }
}

extension [UInt8] {
    /// Every row through `filter`.
    fileprivate func resampledRows(
        _ filter: Resampler.Filter, width: Int, height: Int, channels: Int
    ) -> [UInt8] {
        let outputWidth = filter.starts.count
        return withUnsafeBufferPointer { from in
            [UInt8](unsafeUninitializedCapacity: height * outputWidth * channels) { to, initialized in
                guard let from = from.baseAddress, let to = to.baseAddress else { return }
                for y in 0..<height {
                    let row = from + y * width * channels
                    let outputRow = to + y * outputWidth * channels
                    if channels == 3 {
                        filter.applyToColorRow(row, outputRow)
                    } else {
                        filter.applyToGrayRow(row, outputRow)
                    }
                }
                initialized = height * outputWidth * channels
            }
        }
    }

    /// Every column through `filter`; `rowBytes` columns.
    fileprivate func resampledColumns(_ filter: Resampler.Filter, rowBytes: Int) -> [UInt8] {
        let outputHeight = filter.starts.count
        return withUnsafeBufferPointer { from in
            [UInt8](unsafeUninitializedCapacity: outputHeight * rowBytes) { to, initialized in
                guard let from = from.baseAddress, let to = to.baseAddress else { return }
                for y in 0..<outputHeight {
                    filter.combineRows(from + filter.starts[y] * rowBytes, to + y * rowBytes, rowBytes, output: y)
                }
                initialized = outputHeight * rowBytes
            }
        }
    }
}

extension Resampler.Filter {
    private static var half: Int32 { 1 << Int32(Resampler.fractionBits - 1) }

    /// The sum rounded to 8 bits.
    ///
    /// Coefficients add up to 1 and a few units of rounding, and with negative ones among them a sum may leave either end:
    /// for no more than a quarter of what 8 bits hold, which 32 bits have room for.
    @inline(__always)
    private static func rounded(_ sum: Int32) -> UInt8 {
        UInt8(truncatingIfNeeded: Swift.max(Swift.min(sum >> Int32(Resampler.fractionBits), 255), 0))
    }

    /// One row of a single channel.
    fileprivate func applyToGrayRow(_ row: UnsafePointer<UInt8>, _ output: UnsafeMutablePointer<UInt8>) {
        starts.withUnsafeBufferPointer { starts in
            counts.withUnsafeBufferPointer { counts in
                coefficients.withUnsafeBufferPointer { coefficients in
                    guard var coefficient = coefficients.baseAddress else { return }
                    for x in 0..<starts.count {
                        let pixel = row + starts[x]
                        var sum = Self.half
                        for tap in 0..<counts[x] { sum &+= Int32(pixel[tap]) &* coefficient[tap] }
                        output[x] = Self.rounded(sum)
                        coefficient += width
                    }
                }
            }
        }
    }

    /// One row of three interleaved channels.
    fileprivate func applyToColorRow(_ row: UnsafePointer<UInt8>, _ output: UnsafeMutablePointer<UInt8>) {
        starts.withUnsafeBufferPointer { starts in
            counts.withUnsafeBufferPointer { counts in
                coefficients.withUnsafeBufferPointer { coefficients in
                    guard var coefficient = coefficients.baseAddress else { return }
                    var output = output
                    for x in 0..<starts.count {
                        var pixel = row + 3 &* starts[x]
                        var red = Self.half
                        var green = Self.half
                        var blue = Self.half
                        for tap in 0..<counts[x] {
                            let weight = coefficient[tap]
                            red &+= Int32(pixel[0]) &* weight
                            green &+= Int32(pixel[1]) &* weight
                            blue &+= Int32(pixel[2]) &* weight
                            pixel += 3
                        }
                        output[0] = Self.rounded(red)
                        output[1] = Self.rounded(green)
                        output[2] = Self.rounded(blue)
                        output += 3
                        coefficient += width
                    }
                }
            }
        }
    }

    /// One output row from the run of input rows that begins at `rows`.
    ///
    /// A coefficient is split in an upper and a lower part of 11 bits: on processors without a 32-bit vector multiply
    /// (x86-64's baseline) both products then take one 16-bit multiply-add each.
    fileprivate func combineRows(
        _ rows: UnsafePointer<UInt8>, _ output: UnsafeMutablePointer<UInt8>, _ rowBytes: Int, output index: Int
    ) {
        let taps = counts[index]
        coefficients.withUnsafeBufferPointer { all in
            let weights = all[(index * width)..<(index * width + taps)]
            var x = 0
            while x &+ 16 <= rowBytes {
                var upper = SIMD16<Int32>(repeating: 0)
                var lower = SIMD16<Int32>(repeating: Self.half)
                var pixel = UnsafeRawPointer(rows + x)
                for weight in weights {
                    let values = SIMD16<Int32>(
                        truncatingIfNeeded: pixel.loadUnaligned(as: SIMD16<UInt8>.self))
                    upper &+= values &* SIMD16(repeating: Int32(Int16(truncatingIfNeeded: weight >> 11)))
                    lower &+= values &* SIMD16(repeating: Int32(Int16(truncatingIfNeeded: weight & 0x7FF)))
                    pixel += rowBytes
                }
                let sum = ((upper &<< 11) &+ lower) &>> Int32(Resampler.fractionBits)
                UnsafeMutableRawPointer(output + x).storeBytes(
                    of: SIMD16<UInt8>(
                        truncatingIfNeeded: pointwiseMax(
                            pointwiseMin(sum, SIMD16(repeating: 255)), SIMD16(repeating: 0))),
                    as: SIMD16<UInt8>.self)
                x &+= 16
            }
            while x < rowBytes {
                var sum = Self.half
                var pixel = rows + x
                for weight in weights {
                    sum &+= Int32(pixel[0]) &* weight
                    pixel += rowBytes
                }
                output[x] = Self.rounded(sum)
                x &+= 1
            }
        }
    }
}

extension Image {
    /// The picture at another size, as Pillow's `resize((width, height), Resampling.BILINEAR)` makes it, to the bit.
    ///
    /// The filter is antialiased: reducing averages over all pixels that fall together.
    ///
    /// - Precondition: the picture is not empty; `width` and `height` are at least 1.
    public func resizedBilinear(width: Int, height: Int) -> Image {
        let resized = Resampler.resample(
            pixels, from: (self.width, self.height), to: (width, height), channels: 3, kernel: .bilinear)
        return Image(width: width, height: height, pixels: resized)
    }

    /// The picture at another size, as Pillow's `resize((width, height), Resampling.BICUBIC)` makes it, to the bit.
    ///
    /// - Precondition: the picture is not empty; `width` and `height` are at least 1.
    public func resizedBicubic(width: Int, height: Int) -> Image {
        let resized = Resampler.resample(
            pixels, from: (self.width, self.height), to: (width, height), channels: 3, kernel: .bicubic)
        return Image(width: width, height: height, pixels: resized)
    }
}

extension GrayImage {
    /// The picture at another size, as Pillow's `resize((width, height), Resampling.BILINEAR)` makes it, to the bit.
    ///
    /// - Precondition: the picture is not empty; `width` and `height` are at least 1.
    public func resizedBilinear(width: Int, height: Int) -> GrayImage {
        let resized = Resampler.resample(
            pixels, from: (self.width, self.height), to: (width, height), channels: 1, kernel: .bilinear)
        return GrayImage(width: width, height: height, pixels: resized)
    }

    /// The picture at another size, as Pillow's `resize((width, height), Resampling.BICUBIC)` makes it, to the bit.
    ///
    /// - Precondition: the picture is not empty; `width` and `height` are at least 1.
    public func resizedBicubic(width: Int, height: Int) -> GrayImage {
        let resized = Resampler.resample(
            pixels, from: (self.width, self.height), to: (width, height), channels: 1, kernel: .bicubic)
        return GrayImage(width: width, height: height, pixels: resized)
    }
}
