import CKernels

/// The kernels of an instruction set on arrays: those whose arguments come in a struct, in its order, and attention on an
/// ``AttentionCase``.
extension kirie_kernels {
    /// Those of the plain twins.
    static var plain: kirie_kernels { kirie_kernels_of(KIRIE_PLAIN).pointee }
    /// Those of the best set of this processor.
    static var best: kirie_kernels { kirie_kernels_of(KIRIE_AMX).pointee }

    /// The sets that this processor runs, from one on, by name.
    static func sets(from first: kirie_set = KIRIE_BASELINE) -> [(name: String, kernels: kirie_kernels)] {
        [
            ("baseline", KIRIE_BASELINE), ("AVX2", KIRIE_AVX2), ("AVX-512", KIRIE_AVX512),
            ("AVX512_BF16", KIRIE_BF16), ("AMX", KIRIE_AMX),
        ]
        .filter { $0.1.rawValue >= first.rawValue && $0.1.rawValue <= kirie_best_set().rawValue }
        .map { ($0.0, kirie_kernels_of($0.1).pointee) }
    }

    func layerNorm(
        _ rows: Int, _ columns: Int, _ x: UnsafePointer<Float>, _ stride: Int, _ gain: UnsafePointer<Float>,
        _ shift: UnsafePointer<Float>, _ epsilon: Float, _ y: UnsafeMutablePointer<Float>, _ yStride: Int
    ) {
        var arguments = kirie_layer_norm_arguments(
            rows: rows, columns: columns, x: x, x_stride: stride, gain: gain, shift: shift, epsilon: epsilon, y: y,
            y_stride: yStride)
        layer_norm_rows(&arguments)
    }

    func narrowLayerNorm(
        _ rows: Int, _ columns: Int, _ x: UnsafePointer<Float>, _ stride: Int, _ gain: UnsafePointer<Float>,
        _ shift: UnsafePointer<Float>, _ epsilon: Float, _ y: UnsafeMutablePointer<UInt16>, _ yStride: Int
    ) {
        var arguments = kirie_bf16_layer_norm_arguments(
            rows: rows, columns: columns, x: x, x_stride: stride, gain: gain, shift: shift, epsilon: epsilon, y: y,
            y_stride: yStride)
        bf16_layer_norm_rows(&arguments)
    }

    /// One product.
    func product(
        _ rows: Int, _ columns: Int, _ depth: Int, _ a: UnsafePointer<Float>, _ aRow: Int, _ aColumn: Int,
        _ b: UnsafePointer<Float>, _ bStride: Int, _ c: UnsafeMutablePointer<Float>, _ cStride: Int,
        _ rowBias: UnsafePointer<Float>?, _ columnBias: UnsafePointer<Float>?, _ accumulate: Int32
    ) {
        var arguments = kirie_product_arguments(
            groups: 1, rows: rows, columns: columns, depth: depth, a: a, a_step: 0, a_row: aRow, a_column: aColumn,
            b: b, b_step: 0, b_stride: bStride, c: c, c_step: 0, c_stride: cStride, row_bias: rowBias,
            column_bias: columnBias, accumulate: accumulate)
        product(&arguments)
    }

    /// Several products side by side, without biases.
    func products(
        _ groups: Int, _ rows: Int, _ columns: Int, _ depth: Int, _ a: UnsafePointer<Float>, _ aStep: Int, _ aRow: Int,
        _ b: UnsafePointer<Float>, _ bStep: Int, _ bStride: Int, _ c: UnsafeMutablePointer<Float>, _ cStep: Int,
        _ cStride: Int, _ accumulate: Int32
    ) {
        var arguments = kirie_product_arguments(
            groups: groups, rows: rows, columns: columns, depth: depth, a: a, a_step: aStep, a_row: aRow, a_column: 1,
            b: b, b_step: bStep, b_stride: bStride, c: c, c_step: cStep, c_stride: cStride, row_bias: nil,
            column_bias: nil, accumulate: accumulate)
        product(&arguments)
    }

    func narrowProducts(
        _ groups: Int, _ rows: Int, _ columns: Int, _ pairs: Int, _ a: UnsafePointer<UInt16>, _ aStep: Int,
        _ aRow: Int, _ b: UnsafePointer<UInt16>, _ bStep: Int, _ bStride: Int, _ c: UnsafeMutablePointer<Float>,
        _ cStep: Int, _ cStride: Int, _ accumulate: Int32
    ) {
        var arguments = kirie_bf16_product_arguments(
            groups: groups, rows: rows, columns: columns, pairs: pairs, a: a, a_step: aStep, a_row: aRow, b: b,
            b_step: bStep, b_stride: bStride, c: c, c_step: cStep, c_stride: cStride, accumulate: accumulate)
        bf16_product(&arguments)
    }

    func geluDot(
        isNarrow: Bool = false, _ rows: Int, _ masks: Int, _ x: UnsafePointer<Float>, _ stride: Int,
        _ bias: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, _ weightStride: Int,
        _ logits: UnsafeMutablePointer<Float>, _ logitsStride: Int
    ) {
        var arguments = kirie_gelu_dot_arguments(
            rows: rows, masks: masks, x: x, x_stride: stride, bias: bias, weight: weight, weight_stride: weightStride,
            logits: logits, logits_stride: logitsStride)
        if isNarrow { bf16_gelu_dot(&arguments) } else { gelu_dot(&arguments) }
    }

    func narrowUpscaleNorm(
        _ rows: Int, _ x: UnsafeMutablePointer<Float>, _ part: UnsafePointer<UInt16>, _ factor: UnsafePointer<Float>,
        _ bias: UnsafePointer<Float>, _ gain: UnsafePointer<Float>, _ shift: UnsafePointer<Float>, _ epsilon: Float,
        _ y: UnsafeMutablePointer<UInt16>
    ) {
        var arguments = kirie_bf16_upscale_norm_arguments(
            rows: rows, x: x, part: part, factor: factor, bias: bias, gain: gain, shift: shift, epsilon: epsilon, y: y)
        bf16_upscale_norm(&arguments)
    }

    func dequantize(
        _ rows: Int, _ columns: Int, _ sums: UnsafePointer<Int32>, _ rowScales: UnsafePointer<Float>,
        _ columnScales: UnsafePointer<Float>, _ bias: UnsafePointer<Float>, _ accumulate: Int32,
        _ y: UnsafeMutablePointer<Float>, _ yStride: Int
    ) {
        var arguments = kirie_dequantize_arguments(
            rows: rows, columns: columns, sums: sums, row_scales: rowScales, column_scales: columnScales, bias: bias,
            accumulate: accumulate, y: y, y_stride: yStride)
        dequantize_rows(&arguments)
    }

    func depthwise(
        _ width: Int, _ channels: Int, _ stride: Int, _ above: UnsafePointer<Float>?, _ at: UnsafePointer<Float>,
        _ below: UnsafePointer<Float>?, _ weight: UnsafePointer<Float>, _ bias: UnsafePointer<Float>, _ gelu: Int32,
        _ y: UnsafeMutablePointer<Float>
    ) {
        var arguments = kirie_depthwise3x3_arguments(
            width: width, channels: channels, stride: stride, above: above, at: at, below: below, weight: weight,
            bias: bias, gelu: gelu, y: y)
        depthwise3x3_row(&arguments)
    }

    /// One row of a depthwise convolution with ReLU6; rows that are nil lie outside the picture.
    func depthwiseReLU6(
        _ shape: DepthwiseShape, _ rows: [[Float]?], _ weight: UnsafePointer<Float>, _ bias: UnsafePointer<Float>
    ) -> [Float] {
        var y = [Float](repeating: .nan, count: shape.outputs)
        withRows(rows) { rows in
            y.withUnsafeMutableBufferPointer {
                var arguments = kirie_depthwise_relu6_arguments(
                    width: shape.width, channels: shape.channels, size: shape.size, stride: shape.stride,
                    before: shape.before, rows: rows, weight: weight, bias: bias, y: $0.baseAddress)
                depthwise_relu6_row(&arguments)
            }
        }
        return y
    }

    /// The same on bf16 numbers.
    func narrowDepthwiseReLU6(
        _ shape: DepthwiseShape, _ rows: [[UInt16]?], _ weight: UnsafePointer<Float>, _ bias: UnsafePointer<Float>
    ) -> [UInt16] {
        var y = [UInt16](repeating: 0x7fff, count: shape.outputs)
        withRows(rows) { rows in
            y.withUnsafeMutableBufferPointer {
                var arguments = kirie_bf16_depthwise_relu6_arguments(
                    width: shape.width, channels: shape.channels, size: shape.size, stride: shape.stride,
                    before: shape.before, rows: rows, weight: weight, bias: bias, y: $0.baseAddress)
                bf16_depthwise_relu6_row(&arguments)
            }
        }
        return y
    }

    /// Each row in memory of exactly its size, which is not beside the others.
    private func withRows<Number>(_ rows: [[Number]?], _ body: (UnsafePointer<UnsafePointer<Number>?>) -> Void) {
        let memory = rows.map { row in
            row.map { row in
                let memory = UnsafeMutableBufferPointer<Number>.allocate(capacity: row.count)
                _ = memory.initialize(from: row)
                return memory
            }
        }
        defer { for row in memory { row?.deallocate() } }
        let pointers: [UnsafePointer<Number>?] = memory.map { $0.flatMap { UnsafePointer($0.baseAddress) } }
        pointers.withUnsafeBufferPointer { if let start = $0.baseAddress { body(start) } }
    }

    func narrowDepthwise(
        _ width: Int, _ channels: Int, _ stride: Int, _ above: UnsafePointer<UInt16>?, _ at: UnsafePointer<UInt16>,
        _ below: UnsafePointer<UInt16>?, _ weight: UnsafePointer<Float>, _ bias: UnsafePointer<Float>, _ gelu: Int32,
        _ y: UnsafeMutablePointer<UInt16>
    ) {
        var arguments = kirie_bf16_depthwise3x3_arguments(
            width: width, channels: channels, stride: stride, above: above, at: at, below: below, weight: weight,
            bias: bias, gelu: gelu, y: y)
        bf16_depthwise3x3_row(&arguments)
    }

    func planes(
        _ planes: Int, _ height: Int, _ width: Int, _ row: Int, _ x: UnsafePointer<Float>, _ channels: Int,
        _ weight: UnsafePointer<Float>, _ bias: UnsafePointer<Float>, _ y: UnsafeMutablePointer<UInt16>
    ) {
        var arguments = kirie_bf16_planes3x3_arguments(
            planes: planes, height: height, width: width, row: row, x: x, channels: channels, weight: weight,
            bias: bias, y: y)
        bf16_planes3x3_row(&arguments)
    }

    // MARK: attention

    func attention(
        _ given: AttentionCase, usesTable: Bool, keys: UnsafePointer<Float>, values: UnsafePointer<Float>
    ) -> [Float] {
        given.answers(
            scratch: attention_scratch, usesTable: usesTable, zero: 0, given.projected, given.relH, given.relW
        ) {
            shape, q, h, w, table, out, scratch in
            var arguments = kirie_attention_arguments(
                shape: shape, queries: given.queries.count, q: q, q_stride: given.stride,
                query_tokens: given.queryTokens, query_places: given.queryTokens, scale: given.scale, rel_h: h,
                rel_h_stride: given.biasStride, rel_w: w, rel_w_stride: given.biasStride, table: table,
                packed_k: keys, packed_v: values, out: out, out_stride: given.shape.head_size, scratch: scratch)
            attention(&arguments)
        }
    }

    func narrowAttention(
        _ given: AttentionCase, usesTable: Bool, keys: UnsafePointer<UInt16>, values: UnsafePointer<UInt16>
    ) -> [UInt16] {
        given.answers(
            scratch: bf16_attention_scratch, usesTable: usesTable, zero: 0, narrowed(given.projected),
            narrowed(given.relH), narrowed(given.relW)
        ) { shape, q, h, w, table, out, scratch in
            var arguments = kirie_bf16_attention_arguments(
                shape: shape, queries: given.queries.count, q: q, q_stride: given.stride,
                query_tokens: given.queryTokens, query_places: given.queryTokens, scale: given.scale, rel_h: h,
                rel_h_stride: given.biasStride, rel_w: w, rel_w_stride: given.biasStride, table: table,
                packed_k: keys, packed_v: values, out: out, out_stride: given.shape.head_size, scratch: scratch)
            bf16_attention(&arguments)
        }
    }

    func attentionOfParts(
        _ given: AttentionCase, usesTable: Bool, keys: UnsafePointer<UInt16>, values: UnsafePointer<UInt16>
    ) -> [Float] {
        given.answers(
            scratch: bf16x3_attention_scratch, usesTable: usesTable, zero: 0, given.projected, given.relH, given.relW
        ) { shape, q, h, w, table, out, scratch in
            var arguments = kirie_bf16x3_attention_arguments(
                shape: shape, queries: given.queries.count, q: q, q_stride: given.stride,
                query_tokens: given.queryTokens, query_places: given.queryTokens, scale: given.scale, rel_h: h,
                rel_h_stride: given.biasStride, rel_w: w, rel_w_stride: given.biasStride, table: table,
                packed_k: keys, packed_v: values, out: out, out_stride: given.shape.head_size, scratch: scratch)
            bf16x3_attention(&arguments)
        }
    }

    /// Packs rows of the window's fp32 keys and values, which is the same for every set.
    static func pack(_ given: AttentionCase, keys: UnsafeMutablePointer<Float>, values: UnsafeMutablePointer<Float>) {
        given.withKeysAndValues(of: given.projected, given.padding) { shape, k, v, padK, padV in
            var arguments = kirie_attention_pack_arguments(
                shape: shape, k: k, v: v, stride: given.stride, tokens: given.windowTokens, pad_k: padK, pad_v: padV,
                first_row: 0, last_row: given.shape.key_rows, packed_k: keys, packed_v: values)
            kirie_attention_pack(&arguments)
        }
    }

    func narrowPack(
        _ given: AttentionCase, keys: UnsafeMutablePointer<UInt16>, values: UnsafeMutablePointer<UInt16>
    ) {
        given.withKeysAndValues(of: narrowed(given.projected), narrowed(given.padding)) { shape, k, v, padK, padV in
            var arguments = kirie_bf16_attention_pack_arguments(
                shape: shape, k: k, v: v, stride: given.stride, tokens: given.windowTokens, pad_k: padK, pad_v: padV,
                first_row: 0, last_row: given.shape.key_rows, packed_k: keys, packed_v: values)
            bf16_attention_pack(&arguments)
        }
    }

    func packParts(
        _ given: AttentionCase, rows: Range<Int>, keys: UnsafeMutablePointer<UInt16>,
        values: UnsafeMutablePointer<UInt16>
    ) {
        given.withKeysAndValues(of: given.projected, given.padding) { shape, k, v, padK, padV in
            var arguments = kirie_bf16x3_attention_pack_arguments(
                shape: shape, k: k, v: v, stride: given.stride, tokens: given.windowTokens, pad_k: padK, pad_v: padV,
                first_row: rows.lowerBound, last_row: rows.upperBound, packed_k: keys, packed_v: values)
            bf16x3_attention_pack(&arguments)
        }
    }
}
