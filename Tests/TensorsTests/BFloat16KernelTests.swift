import CKernels
import Testing

/// The bf16 kernels against their plain twins, where the processor has them.
@Suite(.enabled(if: kirie_has_bf16() != 0, "this processor has no AVX512_BF16"))
struct BFloat16KernelTests {
    /// bf16 keeps 8 bits, so an answer may be off by one part in 128 of itself, and by what cancels.
    private func expectClose(_ found: [UInt16], _ expected: [UInt16], _ name: String) {
        let worst = zip(found, expected).map { abs(widened($0) - widened($1)) - abs(widened($1)) / 64 }.max() ?? 1
        #expect(found.count == expected.count && worst <= 0.01, "\(name): \(worst)")
    }

    @Test func narrowingRoundsToNearestEven() {
        var numbers = Numbers(state: 1)
        let x =
            numbers.array(1001) + [0, -0.0, 1.00390625, 1.01171875, .infinity, -.infinity, 3.4e38, 65504]
        var found = [UInt16](repeating: 0, count: x.count)
        kirie_bf16_narrow(x.count, x, &found)
        // Denormals are left out: the instruction takes them for 0.
        #expect(found == narrowed(x))
    }

    @Test(arguments: [16, 40, 768]) func layerNorm(columns: Int) {
        var numbers = Numbers(state: 2)
        let (x, gain, shift) = (numbers.array(3 * columns), numbers.array(columns), numbers.array(columns))
        var found = [UInt16](repeating: 0, count: 3 * columns)
        var expected = found
        kirie_kernels.best.narrowLayerNorm(3, columns, x, columns, gain, shift, 1e-6, &found, columns)
        kirie_kernels.plain.narrowLayerNorm(3, columns, x, columns, gain, shift, 1e-6, &expected, columns)
        expectClose(found, expected, "layer norm")
    }

    /// Among them heads wider than any array of fixed size.
    @Test(arguments: [
        (7, 7, 32), (14, 14, 64), (14, 14, 56), (9, 5, 20), (24, 40, 16), (16, 16, 80), (1, 49, 32), (4, 4, 48),
        (3, 5, 514), (2, 3, 640), (2, 2, 9002),
    ])
    func attention(rows: Int, columns: Int, headSize: Int) {
        let given = AttentionCase(rows: rows, columns: columns, headSize: headSize, seed: 3)
        var keys = [UInt16](repeating: 0, count: given.lanes * headSize)
        var values = [UInt16](repeating: 0, count: given.lanes * given.shape.head_padded)
        var (plainKeys, plainValues) = (keys, values)
        kirie_kernels.best.narrowPack(given, keys: &keys, values: &values)
        kirie_kernels.plain.narrowPack(given, keys: &plainKeys, values: &plainValues)
        #expect(keys == plainKeys && values == plainValues, "packed keys and values")
        for usesTable in [false, true] {
            let expected = kirie_kernels.plain.narrowAttention(given, usesTable: usesTable, keys: keys, values: values)
            for (name, kernels) in kirie_kernels.sets(from: KIRIE_BF16) {
                let found = kernels.narrowAttention(given, usesTable: usesTable, keys: keys, values: values)
                expectClose(found, expected, "\(name), \(usesTable ? "with a table" : "with relative positions")")
            }
        }
    }

    @Test(arguments: [
        (1, 16, 2), (7, 64, 8), (56, 64, 112), (13, 112, 32), (5, 48, 2), (32, 32, 64), (81, 80, 96), (17, 16, 34),
    ])
    func products(rows: Int, columns: Int, depth: Int) {
        var numbers = Numbers(state: 4)
        let (a, b) = (narrowed(numbers.array(2 * rows * depth)), narrowed(numbers.array(2 * columns * depth)))
        for (name, kernels) in kirie_kernels.sets(from: KIRIE_BF16) {
            for accumulate: Int32 in [0, 1] {
                var found = (0..<2 * rows * columns).map { Float($0 % 7) }
                var expected = found
                kernels.narrowProducts(
                    2, rows, columns, depth / 2, a, rows * depth, depth, b, columns * depth, columns, &found,
                    rows * columns, columns, accumulate)
                kirie_kernels.plain.narrowProducts(
                    2, rows, columns, depth / 2, a, rows * depth, depth, b, columns * depth, columns, &expected,
                    rows * columns, columns, accumulate)
                let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? 1
                #expect(worst <= 1e-6 * Float(depth) + 1e-6, "\(name): \(worst)")
                // A row alone is the same to the bit.
                var alone = (0..<columns).map { Float(((rows - 1) * columns + $0) % 7) }
                kernels.narrowProducts(
                    1, 1, columns, depth / 2, Array(a[((rows - 1) * depth)...]), 0, depth, b, 0, columns, &alone, 0,
                    columns, accumulate)
                #expect(alone == Array(found[(rows - 1) * columns..<rows * columns]), "\(name)")
            }
        }
    }

    @Test func sums() {
        var numbers = Numbers(state: 8)
        let (x, y) = (narrowed(numbers.array(77)), narrowed(numbers.array(77)))
        var (found, expected) = (y, y)
        kirie_bf16_add(77, x, &found)
        kirie_kernels.plain.bf16_add(77, x, &expected)
        #expect(found == expected)
    }

    @Test func pairs() {
        var numbers = Numbers(state: 5)
        let x = numbers.array(6 * 80)
        var found = [UInt16](repeating: 0, count: 6 * 48)
        var expected = found
        kirie_bf16_pair_rows(6, 48, x, 80, &found)
        kirie_kernels.plain.bf16_pair_rows(6, 48, x, 80, &expected)
        #expect(found == expected)
    }

    @Test func stepsOfTheUpscaling() {
        var numbers = Numbers(state: 6)
        let (x, part) = (numbers.array(48 * 64), narrowed(numbers.array(48 * 64)))
        let (factor, bias) = (numbers.array(64), numbers.array(48))
        let (gain, shift) = (numbers.array(48).map { $0 * 6 }, numbers.array(48))
        var found = [UInt16](repeating: 0, count: 48 * 64)
        var expected = found
        var (mine, theirs) = (x, x)
        kirie_kernels.best.narrowUpscaleNorm(48, &mine, part, factor, bias, gain, shift, 1e-6, &found)
        kirie_kernels.plain.narrowUpscaleNorm(48, &theirs, part, factor, bias, gain, shift, 1e-6, &expected)
        expectClose(found, expected, "norm and GELU")

        let weight = numbers.array(3 * 32)
        let wide = x.map { $0 * 8 }
        var logits = [Float](repeating: 0.5, count: 3 * 64)
        var exact = logits
        kirie_kernels.best.geluDot(isNarrow: true, 32, 3, wide, 64, bias, weight, 32, &logits, 64)
        kirie_kernels.plain.geluDot(32, 3, wide, 64, bias, weight, 32, &exact, 64)
        #expect(zip(logits, exact).allSatisfy { abs($0 - $1) < 3e-3 })
    }

    @Test(arguments: [1, 16, 37, 1000]) func gelu(count: Int) {
        var numbers = Numbers(state: 7)
        var found = narrowed(numbers.array(count).map { $0 * 8 })
        var expected = found
        kirie_bf16_gelu(count, &found)
        kirie_kernels.plain.bf16_gelu(count, &expected)
        expectClose(found, expected, "GELU")
        found = narrowed(numbers.array(count).map { $0 * 8 })
        expected = found
        kirie_bf16_quick_gelu(count, &found)
        kirie_kernels.plain.bf16_quick_gelu(count, &expected)
        expectClose(found, expected, "quick GELU")
    }

    @Test(arguments: [(9, 32, 1), (9, 32, 2), (12, 48, 2), (3, 64, 1), (2, 16, 2), (7, 20, 1)])
    func depthwise(width: Int, channels: Int, stride: Int) {
        var numbers = Numbers(state: 8)
        let rows = (0..<3).map { _ in narrowed(numbers.array(width * channels)) }
        let (weight, bias) = (numbers.array(9 * channels), numbers.array(channels))
        for (above, below) in [(true, true), (false, true), (true, false)] {
            for gelu: Int32 in [0, 1] {
                var found = [UInt16](repeating: 0, count: (width + stride - 1) / stride * channels)
                var expected = found
                let (a, b): ([UInt16]?, [UInt16]?) = (above ? rows[0] : nil, below ? rows[2] : nil)
                kirie_kernels.best.narrowDepthwise(width, channels, stride, a, rows[1], b, weight, bias, gelu, &found)
                kirie_kernels.plain.narrowDepthwise(
                    width, channels, stride, a, rows[1], b, weight, bias, gelu, &expected)
                expectClose(found, expected, "depthwise, above \(above), below \(below)")
            }
        }
    }

    @Test(arguments: [(8, 40, 32), (7, 37, 64), (2, 3, 32), (9, 21, 20)])
    func planes(height: Int, width: Int, channels: Int) {
        var numbers = Numbers(state: 9)
        let x = numbers.array(3 * height * width)
        let (weight, bias) = (numbers.array(27 * channels).map { $0 / 2 }, numbers.array(channels))
        for row in 0..<(height + 1) / 2 {
            var found = [UInt16](repeating: 0, count: (width + 1) / 2 * channels)
            var expected = found
            kirie_kernels.best.planes(3, height, width, row, x, channels, weight, bias, &found)
            kirie_kernels.plain.planes(3, height, width, row, x, channels, weight, bias, &expected)
            expectClose(found, expected, "row \(row)")
        }
    }
}
