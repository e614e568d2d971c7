import CKernels
package import Tensors

/// Multi-head attention within the windows of a square grid of tokens; one window as large as the grid makes it global.
///
/// Windows that reach over the right or lower edge are filled up with tokens whose input was zero; their keys and
/// values are the same for all, so they are never computed. Scores are never stored as a matrix.
/// Windows and decomposed relative positions: Li et al., "Exploring Plain Vision Transformer Backbones", 2022,
/// <https://arxiv.org/abs/2203.16527>; attention biases: Graham et al., LeViT, 2021, <https://arxiv.org/abs/2104.01136>.
package struct WindowAttention: Sendable {
    /// How position enters a score.
    package enum PositionBias: Sendable {
        /// `rel_pos_h` and `rel_pos_w`, each (2 · window − 1, head size): a score gains q · R_h + q · R_w.
        case relative(height: Tensor, width: Tensor)
        /// (heads, window², window²), added to the scores.
        case table(Tensor)
    }

    /// Where a head's query, key and value begin in a row of the joint projection.
    package struct HeadOffsets: Sendable {
        package let query: Int
        package let key: Int
        package let value: Int

        package init(query: Int, key: Int, value: Int) {
            self.query = query
            self.key = key
            self.value = value
        }
    }

    private struct Window: Sendable {
        /// The token at each place, row-major; −1 outside the grid.
        var tokens: [Int32] = []
        var queryTokens: [Int32] = []
        var queryPlaces: [Int32] = []
    }

    /// Queries that one task of a large window takes: a multiple of every group of queries the kernels work on.
    private static let largeTile = 96
    /// Queries of a smaller window that go together at most: scratch memory grows with them times the window's own size.
    private static let queriesAtOnce = 672

    private let shape: kirie_attention_shape
    private let headCount: Int
    private let scale: Float
    private let offsets: [HeadOffsets]
    private let windows: [Window]
    /// The projection of a zero token, as one row, in fp32 and in bf16.
    private let paddingRow: Tensor
    private let narrowPaddingRow: [UInt16]
    private let positionBias: PositionBias
    /// The relative positions in bf16, in pairs along the head; empty with a table.
    private let narrowHeight: [UInt16]
    private let narrowWidth: [UInt16]
    private let biasStride: Int

    /// - Parameters:
    ///   - grid: tokens along each side.
    ///   - window: window side; the grid's side for global attention.
    ///   - headSize: numbers per head.
    ///   - offsets: one per head.
    ///   - paddingRow: the projection of a token that lies outside the grid: queries, keys and values of all heads.
    ///   - positionBias: laid out here as the kernels read it.
    package init(
        grid: Int, window: Int, headSize: Int, offsets: [HeadOffsets], paddingRow: Tensor, positionBias: PositionBias
    ) {
        headCount = offsets.count
        self.offsets = offsets
        self.paddingRow = paddingRow
        narrowPaddingRow = paddingRow.elements.map(Self.narrow)
        scale = 1 / Float(headSize).squareRoot()
        windows = Self.windows(grid: grid, side: window)
        // Relative positions go by rows and columns of keys, so every row fills whole vectors. A table knows every key by
        // itself: there the window is one long row, and only its end is filled up.
        let rows: Int
        switch positionBias {
        case .relative(let height, let width):
            rows = window
            biasStride = (2 * window - 1 + 15) / 16 * 16 + 16
            let tables = (
                Self.reversedTranspose(height, stride: biasStride), Self.reversedTranspose(width, stride: biasStride)
            )
            self.positionBias = .relative(height: tables.0, width: tables.1)
            narrowHeight = Self.narrowPairs(tables.0)
            narrowWidth = Self.narrowPairs(tables.1)
        case .table(let table):
            rows = 1
            biasStride = (window * window + 15) / 16 * 16
            self.positionBias = .table(Self.padded(table, stride: biasStride))
            (narrowHeight, narrowWidth) = ([], [])
        }
        let columns = window * window / rows
        shape = kirie_attention_shape(
            head_size: headSize, head_padded: (headSize + 15) / 16 * 16, key_rows: rows, key_columns: columns,
            key_columns_padded: (columns + 15) / 16 * 16)
    }

    /// out (tokens, heads · head size) = attention over `projected`, the rows that queries, keys and values lie in.
    ///
    /// Both are of the same type, which is the precision of the products.
    package func callAsFunction(projected: Features, out: Features, pool: ThreadPool) {
        if windows.count == 1, shape.key_rows * shape.key_columns >= 1024 {
            attendLarge(windows[0], projected: projected, out: out, pool: pool)
        } else {
            pool.parallel(windows.count * headCount) { index in
                attendSmall(windows[index / headCount], head: index % headCount, projected: projected, out: out)
            }
        }
    }

    /// How the kernels compute, and with it how they read keys and values.
    private enum Form {
        case float32, bfloat16
        /// fp32 numbers in three bf16 parts each.
        case bfloat16x3

        var stored: ElementType { self == .float32 ? .float32 : .bfloat16 }
    }

    private func form(of projected: Features) -> Form {
        if projected.type == .bfloat16 { return .bfloat16 }
        return kirie_has_amx_bf16() != 0 && shape.head_size % 16 == 0 ? .bfloat16x3 : .float32
    }

    /// Numbers that one head's packed keys and values take; the keys of an odd head are filled up to pairs.
    private func packedCounts(_ form: Form) -> (keys: Int, values: Int) {
        let keys = shape.key_rows * shape.key_columns_padded
        guard form == .bfloat16x3 else { return (keys * (shape.head_size + 1) / 2 * 2, keys * shape.head_padded) }
        let count = withUnsafePointer(to: shape) { kirie_bf16x3_key_numbers($0) }
        return (count, count)
    }

    /// One head's keys and values as the kernels read them.
    private struct Packed {
        let form: Form
        let keys: Features
        let values: Features
    }

    private func withPacked(heads: Int, of projected: Features, _ body: ((Int) -> Packed) -> Void) {
        let form = form(of: projected)
        let counts = packedCounts(form)
        Scratch.withFeatures(rows: heads, columns: counts.keys + counts.values, type: form.stored) { memory in
            body { head in
                Packed(form: form, keys: memory.from(row: head), values: memory.from(row: head, column: counts.keys))
            }
        }
    }

    private func attendSmall(_ window: Window, head: Int, projected: Features, out: Features) {
        withPacked(heads: 1, of: projected) { packed in
            pack(window, head: head, rows: 0..<shape.key_rows, projected: projected, into: packed(0))
            let count = window.queryTokens.count
            for first in stride(from: 0, to: count, by: Self.queriesAtOnce) {
                attend(
                    window, head: head, queries: first..<min(count, first + Self.queriesAtOnce), projected: projected,
                    packed: packed(0), out: out)
            }
        }
    }

    /// One window for all heads: its keys are packed by all threads, then its queries are shared out.
    private func attendLarge(_ window: Window, projected: Features, out: Features, pool: ThreadPool) {
        withPacked(heads: headCount, of: projected) { packed in
            let rowsAtOnce = 8
            let parts = (shape.key_rows + rowsAtOnce - 1) / rowsAtOnce
            pool.parallel(headCount * parts) { index in
                let (head, part) = (index / parts, index % parts)
                pack(
                    window, head: head, rows: part * rowsAtOnce..<min(shape.key_rows, (part + 1) * rowsAtOnce),
                    projected: projected, into: packed(head))
            }
            let tiles = (window.queryTokens.count + Self.largeTile - 1) / Self.largeTile
            pool.parallel(headCount * tiles) { index in
                let (head, tile) = (index / tiles, index % tiles)
                attend(
                    window, head: head,
                    queries: tile * Self.largeTile..<min(window.queryTokens.count, (tile + 1) * Self.largeTile),
                    projected: projected, packed: packed(head), out: out)
            }
        }
    }

    private func pack(_ window: Window, head: Int, rows: Range<Int>, projected: Features, into packed: Packed) {
        let offset = offsets[head]
        withUnsafePointer(to: shape) { shape in
            window.tokens.withUnsafeBufferPointer { tokens in
                guard let tokens = tokens.baseAddress else { return }
                if packed.form == .bfloat16 {
                    narrowPaddingRow.withUnsafeBufferPointer { padding in
                        guard let padding = padding.baseAddress else { return }
                        let row = projected.bfloat16Bits
                        var arguments = kirie_bf16_attention_pack_arguments(
                            shape: shape, k: row + offset.key, v: row + offset.value, stride: projected.stride,
                            tokens: tokens, pad_k: padding + offset.key, pad_v: padding + offset.value,
                            first_row: rows.lowerBound, last_row: rows.upperBound,
                            packed_k: packed.keys.bfloat16Bits, packed_v: packed.values.bfloat16Bits)
                        kirie_bf16_attention_pack(&arguments)
                    }
                    return
                }
                let (keys, values) = (projected.floats + offset.key, projected.floats + offset.value)
                paddingRow.withUnsafeBufferPointer { padding in
                    guard let padding = padding.baseAddress else { return }
                    if packed.form == .bfloat16x3 {
                        var arguments = kirie_bf16x3_attention_pack_arguments(
                            shape: shape, k: keys, v: values, stride: projected.stride, tokens: tokens,
                            pad_k: padding + offset.key, pad_v: padding + offset.value,
                            first_row: rows.lowerBound, last_row: rows.upperBound,
                            packed_k: packed.keys.bfloat16Bits, packed_v: packed.values.bfloat16Bits)
                        kirie_bf16x3_attention_pack(&arguments)
                    } else {
                        var arguments = kirie_attention_pack_arguments(
                            shape: shape, k: keys, v: values, stride: projected.stride, tokens: tokens,
                            pad_k: padding + offset.key, pad_v: padding + offset.value,
                            first_row: rows.lowerBound, last_row: rows.upperBound, packed_k: packed.keys.floats,
                            packed_v: packed.values.floats)
                        kirie_attention_pack(&arguments)
                    }
                }
            }
        }
    }

    private func attend(
        _ window: Window, head: Int, queries: Range<Int>, projected: Features, packed: Packed, out: Features
    ) {
        let column = head * shape.head_size
        let queryColumn = offsets[head].query
        withUnsafePointer(to: shape) { shape in
            let scratchCount =
                switch packed.form {
                case .float32: kirie_attention_scratch(shape, queries.count)
                case .bfloat16: kirie_bf16_attention_scratch(shape, queries.count)
                case .bfloat16x3: kirie_bf16x3_attention_scratch(shape, queries.count)
                }
            Scratch.withFloats(scratchCount) { scratch in
                window.queryTokens.withUnsafeBufferPointer { tokens in
                    window.queryPlaces.withUnsafeBufferPointer { places in
                        guard let tokens = tokens.baseAddress.map({ $0 + queries.lowerBound }),
                            let places = places.baseAddress.map({ $0 + queries.lowerBound })
                        else { return }
                        switch packed.form {
                        case .bfloat16:
                            withNarrowBias(head: head) { height, width, table in
                                var arguments = kirie_bf16_attention_arguments(
                                    shape: shape, queries: queries.count, q: projected.bfloat16Bits + queryColumn,
                                    q_stride: projected.stride, query_tokens: tokens, query_places: places,
                                    scale: scale,
                                    rel_h: height, rel_h_stride: biasStride, rel_w: width, rel_w_stride: biasStride,
                                    table: table, packed_k: packed.keys.bfloat16Bits,
                                    packed_v: packed.values.bfloat16Bits,
                                    out: out.bfloat16Bits + column, out_stride: out.stride, scratch: scratch)
                                kirie_bf16_attention(&arguments)
                            }
                        case .bfloat16x3:
                            withBias(head: head) { height, width, table in
                                var arguments = kirie_bf16x3_attention_arguments(
                                    shape: shape, queries: queries.count, q: projected.floats + queryColumn,
                                    q_stride: projected.stride, query_tokens: tokens, query_places: places,
                                    scale: scale,
                                    rel_h: height, rel_h_stride: biasStride, rel_w: width, rel_w_stride: biasStride,
                                    table: table, packed_k: packed.keys.bfloat16Bits,
                                    packed_v: packed.values.bfloat16Bits,
                                    out: out.floats + column, out_stride: out.stride, scratch: scratch)
                                kirie_bf16x3_attention(&arguments)
                            }
                        case .float32:
                            withBias(head: head) { height, width, table in
                                var arguments = kirie_attention_arguments(
                                    shape: shape, queries: queries.count, q: projected.floats + queryColumn,
                                    q_stride: projected.stride, query_tokens: tokens, query_places: places,
                                    scale: scale,
                                    rel_h: height, rel_h_stride: biasStride, rel_w: width, rel_w_stride: biasStride,
                                    table: table, packed_k: packed.keys.floats, packed_v: packed.values.floats,
                                    out: out.floats + column, out_stride: out.stride, scratch: scratch)
                                kirie_attention(&arguments)
                            }
                        }
                    }
                }
            }
        }
    }

    /// Calls `body` with the relative positions by row and by column, or with the head's table.
    private func withBias(
        head: Int, _ body: (UnsafePointer<Float>?, UnsafePointer<Float>?, UnsafePointer<Float>?) -> Void
    ) {
        switch positionBias {
        case .relative(let height, let width):
            height.withUnsafeBufferPointer { height in
                width.withUnsafeBufferPointer { body(height.baseAddress, $0.baseAddress, nil) }
            }
        case .table(let table):
            table.withUnsafeBufferPointer { table in
                guard let table = table.baseAddress else { return }
                body(nil, nil, table + head * shape.key_rows * shape.key_columns * biasStride)
            }
        }
    }

    /// The same with the relative positions in bf16; a table stays in fp32.
    private func withNarrowBias(
        head: Int, _ body: (UnsafePointer<UInt16>?, UnsafePointer<UInt16>?, UnsafePointer<Float>?) -> Void
    ) {
        withBias(head: head) { _, _, table in
            guard table == nil else { return body(nil, nil, table) }
            narrowHeight.withUnsafeBufferPointer { height in
                narrowWidth.withUnsafeBufferPointer { body(height.baseAddress, $0.baseAddress, nil) }
            }
        }
    }

    private static func narrow(_ x: Float) -> UInt16 {
        withUnsafePointer(to: x) { x in
            var bits: UInt16 = 0
            kirie_kernels_of(KIRIE_PLAIN).pointee.bf16_narrow(1, x, &bits)
            return bits
        }
    }

    private static func windows(grid: Int, side: Int) -> [Window] {
        let count = (grid + side - 1) / side
        return (0..<count * count).map { index in
            var window = Window()
            for place in 0..<side * side {
                let row = index / count * side + place / side
                let column = index % count * side + place % side
                guard row < grid, column < grid else {
                    window.tokens.append(-1)
                    continue
                }
                let token = Int32(row * grid + column)
                window.tokens.append(token)
                window.queryTokens.append(token)
                window.queryPlaces.append(Int32(place))
            }
            return window
        }
    }

    /// (length, head size) → (head size, stride) with the positions in reverse, so that for a given query the biases
    /// of consecutive keys lie side by side.
    private static func reversedTranspose(_ table: Tensor, stride: Int) -> Tensor {
        let (length, headSize) = (table.shape[0], table.shape[1])
        return Tensor(shape: [headSize, stride]) { memory in
            memory.initialize(repeating: 0)
            table.withUnsafeBufferPointer { table in
                for position in 0..<length {
                    for d in 0..<headSize {
                        memory[d * stride + length - 1 - position] = table[position * headSize + d]
                    }
                }
            }
        }
    }

    /// (head size, stride) in bf16 as (head size / 2, stride, 2), an odd head filled up with zeros.
    private static func narrowPairs(_ table: Tensor) -> [UInt16] {
        let (headSize, stride) = (table.shape[0], table.shape[1])
        var pairs = [UInt16](repeating: 0, count: (headSize + 1) / 2 * stride * 2)
        for (index, value) in table.elements.enumerated() {
            let (d, position) = (index / stride, index % stride)
            pairs[(d / 2 * stride + position) * 2 + d % 2] = narrow(value)
        }
        return pairs
    }

    /// (heads, n, n) → (heads, n, stride) with −10³⁰ in the lanes that stand for no key.
    private static func padded(_ table: Tensor, stride: Int) -> Tensor {
        let (heads, n) = (table.shape[0], table.shape[1])
        return Tensor(shape: [heads, n, stride]) { memory in
            memory.initialize(repeating: -1e30)
            table.withUnsafeBufferPointer { table in
                for line in 0..<heads * n {
                    for key in 0..<n { memory[line * stride + key] = table[line * n + key] }
                }
            }
        }
    }
}
