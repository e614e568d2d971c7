import NeuralNetworks
import Tensors

/// Brings the image features to four times the grid and takes their product with each mask's weights
/// (`mask_decoder.output_upscaling` and the hypernetwork product).
///
/// A transposed convolution of 2 × 2 with stride 2 is a matrix product that writes four pixels per token; the second of
/// them, norm and GELU, and the product run on one tile at a time, and only the selected masks are made. The first one
/// is linear in the image's features, which ``ImageProjections`` splits into the embedding's part and the updates'.
///
/// A model's skips are added to the first convolution's answer before the norm, and to the second one's before the last GELU
/// (Ravi et al., "SAM 2", 2024, <https://arxiv.org/abs/2408.00714>): ``UpscalingSkips`` has them as the products take them.
struct MaskUpscaling: Sendable {
    private let channels: Int
    private let grid: Int
    /// (4 · C/4, C): row s · C/4 + c makes channel c of sub-pixel s = 2 · row + column.
    let first: Tensor
    let firstBias: Tensor
    private let norm: LayerNorm
    private let gains: [Float]
    private let shifts: [Float]
    /// (4 · C/8, C/4), a left operand.
    private let second: TileOperand
    private let secondBias: Tensor

    /// C / 4 and C / 8: channels after the first and the second convolution.
    var middle: Int { channels / 4 }
    var fine: Int { channels / 8 }

    init(_ weights: some WeightSource, channels: Int, grid: Int, arithmetic: TileArithmetic) throws {
        self.channels = channels
        self.grid = grid
        let name = "mask_decoder.output_upscaling"
        let (middle, fine) = (channels / 4, channels / 8)
        first = Self.bySubpixel(try weights.tensor("\(name).0.weight", shape: [channels, middle, 2, 2]))
        let bias = try weights.tensor("\(name).0.bias", shape: [middle]).elements
        firstBias = Tensor(shape: [4 * middle], bias + bias + bias + bias)
        norm = try LayerNorm(weights, "\(name).1", features: middle, epsilon: 1e-6)
        (gains, shifts) = (norm.gains, norm.shifts)
        second = arithmetic.matrix(
            Self.bySubpixel(try weights.tensor("\(name).3.weight", shape: [middle, fine, 2, 2])))
        secondBias = try weights.tensor("\(name).3.bias", shape: [fine])
    }

    /// (inputs, outputs, 2, 2) to (4 · outputs, inputs).
    static func bySubpixel(_ weight: Tensor) -> Tensor {
        let (inputs, outputs) = (weight.shape[0], weight.shape[1])
        return Tensor(shape: [4 * outputs, inputs], packing: weight) { memory in
            weight.withUnsafeBufferPointer { weight in
                for input in 0..<inputs {
                    for output in 0..<outputs {
                        for s in 0..<4 {
                            memory[(s * outputs + output) * inputs + input] = weight[(input * outputs + output) * 4 + s]
                        }
                    }
                }
            }
        }
    }

    /// Writes the low-resolution logits of one tile.
    ///
    /// - Parameters:
    ///   - pass: the prompt, after the last layer.
    ///   - tile: which of the image's, of 64 tokens.
    ///   - weights: (masks, C / 8), from the hypernetworks.
    ///   - masks: how many are made.
    ///   - logits: (masks, 4g, 4g).
    ///   - features: where the features that masks are made of are kept, a row of C / 8 for each of (4g)² positions; nil for
    ///     nowhere.
    ///   - trace: records the steps of that prompt, if any does.
    func callAsFunction(
        _ pass: PromptPass, tile: Int, weights: UnsafePointer<Float>, masks: Int,
        logits: UnsafeMutablePointer<Float>, features: Features? = nil,
        trace: (recorder: DecoderTrace, prompt: Int)?
    ) {
        let arithmetic = pass.plan.arithmetic
        let updateRows = pass.plan.depth * pass.rows
        Scratch.withFloats((4 * middle + 4 * fine + masks * 16 + middle + updateRows) * 64) { memory in
            var parts = MemoryParts(memory)
            let coarse = parts.floats(4 * middle * 64)
            let fineProducts = parts.floats(4 * fine * 64)
            let pixels = parts.floats(masks * 16 * 64)
            let narrow = parts.numbers(middle * 64, arithmetic.type)
            pass.upscale(tile: tile, x: coarse, memory: parts.numbers(updateRows * 64, arithmetic.type))
            let embeddingPart = pass.state.section(pass.plan.projections.upscaling, tile)
            pixels.update(repeating: 0, count: masks * 16 * 64)
            for s in 0..<4 {
                let part = coarse + s * middle * 64
                let operand = arithmetic.normGELU(
                    channels: middle, part, adding: embeddingPart + arithmetic.bytes(s * middle * 64),
                    times: pass.running + tile * 64, bias: pass.plan.upscalingBias, from: s * middle, gains: gains,
                    shifts: shifts,
                    epsilon: norm.epsilon, narrow: narrow)
                arithmetic.product(
                    rows: 4 * fine, depth: middle, a: second.at(0), aStride: middle, b: operand, c: fineProducts,
                    accumulate: pass.state.skips?.writeFine(tile, subpixel: s, to: fineProducts) ?? false)
                trace?.recorder.recordUpscaling(
                    step: 1, tile: tile, corners: [s], channels: middle, grid: grid, prompt: trace?.prompt ?? 0
                ) { arithmetic.number(of: operand, row: $0, column: $1) }
                secondBias.withUnsafeBufferPointer { bias in
                    for t in 0..<4 {
                        trace?.recorder.recordUpscaling(
                            step: 2, tile: tile, corners: [s, t], channels: fine, grid: grid,
                            prompt: trace?.prompt ?? 0
                        ) { fineProducts[(t * fine + $0) * 64 + $1] + bias[$0] }
                        let (x, target) = (fineProducts + t * fine * 64, pixels + (s * 4 + t) * 64)
                        guard let bias = bias.baseAddress else { continue }
                        if let features { keep(x, bias: bias, tile: tile, corners: (s, t), in: features) }
                        arithmetic.addGELUProducts(
                            channels: fine, count: masks, x, bias: bias, weights: weights, to: target,
                            sumStride: 16 * 64)
                    }
                }
            }
            scatter(tile: tile, pixels: pixels, masks: masks, logits: logits)
        }
    }

    /// GELU of one sub-pixel's channels (C / 8, 64), with their bias, to the rows of their positions.
    private func keep(
        _ x: UnsafePointer<Float>, bias: UnsafePointer<Float>, tile: Int, corners: (Int, Int), in features: Features
    ) {
        let end = min(64, grid * grid - tile * 64)
        Scratch.withFloats(2 * fine * 64) { active in
            for channel in 0..<fine {
                for lane in 0..<64 { active[channel * 64 + lane] = x[channel * 64 + lane] + bias[channel] }
            }
            applyGELU(fine * 64, active)
            let turned = active + fine * 64
            TileSteps.transpose(rows: fine, columns: 64, active, stride: 64, to: turned, stride: fine)
            for lane in 0..<end {
                let token = tile * 64 + lane
                let row = 4 * (token / grid) + 2 * (corners.0 / 2) + corners.1 / 2
                let column = 4 * (token % grid) + 2 * (corners.0 % 2) + corners.1 % 2
                Features(turned + lane * fine, stride: fine).write(
                    rows: 1, columns: fine, to: features.from(row: row * 4 * grid + column))
            }
        }
    }

    /// From (masks, 4 sub-pixels, 4 sub-sub-pixels, 64 tokens) to the picture.
    private func scatter(
        tile: Int, pixels: UnsafePointer<Float>, masks: Int, logits: UnsafeMutablePointer<Float>
    ) {
        let side = 4 * grid
        let end = min(64, grid * grid - tile * 64)
        var lane = 0
        while lane < end {
            // The tile's tokens in one row of the grid.
            let (row, column) = ((tile * 64 + lane) / grid, (tile * 64 + lane) % grid)
            let width = min(grid - column, end - lane)
            for mask in 0..<masks {
                for dy in 0..<4 {
                    let source = pixels + (mask * 16 + dy / 2 * 8 + dy % 2 * 2) * 64 + lane
                    let target = logits + (mask * side + 4 * row + dy) * side + 4 * column
                    for token in 0..<width {
                        target[4 * token] = source[token]
                        target[4 * token + 1] = source[64 + token]
                        target[4 * token + 2] = source[256 + token]
                        target[4 * token + 3] = source[320 + token]
                    }
                }
            }
            lane += width
        }
    }
}
