import NeuralNetworks
public import Segmentation
import Tensors

/// Which of the decoder's four masks are wanted.
public enum MaskSelection: Sendable, Hashable {
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
public struct DecodedMasks: Sendable {
    /// Side of the logits: 4g.
    public let side: Int
    /// One per mask, (side, side).
    public let logits: [LowResolutionLogits]
    /// One per mask: the model's own estimate of its intersection over union with the object.
    public let predictedIoU: [Float]

    package init(side: Int, logits: [LowResolutionLogits], predictedIoU: [Float]) {
        self.side = side
        self.logits = logits
        self.predictedIoU = predictedIoU
    }
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

    /// Sizes that are read off the checkpoint's tensors.
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
        /// Whether the image encoder's skips are added while a mask is scaled up, as in SAM 2.
        package var takesSkips = false

        /// `image_embedding`, (1, C, g, g); where it takes skips, those of stride 8, (1, C / 4, 2g, 2g), and of stride 4,
        /// (1, C / 8, 4g, 4g).
        package var featureShapes: [FeatureShape] {
            let embedding = FeatureShape(FeatureMap.imageEmbedding, [1, channels, grid, grid])
            guard takesSkips else { return [embedding] }
            return [
                embedding, FeatureShape(FeatureMap.skips[0], [1, channels / 4, 2 * grid, 2 * grid]),
                FeatureShape(FeatureMap.skips[1], [1, channels / 8, 4 * grid, 4 * grid]),
            ]
        }

        package init(
            channels: Int, grid: Int, crossAttentionDim: Int, mlpDim: Int, depth: Int, maskTokenCount: Int,
            iouHeadDepth: Int, iouHeadHidden: Int
        ) {
            self.channels = channels
            self.grid = grid
            self.crossAttentionDim = crossAttentionDim
            self.mlpDim = mlpDim
            self.depth = depth
            self.maskTokenCount = maskTokenCount
            self.iouHeadDepth = iouHeadDepth
            self.iouHeadHidden = iouHeadHidden
        }
    }

    /// Reads `mask_decoder.*`.
    ///
    /// - Parameters:
    ///   - weights: a checkpoint's.
    ///   - configuration: the sizes of its tensors.
    ///   - positions: of the image's tokens.
    ///   - mask: how mask prompts come into the image's features.
    ///   - arithmetic: of the products on the image's side; the tokens' side is fp32 always.
    /// - Throws: what the weights throw where a tensor is missing or of another shape.
    init(
        _ weights: some WeightSource, _ configuration: Configuration, positions: ImageTiles,
        mask: ImageProjections.MaskPrompt, arithmetic: TileArithmetic
    ) throws {
        let channels = configuration.channels
        self.channels = channels
        grid = configuration.grid
        maskTokenCount = configuration.maskTokenCount
        upscaling = try MaskUpscaling(weights, channels: channels, grid: grid, arithmetic: arithmetic)
        transformer = try TwoWayTransformer(
            weights, channels: channels, inner: configuration.crossAttentionDim, mlpDim: configuration.mlpDim,
            depth: configuration.depth, positions: positions, upscaling: upscaling, mask: mask,
            arithmetic: arithmetic)
        outputTokens =
            try weights.tensor(TensorNames.weight(TensorNames.MaskDecoder.iouToken), shape: [1, channels]).elements
            + weights.tensor(TensorNames.weight(TensorNames.MaskDecoder.maskTokens), shape: [maskTokenCount, channels])
            .elements
        func perceptron(_ name: String, widths: [Int]) throws -> [TokenLinear] {
            try (0..<widths.count - 1).map { index in
                try TokenLinear(
                    weights, TensorNames.part(index, of: TensorNames.MaskDecoder.layers(name)), inputs: widths[index],
                    outputs: widths[index + 1],
                    activation: index + 2 < widths.count ? .relu : .none)
            }
        }
        hypernetworks = try (0..<maskTokenCount).map {
            try perceptron(
                "mask_decoder.output_hypernetworks_mlps.\($0)", widths: [channels, channels, channels, channels / 8])
        }
        iouHead = try perceptron(
            TensorNames.MaskDecoder.iouHead,
            widths: [channels] + [Int](repeating: configuration.iouHeadHidden, count: configuration.iouHeadDepth - 1)
                + [maskTokenCount])
    }

    /// Prepares an image with its dense prompt for any number of prompts.
    func prepare(_ image: ImageTiles, skips: UpscalingSkips?, pool: ThreadPool) -> ImageState {
        var state = transformer.prepare(image, pool: pool)
        state.skips = skips
        return state
    }

    /// A prepared image with a mask prompt: see ``ImageProjections``.
    func prepare(
        _ base: ImageState, embedding: ImageTiles, adding dense: ImageTiles, bias: Tensor, pool: ThreadPool
    ) -> ImageState {
        var state = transformer.plan.projections.state(
            base, embedding: embedding, adding: dense, bias: bias, pool: pool)
        state.skips = base.skips
        return state
    }

    /// Decodes prompts that go through together; each answer equals that of its prompt alone, to the bit.
    ///
    /// - Parameters:
    ///   - prompts: each with its image, and its tokens, N rows of C, from the prompt encoder.
    ///   - selection: which of the four masks of each prompt are made.
    ///   - leastIoU: masks whose predicted IoU is not above this are left out, and cost next to nothing; nil for all.
    ///   - pool: shares the image's tiles and the weights' columns out.
    ///   - trace: records the stages; then `pool` is ``ThreadPool/inline``.
    /// - Returns: one answer a prompt, its masks in the order of the selection.
    func decode(
        _ prompts: [(state: ImageState, tokens: [Float])], selection: MaskSelection, above leastIoU: Float? = nil,
        pool: ThreadPool, trace: DecoderTrace? = nil
    ) -> [DecodedMasks] {
        let outputCount = 1 + maskTokenCount
        let counts = prompts.map { outputCount + $0.tokens.count / channels }
        let count = counts.reduce(0, +)
        func passes(_ parts: inout MemoryParts) -> [PromptPass] {
            var first = 0
            return zip(prompts, counts).map { prompt, count in
                defer { first += count }
                return PromptPass(
                    plan: transformer.plan, state: prompt.state, count: count, firstToken: first, parts: &parts)
            }
        }
        var sizes = MemoryParts(nil)
        _ = passes(&sizes)
        return Scratch.withFloats(sizes.count + count * channels + 16) { memory in
            var parts = MemoryParts(memory)
            let tokens = parts.floats(count * channels)
            let passes = passes(&parts)
            for (pass, prompt) in zip(passes, prompts) {
                let start = tokens + pass.firstToken * channels
                start.update(from: outputTokens, count: outputTokens.count)
                (start + outputTokens.count).update(from: prompt.tokens, count: prompt.tokens.count)
            }
            trace?.record(.promptTokens, tokens, width: channels, of: passes)
            trace?.recordProjections(of: passes)
            transformer(tokens: tokens, count: count, passes: passes, pool: pool, trace: trace)
            return masks(
                tokens: tokens, passes: passes, selection: selection, above: leastIoU, pool: pool, trace: trace)
        }
    }

    private func masks(
        tokens: UnsafePointer<Float>, passes: [PromptPass], selection: MaskSelection, above leastIoU: Float?,
        pool: ThreadPool, trace: DecoderTrace?
    ) -> [DecodedMasks] {
        let side = 4 * grid
        let indices = selection.indices
        func rows(_ token: Int, through layers: [TokenLinear]) -> [[Float]] {
            apply(layers, to: passes.map { tokens + ($0.firstToken + token) * channels }, pool: pool)
        }
        let iou = rows(0, through: iouHead)
        let weights = indices.map { rows(1 + $0, through: hypernetworks[$0]) }
        return passes.enumerated().map { index, pass in
            // Which masks are made, counted from the first of the selection.
            let wanted = indices.indices.map { $0 - indices.lowerBound }.filter { mask in
                leastIoU.map { iou[index][indices.lowerBound + mask] > $0 } ?? true
            }
            if wanted.isEmpty { return DecodedMasks(side: side, logits: [], predictedIoU: []) }
            pass.prepareUpscaling(pool: pool)
            let weights = wanted.flatMap { weights[$0][index] }
            trace?.record(.hypernetworks, weights, prompt: index)
            let masks = Scratch.withFloats(wanted.count * side * side) { logits in
                pool.parallel(pass.tileCount) { tile in
                    upscaling(
                        pass, tile: tile, weights: weights, masks: wanted.count, logits: logits,
                        trace: trace.map { ($0, index) })
                }
                return wanted.indices.map { index in
                    let start = logits + index * side * side
                    return LowResolutionLogits(
                        side: side, values: Array(UnsafeBufferPointer(start: start, count: side * side)))
                }
            }
            let predictedIoU = wanted.map { iou[index][indices.lowerBound + $0] }
            trace?.record(.predictedIoU, predictedIoU, prompt: index)
            trace?.record(.logits, masks.flatMap(\.values), prompt: index)
            return DecodedMasks(side: side, logits: masks, predictedIoU: predictedIoU)
        }
    }

    /// One row of C after the other through the same layers.
    private func apply(
        _ layers: [TokenLinear], to tokens: [UnsafePointer<Float>], pool: ThreadPool
    ) -> [[Float]] {
        var width = channels
        var rows = tokens.flatMap { UnsafeBufferPointer(start: $0, count: channels) }
        for layer in layers {
            var next = [Float](repeating: 0, count: tokens.count * layer.outputStride)
            next.withUnsafeMutableBufferPointer { memory in
                guard let y = memory.baseAddress else { return }
                layer(rows: tokens.count, x: rows, xStride: width, y: y, yStride: layer.outputStride, pool: pool)
            }
            (rows, width) = (next, layer.outputStride)
        }
        let outputs = layers.last?.outputs ?? 0
        return tokens.indices.map { Array(rows[$0 * width..<$0 * width + outputs]) }
    }
}
