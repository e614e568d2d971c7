import Glibc
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
    /// One per mask, (side, side): what masks are made of.
    public let logits: [LowResolutionLogits]
    /// One per mask: the model's own estimate of its intersection over union with the object.
    public let predictedIoU: [Float]
    /// The logit of there being an object at all; nil from a model that does not ask itself.
    public let objectScore: Float?
    /// How far from 0 the logits that are handed back may be; nil for any distance.
    package let logitBound: Float?

    /// The logits as they are handed back, for a mask prompt: SAM 2's predictor bounds them when its masks are made.
    public var returnedLogits: [LowResolutionLogits] { logits.map { $0.clamped(to: logitBound) } }

    package init(
        side: Int, logits: [LowResolutionLogits], predictedIoU: [Float], objectScore: Float? = nil,
        logitBound: Float? = nil
    ) {
        self.side = side
        self.logits = logits
        self.predictedIoU = predictedIoU
        self.objectScore = objectScore
        self.logitBound = logitBound
    }
}

/// The light half: image features and prompt tokens in, masks and their predicted IoU out.
///
/// Kirillov et al., "Segment Anything", 2023, appendix A, "Lightweight mask decoder".
package struct MaskDecoder: Sendable {
    private let channels: Int
    private let grid: Int
    private let transformer: TwoWayTransformer
    /// (1 + masks, C): the IoU token, then the mask tokens; where there is one, the token of the object's score before them.
    private let outputTokens: [Float]
    private let maskTokenCount: Int
    /// Where the IoU token stands.
    private let iouToken: Int
    private let usesSigmoid: Bool
    private let stability: DynamicMultimask?
    private let logitBound: Float?
    private let upscaling: MaskUpscaling
    /// One multi-layer perceptron per mask token.
    private let hypernetworks: [[TokenLinear]]
    private let iouHead: [TokenLinear]
    private let objectScoreHead: [TokenLinear]?
    private let highQuality: HighQualityMask?

    /// When the one mask for a clear prompt is given up for the best of the three: where its area depends on where it is cut
    /// (Ravi et al., "SAM 2", 2024; the published code's `dynamic_multimask_via_stability`).
    package struct DynamicMultimask: Sendable, Hashable {
        /// The logits at which the areas are taken, above and below 0.
        package var delta: Float
        /// The quotient of the areas below which a mask is given up.
        package var threshold: Float

        package init(delta: Float, threshold: Float) {
            self.delta = delta
            self.threshold = threshold
        }

        /// As published.
        package static let published = DynamicMultimask(delta: 0.05, threshold: 0.98)

        /// Whether a mask's area hardly depends on where it is cut; one of no area is as it is.
        func isStable(_ logits: LowResolutionLogits) -> Bool {
            let inner = logits.values.count { $0 > delta }
            let outer = logits.values.count { $0 > -delta }
            return outer == 0 || Float(inner) / Float(outer) >= threshold
        }
    }

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
        /// Whether a token and a perceptron say if there is an object, as in SAM 2.
        package var hasObjectScore = false
        /// Whether the predicted IoU is brought between 0 and 1 by a sigmoid, as in SAM 2.
        package var usesSigmoid = false
        /// Whether it is SAM-HQ's, whose masks a token of their own corrects.
        package var isHighQuality = false
        /// When the one mask is given up for the best of three; nil for never.
        package var stability: DynamicMultimask?
        /// How far from 0 logits that are handed back may be: 32 in SAM 2 (`SAM2ImagePredictor._predict`); nil for any
        /// distance.
        package var logitBound: Float?

        /// Whether it is SAM 2's, in all of these.
        package var isSegmentAnything2: Bool {
            get { takesSkips && hasObjectScore && usesSigmoid }
            set {
                (takesSkips, hasObjectScore, usesSigmoid) = (newValue, newValue, newValue)
                stability = newValue ? .published : nil
                logitBound = newValue ? 32 : nil
            }
        }

        /// `image_embedding`, (1, C, g, g); where it takes skips, those of stride 8, (1, C / 4, 2g, 2g), and of stride 4,
        /// (1, C / 8, 4g, 4g); in SAM-HQ what masks are fused with, of stride 4 too.
        package var featureShapes: [FeatureShape] {
            let embedding = FeatureShape(FeatureMap.imageEmbedding, [1, channels, grid, grid])
            if isHighQuality {
                return [embedding, FeatureShape(FeatureMap.highQuality, [1, channels / 8, 4 * grid, 4 * grid])]
            }
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
        iouToken = configuration.hasObjectScore ? 1 : 0
        usesSigmoid = configuration.usesSigmoid
        stability = configuration.stability
        logitBound = configuration.logitBound
        highQuality =
            configuration.isHighQuality
            ? try HighQualityMask(
                weights, channels: channels, grid: configuration.grid, type: arithmetic.type) : nil
        let objectScore =
            configuration.hasObjectScore
            ? try weights.tensor(TensorNames.weight(TensorNames.MaskDecoder.objectScoreToken), shape: [1, channels])
                .elements : []
        outputTokens =
            try objectScore
            + weights.tensor(TensorNames.weight(TensorNames.MaskDecoder.iouToken), shape: [1, channels]).elements
            + weights.tensor(TensorNames.weight(TensorNames.MaskDecoder.maskTokens), shape: [maskTokenCount, channels])
            .elements
            + (highQuality?.token ?? [])
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
        objectScoreHead =
            configuration.hasObjectScore
            ? try perceptron(
                TensorNames.MaskDecoder.objectScoreHead, widths: [channels, channels, channels, 1]) : nil
    }

    /// Prepares an image with its dense prompt for any number of prompts.
    func prepare(_ image: ImageTiles, skips: UpscalingSkips?, highQuality: Tensor?, pool: ThreadPool) -> ImageState {
        var state = transformer.prepare(image, pool: pool)
        (state.skips, state.highQuality) = (skips, highQuality)
        return state
    }

    /// A prepared image with a mask prompt: see ``ImageProjections``.
    func prepare(
        _ base: ImageState, embedding: ImageTiles, adding dense: ImageTiles, bias: Tensor, pool: ThreadPool
    ) -> ImageState {
        var state = transformer.plan.projections.state(
            base, embedding: embedding, adding: dense, bias: bias, pool: pool)
        (state.skips, state.highQuality) = (base.skips, base.highQuality)
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
        let outputCount = outputTokens.count / channels
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
        func rows(_ token: Int, through layers: [TokenLinear]) -> [[Float]] {
            apply(layers, to: passes.map { tokens + ($0.firstToken + token) * channels }, pool: pool)
        }
        var iou = rows(iouToken, through: iouHead)
        if usesSigmoid { iou = iou.map { $0.map { 1 / (1 + expf(-$0)) } } }
        let objectScores = objectScoreHead.map { rows(0, through: $0).map { $0[0] } }
        func weights(_ indices: [Int]) -> [[[Float]]] {
            indices.map { rows(iouToken + 1 + $0, through: hypernetworks[$0]) }
        }
        let selected = Array(selection.indices)
        let selectedWeights = weights(selected)
        let corrections = highQuality.map { rows(iouToken + 1 + maskTokenCount, through: $0.layers) }
        return passes.enumerated().map { index, pass in
            // Places in the selection.
            let places = selected.indices.filter { place in leastIoU.map { iou[index][selected[place]] > $0 } ?? true }
            if places.isEmpty {
                return DecodedMasks(
                    side: 4 * grid, logits: [], predictedIoU: [], objectScore: objectScores?[index],
                    logitBound: logitBound)
            }
            pass.prepareUpscaling(pool: pool)
            let numbers = places.flatMap { selectedWeights[$0][index] }
            trace?.record(.hypernetworks, numbers, prompt: index)
            var masks = logits(
                of: pass, weights: numbers, count: places.count, correction: corrections?[index], pool: pool,
                trace: trace.map { ($0, index) })
            var predictedIoU = places.map { iou[index][selected[$0]] }
            if selection == .single, let stability, let mask = masks.first, !stability.isStable(mask) {
                let best = MaskSelection.multiple.indices.reduce(1) { iou[index][$1] > iou[index][$0] ? $1 : $0 }
                let row = tokens + (pass.firstToken + iouToken + 1 + best) * channels
                masks = logits(
                    of: pass, weights: apply(hypernetworks[best], to: [row], pool: pool)[0], count: 1,
                    correction: corrections?[index], pool: pool, trace: nil)
                predictedIoU = [iou[index][best]]
            }
            trace?.record(.predictedIoU, predictedIoU, prompt: index)
            trace?.record(.logits, masks.flatMap(\.values), prompt: index)
            return DecodedMasks(
                side: 4 * grid, logits: masks, predictedIoU: predictedIoU, objectScore: objectScores?[index],
                logitBound: logitBound)
        }
    }

    /// The logits of `count` masks, by their weights (count, C / 8), and in SAM-HQ by those of their correction, (C / 8).
    private func logits(
        of pass: PromptPass, weights: [Float], count: Int, correction: [Float]?, pool: ThreadPool,
        trace: (recorder: DecoderTrace, prompt: Int)?
    ) -> [LowResolutionLogits] {
        let side = 4 * grid
        return Scratch.withFloats(count * side * side) { logits in
            func make(_ features: Features?) {
                pool.parallel(pass.tileCount) { tile in
                    upscaling(
                        pass, tile: tile, weights: weights, masks: count, logits: logits, features: features,
                        trace: trace)
                }
            }
            if let highQuality, let correction, let map = pass.state.highQuality {
                highQuality.withFeatures { features in
                    make(features)
                    highQuality.add(
                        to: count, logits, features: features, map: map, weights: correction, pool: pool)
                }
            } else {
                make(nil)
            }
            return (0..<count).map { index in
                LowResolutionLogits(
                    side: side,
                    values: Array(UnsafeBufferPointer(start: logits + index * side * side, count: side * side)))
            }
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
