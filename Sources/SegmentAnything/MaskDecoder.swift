import NeuralNetworks
package import Segmentation
import Tensors

/// Which of the decoder's four masks are wanted.
package enum MaskSelection: Sendable, Hashable {
    /// The one mask for an unambiguous prompt: several clicks, or a box.
    case single
    /// The three masks for a prompt that may mean several things: whole, part, subpart.
    case multiple
    /// The single mask and then the three.
    case all

    /// The output tokens that are used.
    package var indices: Range<Int> {
        switch self {
        case .single: 0..<1
        case .multiple: 1..<4
        case .all: 0..<4
        }
    }
}

/// The masks of one prompt before they are scaled to the picture.
package struct DecodedMasks: Sendable {
    /// Side of the logits: 4g.
    package let side: Int
    /// One per mask, (side, side).
    package let logits: [LowResolutionLogits]
    /// One per mask: the model's own estimate of its intersection over union with the object.
    package let predictedIoU: [Float]
}

/// The light half: image features and prompt tokens in, masks and their predicted IoU out.
///
/// Kirillov et al., "Segment Anything", 2023, appendix A, "Lightweight mask decoder".
package struct MaskDecoder: Sendable {
    private let channels: Int
    private let grid: Int
    private let transformer: TwoWayTransformer
    /// (1 + masks, C): the IoU token, then the mask tokens.
    private let outputTokens: [Float]
    private let maskTokenCount: Int
    private let upscaling: MaskUpscaling
    /// One multi-layer perceptron per mask token.
    private let hypernetworks: [[TokenLinear]]
    private let iouHead: [TokenLinear]

    /// Sizes that the checkpoint's tensors tell.
    package struct Configuration: Sendable {
        package var channels: Int
        package var grid: Int
        /// Width inside the attentions between tokens and image.
        package var crossAttentionDim: Int
        package var mlpDim: Int
        package var depth: Int
        package var maskTokenCount: Int
        package var iouHeadDepth: Int
        package var iouHeadHidden: Int
    }

    init(_ weights: some WeightSource, _ configuration: Configuration) throws {
        let channels = configuration.channels
        self.channels = channels
        grid = configuration.grid
        maskTokenCount = configuration.maskTokenCount
        transformer = try TwoWayTransformer(
            weights, channels: channels, inner: configuration.crossAttentionDim, mlpDim: configuration.mlpDim,
            depth: configuration.depth)
        outputTokens =
            try weights.tensor("mask_decoder.iou_token.weight", shape: [1, channels]).elements
            + weights.tensor("mask_decoder.mask_tokens.weight", shape: [maskTokenCount, channels]).elements
        upscaling = try MaskUpscaling(weights, channels: channels, grid: grid)
        func perceptron(_ name: String, widths: [Int]) throws -> [TokenLinear] {
            try (0..<widths.count - 1).map { index in
                try TokenLinear(
                    weights, "\(name).layers.\(index)", inputs: widths[index], outputs: widths[index + 1],
                    activation: index + 2 < widths.count ? .relu : .none)
            }
        }
        hypernetworks = try (0..<maskTokenCount).map {
            try perceptron(
                "mask_decoder.output_hypernetworks_mlps.\($0)", widths: [channels, channels, channels, channels / 8])
        }
        iouHead = try perceptron(
            "mask_decoder.iou_prediction_head",
            widths: [channels] + [Int](repeating: configuration.iouHeadHidden, count: configuration.iouHeadDepth - 1)
                + [maskTokenCount])
    }

    /// Prepares an image for any number of prompts.
    func prepare(_ image: ImageTiles, positions: ImageTiles, pool: ThreadPool) -> TwoWayTransformer.ImageState {
        transformer.prepare(image, positions: positions, pool: pool)
    }

    /// Decodes one prompt.
    ///
    /// - Parameter promptTokens: N rows of C, from the prompt encoder.
    func decode(
        _ state: TwoWayTransformer.ImageState, positions: ImageTiles, promptTokens: [Float],
        selection: MaskSelection, pool: ThreadPool
    ) -> DecodedMasks {
        let side = 4 * grid
        let indices = selection.indices
        let outputCount = 1 + maskTokenCount
        let count = outputCount + promptTokens.count / channels
        return Scratch.withFloats(count * channels + state.image.tensor.count) { tokens in
            let image = tokens + count * channels
            tokens.update(from: outputTokens, count: outputTokens.count)
            (tokens + outputTokens.count).update(from: promptTokens, count: promptTokens.count)
            transformer(
                tokens: tokens, count: count, state: state, positions: positions, image: image, pool: pool)

            let iou = apply(iouHead, to: tokens, pool: pool)
            let weights = indices.flatMap { index in
                apply(hypernetworks[index], to: tokens + (1 + index) * channels, pool: pool)
            }
            let masks = Scratch.withFloats(indices.count * side * side) { logits in
                upscaling(image: image, weights: weights, masks: indices.count, logits: logits, pool: pool)
                return indices.indices.map { index in
                    let start = logits + (index - indices.lowerBound) * side * side
                    return LowResolutionLogits(
                        side: side, values: Array(UnsafeBufferPointer(start: start, count: side * side)))
                }
            }
            return DecodedMasks(side: side, logits: masks, predictedIoU: indices.map { iou[$0] })
        }
    }

    private func apply(_ layers: [TokenLinear], to token: UnsafePointer<Float>, pool: ThreadPool) -> [Float] {
        var row = Array(UnsafeBufferPointer(start: token, count: channels))
        for layer in layers {
            var next = [Float](repeating: 0, count: layer.outputStride)
            next.withUnsafeMutableBufferPointer { memory in
                guard let y = memory.baseAddress else { return }
                layer(rows: 1, x: row, xStride: layer.inputs, y: y, yStride: layer.outputStride, pool: pool)
            }
            row = next
        }
        return Array(row.prefix(layers.last?.outputs ?? 0))
    }
}
