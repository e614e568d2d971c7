import CKernels
import Testing

/// The bf16 kernels against their plain twins, where the processor has them.
@Suite(.enabled(if: kirie_has_bf16() != 0, "this processor has no AVX512_BF16"))
struct BFloat16KernelTests {
    private func narrowed(_ x: [Float]) -> [UInt16] {
        var y = [UInt16](repeating: 0, count: x.count)
        kirie_plain_bf16_narrow(x.count, x, &y)
        return y
    }

    private func widened(_ x: UInt16) -> Float { Float(bitPattern: UInt32(x) << 16) }

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
        kirie_bf16_layer_norm_rows(3, columns, x, columns, gain, shift, 1e-6, &found, columns)
        kirie_plain_bf16_layer_norm_rows(3, columns, x, columns, gain, shift, 1e-6, &expected, columns)
        expectClose(found, expected, "layer norm")
    }

    @Test(arguments: [(7, 7, 32), (14, 14, 64), (9, 5, 20), (24, 40, 16), (16, 16, 80)])
    func attention(rows: Int, columns: Int, headSize: Int) {
        var numbers = Numbers(state: 3)
        let count = rows * columns
        let stride = 3 * headSize
        let projected = narrowed(numbers.array(count * stride).map { $0 * 2 })
        let padding = narrowed(numbers.array(stride))
        var shape = kirie_attention_shape(
            head_size: headSize, head_padded: (headSize + 15) / 16 * 16, key_rows: rows, key_columns: columns,
            key_columns_padded: (columns + 15) / 16 * 16)
        let tokens = (0..<count).map { Int32($0 % columns == columns - 1 ? -1 : $0) }
        let queries = tokens.filter { $0 >= 0 }
        let biasStride = (2 * max(rows, columns) + 15) / 16 * 16 + 16
        let (relH, relW) = (narrowed(numbers.array(headSize * biasStride)), narrowed(numbers.array(headSize * biasStride)))
        let lanes = rows * shape.key_columns_padded
        var table = numbers.array(count * lanes)
        for index in table.indices where index % shape.key_columns_padded >= columns { table[index] = -1e30 }
        var keys = [UInt16](repeating: 0, count: lanes * headSize)
        var values = [UInt16](repeating: 0, count: lanes * shape.head_padded)
        var (plainKeys, plainValues) = (keys, values)
        projected.withUnsafeBufferPointer { memory in
            padding.withUnsafeBufferPointer { pad in
                guard let q = memory.baseAddress, let pad = pad.baseAddress else { return }
                kirie_bf16_attention_pack(
                    &shape, q + headSize, q + 2 * headSize, stride, tokens, pad + headSize, pad + 2 * headSize, 0,
                    rows, &keys, &values)
                kirie_plain_bf16_attention_pack(
                    &shape, q + headSize, q + 2 * headSize, stride, tokens, pad + headSize, pad + 2 * headSize, 0,
                    rows, &plainKeys, &plainValues)
            }
        }
        #expect(keys == plainKeys && values == plainValues, "packed keys and values")
        for usesTable in [false, true] {
            var scratch = [Float](repeating: 0, count: kirie_attention_scratch(&shape, queries.count))
            var found = [UInt16](repeating: 0, count: count * headSize)
            var expected = found
            let (h, w, t): ([UInt16]?, [UInt16]?, [Float]?) = usesTable ? (nil, nil, table) : (relH, relW, nil)
            let scale = 1 / Float(headSize).squareRoot()
            kirie_bf16_attention_tile(
                &shape, queries.count, projected, stride, queries, queries, scale, h, biasStride, w, biasStride, t,
                keys, values, &found, headSize, &scratch)
            kirie_plain_bf16_attention_tile(
                &shape, queries.count, projected, stride, queries, queries, scale, h, biasStride, w, biasStride, t,
                keys, values, &expected, headSize, &scratch)
            expectClose(found, expected, usesTable ? "with a table" : "with relative positions")
        }
    }
}
