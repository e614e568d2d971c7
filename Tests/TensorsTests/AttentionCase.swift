import CKernels

/// Numbers for attention in one window whose last column lies outside the grid.
struct AttentionCase {
    var shape: kirie_attention_shape
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
    }

    /// Calls `body` with the keys, the values, and what stands for either outside the grid.
    static func withKeysAndValues<Number>(
        of projected: [Number], _ padding: [Number], headSize: Int,
        _ body: (UnsafePointer<Number>, UnsafePointer<Number>, UnsafePointer<Number>, UnsafePointer<Number>) -> Void
    ) {
        projected.withUnsafeBufferPointer { projected in
            padding.withUnsafeBufferPointer { padding in
                guard let row = projected.baseAddress, let pad = padding.baseAddress else { return }
                body(row + headSize, row + 2 * headSize, pad + headSize, pad + 2 * headSize)
            }
        }
    }
}
