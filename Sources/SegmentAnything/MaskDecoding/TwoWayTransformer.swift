import NeuralNetworks
import Tensors

/// Layers in which the tokens attend to each other and to the image and the image to the tokens, and a last attention of
/// the tokens to the image.
///
/// Kirillov et al., "Segment Anything", 2023, appendix A, "Lightweight mask decoder"; the published code's
/// `TwoWayTransformer`. The image's side is ``ImageProjections`` and ``PromptPass``; here are the tokens. Several prompts
/// go through together, so that the tokens' weights are read once for all of them; each answer is the same to the bit
/// as that of its prompt alone.
struct TwoWayTransformer: Sendable {
    /// One layer (`TwoWayAttentionBlock`).
    private struct Layer: Sendable {
        let selfAttention: SelfAttention
        let norm1: LayerNorm
        let norm2: LayerNorm
        let expand: TokenLinear
        let contract: TokenLinear
        let norm3: LayerNorm
    }

    /// How the passes over the image go.
    let plan: ImagePassPlan
    private let channels: Int
    private let layers: [Layer]
    /// The tokens' attentions to y_0 … y_L.
    private let tokenToImage: [TokenToImageAttention]
    private let lastNorm: LayerNorm
    private let positions: ImageTiles

    /// Reads `mask_decoder.transformer.*`.
    ///
    /// - Parameters:
    ///   - weights: a checkpoint's.
    ///   - channels: C.
    ///   - inner: features of the attentions between tokens and image, all heads together.
    ///   - mlpDim: hidden features of the layers' MLPs.
    ///   - depth: L.
    ///   - positions: of the image's tokens (`image_pe`).
    ///   - upscaling: the first transposed convolution that reads the image's last features.
    ///   - mask: how mask prompts come into the image's features.
    ///   - arithmetic: of the products on the image's side.
    /// - Throws: what the weights throw where a tensor is missing or of another shape.
    init(
        _ weights: some WeightSource, channels: Int, inner: Int, mlpDim: Int, depth: Int, positions: ImageTiles,
        upscaling: MaskUpscaling, mask: ImageProjections.MaskPrompt, arithmetic: TileArithmetic
    ) throws {
        self.channels = channels
        self.positions = positions
        let name = TensorNames.MaskDecoder.transformer
        let modules = (0..<depth).map { TensorNames.part($0, of: TensorNames.MaskDecoder.layers(name)) }
        func norm(_ name: String) throws -> LayerNorm {
            try LayerNorm(weights, name, features: channels, epsilon: 1e-5)
        }
        layers = try modules.map { layer in
            Layer(
                selfAttention: try SelfAttention(weights, "\(layer).self_attn", channels: channels),
                norm1: try norm("\(layer).norm1"), norm2: try norm("\(layer).norm2"),
                expand: try TokenLinear(
                    weights, TensorNames.MaskDecoder.expansion(layer), inputs: channels, outputs: mlpDim,
                    activation: .relu),
                contract: try TokenLinear(weights, "\(layer).mlp.lin2", inputs: mlpDim, outputs: channels),
                norm3: try norm("\(layer).norm3"))
        }
        lastNorm = try norm("\(name).norm_final_attn")

        let norms = try modules.map { try norm("\($0).norm4") }
        let imageToToken = try modules.map {
            try ImageToTokenAttention(
                weights, "\($0).cross_attn_image_to_token", channels: channels, inner: inner)
        }
        let tokenToImage = try (0...depth).map { index in
            try TokenToImageAttention(
                weights,
                index < depth
                    ? TensorNames.MaskDecoder.tokenToImage(modules[index]) : "\(name).final_attn_token_to_image",
                channels: channels, inner: inner, shift: index > 0 ? norms[index - 1].shifts : nil)
        }
        self.tokenToImage = tokenToImage
        let last = norms[depth - 1]
        let gains = last.gains
        plan = ImagePassPlan(
            projections: ImageProjections(
                imageToToken: imageToToken, tokenToImage: tokenToImage, norms: norms, upscaling: upscaling.first,
                channels: channels,
                mask: mask, arithmetic: arithmetic),
            positions: PositionState(
                positions, imageToToken: imageToToken, tokenToImage: tokenToImage, norms: norms, channels: channels,
                arithmetic: arithmetic),
            imageToToken: imageToToken, norms: norms, gains: norms.map(\.gains),
            constants: (1...depth).map { ImageProjections.constant(of: $0, imageToToken: imageToToken, norms: norms) },
            upscaling: Tensor(shape: upscaling.first.shape) { memory in
                upscaling.first.withUnsafeBufferPointer { weight in
                    for index in memory.indices { memory[index] = weight[index] * gains[index % channels] }
                }
            },
            upscalingBias: zip(
                upscaling.firstBias.elements,
                TokenToImageAttention.product(upscaling.first.elements, last.shifts)
            ).map { $0 + $1 })
    }

    /// Prepares an image with its dense prompt for any number of prompts.
    func prepare(_ image: ImageTiles, pool: ThreadPool) -> ImageState {
        plan.projections.state(image, positions: positions, pool: pool)
    }

    /// Runs all layers for prompts that go together.
    ///
    /// - Parameters:
    ///   - tokens: (count, C); output and prompt tokens in, the tokens after the last attention out.
    ///   - count: how many tokens all prompts have.
    ///   - passes: one per prompt, whose tokens lie one after the other.
    ///   - pool: shares the image's tiles and the weights' columns out.
    ///   - trace: records the stages, if any does.
    func callAsFunction(
        tokens: UnsafeMutablePointer<Float>, count: Int, passes: [PromptPass], pool: ThreadPool, trace: DecoderTrace?
    ) {
        let size = count * channels
        let inner = plan.inner
        let rows = count * DecoderHeads.count
        Scratch.withFloats(2 * size + 3 * count * inner + 2 * rows * channels) { memory in
            // The tokens as they came are their positions in every attention (`query_pe`).
            let positions = memory
            let positioned = memory + size
            let projected = positioned + size
            let (values, attended) = (projected + count * inner, projected + 2 * count * inner)
            let folded = attended + count * inner
            let foldedValues = folded + rows * channels
            let ranges = passes.map { $0.firstToken..<$0.firstToken + $0.count }
            positions.update(from: tokens, count: size)
            func addPositions() {
                for index in 0..<size { positioned[index] = tokens[index] + positions[index] }
            }
            func normalize(_ norm: LayerNorm) {
                norm(rows: count, x: tokens, xStride: channels, y: tokens, yStride: channels)
            }
            func attendToImage(_ layer: Int) {
                let attention = tokenToImage[layer]
                attention.queries(positioned, count: count, q: projected, pool: pool)
                if layer > 0 { attention.fold(queries: projected, count: count, to: folded) }
                for pass in passes {
                    let first = pass.firstToken
                    pass.setQueries(
                        layer: layer, projected + first * inner,
                        folded: layer > 0 ? folded + first * DecoderHeads.count * channels : nil)
                    pool.parallel(pass.blockCount) { pass.run(block: $0, layer: layer) }
                    pass.merge(layer: layer, attention: attention, to: attended + first * inner)
                }
                attention.addOutput(of: attended, count: count, to: tokens, pool: pool)
                if layer > 0 { trace?.recordImage(layer: layer, of: passes) }
                trace?.record(.tokenToImageSums(layer: layer + 1), attended, width: inner, of: passes)
            }
            func updateImage(_ layer: Int) {
                let attention = plan.imageToToken[layer - 1]
                attention.keys(positioned, count: count, k: projected, pool: pool)
                attention.values(tokens, count: count, v: values, pool: pool)
                attention.fold(keys: projected, count: count, to: folded)
                attention.fold(values: values, count: count, to: foldedValues)
                for pass in passes {
                    let first = pass.firstToken
                    let row = first * DecoderHeads.count * channels
                    pass.setKeysAndValues(
                        layer: layer, keys: projected + first * inner, values: values + first * inner,
                        foldedKeys: folded + row, foldedValues: foldedValues + row)
                }
            }

            for (index, layer) in layers.enumerated() {
                addPositions()
                // The first layer's self-attention replaces the tokens and takes them without positions
                // (`skip_first_layer_pe`).
                layer.selfAttention(
                    tokens: tokens, positioned: index == 0 ? tokens : positioned, count: count, ranges: ranges,
                    replaces: index == 0, pool: pool)
                normalize(layer.norm1)
                trace?.record(.selfAttention(layer: index + 1), tokens, width: channels, of: passes)
                addPositions()
                attendToImage(index)
                normalize(layer.norm2)
                trace?.record(.tokenToImage(layer: index + 1), tokens, width: channels, of: passes)
                // A row of outputs takes whole vectors, whatever the number of hidden features.
                let stride = layer.expand.outputStride
                Scratch.withFloats(count * stride) { hidden in
                    layer.expand(
                        rows: count, x: tokens, xStride: channels, y: hidden, yStride: stride, pool: pool)
                    layer.contract(
                        rows: count, x: hidden, xStride: stride, y: tokens, yStride: channels, accumulate: true,
                        pool: pool)
                }
                normalize(layer.norm3)
                trace?.record(.mlp(layer: index + 1), tokens, width: channels, of: passes)
                addPositions()
                updateImage(index + 1)
            }
            addPositions()
            attendToImage(layers.count)
            normalize(lastNorm)
            trace?.record(.tokenToImage(layer: layers.count + 1), tokens, width: channels, of: passes)
        }
    }
}
