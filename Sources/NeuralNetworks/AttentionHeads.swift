import CKernels
import Tensors

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

/// The heads of an attention over sets of tokens of one size, by the kernels of either precision.
///
/// It knows how keys and values are laid out for the kernels and how position enters a score; which tokens attend to which is
/// a ``Window``.
struct AttentionHeads: Sendable {
    /// How position enters a score.
    enum Positions: Sendable {
        /// It does not.
        case none
        /// `rel_pos_h` and `rel_pos_w`, each (2 · rows − 1, head size): a score gains q · R_h + q · R_w.
        case relative(height: Tensor, width: Tensor)
        /// (heads, keys, keys), added to the scores; or (1, keys, keys), the same for all heads.
        case table(Tensor)
    }

    /// Tokens that attend to each other.
    struct Window: Sendable {
        /// The token at each place, row-major; negative for one whose projection is the padding row.
        var tokens: [Int32] = []
        /// The tokens that ask, and their places.
        var queryTokens: [Int32] = []
        var queryPlaces: [Int32] = []
    }

    /// One head's keys and values as the kernels read them.
    struct Packed {
        fileprivate let form: Form
        fileprivate let keys: Features
        fileprivate let values: Features
    }

    /// How the kernels compute, and with it how they read keys and values.
    fileprivate enum Form {
        case float32, bfloat16
        /// fp32 numbers in three bf16 parts each.
        case bfloat16x3

        var stored: ElementType { self == .float32 ? .float32 : .bfloat16 }
    }

    /// Queries of a window that go together at most: scratch memory grows with them times the window's own size.
    private static let queriesAtOnce = 672

    let offsets: [HeadOffsets]
    let shape: kirie_attention_shape
    private let scale: Float
    /// The projection of a zero token, as one row, in fp32 and in bf16.
    private let paddingRow: Tensor
    private let narrowPaddingRow: [UInt16]
    /// Laid out as the kernels read them.
    private let positions: Positions
    /// The relative positions in bf16, in pairs along the head; empty otherwise.
    private let narrowHeight: [UInt16]
    private let narrowWidth: [UInt16]
    private let biasStride: Int
    /// Numbers from one head's table to the next.
    private let tableStep: Int

    /// - Parameters:
    ///   - rows: of keys; 1 unless positions are relative.
    ///   - columns: keys in a row.
    ///   - headSize: numbers per head.
    ///   - offsets: one per head.
    ///   - paddingRow: the projection of a token that stands for nothing; nil where there are none of these.
    ///   - positions: laid out here as the kernels read them.
    init(
        rows: Int, columns: Int, headSize: Int, offsets: [HeadOffsets], paddingRow: Tensor?, positions: Positions
    ) {
        let paddingRow = paddingRow ?? Tensor(shape: [0], [])
        self.offsets = offsets
        self.paddingRow = paddingRow
        narrowPaddingRow = paddingRow.elements.map(Self.narrow)
        scale = 1 / Float(headSize).squareRoot()
        shape = kirie_attention_shape(
            head_size: headSize, head_padded: (headSize + 15) / 16 * 16, key_rows: rows, key_columns: columns,
            key_columns_padded: (columns + 15) / 16 * 16)
        var narrow: (height: [UInt16], width: [UInt16]) = ([], [])
        switch positions {
        case .none:
            (biasStride, tableStep) = (0, 0)
            self.positions = .none
        case .relative(let height, let width):
            precondition(rows == columns, "relative positions of \(rows) x \(columns) keys")
            biasStride = (2 * columns - 1 + 15) / 16 * 16 + 16
            tableStep = 0
            let tables = (
                Self.reversedTranspose(height, stride: biasStride), Self.reversedTranspose(width, stride: biasStride)
            )
            self.positions = .relative(height: tables.0, width: tables.1)
            narrow = (Self.narrowPairs(tables.0), Self.narrowPairs(tables.1))
        case .table(let table):
            precondition(rows == 1 && table.shape == [table.shape[0], columns, columns], "a table of \(table.shape)")
            biasStride = (columns + 15) / 16 * 16
            tableStep = table.shape[0] == 1 ? 0 : columns * biasStride
            self.positions = .table(Self.padded(table, stride: biasStride))
        }
        (narrowHeight, narrowWidth) = narrow
    }

    /// out[queries] = one head's attention over the window, for those of its queries.
    ///
    /// `projected` are the rows that queries, keys and values lie in, and `out` (tokens, heads · head size); both are of the
    /// same type, which is the precision of the products.
    func attend(_ window: Window, head: Int, queries: Range<Int>, projected: Features, out: Features) {
        withPacked(heads: 1, of: projected) { packed in
            pack(window, head: head, rows: 0..<shape.key_rows, projected: projected, into: packed(0))
            for first in stride(from: queries.lowerBound, to: queries.upperBound, by: Self.queriesAtOnce) {
                attend(
                    window, head: head, queries: first..<min(queries.upperBound, first + Self.queriesAtOnce),
                    projected: projected, packed: packed(0), out: out)
            }
        }
    }

    /// Calls `body` with memory for the keys and values of so many heads.
    func withPacked(heads: Int, of projected: Features, _ body: ((Int) -> Packed) -> Void) {
        let form = form(of: projected)
        let counts = packedCounts(form)
        Scratch.withFeatures(rows: heads, columns: counts.keys + counts.values, type: form.stored) { memory in
            body { head in
                Packed(form: form, keys: memory.from(row: head), values: memory.from(row: head, column: counts.keys))
            }
        }
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

    /// Lays out some rows of a window's keys and values.
    func pack(_ window: Window, head: Int, rows: Range<Int>, projected: Features, into packed: Packed) {
        precondition(window.tokens.count == shape.key_rows * shape.key_columns, "a window of another size")
        let offset = offsets[head]
        // Where there is no padding, nothing reads its address.
        let (padKey, padValue) = paddingRow.count == 0 ? (0, 0) : (offset.key, offset.value)
        withUnsafePointer(to: shape) { shape in
            window.tokens.withUnsafeBufferPointer { tokens in
                guard let tokens = tokens.baseAddress else { return }
                if packed.form == .bfloat16 {
                    narrowPaddingRow.withUnsafeBufferPointer { padding in
                        let row = projected.bfloat16Bits
                        let padding = padding.baseAddress ?? UnsafePointer(row)
                        var arguments = kirie_bf16_attention_pack_arguments(
                            shape: shape, k: row + offset.key, v: row + offset.value, stride: projected.stride,
                            tokens: tokens, pad_k: padding + padKey, pad_v: padding + padValue,
                            first_row: rows.lowerBound, last_row: rows.upperBound,
                            packed_k: packed.keys.bfloat16Bits, packed_v: packed.values.bfloat16Bits)
                        kirie_bf16_attention_pack(&arguments)
                    }
                    return
                }
                let (keys, values) = (projected.floats + offset.key, projected.floats + offset.value)
                paddingRow.withUnsafeBufferPointer { padding in
                    let padding = padding.baseAddress ?? UnsafePointer(projected.floats)
                    if packed.form == .bfloat16x3 {
                        var arguments = kirie_bf16x3_attention_pack_arguments(
                            shape: shape, k: keys, v: values, stride: projected.stride, tokens: tokens,
                            pad_k: padding + padKey, pad_v: padding + padValue,
                            first_row: rows.lowerBound, last_row: rows.upperBound,
                            packed_k: packed.keys.bfloat16Bits, packed_v: packed.values.bfloat16Bits)
                        kirie_bf16x3_attention_pack(&arguments)
                    } else {
                        var arguments = kirie_attention_pack_arguments(
                            shape: shape, k: keys, v: values, stride: projected.stride, tokens: tokens,
                            pad_k: padding + padKey, pad_v: padding + padValue,
                            first_row: rows.lowerBound, last_row: rows.upperBound, packed_k: packed.keys.floats,
                            packed_v: packed.values.floats)
                        kirie_attention_pack(&arguments)
                    }
                }
            }
        }
    }

    /// The attention of some queries over keys and values that were laid out.
    func attend(
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
        switch positions {
        case .none: body(nil, nil, nil)
        case .relative(let height, let width):
            height.withUnsafeBufferPointer { height in
                width.withUnsafeBufferPointer { body(height.baseAddress, $0.baseAddress, nil) }
            }
        case .table(let table):
            table.withUnsafeBufferPointer { table in
                guard let table = table.baseAddress else { return }
                body(nil, nil, table + head * tableStep)
            }
        }
    }

    /// The same with the relative positions in bf16; a table stays in fp32.
    private func withNarrowBias(
        head: Int, _ body: (UnsafePointer<UInt16>?, UnsafePointer<UInt16>?, UnsafePointer<Float>?) -> Void
    ) {
        withBias(head: head) { height, _, table in
            guard height != nil else { return body(nil, nil, table) }
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
