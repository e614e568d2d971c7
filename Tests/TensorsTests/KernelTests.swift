import CKernels
import Testing

/// Every kernel of every instruction set that this processor runs, against its plain twin.
@Suite struct KernelTests {
    /// Runs `body` with the plain kernels and with those of each level, and compares what it returns.
    private func compare(tolerance: Float, _ body: (kirie_kernels) -> [Float], _ name: String) {
        let expected = body(.plain)
        for (set, kernels) in kirie_kernels.sets() {
            let found = body(kernels)
            let largest = zip(found, expected).reduce(Float(0)) { largest, pair in
                let distance = abs(pair.0 - pair.1)
                return distance.isNaN ? .infinity : max(largest, distance)
            }
            #expect(
                found.count == expected.count && largest <= tolerance,
                "\(name), \(set): \(largest)")
        }
    }

    @Test func rows() {
        var numbers = Numbers(state: 1)
        for columns in [16, 40, 96, 768, 5] {
            let (x, gain, shift) = (numbers.array(3 * columns), numbers.array(columns), numbers.array(columns))
            compare(
                tolerance: 2e-5,
                { kernels in
                    var y = [Float](repeating: 0, count: 3 * columns)
                    kernels.layerNorm(3, columns, x, columns, gain, shift, 1e-6, &y, columns)
                    return y
                }, "layer norm over \(columns)")
        }
        let x = (0..<1003).map { Float($0) / 100 - 5 }
        compare(
            tolerance: 1e-6,
            { kernels in
                var y = x; kernels.gelu(y.count, &y); return y
            }, "gelu")
        let wide = [-1e9, -200, -52, -1e-20] + x + [52, 200, 1e9]
        compare(
            tolerance: 2e-6,
            { kernels in
                var y = wide.map { $0 }; kernels.quick_gelu(y.count, &y); return y.map { abs($0) < 100 ? $0 : $0 / 1e9 }
            }, "quick gelu")
        compare(
            tolerance: 0,
            { kernels in
                var y = x; kernels.relu(y.count, &y); return y
            }, "relu")
        compare(
            tolerance: 0,
            { kernels in
                var y = x.map { 2 * $0 }; kernels.relu6(y.count, &y); return y
            }, "relu6")
        compare(
            tolerance: 0,
            { kernels in
                var y = x; kernels.add(y.count, x, &y); return y
            }, "add")
    }

    @Test(arguments: [(1, 16, 5), (7, 64, 33), (13, 80, 64), (56, 64, 256), (3, 112, 2)])
    func products(rows: Int, columns: Int, depth: Int) {
        var numbers = Numbers(state: 2)
        let (a, b, c) = (numbers.array(rows * depth), numbers.array(depth * columns), numbers.array(rows * columns))
        let (rowBias, columnBias) = (numbers.array(rows), numbers.array(columns))
        for (aRow, aColumn) in [(depth, 1), (1, rows)] {
            for accumulate: Int32 in [0, 1] {
                // Rounding adds up along the depth.
                compare(
                    tolerance: 2e-7 * Float(depth) + 1e-6,
                    { kernels in
                        var y = c
                        kernels.product(
                            rows, columns, depth, a, aRow, aColumn, b, columns, &y, columns, rowBias, columnBias,
                            accumulate)
                        return y
                    }, "product")
            }
        }
    }

    @Test func aRowsBitsDoNotDependOnTheOthers() {
        var numbers = Numbers(state: 3)
        let (a, b) = (numbers.array(40 * 100), numbers.array(100 * 64))
        var all = [Float](repeating: 0, count: 40 * 64)
        kirie_kernels.best.product(40, 64, 100, a, 100, 1, b, 64, &all, 64, nil, nil, 0)
        for row in 0..<40 {
            var one = [Float](repeating: 0, count: 64)
            kirie_kernels.best.product(
                1, 64, 100, Array(a[row * 100..<row * 100 + 100]), 100, 1, b, 64, &one, 64, nil, nil, 0)
            #expect(one == Array(all[row * 64..<row * 64 + 64]), "row \(row)")
        }
    }

    @Test func decoderSteps() {
        var numbers = Numbers(state: 4)
        let scores = numbers.array(7 * 8 * 64).map { $0 * 20 }
        compare(
            tolerance: 1e-6,
            { kernels in
                var s = scores; kernels.softmax_over_tokens(7, 8, &s); return s
            }, "over tokens")
        for valid in [64, 17, 1] {
            compare(
                tolerance: 2e-5,
                { kernels in
                    var s = scores
                    var maximum = (0..<56).map { Float($0) / 8 - 3 }
                    var total = [Float](repeating: 2, count: 56)
                    var factor = [Float](repeating: 0, count: 56)
                    kernels.softmax_step(56, valid, &s, &maximum, &total, &factor)
                    return s + maximum + total + factor
                }, "softmax step, \(valid) valid")
        }
        let factors = numbers.array(64)
        compare(
            tolerance: 0,
            { kernels in
                var y = scores; kernels.scale_columns(56, 64, factors, &y, 64); return y
            }, "scale")
        let (bias, weight) = (numbers.array(32), numbers.array(3 * 32))
        compare(
            tolerance: 5e-5,
            { kernels in
                var logits = [Float](repeating: 0.5, count: 3 * 64)
                kernels.geluDot(32, 3, scores, 64, bias, weight, 32, &logits, 64)
                return logits
            }, "gelu dot")
    }

    @Test func transpose() {
        var numbers = Numbers(state: 8)
        let x = numbers.array(21 * 40)
        var y = [Float](repeating: 0, count: 40 * 32)
        kirie_transpose(21, 40, x, 40, &y, 32)
        for row in 0..<21 {
            for column in 0..<40 { #expect(y[column * 32 + row] == x[row * 40 + column]) }
        }
    }

    @Test func severalProductsEqualOneAfterTheOther() {
        var numbers = Numbers(state: 9)
        let (a, b) = (numbers.array(7 * 48), numbers.array(48 * 64))
        var together = [Float](repeating: 1, count: 7 * 3 * 64)
        kirie_kernels.best.products(3, 7, 64, 16, a, 16, 48, b, 16 * 64, 64, &together, 64, 3 * 64, 1)
        for group in 0..<3 {
            var one = [Float](repeating: 1, count: 7 * 64)
            kirie_kernels.best.product(
                7, 64, 16, Array(a[(group * 16)...]), 48, 1, Array(b[(group * 16 * 64)...]), 64, &one, 64, nil, nil, 1)
            for row in 0..<7 {
                let start = (row * 3 + group) * 64
                #expect(Array(together[start..<start + 64]) == Array(one[row * 64..<row * 64 + 64]))
            }
        }
    }

    @Test func normsOfTiles() {
        var numbers = Numbers(state: 10)
        let (tile, more, lanes) = (numbers.array(49 * 64), numbers.array(49 * 64), numbers.array(64).map { abs($0) })
        let (bias, gain, shift) = (numbers.array(49), numbers.array(49), numbers.array(49))
        for scales in [false, true] {
            compare(
                tolerance: 5e-5,
                { kernels in
                    var x = tile
                    var squares = [Float](repeating: 0, count: 64)
                    kernels.center_columns(49, &x, scales ? gain : nil, &squares)
                    return x + squares
                }, "centre")
        }
        compare(
            tolerance: 5e-5,
            { kernels in
                var running = lanes
                var factor = [Float](repeating: 0, count: 64)
                kernels.norm_factors(49, tile, more, lanes.map { $0 * 90 + 20 }, &running, 1 / 49, 1e-5, &factor)
                return running + factor
            }, "norm factors")
        compare(
            tolerance: 5e-5,
            { kernels in
                var x = tile
                kernels.upscale_norm(49, &x, more, lanes, bias, gain, shift, 1e-6)
                return x
            }, "norm of the up-scaling")
    }

    @Test func thresholds() {
        var numbers = Numbers(state: 11)
        let rows = (0..<4).map { _ in numbers.array(192).map { $0 * 3 } }
        let weights: [Float] = [0.1, 0.4, 0.3, 0.2]
        compare(
            tolerance: 1e-6,
            { kernels in
                var y = [Float](repeating: 0, count: 192)
                withRows(rows) { kernels.combine_rows(192, $0, weights, &y) }
                return y
            }, "four rows")
        for offset: Float in [1, 0.25, 0, -0.5] {
            compare(
                tolerance: 0,
                { kernels in
                    var words = [UInt64](repeating: ~0, count: 3)
                    var (inner, outer) = (5, 7)
                    withRows(rows) { kernels.threshold_rows(192, $0, weights, offset, &words, &inner, &outer) }
                    return (0..<192).map { Float(words[$0 / 64] >> UInt64($0 % 64) & 1) } + [
                        Float(inner), Float(outer),
                    ]
                }, "thresholds at \(offset)")
        }
    }

    private func withRows(_ rows: [[Float]], _ body: (UnsafePointer<UnsafePointer<Float>?>) -> Void) {
        let memory = rows.flatMap { $0 }
        memory.withUnsafeBufferPointer { memory in
            guard let start = memory.baseAddress else { return }
            let width = memory.count / rows.count
            body(rows.indices.map { start + $0 * width })
        }
    }

    /// Windows with and without padding, head sizes that are and are not whole vectors, and one grid of several blocks.
    @Test(arguments: [(7, 7, 32), (14, 14, 64), (9, 5, 20), (24, 40, 16), (16, 16, 80), (3, 5, 513), (2, 3, 640)])
    func attention(rows: Int, columns: Int, headSize: Int) {
        let given = AttentionCase(rows: rows, columns: columns, headSize: headSize, seed: 5)
        for usesTable in [false, true] {
            compare(
                tolerance: 2e-4,
                { kernels in
                    var keys = [Float](repeating: 0, count: given.lanes * headSize)
                    var values = [Float](repeating: 0, count: given.lanes * given.shape.head_padded)
                    kirie_kernels.pack(given, keys: &keys, values: &values)
                    return kernels.attention(given, usesTable: usesTable, keys: keys, values: values)
                }, usesTable ? "attention with a table" : "attention with relative positions")
        }
    }

    @Test(arguments: [1, 2]) func depthwise(stride: Int) {
        var numbers = Numbers(state: 6)
        let (width, channels) = (11, 20)
        let (rows, weight, bias) = (
            numbers.array(3 * width * channels), numbers.array(9 * channels), numbers.array(channels)
        )
        for (above, below) in [(true, true), (false, true), (true, false)] {
            for gelu: Int32 in [0, 1] {
                compare(
                    tolerance: 1e-5,
                    { kernels in
                        var y = [Float](repeating: 0, count: (width + stride - 1) / stride * channels)
                        rows.withUnsafeBufferPointer { memory in
                            guard let x = memory.baseAddress else { return }
                            let line = width * channels
                            kernels.depthwise(
                                width, channels, stride, above ? x : nil, x + line, below ? x + 2 * line : nil,
                                weight, bias, gelu, &y)
                        }
                        return y
                    }, "depthwise, stride \(stride)")
            }
        }
    }
}
