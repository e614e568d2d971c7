import NeuralNetworks
package import Segmentation
import Tensors

/// Turns a prompt into tokens (points and boxes) and a sum over the image's features (masks).
///
/// Kirillov et al., "Segment Anything", 2023, appendix A, "Prompt encoder".
package struct PromptEncoder: Sendable {
    /// A prompt in the model's frame: pixels of the resized picture, before padding.
    package struct Input: Sendable {
        package var points: [(x: Float, y: Float, label: PointLabel)]
        package var box: (x0: Float, y0: Float, x1: Float, y1: Float)?
        package var mask: LowResolutionLogits?
        package var text: [Float]?
    }

    /// C.
    let channels: Int
    private let imageSize: Int
    private let grid: Int
    private let positions: PositionEmbeddingRandom
    /// For the labels background, foreground, upper left corner, lower right corner: C each.
    private let pointEmbeddings: [[Float]]
    private let notAPoint: [Float]
    /// (C): what stands in for a mask where none is given.
    let noMask: Tensor
    private let maskDownscaling: MaskDownscaling

    /// Whether a padding point stands beside a box, too, as in SAM 2.
    private let padsBoxes: Bool
    /// Makes a token of what CLIP made of words; nil where the model has none.
    private let textProjection: (weight: [Float], bias: [Float])?
    /// D: the numbers that it takes.
    let textWidth: Int?

    init(
        _ weights: some WeightSource, channels: Int, imageSize: Int, grid: Int, maskChannels: Int,
        conventions: PromptConventions
    ) throws {
        self.channels = channels
        self.imageSize = imageSize
        self.grid = grid
        positions = try PositionEmbeddingRandom(weights, channels: channels)
        padsBoxes = conventions.padsBoxes
        let kinds = TensorNames.PromptEncoder.pointEmbeddings
        if conventions.hasPointTable {
            let table = try weights.tensor(TensorNames.weight(kinds), shape: [4, channels]).elements
            pointEmbeddings = (0..<4).map { Array(table[$0 * channels..<($0 + 1) * channels]) }
        } else {
            pointEmbeddings = try (0..<4).map {
                try weights.tensor(TensorNames.weight(TensorNames.part($0, of: kinds)), shape: [1, channels]).elements
            }
        }
        notAPoint = try weights.tensor("prompt_encoder.not_a_point_embed.weight", shape: [1, channels]).elements
        noMask = try weights.tensor("prompt_encoder.no_mask_embed.weight", shape: [1, channels])
            .reshaped(to: [channels])
        textWidth = conventions.textWidth
        textProjection = try conventions.textWidth.map { width in
            let name = TensorNames.PromptEncoder.textProjection
            return (
                try weights.tensor(TensorNames.weight(name), shape: [channels, width]).elements,
                conventions.hasTextBias
                    ? try weights.tensor("\(name).bias", shape: [channels]).elements
                    : [Float](repeating: 0, count: channels)
            )
        }
        maskDownscaling = try MaskDownscaling(weights, channels: channels, hidden: maskChannels, grid: grid)
    }

    /// The positions of the embedding's cells, (C, g, g).
    var densePositions: Tensor { positions.grid(grid) }

    /// The tokens of points, box and text, N rows of C: the points in order, the two corners, a padding point where there are
    /// points but no box, or in SAM 2 where there is either (as the published predictors add it), and the text's.
    package func tokens(_ prompt: Input) -> [Float] {
        var rows: [Float] = []
        for point in prompt.points {
            rows += token(x: point.x, y: point.y, kind: pointEmbeddings[point.label.rawValue])
        }
        if let box = prompt.box {
            rows += token(x: box.x0, y: box.y0, kind: pointEmbeddings[2])
            rows += token(x: box.x1, y: box.y1, kind: pointEmbeddings[3])
        }
        if prompt.box == nil ? !prompt.points.isEmpty : padsBoxes { rows += notAPoint }
        if let text = prompt.text { rows += token(text: text) }
        return rows
    }

    /// A text's embedding, projected: no place of the picture is in it.
    private func token(text: [Float]) -> [Float] {
        guard let (weight, bias) = textProjection else { return [] }
        return bias.indices.map { channel in
            var sum = bias[channel]
            for (index, number) in text.enumerated() { sum += weight[channel * text.count + index] * number }
            return sum
        }
    }

    /// The image's features (C, g, g) with the dense prompt added, for tests; decoding adds it to their projections.
    func adding(_ mask: LowResolutionLogits?, to features: Tensor) -> Tensor {
        let (features, cells) = (features.elements, grid * grid)
        let (weight, bias) = (maskProjection.weight.elements, maskProjection.bias.elements)
        let (hidden, dense) = (maskProjection.weight.shape[1], mask.map { self.dense($0).elements })
        return Tensor(
            shape: [channels, grid, grid],
            features.indices.map { index in
                let (channel, cell) = (index / cells, index % cells)
                guard let dense else { return features[index] + noMask.elements[channel] }
                return (0..<hidden).reduce(features[index] + bias[channel]) {
                    $0 + weight[channel * hidden + $1] * dense[$1 * cells + cell]
                }
            })
    }

    /// A mask prompt's features before their last layer, (hidden, g, g); ``maskProjection`` brings it to the image's width.
    func dense(_ mask: LowResolutionLogits) -> Tensor { maskDownscaling(mask) }

    /// The last layer for mask prompts: it adds weight (C, hidden) times ``dense(_:)`` and bias (C) to the image's features.
    var maskProjection: (weight: Tensor, bias: Tensor) { maskDownscaling.last }

    private func token(x: Float, y: Float, kind: [Float]) -> [Float] {
        // Half a pixel: the centre of the pixel that was clicked.
        var row = [Float](repeating: 0, count: channels)
        row.withUnsafeMutableBufferPointer { row in
            guard let start = row.baseAddress else { return }
            positions.encode(
                x: (x + 0.5) / Float(imageSize), y: (y + 0.5) / Float(imageSize), into: start)
        }
        for index in row.indices { row[index] += kind[index] }
        return row
    }
}

/// In what a prompt encoder differs from that of Segment Anything.
package struct PromptConventions: Sendable, Hashable {
    /// Whether a padding point stands beside a box, too, as in SAM 2.
    package var padsBoxes = false
    /// Whether the kinds of points are one tensor (4, C), as Hugging Face keeps those of SAM 2, and not four.
    package var hasPointTable = false
    /// The numbers of a text's embedding that become a token, as the paper has it in section 4; nil for no projection.
    package var textWidth: Int?
    /// Whether that projection has a bias.
    package var hasTextBias = false

    /// Segment Anything's own.
    package init() {}
}

/// Two convolutions of 2 × 2 with stride 2, each with LayerNorm2d and GELU: logits of 4g × 4g to features of g × g
/// (`prompt_encoder.mask_downscaling`, whose last layer, a 1 × 1 convolution, is left to the projections that follow).
///
/// It runs once per refined prompt and costs next to nothing, so it is written for reading.
private struct MaskDownscaling: Sendable {
    private let hidden: Int
    private let grid: Int
    private let first: TokenLinear
    private let firstNorm: LayerNorm
    private let second: TokenLinear
    private let secondNorm: LayerNorm
    /// (C, hidden) and (C): the last layer.
    let last: (weight: Tensor, bias: Tensor)

    init(_ weights: some WeightSource, channels: Int, hidden: Int, grid: Int) throws {
        self.hidden = hidden
        self.grid = grid
        func layer(_ index: Int) -> String {
            TensorNames.part(index, of: TensorNames.PromptEncoder.maskDownscaling)
        }
        func convolution(_ index: Int, outputs: Int, inputs: Int, side: Int) throws -> TokenLinear {
            let name = layer(index)
            let weight = try weights.tensor("\(name).weight", shape: [outputs, inputs, side, side])
            return TokenLinear(
                weight: weight.reshaped(to: [outputs, inputs * side * side]),
                bias: try weights.tensor("\(name).bias", shape: [outputs]))
        }
        first = try convolution(0, outputs: hidden / 4, inputs: 1, side: 2)
        firstNorm = try LayerNorm(
            weights, layer(1), features: hidden / 4, epsilon: 1e-6)
        second = try convolution(
            TensorNames.PromptEncoder.secondConvolution, outputs: hidden, inputs: hidden / 4, side: 2)
        secondNorm = try LayerNorm(weights, layer(4), features: hidden, epsilon: 1e-6)
        let name = layer(6)
        last = (
            try weights.tensor("\(name).weight", shape: [channels, hidden, 1, 1]).reshaped(to: [channels, hidden]),
            try weights.tensor("\(name).bias", shape: [channels])
        )
    }

    func callAsFunction(_ mask: LowResolutionLogits) -> Tensor {
        let pool = ThreadPool.inline
        let fine = mask.values.withUnsafeBufferPointer { values in
            downscale(values, side: mask.side, channels: 1, by: first, norm: firstNorm, pool: pool)
        }
        let coarse = fine.withUnsafeBufferPointer { values in
            downscale(values, side: mask.side / 2, channels: hidden / 4, by: second, norm: secondNorm, pool: pool)
        }
        let tokens = grid * grid
        return Tensor(shape: [hidden, grid, grid]) { features in
            for token in 0..<tokens {
                for channel in 0..<hidden { features[channel * tokens + token] = coarse[token * hidden + channel] }
            }
        }
    }

    /// (side, side, channels) to (side / 2, side / 2, outputs), channels last.
    private func downscale(
        _ x: UnsafeBufferPointer<Float>, side: Int, channels: Int, by convolution: TokenLinear, norm: LayerNorm,
        pool: ThreadPool
    ) -> [Float] {
        let half = side / 2
        let outputs = convolution.outputs
        var answer = [Float](repeating: 0, count: half * half * outputs)
        Scratch.withFloats(half * (4 * channels + convolution.outputStride)) { patches in
            let rows = patches + half * 4 * channels
            for row in 0..<half {
                for column in 0..<half {
                    for channel in 0..<channels {
                        for corner in 0..<4 {
                            let pixel = (2 * row + corner / 2) * side + 2 * column + corner % 2
                            patches[(column * channels + channel) * 4 + corner] = x[pixel * channels + channel]
                        }
                    }
                }
                convolution(
                    rows: half, x: patches, xStride: 4 * channels, y: rows, yStride: convolution.outputStride,
                    pool: pool)
                answer.withUnsafeMutableBufferPointer { answer in
                    guard let line = answer.baseAddress.map({ $0 + row * half * outputs }) else { return }
                    norm(rows: half, x: rows, xStride: convolution.outputStride, y: line, yStride: outputs)
                    applyGELU(half * outputs, line)
                }
            }
        }
        return answer
    }
}
