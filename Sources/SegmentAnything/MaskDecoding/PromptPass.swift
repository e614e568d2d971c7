import CKernels
import NeuralNetworks
import Tensors

/// What the passes over the image share, whatever the prompt.
struct ImagePassPlan: Sendable {
    let projections: ImageProjections
    let positions: PositionState
    /// By layer, the attention by which the image looks at the tokens, and the norm after it.
    let writers: [ImageToTokenAttention]
    let norms: [LayerNorm]
    /// By layer: g_l, and what is added to each gift's sum (``ImageProjections/constant(of:writers:norms:)``).
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
/// "Row" t · 8 + h is head h of token t, and group j of rows is what layer j's tokens gave: column r of G_{l,j}.
struct PromptPass {
    /// Image tokens that one task takes, in tiles: fixed, so that sums are the same for any number of threads.
    static let tilesAtOnce = 4

    let plan: ImagePassPlan
    let state: ImageState
    /// Tokens of the prompt and the outputs, and where they begin among those of the prompts that run together.
    let count: Int
    let firstToken: Int

    /// (tiles, L · rows, 64): the image's attention over the tokens, times the norms' factors since.
    let mix: UnsafeMutablePointer<Float>
    /// (tiles, 64): the product of the norms' factors so far.
    let running: UnsafeMutablePointer<Float>
    /// (L, panels, C, 64): G_{l,j}, centred, in panels of 64 columns.
    private let panels: UnsafeMutablePointer<Float>
    /// Left operands, (count, inner): scaled keys, values by layer, scaled queries.
    let keys: UnsafeMutableRawPointer
    private let values: UnsafeMutableRawPointer
    let queries: UnsafeMutableRawPointer
    /// Left operands: row group j of the quadratic form over the groups up to j, one after the other.
    private let quadratic: UnsafeMutableRawPointer
    /// (rows, l · rows): what the groups add to the scores of the image's queries, and to those of the tokens'.
    let writing: UnsafeMutableRawPointer
    let reading: UnsafeMutableRawPointer
    /// (upscaled rows, L · rows).
    let upscaling: UnsafeMutableRawPointer
    /// (blocks, …): each block's running softmax and sums.
    let partial: UnsafeMutablePointer<Float>

    /// One row per token and head, and the same in whole vectors.
    var rows: Int { count * DecoderHeads.count }
    var columns: Int { (rows + 15) / 16 * 16 }
    var tileCount: Int { state.tileCount }
    var blockCount: Int { (tileCount + Self.tilesAtOnce - 1) / Self.tilesAtOnce }
    /// Maxima, totals, sums of values (count, 8 · padded head), sums of the groups (L · rows, columns).
    var partialSize: Int { 2 * rows + count * plan.valueWidth + plan.depth * rows * columns }
    private var panelCount: Int { (rows + 63) / 64 }

    init(plan: ImagePassPlan, state: ImageState, count: Int, firstToken: Int, parts: inout MemoryParts) {
        self.plan = plan
        self.state = state
        self.count = count
        self.firstToken = firstToken
        let rows = count * DecoderHeads.count
        let columns = (rows + 15) / 16 * 16
        let (depth, type) = (plan.depth, plan.arithmetic.type)
        mix = parts.floats(state.tileCount * depth * rows * 64)
        running = parts.floats(state.tileCount * 64)
        panels = parts.floats(depth * ((rows + 63) / 64) * plan.channels * 64)
        keys = parts.numbers(count * plan.inner, type)
        values = parts.numbers(depth * count * plan.inner, type)
        queries = parts.numbers(count * plan.inner, type)
        quadratic = parts.numbers(depth * (depth + 1) / 2 * rows * rows, type)
        writing = parts.numbers(rows * depth * rows, type)
        reading = parts.numbers(rows * depth * rows, type)
        upscaling = parts.numbers(plan.upscaling.shape[0] * depth * rows, type)
        let blocks = (state.tileCount + Self.tilesAtOnce - 1) / Self.tilesAtOnce
        partial = parts.floats(blocks * (2 * rows + count * plan.valueWidth + depth * rows * columns))
    }

    func tiles(of block: Int) -> Range<Int> {
        block * Self.tilesAtOnce..<min(tileCount, (block + 1) * Self.tilesAtOnce)
    }

    /// Values of layer `group`'s tokens.
    func values(of group: Int) -> UnsafeMutableRawPointer {
        values + plan.arithmetic.bytes((group - 1) * count * plan.inner)
    }

    /// Rows of group j of the quadratic form, (rows, j · rows).
    func quadratic(of group: Int) -> UnsafeMutableRawPointer {
        quadratic + plan.arithmetic.bytes(group * (group - 1) / 2 * rows * rows)
    }

    private func panel(_ group: Int, _ index: Int) -> UnsafeMutablePointer<Float> {
        panels + ((group - 1) * panelCount + index) * plan.channels * 64
    }

    /// Columns of a panel that stand for rows.
    private func width(_ index: Int) -> Int { min(64, rows - index * 64) }

    // MARK: what layer l's tokens say

    /// Takes in layer `layer`'s message.
    ///
    /// - Parameters:
    ///   - k, v: (count, inner), the keys scaled.
    ///   - probes: the keys at the image's width, (rows, C); used up.
    ///   - gifts: (rows, C); used up.
    func say(
        layer: Int, keys k: UnsafePointer<Float>, values v: UnsafePointer<Float>, probes: UnsafeMutablePointer<Float>,
        gifts: UnsafeMutablePointer<Float>
    ) {
        let (arithmetic, channels) = (plan.arithmetic, plan.channels)
        arithmetic.writeRow(count * plan.inner, k, to: keys)
        arithmetic.writeRow(count * plan.inner, v, to: values(of: layer))
        if layer > 1 {
            scale(probes, by: plan.gains[layer - 2])
            contract(probes, rows: rows, groups: layer - 1, into: writing, stride: (layer - 1) * rows)
        }
        // The weights over the tokens of one head add up to 1, so what is constant can be given by its first head.
        for token in 0..<count {
            plan.constants[layer - 1].withUnsafeBufferPointer {
                kirie_add(channels, $0.baseAddress, gifts + token * DecoderHeads.count * channels)
            }
        }
        withUnsafeTemporaryAllocation(of: Float.self, capacity: 64) { squares in
            for index in 0..<panelCount {
                for group in 1..<layer {
                    kirie_center_columns(channels, panel(group, index), plan.gains[layer - 2], squares.baseAddress)
                }
                let new = panel(layer, index)
                if width(index) < 64 { new.update(repeating: 0, count: channels * 64) }
                kirie_transpose(width(index), channels, gifts + index * 64 * channels, channels, new, 64)
                kirie_center_columns(channels, new, nil, squares.baseAddress)
            }
        }
        for group in 1...layer { writeQuadratic(group) }
    }

    /// Takes in the queries of the attention that reads y_layer.
    ///
    /// - Parameters:
    ///   - q: (count, inner), scaled.
    ///   - probes: the queries at the image's width, (rows, C); used up; nil for y_0.
    func ask(layer: Int, queries q: UnsafePointer<Float>, probes: UnsafeMutablePointer<Float>?) {
        plan.arithmetic.writeRow(count * plan.inner, q, to: queries)
        guard let probes else { return }
        scale(probes, by: plan.gains[layer - 1])
        contract(probes, rows: rows, groups: layer, into: reading, stride: layer * rows)
    }

    /// Makes the matrix that upscales the groups.
    func prepareUpscaling(pool: ThreadPool) {
        let outputs = plan.upscaling.shape[0]
        let stride = plan.depth * rows
        pool.parallelRows(outputs, block: 64) { range in
            plan.upscaling.withUnsafeBufferPointer { weight in
                guard let weight = weight.baseAddress else { return }
                contract(
                    weight + range.lowerBound * plan.channels, rows: range.count, groups: plan.depth,
                    into: upscaling + plan.arithmetic.bytes(range.lowerBound * stride), stride: stride)
            }
        }
    }

    private func scale(_ probes: UnsafeMutablePointer<Float>, by gains: [Float]) {
        for row in 0..<rows {
            for channel in 0..<plan.channels { probes[row * plan.channels + channel] *= gains[channel] }
        }
    }

    /// target (rows, stride) = a (rows, C) G, column (j − 1) · rows + r for column r of group j.
    private func contract(
        _ a: UnsafePointer<Float>, rows height: Int, groups: Int, into target: UnsafeMutableRawPointer, stride: Int
    ) {
        Scratch.withFloats(height * 64) { answer in
            for group in 1...groups {
                for index in 0..<panelCount {
                    kirie_product(
                        height, 64, plan.channels, a, plan.channels, 1, panel(group, index), 64, answer, 64, nil, nil,
                        0)
                    for row in 0..<height {
                        plan.arithmetic.writeRow(
                            width(index), answer + row * 64,
                            to: target
                                + plan.arithmetic.bytes(row * stride + (group - 1) * rows + index * 64))
                    }
                }
            }
        }
    }

    /// G_jᵀ G_i for i ≤ j, doubled where i < j, so that the form is the sum over j alone.
    private func writeQuadratic(_ group: Int) {
        let target = quadratic(of: group)
        Scratch.withFloats(64 * 64) { answer in
            for index in 0..<panelCount {
                for other in 1...group {
                    for column in 0..<panelCount {
                        kirie_product(
                            width(index), 64, plan.channels, panel(group, index), 1, 64, panel(other, column), 64,
                            answer,
                            64, nil, nil, 0)
                        if other < group {
                            for number in 0..<width(index) * 64 { answer[number] *= 2 }
                        }
                        for row in 0..<width(index) {
                            plan.arithmetic.writeRow(
                                width(column), answer + row * 64,
                                to: target
                                    + plan.arithmetic.bytes(
                                        (index * 64 + row) * group * rows + (other - 1) * rows + column * 64))
                        }
                    }
                }
            }
        }
    }

    /// sums (C, columns) = g_layer ∘ G (sums of the groups, (layer · rows, columns)).
    func widen(
        layer: Int, _ groups: UnsafePointer<Float>, to sums: UnsafeMutablePointer<Float>
    ) {
        var isFirst = true
        for group in 1...layer {
            for index in 0..<panelCount {
                kirie_product(
                    plan.channels, columns, width(index), panel(group, index), 64, 1,
                    groups + ((group - 1) * rows + index * 64) * columns, columns, sums, columns, nil, nil,
                    isFirst ? 0 : 1)
                isFirst = false
            }
        }
        for channel in 0..<plan.channels {
            let gain = plan.gains[layer - 1][channel]
            for column in 0..<columns { sums[channel * columns + column] *= gain }
        }
    }
}
