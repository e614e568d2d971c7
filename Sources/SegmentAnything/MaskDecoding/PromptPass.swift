import NeuralNetworks
import Tensors

/// What the passes over the image share, whatever the prompt.
struct ImagePassPlan: Sendable {
    let projections: ImageProjections
    let positions: PositionState
    /// By layer, the image's attention to the tokens, and the norm after it.
    let imageToToken: [ImageToTokenAttention]
    let norms: [LayerNorm]
    /// By layer: g_l, and b_l (``ImageProjections/constant(of:imageToToken:norms:)``).
    let gains: [[Float]]
    let constants: [[Float]]
    /// The first transposed convolution times g_L, (rows, C), and what it makes of s_L with its bias, (rows).
    let upscaling: Tensor
    let upscalingBias: [Float]

    var channels: Int { projections.channels }
    var inner: Int { projections.inner }
    var depth: Int { projections.depth }
    var headSize: Int { inner / DecoderHeads.count }
    var headPadded: Int { projections.headPadded }
    /// Numbers of all heads' values, padded.
    var valueWidth: Int { DecoderHeads.count * headPadded }
    var arithmetic: TileArithmetic { projections.arithmetic }
}

/// One prompt on its way through the passes: its memory, and the small matrices that stand for it.
///
/// "Row" t · 8 + h is head h of token t. "Update" j is the residual update of the image's features by layer j; it has a
/// row for each column r of G_{l,j}, the folded value of head h of token t.
struct PromptPass {
    /// Image tokens that one task takes, in tiles: fixed, so that sums are the same for any number of threads.
    static let tilesAtOnce = 4

    let plan: ImagePassPlan
    let state: ImageState
    /// Tokens of the prompt and the outputs, and where they begin among those of the prompts that run together.
    let count: Int
    let firstToken: Int

    /// (tiles, L · rows, 64): the image's attention weights over the tokens, times the norms' factors since.
    let imageWeights: UnsafeMutablePointer<Float>
    /// (tiles, 64): the product of the norms' factors so far.
    let running: UnsafeMutablePointer<Float>
    /// (L, panels, C, 64): G_{l,j}, centred, in panels of 64 columns.
    private let panels: UnsafeMutablePointer<Float>
    /// Left operands, (count, inner): scaled keys, values by layer, scaled queries.
    let keys: UnsafeMutableRawPointer
    private let values: UnsafeMutableRawPointer
    let queries: UnsafeMutableRawPointer
    /// Left operands: G_{l,j}ᵀ G_{l,i} for i up to j, for one j after the other: the Gram matrix of the updates.
    private let gram: UnsafeMutableRawPointer
    /// (rows, l · rows): the folded keys and the folded queries times the updates' G.
    let keyProducts: UnsafeMutableRawPointer
    let queryProducts: UnsafeMutableRawPointer
    /// (upscaled rows, L · rows).
    let upscaling: UnsafeMutableRawPointer
    /// (blocks, …): each block's running softmax and sums.
    let partial: UnsafeMutablePointer<Float>

    /// One row per token and head, and the same in whole vectors.
    var rows: Int { count * DecoderHeads.count }
    var columns: Int { (rows + 15) / 16 * 16 }
    var tileCount: Int { state.tileCount }
    var blockCount: Int { (tileCount + Self.tilesAtOnce - 1) / Self.tilesAtOnce }
    /// Maxima, totals, sums of values (count, 8 · padded head), sums of the updates (L · rows, columns).
    var partialSize: Int { 2 * rows + count * plan.valueWidth + plan.depth * rows * columns }
    var panelCount: Int { (rows + 63) / 64 }

    init(plan: ImagePassPlan, state: ImageState, count: Int, firstToken: Int, parts: inout MemoryParts) {
        self.plan = plan
        self.state = state
        self.count = count
        self.firstToken = firstToken
        let rows = count * DecoderHeads.count
        let columns = (rows + 15) / 16 * 16
        let (depth, type) = (plan.depth, plan.arithmetic.type)
        imageWeights = parts.floats(state.tileCount * depth * rows * 64)
        running = parts.floats(state.tileCount * 64)
        panels = parts.floats(depth * ((rows + 63) / 64) * plan.channels * 64)
        keys = parts.numbers(count * plan.inner, type)
        values = parts.numbers(depth * count * plan.inner, type)
        queries = parts.numbers(count * plan.inner, type)
        gram = parts.numbers(depth * (depth + 1) / 2 * rows * rows, type)
        keyProducts = parts.numbers(rows * depth * rows, type)
        queryProducts = parts.numbers(rows * depth * rows, type)
        upscaling = parts.numbers(plan.upscaling.shape[0] * depth * rows, type)
        let blocks = (state.tileCount + Self.tilesAtOnce - 1) / Self.tilesAtOnce
        partial = parts.floats(blocks * (2 * rows + count * plan.valueWidth + depth * rows * columns))
    }

    func tiles(of block: Int) -> Range<Int> {
        block * Self.tilesAtOnce..<min(tileCount, (block + 1) * Self.tilesAtOnce)
    }

    /// Values of layer `update`'s tokens.
    func values(of update: Int) -> UnsafeMutableRawPointer {
        values + plan.arithmetic.bytes((update - 1) * count * plan.inner)
    }

    /// G_{l,j}ᵀ (G_{l,1} … G_{l,j}), (rows, j · rows).
    func gram(of update: Int) -> UnsafeMutableRawPointer {
        gram + plan.arithmetic.bytes(update * (update - 1) / 2 * rows * rows)
    }

    func panel(_ update: Int, _ index: Int) -> UnsafeMutablePointer<Float> {
        panels + ((update - 1) * panelCount + index) * plan.channels * 64
    }

    /// Columns of a panel that stand for rows.
    func width(_ index: Int) -> Int { min(64, rows - index * 64) }

    // MARK: the tokens' side of the attentions

    /// Sets keys and values of the image's attention to the tokens of layer `layer`.
    ///
    /// - Parameters:
    ///   - layer: 1 to L.
    ///   - k: (count, inner), the keys, scaled.
    ///   - v: (count, inner), the values.
    ///   - foldedKeys: (rows, C); used up.
    ///   - foldedValues: (rows, C); used up.
    func setKeysAndValues(
        layer: Int, keys k: UnsafePointer<Float>, values v: UnsafePointer<Float>,
        foldedKeys: UnsafeMutablePointer<Float>, foldedValues: UnsafeMutablePointer<Float>
    ) {
        let (arithmetic, channels) = (plan.arithmetic, plan.channels)
        arithmetic.writeRow(count * plan.inner, k, to: keys)
        arithmetic.writeRow(count * plan.inner, v, to: values(of: layer))
        if layer > 1 {
            scale(foldedKeys, by: plan.gains[layer - 2])
            contract(foldedKeys, rows: rows, updates: layer - 1, into: keyProducts, stride: (layer - 1) * rows)
        }
        // The weights over the tokens of one head add up to 1, so b_l can be added to the values of the first head.
        for token in 0..<count {
            TileSteps.add(
                channels, plan.constants[layer - 1], to: foldedValues + token * DecoderHeads.count * channels)
        }
        Scratch.withFloats(64) { squares in
            for index in 0..<panelCount {
                for update in 1..<layer {
                    TileSteps.centerColumns(
                        rows: channels, panel(update, index), gains: plan.gains[layer - 2], squares: squares)
                }
                let new = panel(layer, index)
                if width(index) < 64 { new.update(repeating: 0, count: channels * 64) }
                TileSteps.transpose(
                    rows: width(index), columns: channels, foldedValues + index * 64 * channels, stride: channels,
                    to: new, stride: 64)
                TileSteps.centerColumns(rows: channels, new, gains: nil, squares: squares)
            }
        }
        for update in 1...layer { writeGram(update) }
    }

    /// Sets the queries of the tokens' attention to y_layer.
    ///
    /// - Parameters:
    ///   - layer: 0 to L.
    ///   - q: (count, inner), scaled.
    ///   - folded: the folded queries, (rows, C); used up; nil for y_0.
    func setQueries(layer: Int, _ q: UnsafePointer<Float>, folded: UnsafeMutablePointer<Float>?) {
        plan.arithmetic.writeRow(count * plan.inner, q, to: queries)
        guard let folded else { return }
        scale(folded, by: plan.gains[layer - 1])
        contract(folded, rows: rows, updates: layer, into: queryProducts, stride: layer * rows)
    }

    /// Makes the matrix that upscales the updates.
    func prepareUpscaling(pool: ThreadPool) {
        let outputs = plan.upscaling.shape[0]
        let stride = plan.depth * rows
        pool.parallelRows(outputs, block: 64) { range in
            plan.upscaling.withUnsafeBufferPointer { weight in
                guard let weight = weight.baseAddress else { return }
                contract(
                    weight + range.lowerBound * plan.channels, rows: range.count, updates: plan.depth,
                    into: upscaling + plan.arithmetic.bytes(range.lowerBound * stride), stride: stride)
            }
        }
    }

    private func scale(_ folded: UnsafeMutablePointer<Float>, by gains: [Float]) {
        for row in 0..<rows {
            for channel in 0..<plan.channels { folded[row * plan.channels + channel] *= gains[channel] }
        }
    }

    /// target (rows, stride) = a (rows, C) G, column (j − 1) · rows + r for row r of update j.
    private func contract(
        _ a: UnsafePointer<Float>, rows height: Int, updates: Int, into target: UnsafeMutableRawPointer, stride: Int
    ) {
        Scratch.withFloats(height * 64) { product in
            for update in 1...updates {
                for index in 0..<panelCount {
                    TileSteps.product(
                        rows: height, depth: plan.channels, a: a, aRow: plan.channels, b: panel(update, index),
                        c: product)
                    for row in 0..<height {
                        plan.arithmetic.writeRow(
                            width(index), product + row * 64,
                            to: target
                                + plan.arithmetic.bytes(row * stride + (update - 1) * rows + index * 64))
                    }
                }
            }
        }
    }

    /// G_jᵀ G_i for i ≤ j, doubled where i < j, so that the form is the sum over j alone.
    private func writeGram(_ update: Int) {
        let target = gram(of: update)
        Scratch.withFloats(64 * 64) { product in
            for index in 0..<panelCount {
                for other in 1...update {
                    for column in 0..<panelCount {
                        TileSteps.product(
                            rows: width(index), depth: plan.channels, a: panel(update, index), aRow: 1, aColumn: 64,
                            b: panel(other, column), c: product)
                        if other < update {
                            for number in 0..<width(index) * 64 { product[number] *= 2 }
                        }
                        for row in 0..<width(index) {
                            plan.arithmetic.writeRow(
                                width(column), product + row * 64,
                                to: target
                                    + plan.arithmetic.bytes(
                                        (index * 64 + row) * update * rows + (other - 1) * rows + column * 64))
                        }
                    }
                }
            }
        }
    }

    /// sums (C, columns) = g_layer ∘ G (sums of the updates, (layer · rows, columns)).
    func sumFeatures(
        layer: Int, of updates: UnsafePointer<Float>, to sums: UnsafeMutablePointer<Float>
    ) {
        var isFirst = true
        for update in 1...layer {
            for index in 0..<panelCount {
                TileSteps.product(
                    rows: plan.channels, columns: columns, depth: width(index), a: panel(update, index), aRow: 64,
                    b: updates + ((update - 1) * rows + index * 64) * columns, bStride: columns, c: sums,
                    cStride: columns, accumulate: !isFirst)
                isFirst = false
            }
        }
        for channel in 0..<plan.channels {
            let gain = plan.gains[layer - 1][channel]
            for column in 0..<columns { sums[channel * columns + column] *= gain }
        }
    }
}
