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
        /// It does not.
        case none
    }

    /// Queries that one task of a large window takes: a multiple of the group of queries that the kernel works on, which is
    /// 14 on bf16 numbers without AMX and else divides 96.
    private static func largeTile(_ type: ElementType) -> Int {
        type == .bfloat16 && kirie_has_amx_bf16() == 0 ? 98 : 96
    }

    private let heads: AttentionHeads
    private var headCount: Int { heads.offsets.count }
    private var shape: kirie_attention_shape { heads.shape }
    private let windows: [AttentionHeads.Window]

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
        windows = Self.windows(grid: grid, side: window)
        // Relative positions go by rows and columns of keys, so every row fills whole vectors. A table knows every key by
        // itself: there the window is one long row, and only its end is filled up.
        let positions: AttentionHeads.Positions
        let rows: Int
        switch positionBias {
        case .relative(let height, let width): (rows, positions) = (window, .relative(height: height, width: width))
        case .table(let table): (rows, positions) = (1, .table(table))
        case .none: (rows, positions) = (window < 32 ? 1 : window, .none)
        }
        heads = AttentionHeads(
            rows: rows, columns: window * window / rows, headSize: headSize, offsets: offsets, paddingRow: paddingRow,
            positions: positions)
    }

    /// out (tokens, heads · head size) = attention over `projected`, the rows that queries, keys and values lie in.
    ///
    /// Both are of the same type, which is the precision of the products.
    package func callAsFunction(projected: Features, out: Features, pool: ThreadPool) {
        if windows.count == 1, shape.key_rows * shape.key_columns >= 1024 {
            attendLarge(windows[0], projected: projected, out: out, pool: pool)
        } else {
            pool.parallel(windows.count * headCount) { index in
                let window = windows[index / headCount]
                heads.attend(
                    window, head: index % headCount, queries: 0..<window.queryTokens.count, projected: projected,
                    out: out)
            }
        }
    }

    /// One window for all heads: its keys are packed by all threads, then its queries are shared out.
    private func attendLarge(_ window: AttentionHeads.Window, projected: Features, out: Features, pool: ThreadPool) {
        heads.withPacked(heads: headCount, of: projected) { packed in
            let rowsAtOnce = 8
            let parts = (shape.key_rows + rowsAtOnce - 1) / rowsAtOnce
            pool.parallel(headCount * parts) { index in
                let (head, part) = (index / parts, index % parts)
                heads.pack(
                    window, head: head, rows: part * rowsAtOnce..<min(shape.key_rows, (part + 1) * rowsAtOnce),
                    projected: projected, into: packed(head))
            }
            let largeTile = Self.largeTile(projected.type)
            let tiles = (window.queryTokens.count + largeTile - 1) / largeTile
            pool.parallel(headCount * tiles) { index in
                let (head, tile) = (index / tiles, index % tiles)
                heads.attend(
                    window, head: head,
                    queries: tile * largeTile..<min(window.queryTokens.count, (tile + 1) * largeTile),
                    projected: projected, packed: packed(head), out: out)
            }
        }
    }

    private static func windows(grid: Int, side: Int) -> [AttentionHeads.Window] {
        let count = (grid + side - 1) / side
        return (0..<count * count).map { index in
            var window = AttentionHeads.Window()
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
}
