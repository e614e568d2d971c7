import Glibc
import NeuralNetworks
import Tensors

/// Tokens and image look at each other, twice, and the tokens once more at the image.
///
/// Kirillov et al., "Segment Anything", 2023, appendix A, "Lightweight mask decoder"; the published code's
/// `TwoWayTransformer`. Here each pass over the image does all that its tile can do at once: the image looks at the
/// tokens, is normalised, and the next layer's tokens look at the result while it is in the cache.
struct TwoWayTransformer: Sendable {
    /// What depends on the image (and a mask prompt) alone: computed once, used by every prompt on that image.
    struct ImageState: Sendable {
        /// The embedding plus the mask's or no-mask features.
        let image: ImageTiles
        /// The first layer's keys, values and queries.
        let keys: ImageTiles
        let values: Tensor
        let queries: ImageTiles

        var byteCount: Int { 4 * (image.tensor.count + keys.tensor.count + values.count + queries.tensor.count) }
    }

    /// One layer (`TwoWayAttentionBlock`).
    fileprivate struct Layer: Sendable {
        let selfAttention: SelfAttention
        let norm1: LayerNorm
        let tokenToImage: TokenToImageAttention
        let norm2: LayerNorm
        let expand: TokenLinear
        let contract: TokenLinear
        let norm3: LayerNorm
        let imageToToken: ImageToTokenAttention
        let norm4: LayerNorm
    }

    /// Image tokens that one task takes: fixed, so that sums are the same for any number of threads.
    private static let tilesAtOnce = 4

    private let channels: Int
    private let mlpDim: Int
    private let layers: [Layer]
    private let last: TokenToImageAttention
    private let lastNorm: LayerNorm

    init(_ weights: some WeightSource, channels: Int, inner: Int, mlpDim: Int, depth: Int) throws {
        self.channels = channels
        self.mlpDim = mlpDim
        let name = "mask_decoder.transformer"
        func norm(_ name: String) throws -> LayerNorm {
            try LayerNorm(weights, name, features: channels, epsilon: 1e-5)
        }
        layers = try (0..<depth).map { index in
            let layer = "\(name).layers.\(index)"
            return Layer(
                selfAttention: try SelfAttention(weights, "\(layer).self_attn", channels: channels),
                norm1: try norm("\(layer).norm1"),
                tokenToImage: try TokenToImageAttention(
                    weights, "\(layer).cross_attn_token_to_image", channels: channels, inner: inner),
                norm2: try norm("\(layer).norm2"),
                expand: try TokenLinear(
                    weights, "\(layer).mlp.lin1", inputs: channels, outputs: mlpDim, activation: .relu),
                contract: try TokenLinear(weights, "\(layer).mlp.lin2", inputs: mlpDim, outputs: channels),
                norm3: try norm("\(layer).norm3"),
                imageToToken: try ImageToTokenAttention(
                    weights, "\(layer).cross_attn_image_to_token", channels: channels, inner: inner),
                norm4: try norm("\(layer).norm4"))
        }
        last = try TokenToImageAttention(
            weights, "\(name).final_attn_token_to_image", channels: channels, inner: inner)
        lastNorm = try norm("\(name).norm_final_attn")
    }

    /// Prepares an image: `image` with its dense prompt, `positions` (`image_pe`).
    func prepare(_ image: ImageTiles, positions: ImageTiles, pool: ThreadPool) -> ImageState {
        let positioned = ImageTiles(tokens: image.tokens, channels: channels, pool: pool) { tile, memory in
            image.withTile(tile) { x in
                positions.withTile(tile) { p in
                    for index in 0..<image.tileSize { memory[index] = x[index] + p[index] }
                }
            }
        }
        return ImageState(
            image: image, keys: layers[0].tokenToImage.keys(positioned: positioned, pool: pool),
            values: layers[0].tokenToImage.values(image, pool: pool),
            queries: layers[0].imageToToken.queries(positioned: positioned, pool: pool))
    }

    /// Runs all layers.
    ///
    /// - Parameters:
    ///   - tokens: (count, C); output and prompt tokens in, the tokens after the last attention out.
    ///   - image: (tiles, C, 64) memory for the image features after the last layer; only then are they complete.
    func callAsFunction(
        tokens: UnsafeMutablePointer<Float>, count: Int, state: ImageState, positions: ImageTiles,
        image: UnsafeMutablePointer<Float>, pool: ThreadPool
    ) {
        let size = count * channels
        Scratch.withFloats(2 * size) { memory in
            // The tokens as they came are their own positions in every attention.
            let origin = memory
            let placed = memory + size
            origin.update(from: tokens, count: size)
            func place() {
                for index in 0..<size { placed[index] = tokens[index] + origin[index] }
            }
            func normalize(_ norm: LayerNorm) {
                norm(rows: count, x: tokens, xStride: channels, y: tokens, yStride: channels)
            }

            let pass = ImagePass(
                channels: channels, count: count, state: state, positions: positions, image: image, pool: pool,
                tilesAtOnce: Self.tilesAtOnce)
            // What a layer's tokens say is prepared when they are ready and taken in by the pass of the next one.
            var message: TokenMessage?
            func say(_ layer: Layer, isFirst: Bool, to reader: TokenToImageAttention) {
                guard let message else { preconditionFailure("every layer ends with a message") }
                pass.write(
                    message, norm: layer.norm4, isFirst: isFirst, reading: reader, placed: placed, tokens: tokens)
            }
            for (index, layer) in layers.enumerated() {
                place()
                // The first layer's self-attention replaces the tokens and looks at them without positions.
                layer.selfAttention(
                    tokens: tokens, placed: index == 0 ? tokens : placed, count: count, replaces: index == 0,
                    pool: pool)
                normalize(layer.norm1)
                place()
                if index == 0 {
                    pass.readFirst(layer.tokenToImage, placed: placed, tokens: tokens)
                } else {
                    say(layers[index - 1], isFirst: index == 1, to: layer.tokenToImage)
                }
                normalize(layer.norm2)
                Scratch.withFloats(count * mlpDim) { hidden in
                    layer.expand(
                        rows: count, x: tokens, xStride: channels, y: hidden, yStride: mlpDim, pool: pool)
                    layer.contract(
                        rows: count, x: hidden, xStride: mlpDim, y: tokens, yStride: channels, accumulate: true,
                        pool: pool)
                }
                normalize(layer.norm3)
                place()
                message = TokenMessage(
                    layer.imageToToken, placed: placed, tokens: tokens, count: count, pool: pool)
            }
            place()
            say(layers[layers.count - 1], isFirst: layers.count == 1, to: last)
            normalize(lastNorm)
        }
    }
}

/// Attention among the tokens (`self_attn`).
struct SelfAttention: Sendable {
    private let channels: Int
    private let query: TokenLinear
    private let key: TokenLinear
    private let value: TokenLinear
    private let output: TokenLinear

    init(_ weights: some WeightSource, _ name: String, channels: Int) throws {
        self.channels = channels
        query = try TokenLinear(weights, "\(name).q_proj", inputs: channels, outputs: channels)
        key = try TokenLinear(weights, "\(name).k_proj", inputs: channels, outputs: channels)
        value = try TokenLinear(weights, "\(name).v_proj", inputs: channels, outputs: channels)
        output = try TokenLinear(weights, "\(name).out_proj", inputs: channels, outputs: channels)
    }

    /// tokens = or += attention(placed, placed, tokens), all (count, C).
    func callAsFunction(
        tokens: UnsafeMutablePointer<Float>, placed: UnsafePointer<Float>, count: Int, replaces: Bool,
        pool: ThreadPool
    ) {
        let size = count * channels
        let headSize = channels / DecoderHeads.count
        let scale = 1 / Float(headSize).squareRoot()
        Scratch.withFloats(4 * size + count) { memory in
            let (q, k, v, read) = (memory, memory + size, memory + 2 * size, memory + 3 * size)
            let weights = memory + 4 * size
            query(rows: count, x: placed, xStride: channels, y: q, yStride: channels, pool: pool)
            key(rows: count, x: placed, xStride: channels, y: k, yStride: channels, pool: pool)
            value(rows: count, x: tokens, xStride: channels, y: v, yStride: channels, pool: pool)
            for head in 0..<DecoderHeads.count {
                let start = head * headSize
                for row in 0..<count {
                    let line = q + row * channels + start
                    for other in 0..<count {
                        let column = k + other * channels + start
                        var score: Float = 0
                        for d in 0..<headSize { score += line[d] * column[d] }
                        weights[other] = score * scale
                    }
                    softmax(weights, count: count)
                    let out = read + row * channels + start
                    for d in 0..<headSize { out[d] = 0 }
                    for other in 0..<count {
                        let column = v + other * channels + start
                        for d in 0..<headSize { out[d] += weights[other] * column[d] }
                    }
                }
            }
            output(
                rows: count, x: read, xStride: channels, y: tokens, yStride: channels, accumulate: !replaces,
                pool: pool)
        }
    }

    private func softmax(_ x: UnsafeMutablePointer<Float>, count: Int) {
        var peak = x[0]
        for index in 1..<max(1, count) { peak = max(peak, x[index]) }
        var total: Float = 0
        for index in 0..<count {
            x[index] = expf(x[index] - peak)
            total += x[index]
        }
        for index in 0..<count { x[index] /= total }
    }
}
