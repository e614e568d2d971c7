import CKernels

/// Numbers for attention in one window whose last column lies outside the grid.
final class AttentionCase {
    let shape: kirie_attention_shape
    /// Numbers from one token to the next: its query, key and value.
    let stride: Int
    /// (tokens, stride).
    let projected: [Float]
    /// What stands for the tokens outside the grid, (stride).
    let padding: [Float]
    let tokens: [Int32]
    /// The tokens inside the grid, which are their places in the window too.
    let queries: [Int32]
    let relH: [Float]
    let relW: [Float]
    let biasStride: Int
    /// (tokens, lanes).
    let table: [Float]
    /// ``tokens`` and ``queries`` for the kernels, as long as the case lives.
    let windowTokens: UnsafeMutablePointer<Int32>
    let queryTokens: UnsafeMutablePointer<Int32>

    /// Lanes of keys, those that stand for none included.
    var lanes: Int { shape.key_rows * shape.key_columns_padded }
    var scale: Float { 1 / Float(shape.head_size).squareRoot() }
    var answerCount: Int { tokens.count * shape.head_size }

    init(rows: Int, columns: Int, headSize: Int, seed: UInt64) {
        var numbers = Numbers(state: seed)
        let count = rows * columns
        stride = 3 * headSize
        projected = numbers.array(count * stride).map { $0 * 2 }
        padding = numbers.array(stride)
        shape = kirie_attention_shape(
            head_size: headSize, head_padded: (headSize + 15) / 16 * 16, key_rows: rows, key_columns: columns,
            key_columns_padded: (columns + 15) / 16 * 16)
        tokens = (0..<count).map { Int32($0 % columns == columns - 1 ? -1 : $0) }
        queries = tokens.filter { $0 >= 0 }
        biasStride = (2 * max(rows, columns) + 15) / 16 * 16 + 16
        (relH, relW) = (numbers.array(headSize * biasStride), numbers.array(headSize * biasStride))
        var table = numbers.array(count * rows * shape.key_columns_padded)
        for index in table.indices where index % shape.key_columns_padded >= columns { table[index] = -1e30 }
        self.table = table
        windowTokens = .allocate(capacity: max(1, tokens.count))
        windowTokens.initialize(from: tokens, count: tokens.count)
        queryTokens = .allocate(capacity: max(1, queries.count))
        queryTokens.initialize(from: queries, count: queries.count)
    }

    deinit {
        windowTokens.deallocate()
        queryTokens.deallocate()
    }

    /// Calls `body` with the keys, the values, and what stands for either outside the grid.
    func withKeysAndValues<Number>(
        of projected: [Number], _ padding: [Number],
        _ body: (
            UnsafePointer<kirie_attention_shape>, UnsafePointer<Number>, UnsafePointer<Number>, UnsafePointer<Number>,
            UnsafePointer<Number>
        ) -> Void
    ) {
        let headSize = shape.head_size
        withUnsafePointer(to: shape) { shape in
            projected.withUnsafeBufferPointer { projected in
                padding.withUnsafeBufferPointer { padding in
                    guard let row = projected.baseAddress, let pad = padding.baseAddress else { return }
                    body(shape, row + headSize, row + 2 * headSize, pad + headSize, pad + 2 * headSize)
                }
            }
        }
    }

    /// What `body` writes, (tokens, head size), given the queries, the relative positions or the table, and scratch memory of
    /// the size that its kernel says, full of NaN.
    func answers<Number>(
        scratch: (UnsafePointer<kirie_attention_shape>?, Int) -> Int, usesTable: Bool, zero: Number,
        _ projected: [Number], _ relH: [Number], _ relW: [Number],
        _ body: (
            UnsafePointer<kirie_attention_shape>, UnsafePointer<Number>?, UnsafePointer<Number>?,
            UnsafePointer<Number>?, UnsafePointer<Float>?, UnsafeMutablePointer<Number>?, UnsafeMutablePointer<Float>?
        ) -> Void
    ) -> [Number] {
        var out = [Number](repeating: zero, count: answerCount)
        withUnsafePointer(to: shape) { shape in
            var memory = [Float](repeating: .nan, count: max(1, scratch(shape, queries.count)))
            projected.withUnsafeBufferPointer { q in
                relH.withUnsafeBufferPointer { h in
                    relW.withUnsafeBufferPointer { w in
                        table.withUnsafeBufferPointer { table in
                            out.withUnsafeMutableBufferPointer { out in
                                memory.withUnsafeMutableBufferPointer { memory in
                                    body(
                                        shape, q.baseAddress, usesTable ? nil : h.baseAddress,
                                        usesTable ? nil : w.baseAddress, usesTable ? table.baseAddress : nil,
                                        out.baseAddress, memory.baseAddress)
                                }
                            }
                        }
                    }
                }
            }
        }
        return out
    }
}
