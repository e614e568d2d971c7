package import Tensors

/// Multi-head attention inside a unit: a square of tokens that attend to each other and to nobody else, where queries may be
/// pooled 2 by 2 before they ask, so that a quarter as many answers come out.
///
/// Units that reach over the grid's right or lower edge are filled up with tokens whose input was zero; their keys and values
/// are the same for all. Ryali et al., "Hiera", 2023, <https://arxiv.org/abs/2306.00989>, section 3, "mask unit attention";
/// pooled queries: Fan et al., "Multiscale Vision Transformers", 2021, <https://arxiv.org/abs/2104.11227>, section 3.1.
package struct UnitAttention: Sendable {
    private let side: Int
    private let dim: Int
    private let poolsQueries: Bool
    private let heads: AttentionHeads
    /// For units with all their rows and columns, with all rows and fewer columns, with fewer rows, and with fewer of both.
    private let windows: [AttentionHeads.Window]

    /// - Parameters:
    ///   - side: tokens along a unit's side; even where queries are pooled.
    ///   - grid: tokens along the side of the map that the units are cut from.
    ///   - dim: numbers of a query, a key or a value, all heads together; they lie one after the other in a row.
    ///   - headCount: divides `dim`.
    ///   - paddingRow: (3 · dim), the projection of a token outside the grid.
    ///   - poolsQueries: takes the maximum of each 2 by 2 queries.
    package init(side: Int, grid: Int, dim: Int, headCount: Int, paddingRow: Tensor, poolsQueries: Bool) {
        precondition(!poolsQueries || side % 2 == 0, "a unit of \(side) is not pooled 2 by 2")
        self.side = side
        self.dim = dim
        self.poolsQueries = poolsQueries
        // Rows of keys are filled up to whole vectors: few of them in a small unit, one long row.
        let rows = side < 32 ? 1 : side
        heads = AttentionHeads(
            rows: rows, columns: side * side / rows, headSize: dim / headCount,
            offsets: .joint(headCount: headCount, dim: dim), paddingRow: paddingRow, positions: .none)
        let rest = grid % side == 0 ? side : grid % side
        windows = [(side, side), (side, rest), (rest, side), (rest, rest)].map { rows, columns in
            Self.window(rows: rows, columns: columns, side: side, poolsQueries: poolsQueries)
        }
    }

    private static func window(rows: Int, columns: Int, side: Int, poolsQueries: Bool) -> AttentionHeads.Window {
        var window = AttentionHeads.Window()
        for place in 0..<side * side {
            let (row, column) = (place / side, place % side)
            window.tokens.append(row < rows && column < columns ? Int32(row * columns + column) : -1)
        }
        let count = Int32(poolsQueries ? rows / 2 * (columns / 2) : rows * columns)
        window.queryTokens = Array(0..<count)
        window.queryPlaces = window.queryTokens
        return window
    }

    /// out (answers, dim) = attention over the unit's rows of queries, keys and values.
    ///
    /// - Parameters:
    ///   - rows: of tokens that lie in the grid: the side, or what is left at the lower edge.
    ///   - columns: likewise.
    ///   - projected: (rows · columns, 3 · dim), row by row; the queries are used up where they are pooled.
    ///   - out: of the same type, which is the precision of the products.
    package func callAsFunction(rows: Int, columns: Int, projected: Features, out: Features) {
        if poolsQueries { MaximumPooling.halve(rows: rows, columns: columns, width: dim, x: projected, y: projected) }
        let window = windows[(rows == side ? 0 : 2) + (columns == side ? 0 : 1)]
        for head in heads.offsets.indices {
            heads.attend(window, head: head, queries: 0..<window.queryTokens.count, projected: projected, out: out)
        }
    }
}

extension [HeadOffsets] {
    /// Of rows that hold all queries, then all keys, then all values, `dim` numbers each.
    package static func joint(headCount: Int, dim: Int) -> [HeadOffsets] {
        let size = dim / headCount
        return (0..<headCount).map {
            HeadOffsets(query: $0 * size, key: dim + $0 * size, value: 2 * dim + $0 * size)
        }
    }
}

/// The maximum of 2 by 2 tokens.
package enum MaximumPooling {
    /// y (rows / 2 · columns / 2, width) = maxima of x (rows · columns, width), both row by row; y may be x itself, or lie
    /// before it in the same memory: an answer is written where nothing is read any more.
    package static func halve(rows: Int, columns: Int, width: Int, x: Features, y: Features) {
        for row in 0..<rows / 2 {
            for column in 0..<columns / 2 {
                let source = x.from(row: 2 * row * columns + 2 * column)
                let target = y.from(row: row * (columns / 2) + column)
                let below = columns * x.stride
                if x.type == .float32 {
                    let (above, target, stride) = (source.floats, target.floats, x.stride)
                    for index in 0..<width {
                        let left = larger(above[index], above[below &+ index])
                        let right = larger(above[stride &+ index], above[below &+ stride &+ index])
                        target[index] = larger(left, right)
                    }
                } else {
                    let (above, target, stride) = (source.bfloat16Bits, target.bfloat16Bits, x.stride)
                    for index in 0..<width {
                        let left = larger(ordered(above[index]), ordered(above[below &+ index]))
                        let right = larger(ordered(above[stride &+ index]), ordered(above[below &+ stride &+ index]))
                        target[index] = UInt16(bitPattern: reordered(larger(left, right)))
                    }
                }
            }
        }
    }

    @inline(__always) private static func larger<Number: Comparable>(_ a: Number, _ b: Number) -> Number {
        a > b ? a : b
    }

    /// bf16 as integers of the same order.
    @inline(__always) private static func ordered(_ bits: UInt16) -> Int16 { reordered(Int16(bitPattern: bits)) }

    /// Its own inverse: of negative numbers all bits but the sign are turned.
    @inline(__always) private static func reordered(_ bits: Int16) -> Int16 { bits ^ ((bits >> 15) & 0x7FFF) }
}
