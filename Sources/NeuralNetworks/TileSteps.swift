import CKernels

/// What the mask decoder does to tiles of 64 image tokens between the products of ``TileArithmetic``, in fp32: rows of 64
/// numbers, one for each image token.
package enum TileSteps {
    /// y += x.
    package static func add(_ count: Int, _ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>) {
        kirie_add(count, x, y)
    }

    /// x (rows, columns) with each column times its factor; whole vectors of 16 columns.
    package static func scaleColumns(
        rows: Int, columns: Int = 64, by factors: UnsafePointer<Float>, _ x: UnsafeMutablePointer<Float>
    ) {
        kirie_scale_columns(rows, columns, factors, x, columns)
    }

    /// Softmax over the tokens, for each head and image token: scores (tokens · heads, 64), row token · heads + head.
    package static func softmaxOverTokens(_ tokens: Int, heads: Int, _ scores: UnsafeMutablePointer<Float>) {
        kirie_softmax_over_tokens(tokens, heads, scores)
    }

    /// One step of a running softmax along the image tokens, in place.
    ///
    /// The scores are (rows, 64), one row for each token and head; of the image tokens the first `valid` count, the
    /// others get the weight 0. `maximum` and `total`, (rows), are what the steps so far found; `rescaling`, (rows),
    /// becomes the factors by which a larger maximum rescales what was summed so far.
    package static func softmaxStep(
        rows: Int, valid: Int, _ scores: UnsafeMutablePointer<Float>, maximum: UnsafeMutablePointer<Float>,
        total: UnsafeMutablePointer<Float>, rescaling: UnsafeMutablePointer<Float>
    ) {
        kirie_softmax_step(rows, valid, scores, maximum, total, rescaling)
    }

    /// x (rows, 64) times the gains of its rows, less the mean over the rows; `squares` (64) become the sums of the
    /// squares of what is left.
    package static func centerColumns(
        rows: Int, _ x: UnsafeMutablePointer<Float>, gains: [Float]?, squares: UnsafeMutablePointer<Float>
    ) {
        kirie_center_columns(rows, x, gains, squares)
    }

    /// The norm's factor of each image token whose features are known by their sum of squares only.
    ///
    /// The sum of squares is running² · squares + Σ weights · products over the rows, with weights and products (rows,
    /// 64); `factor` (64) becomes 1 / √(sum of squares / channels + ε), and `running` (64), the product of all factors
    /// so far, is multiplied by it.
    package static func normFactors(
        rows: Int, weights: UnsafePointer<Float>, products: UnsafePointer<Float>, squares: UnsafePointer<Float>,
        running: UnsafeMutablePointer<Float>, channels: Int, epsilon: Float, factor: UnsafeMutablePointer<Float>
    ) {
        kirie_norm_factors(rows, weights, products, squares, running, 1 / Float(channels), epsilon, factor)
    }

    /// y (columns, yStride) = x (rows, columns) transposed; numbers of 32 bits, whatever they mean.
    package static func transpose(
        rows: Int, columns: Int, _ x: UnsafeRawPointer, stride: Int, to y: UnsafeMutableRawPointer, stride yStride: Int
    ) {
        kirie_transpose(rows, columns, x, stride, y, yStride)
    }

    /// c (rows, columns) (+)= a b, with a row's bits the same however many rows come along.
    ///
    /// - Parameters:
    ///   - rows: rows of a and of c.
    ///   - columns: whole vectors of 16.
    ///   - depth: columns of a and rows of b.
    ///   - a: the left operand, by rows or transposed.
    ///   - aRow: floats from row to row of a.
    ///   - aColumn: floats from column to column of a, 1 where it lies by rows.
    ///   - b: the right operand, by rows.
    ///   - bStride: floats from row to row of b.
    ///   - c: the product, by rows.
    ///   - cStride: floats from row to row of c.
    ///   - rowBias: (rows), added to each number of a row.
    ///   - accumulate: adds to what `c` holds instead of replacing it.
    package static func product(
        rows: Int, columns: Int = 64, depth: Int, a: UnsafePointer<Float>, aRow: Int, aColumn: Int = 1,
        b: UnsafePointer<Float>, bStride: Int = 64, c: UnsafeMutablePointer<Float>, cStride: Int = 64,
        rowBias: UnsafePointer<Float>? = nil, accumulate: Bool = false
    ) {
        var arguments = kirie_product_arguments(
            groups: 1, rows: rows, columns: columns, depth: depth, a: a, a_step: 0, a_row: aRow, a_column: aColumn,
            b: b,
            b_step: 0, b_stride: bStride, c: c, c_step: 0, c_stride: cStride, row_bias: rowBias, column_bias: nil,
            accumulate: accumulate ? 1 : 0)
        kirie_product(&arguments)
    }

    /// c = a b for `groups` products whose operands lie side by side, a by rows, each a step from the one before.
    package static func products(
        groups: Int, rows: Int, columns: Int, depth: Int, a: UnsafePointer<Float>, aStep: Int, aStride: Int,
        b: UnsafePointer<Float>, bStep: Int, bStride: Int, c: UnsafeMutablePointer<Float>, cStep: Int, cStride: Int
    ) {
        var arguments = kirie_product_arguments(
            groups: groups, rows: rows, columns: columns, depth: depth, a: a, a_step: aStep, a_row: aStride,
            a_column: 1,
            b: b, b_step: bStep, b_stride: bStride, c: c, c_step: cStep, c_stride: cStride, row_bias: nil,
            column_bias: nil, accumulate: 0)
        kirie_product(&arguments)
    }
}

/// Rows that are weighted sums of four rows: one axis of a bilinear resize.
package enum FourRowSums {
    /// y (count) = Σ weights · rows; whole vectors of 16.
    package static func combine(
        _ count: Int, _ rows: UnsafePointer<UnsafePointer<Float>?>, weights: UnsafePointer<Float>,
        to y: UnsafeMutablePointer<Float>
    ) {
        kirie_combine_rows(count, rows, weights, y)
    }

    /// Writes a bit for each number of the sum, whether it is above 0, and adds how many are above `offset` and above
    /// `-offset` to `inner` and `outer`; whole words of 64.
    package static func threshold(
        _ count: Int, _ rows: UnsafePointer<UnsafePointer<Float>?>, weights: UnsafePointer<Float>,
        offset: Float, to words: UnsafeMutablePointer<UInt64>, inner: inout Int, outer: inout Int
    ) {
        kirie_threshold_rows(count, rows, weights, offset, words, &inner, &outer)
    }
}

/// The exact GELU in place.
package func applyGELU(_ count: Int, _ x: UnsafeMutablePointer<Float>) { kirie_gelu(count, x) }
