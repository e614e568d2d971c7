import NeuralNetworks
import Tensors

/// Records what the mask decoder computes at each stage, in the terms of ``ReferenceMaskDecoder``: what is never formed, such
/// as the image's features after a layer, is put together from the parts that are there.
///
/// For tests. `@unchecked Sendable`: whoever hands one to the decoder hands it ``ThreadPool/inline``, so that one thread
/// writes.
package final class DecoderTrace: @unchecked Sendable {
    /// By prompt.
    package private(set) var stages: [[DecoderStage.Name: [Float]]]
    /// By prompt: (g², C), the embedding with the dense prompt.
    private let embeddings: [Rows]
    /// By prompt: the product of the norms' factors before the layer that was recorded last.
    private var factors: [[Float]]

    /// A trace of prompts whose images' features with the dense prompt, (C, g²) each, are given by prompt.
    init(embeddings: [Tensor], channels: Int) {
        self.embeddings = embeddings.map { Rows(channelMajor: $0, channels: channels) }
        factors = self.embeddings.map { [Float](repeating: 1, count: $0.count) }
        stages = self.embeddings.map { [.imageFeatures(layer: 0): $0.floats] }
    }

    /// Records a row of `width` numbers for each token.
    func record(_ name: DecoderStage.Name, _ x: UnsafePointer<Float>, width: Int, of passes: [PromptPass]) {
        for (prompt, pass) in passes.enumerated() {
            stages[prompt][name] = Array(
                UnsafeBufferPointer(start: x + pass.firstToken * width, count: pass.count * width))
        }
    }

    /// Records numbers of one prompt.
    func record(_ name: DecoderStage.Name, _ values: [Float], prompt: Int) { stages[prompt][name] = values }

    /// Records what is prepared for each prompt's image.
    func recordProjections(of passes: [PromptPass]) {
        for (prompt, pass) in passes.enumerated() {
            let (plan, state) = (pass.plan, pass.state)
            let projections = plan.projections
            func section(_ name: DecoderStage.Name, _ section: ImageProjections.Section) {
                stages[prompt][name] = byToken(state, section.rows) { row, lane, tile in
                    let numbers = state.section(section, tile)
                    switch section.form {
                    case .lanes: return plan.arithmetic.number(of: numbers, row: row, column: lane)
                    case .plain: return plan.arithmetic.number(of: numbers, at: row * 64 + lane)
                    case .values:
                        let (head, d) = (row / plan.headSize, row % plan.headSize)
                        return plan.arithmetic.number(
                            of: numbers, row: lane, column: head * plan.headPadded + d, columns: plan.valueWidth)
                    }
                }
            }
            func positions(_ name: DecoderStage.Name, _ numbers: (_ tile: Int) -> UnsafeRawPointer) {
                stages[prompt][name] = byToken(state, plan.inner) { row, lane, tile in
                    plan.arithmetic.number(of: numbers(tile), row: row, column: lane)
                }
            }
            func scalars(_ name: DecoderStage.Name, _ row: Int) {
                stages[prompt][name] = byToken(state, 1) { _, lane, tile in state.withScalars(row, tile) { $0[lane] } }
            }
            for layer in 0...plan.depth {
                section(.keys(layer: layer), projections.keys[layer])
                section(.values(layer: layer), projections.values[layer])
                if layer > 0 { positions(.positionKeys(layer: layer)) { plan.positions.keys(layer, $0) } }
            }
            for layer in 1...plan.depth {
                section(.queries(layer: layer), projections.queries[layer - 1])
                if layer > 1 { positions(.positionQueries(layer: layer)) { plan.positions.queries(layer, $0) } }
                scalars(.squares(layer: layer), projections.squares(layer))
                for update in 1...layer {
                    section(.crossTerms(layer: layer, update: update), projections.crossTerms[layer - 1][update - 1])
                    scalars(.constants(layer: layer, update: update), projections.constant(layer, update))
                }
            }
            section(.upscalingProjection, projections.upscaling)
        }
    }

    private func byToken(
        _ state: ImageState, _ rows: Int, _ number: (_ row: Int, _ lane: Int, _ tile: Int) -> Float
    ) -> [Float] {
        (0..<state.tokens).flatMap { token in (0..<rows).map { number($0, token % 64, token / 64) } }
    }

    /// Records the image's side of layer `layer`, whose pass has just been made.
    func recordImage(layer: Int, of passes: [PromptPass]) {
        for (prompt, pass) in passes.enumerated() {
            let (plan, rows) = (pass.plan, pass.rows)
            func weight(_ update: Int, _ row: Int, _ token: Int) -> Float {
                pass.imageWeights(of: token / 64)[((update - 1) * rows + row) * 64 + token % 64]
            }
            let tokens = 0..<pass.state.tokens
            let now = tokens.map { pass.running[$0] }
            stages[prompt][.normFactors(layer: layer)] = now
            stages[prompt][.imageToTokenWeights(layer: layer)] = (0..<rows).flatMap { row in
                tokens.map { weight(layer, row, $0) * factors[prompt][$0] / now[$0] }
            }
            factors[prompt] = now

            // g_l ∘ (ρ_1 … ρ_l X_l + Σ G_{l,j} p_j, with the factors since) + s_l.
            var centered = embeddings[prompt].centered
            for gains in plan.gains.prefix(layer - 1) {
                centered = centered.scaled(by: gains.map(Double.init)).centered
            }
            let (gains, shifts) = (plan.gains[layer - 1], plan.norms[layer - 1].shifts)
            stages[prompt][.imageFeatures(layer: layer)] = tokens.flatMap { token in
                (0..<plan.channels).map { channel in
                    var sum = now[token] * Float(centered.values[token * plan.channels + channel])
                    for update in 1...layer {
                        for row in 0..<rows {
                            sum += pass.panel(update, row / 64)[channel * 64 + row % 64] * weight(update, row, token)
                        }
                    }
                    return gains[channel] * sum + shifts[channel]
                }
            }
        }
    }

    /// Records channels (channels, 64) of a tile's sub-pixels, those of step 1 or 2 of the upscaling.
    ///
    /// Each corner is 2 · row + column of the sub-pixel within its token, or within each of two steps; `number` is
    /// asked for that of a channel and a lane.
    func recordUpscaling(
        step: Int, tile: Int, corners: [Int], channels: Int, grid: Int, prompt: Int, _ number: (Int, Int) -> Float
    ) {
        let scale = 1 << step
        let count = scale * scale * grid * grid * channels
        var values = stages[prompt][.upscaling(step: step)] ?? [Float](repeating: .nan, count: count)
        for lane in 0..<min(64, grid * grid - tile * 64) {
            var (row, column) = ((tile * 64 + lane) / grid, (tile * 64 + lane) % grid)
            for corner in corners { (row, column) = (2 * row + corner / 2, 2 * column + corner % 2) }
            for channel in 0..<channels {
                values[(row * scale * grid + column) * channels + channel] = number(channel, lane)
            }
        }
        stages[prompt][.upscaling(step: step)] = values
    }
}
