import CKernels
import Tensors
import Testing

/// Products of fp32 numbers in three bf16 parts.
@Suite struct BFloat16x3KernelTests {
    private func plainParts(rows: Int, depth: Int, _ x: [Float], stride: Int) -> [UInt16] {
        var parts = [UInt16](repeating: 1, count: kirie_bf16x3_row_numbers(rows, depth))
        kirie_kernels.plain.bf16x3_split_rows(rows, depth, x, stride, &parts)
        return parts
    }

    /// Numbers of very different sizes, so that every part has something to say.
    private func spread(_ count: Int, seed: UInt64) -> [Float] {
        var numbers = Numbers(state: seed)
        return (0..<count).map { numbers.next() * [1, 1e-3, 300][$0 % 3] }
    }

    /// 24 bits of a number are in three times 8.
    @Test func partsAreTheNumber() {
        let (rows, depth, stride) = (17, 64, 67)
        let x = spread(rows * stride, seed: 3)
        let parts = plainParts(rows: rows, depth: depth, x, stride: stride)
        for row in 0..<rows {
            for k in 0..<depth {
                let first = (row / 16 * (depth / 32) + k / 32) * 3 * 512 + row % 16 * 32 + k % 32
                let sum = (0..<3).reduce(0.0) { $0 + Double(widened(parts[first + $1 * 512])) }
                #expect(abs(sum - Double(x[row * stride + k])) <= abs(Double(x[row * stride + k])) * 0x1p-25)
            }
        }
        // Rows are filled up to 32 with zeros: here the last one of the second tile.
        let second = depth / 32 * 3 * 512
        #expect(parts[second + 15 * 32..<second + 16 * 32].allSatisfy { $0 == 0 })
    }

    @Test(
        .enabled(if: kirie_has_amx_bf16() != 0, "this processor has no AMX"), arguments: [(1, 32), (33, 96), (64, 160)])
    func splitting(rows: Int, depth: Int) {
        let stride = depth + 5
        let x = spread(rows * stride, seed: 4)
        var found = [UInt16](repeating: 1, count: kirie_bf16x3_row_numbers(rows, depth))
        kirie_kernels.best.bf16x3_split_rows(rows, depth, x, stride, &found)
        #expect(found == plainParts(rows: rows, depth: depth, x, stride: stride))
    }

    /// Against sums in binary64: nearer to them than a chain of fused multiply-adds in fp32 is.
    @Test(arguments: [(32, 32, 32), (70, 96, 160), (5, 64, 768), (128, 32, 3072)])
    func products(rows: Int, columns: Int, depth: Int) {
        let (x, weight) = (spread(rows * depth, seed: 5), spread(columns * depth, seed: 6))
        let bias = spread(columns, seed: 7)
        let start = spread(rows * (columns + 3), seed: 8)
        let parts = plainParts(rows: rows, depth: depth, x, stride: depth)
        var packed = [UInt16](repeating: 1, count: kirie_bf16x3_weight_numbers(columns, depth))
        kirie_kernels.plain.bf16x3_pack_weights(columns, depth, weight, bias, &packed)
        if kirie_has_amx_bf16() != 0 {
            var found = [UInt16](repeating: 2, count: packed.count)
            kirie_kernels.best.bf16x3_pack_weights(columns, depth, weight, bias, &found)
            #expect(found == packed, "packed weights")
        }
        let kernels =
            [("plain", kirie_kernels.plain)] + kirie_kernels.sets(from: KIRIE_AMX).map { ($0.name, $0.kernels) }
        for accumulate: Int32 in [0, 1] {
            for (name, kernel) in kernels {
                var found = start
                kernel.bf16x3_product(rows, columns, depth, parts, packed, accumulate, &found, columns + 3)
                var errors = (parts: 0.0, chain: 0.0)
                for row in 0..<rows {
                    for column in 0..<columns + 3 {
                        let index = row * (columns + 3) + column
                        guard column < columns else {
                            #expect(found[index] == start[index], "written beyond the row")
                            continue
                        }
                        var chain: Float = bias[column] + (accumulate != 0 ? start[index] : 0)
                        var exact = Double(bias[column]) + (accumulate != 0 ? Double(start[index]) : 0)
                        var size = abs(exact)
                        for k in 0..<depth {
                            let (a, b) = (x[row * depth + k], weight[column * depth + k])
                            chain.addProduct(a, b)
                            exact += Double(a) * Double(b)
                            size += abs(Double(a) * Double(b))
                        }
                        errors.parts += abs(Double(found[index]) - exact) / size
                        errors.chain += abs(Double(chain) - exact) / size
                    }
                }
                // Of one rounding of the answer there is always some; the twin adds one number after the other.
                let rounding = Double(rows * columns) * 0x1p-25
                #expect(
                    errors.parts <= (name == "AMX" ? 1 : 3) * errors.chain + rounding,
                    "\(name): \(errors.parts) against \(errors.chain)")
            }
        }
    }

    /// Keys and values packed as the twin packs them, in two goes, and attention as the plain fp32 kernel answers it: a window
    /// with an odd number of panels, one with more keys than a block, and one row of keys.
    @Test(arguments: [(14, 14, 64), (3, 16, 32), (5, 7, 80), (40, 40, 64), (1, 49, 16)])
    func attention(rows: Int, columns: Int, headSize: Int) {
        let given = AttentionCase(rows: rows, columns: columns, headSize: headSize, seed: 11)
        let count = withUnsafePointer(to: given.shape) { kirie_bf16x3_key_numbers($0) }
        var plainKeys = [UInt16](repeating: 1, count: count)
        var plainValues = plainKeys
        kirie_kernels.plain.packParts(given, rows: 0..<rows, keys: &plainKeys, values: &plainValues)
        var wholeKeys = [Float](repeating: 0, count: given.lanes * headSize)
        var wholeValues = [Float](repeating: 0, count: given.lanes * given.shape.head_padded)
        kirie_kernels.pack(given, keys: &wholeKeys, values: &wholeValues)
        // The plain twin takes some time for the larger windows; there the kernel is held against fp32 alone.
        let twin = rows * columns < 100 ? [("plain", kirie_kernels.plain)] : []
        for (name, kernels) in twin + kirie_kernels.sets(from: KIRIE_AMX).map({ ($0.name, $0.kernels) }) {
            var keys = [UInt16](repeating: 1, count: count)
            var values = keys
            for part in [0..<rows / 2, rows / 2..<rows] {
                kernels.packParts(given, rows: part, keys: &keys, values: &values)
            }
            #expect(keys == plainKeys && values == plainValues, "\(name): packed keys and values")
            for usesTable in [false, true] {
                let expected = kirie_kernels.plain.attention(
                    given, usesTable: usesTable, keys: wholeKeys, values: wholeValues)
                let found = kernels.attentionOfParts(given, usesTable: usesTable, keys: keys, values: values)
                let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? 1
                #expect(worst <= 1e-5, "\(name), \(usesTable ? "with a table" : "with relative positions"): \(worst)")
            }
        }
    }

    /// A row's bits do not depend on the rows beside it.
    @Test(.enabled(if: kirie_has_amx_bf16() != 0, "this processor has no AMX"))
    func rowsAreIndependent() {
        let (columns, depth) = (64, 96)
        let x = spread(40 * depth, seed: 9)
        let product = LinearProduct(
            weight: Tensor(shape: [columns, depth], spread(columns * depth, seed: 10)), bias: nil, activation: .gelu)
        func rows(_ range: Range<Int>) -> [Float] {
            var (x, y) = (
                Array(x[range.lowerBound * depth..<range.upperBound * depth]),
                [Float](repeating: 0, count: range.count * columns)
            )
            x.withUnsafeMutableBufferPointer { x in
                y.withUnsafeMutableBufferPointer { y in
                    guard let x = x.baseAddress, let y = y.baseAddress else { return }
                    product(rows: range.count, x: Features(x, stride: depth), y: Features(y, stride: columns))
                }
            }
            return y
        }
        #expect(rows(0..<40) == rows(0..<7) + rows(7..<40))
    }
}
