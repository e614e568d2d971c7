import CKernels
import NeuralNetworks
import Tensors

/// The eight heads of every attention in the mask decoder.
enum DecoderHeads {
    static let count = 8
}

/// Tokens look at the image (`cross_attn_token_to_image`, `final_attn_token_to_image`).
///
/// With a few tokens and thousands of image tokens, projecting the image side would be most of the work. It is not
/// needed: a score is x · (W_kᵀ q), so the few queries are brought to the image's width instead; and the values are
/// projected after they were summed, W_v (Σ p x). The key's bias adds the same to all scores of a query and falls
/// out of the softmax. Vaswani et al., 2017, section 3.2, <https://arxiv.org/abs/1706.03762>.
struct TokenToImageAttention: Sendable {
    let channels: Int
    /// Numbers per head, C / 2 / 8 in the published models, and the same rounded up to 16.
    let headSize: Int
    let headPadded: Int
    private let query: TokenLinear
    /// (inner, C), as the checkpoint has it: row d is what feature d of the keys reads.
    private let keyWeight: Tensor
    private let keyBias: Tensor
    /// (inner, C), and the same as (heads, C, headPadded).
    private let valueWeight: Tensor
    private let valuePanels: Tensor
    private let valueBias: Tensor
    private let output: TokenLinear

    var inner: Int { headSize * DecoderHeads.count }

    init(_ weights: some WeightSource, _ name: String, channels: Int, inner: Int) throws {
        let headSize = inner / DecoderHeads.count
        let headPadded = (headSize + 15) / 16 * 16
        self.channels = channels
        self.headSize = headSize
        self.headPadded = headPadded
        query = try TokenLinear(weights, "\(name).q_proj", inputs: channels, outputs: inner)
        keyWeight = try weights.tensor("\(name).k_proj.weight", shape: [inner, channels])
        keyBias = try weights.tensor("\(name).k_proj.bias", shape: [inner])
        let valueWeight = try weights.tensor("\(name).v_proj.weight", shape: [inner, channels])
        self.valueWeight = valueWeight
        valueBias = try weights.tensor("\(name).v_proj.bias", shape: [inner])
        output = try TokenLinear(weights, "\(name).out_proj", inputs: inner, outputs: channels)
        valuePanels = Tensor(shape: [DecoderHeads.count, channels, headPadded]) { panels in
            panels.initialize(repeating: 0)
            valueWeight.withUnsafeBufferPointer { weight in
                for feature in 0..<inner {
                    let (head, d) = (feature / headSize, feature % headSize)
                    for channel in 0..<channels {
                        panels[(head * channels + channel) * headPadded + d] = weight[feature * channels + channel]
                    }
                }
            }
        }
    }

    /// The projected keys of an image that is asked about often, (tiles, inner, 64).
    func keys(positioned: ImageTiles, pool: ThreadPool) -> ImageTiles {
        ImageTiles(tokens: positioned.tokens, channels: inner, pool: pool) { tile, memory in
            positioned.withTile(tile) { x in
                keyWeight.withUnsafeBufferPointer { weight in
                    keyBias.withUnsafeBufferPointer { bias in
                        kirie_product(
                            inner, 64, channels, weight.baseAddress, channels, 1, x, 64, memory, 64, bias.baseAddress,
                            nil, 0)
                    }
                }
            }
        }
    }

    /// The projected values of an image, (tiles, 64, 8 · headPadded): rows of image tokens, so that weights times
    /// values is a plain product.
    func values(_ image: ImageTiles, pool: ThreadPool) -> Tensor {
        let width = DecoderHeads.count * headPadded
        return Tensor(shape: [image.tileCount, 64, width]) { memory in
            guard let memory = memory.baseAddress else { return }
            pool.parallel(image.tileCount) { tile in
                let target = memory + tile * 64 * width
                image.withTile(tile) { x in
                    valuePanels.withUnsafeBufferPointer { panels in
                        guard let panels = panels.baseAddress else { return }
                        for head in 0..<DecoderHeads.count {
                            kirie_product(
                                64, headPadded, channels, x, 1, 64, panels + head * channels * headPadded, headPadded,
                                target + head * headPadded, width, nil, nil, 0)
                        }
                    }
                }
            }
        }
    }

    /// q (count, inner), scaled, from tokens with their positions, (count, C).
    func queries(_ tokens: UnsafePointer<Float>, count: Int, q: UnsafeMutablePointer<Float>, pool: ThreadPool) {
        query(rows: count, x: tokens, xStride: channels, y: q, yStride: inner, pool: pool)
        let scale = 1 / Float(headSize).squareRoot()
        for index in 0..<count * inner { q[index] *= scale }
    }

    /// The queries at the image's width: (count · 8, C), row t · 8 + h = W_k,hᵀ q_t,h.
    func probes(_ q: UnsafePointer<Float>, count: Int, probes: UnsafeMutablePointer<Float>) {
        keyWeight.withUnsafeBufferPointer { weight in
            guard let weight = weight.baseAddress else { return }
            for head in 0..<DecoderHeads.count {
                kirie_product(
                    count, channels, headSize, q + head * headSize, inner, 1, weight + head * headSize * channels,
                    channels, probes + head * channels, DecoderHeads.count * channels, nil, nil, 0)
            }
        }
    }

    /// Adds the output projection of what the heads read to the tokens; `read` is (count, inner) without the bias.
    func finish(read: UnsafeMutablePointer<Float>, count: Int, tokens: UnsafeMutablePointer<Float>, pool: ThreadPool) {
        valueBias.withUnsafeBufferPointer { bias in
            for row in 0..<count { kirie_add(inner, bias.baseAddress, read + row * inner) }
        }
        output(
            rows: count, x: read, xStride: inner, y: tokens, yStride: channels, accumulate: true, pool: pool)
    }

    /// read (count, inner) = W_v applied to sums (C, sumStride) of the image's features, column t · 8 + h.
    func project(
        sums: UnsafePointer<Float>, sumStride: Int, count: Int, read: UnsafeMutablePointer<Float>
    ) {
        Scratch.withFloats(count * headPadded) { row in
            valuePanels.withUnsafeBufferPointer { panels in
                guard let panels = panels.baseAddress else { return }
                for head in 0..<DecoderHeads.count {
                    kirie_product(
                        count, headPadded, channels, sums + head, DecoderHeads.count, sumStride,
                        panels + head * channels * headPadded, headPadded, row, headPadded, nil, nil, 0)
                    for token in 0..<count {
                        (read + token * inner + head * headSize).update(
                            from: row + token * headPadded, count: headSize)
                    }
                }
            }
        }
    }
}

/// The image looks at the tokens (`cross_attn_image_to_token`).
///
/// As above the few keys are brought to the image's width; and since the weights over the tokens are few, the values
/// are brought through the output projection first: Σ p (W_o,h v_h).
struct ImageToTokenAttention: Sendable {
    let channels: Int
    let headSize: Int
    private let key: TokenLinear
    private let value: TokenLinear
    /// (inner, C).
    private let queryWeight: Tensor
    private let queryBias: Tensor
    /// (inner, C): the output projection transposed.
    private let outputWeight: Tensor
    /// (C).
    let outputBias: Tensor

    var inner: Int { headSize * DecoderHeads.count }

    init(_ weights: some WeightSource, _ name: String, channels: Int, inner: Int) throws {
        self.channels = channels
        headSize = inner / DecoderHeads.count
        key = try TokenLinear(weights, "\(name).k_proj", inputs: channels, outputs: inner)
        value = try TokenLinear(weights, "\(name).v_proj", inputs: channels, outputs: inner)
        queryWeight = try weights.tensor("\(name).q_proj.weight", shape: [inner, channels])
        queryBias = try weights.tensor("\(name).q_proj.bias", shape: [inner])
        let output = try weights.tensor("\(name).out_proj.weight", shape: [channels, inner])
        outputWeight = Tensor(shape: [inner, channels]) { memory in
            output.withUnsafeBufferPointer { output in
                for channel in 0..<channels {
                    for feature in 0..<inner {
                        memory[feature * channels + channel] = output[channel * inner + feature]
                    }
                }
            }
        }
        outputBias = try weights.tensor("\(name).out_proj.bias", shape: [channels])
    }

    /// The projected queries of an image that is asked about often, (tiles, inner, 64).
    func queries(positioned: ImageTiles, pool: ThreadPool) -> ImageTiles {
        ImageTiles(tokens: positioned.tokens, channels: inner, pool: pool) { tile, memory in
            positioned.withTile(tile) { x in
                queryWeight.withUnsafeBufferPointer { weight in
                    queryBias.withUnsafeBufferPointer { bias in
                        kirie_product(
                            inner, 64, channels, weight.baseAddress, channels, 1, x, 64, memory, 64, bias.baseAddress,
                            nil, 0)
                    }
                }
            }
        }
    }

    /// k (count, inner), scaled, from tokens with their positions, (count, C).
    func keys(_ tokens: UnsafePointer<Float>, count: Int, k: UnsafeMutablePointer<Float>, pool: ThreadPool) {
        key(rows: count, x: tokens, xStride: channels, y: k, yStride: inner, pool: pool)
        let scale = 1 / Float(headSize).squareRoot()
        for index in 0..<count * inner { k[index] *= scale }
    }

    /// The keys at the image's width, (count · 8, C), and what the queries' bias adds to each score, (count · 8).
    func probes(
        _ k: UnsafePointer<Float>, count: Int, probes: UnsafeMutablePointer<Float>,
        shifts: UnsafeMutablePointer<Float>
    ) {
        queryWeight.withUnsafeBufferPointer { weight in
            queryBias.withUnsafeBufferPointer { bias in
                guard let weight = weight.baseAddress, let bias = bias.baseAddress else { return }
                for head in 0..<DecoderHeads.count {
                    let start = head * headSize
                    kirie_product(
                        count, channels, headSize, k + start, inner, 1, weight + start * channels, channels,
                        probes + head * channels, DecoderHeads.count * channels, nil, nil, 0)
                    for token in 0..<count {
                        var shift: Float = 0
                        for d in start..<start + headSize { shift += k[token * inner + d] * bias[d] }
                        shifts[token * DecoderHeads.count + head] = shift
                    }
                }
            }
        }
    }

    /// What each token's heads give to the image, (count · 8, C), from tokens without their positions.
    func gifts(
        _ tokens: UnsafePointer<Float>, count: Int, gifts: UnsafeMutablePointer<Float>, pool: ThreadPool
    ) {
        Scratch.withFloats(count * inner) { v in
            value(rows: count, x: tokens, xStride: channels, y: v, yStride: inner, pool: pool)
            outputWeight.withUnsafeBufferPointer { weight in
                guard let weight = weight.baseAddress else { return }
                for head in 0..<DecoderHeads.count {
                    kirie_product(
                        count, channels, headSize, v + head * headSize, inner, 1, weight + head * headSize * channels,
                        channels, gifts + head * channels, DecoderHeads.count * channels, nil, nil, 0)
                }
            }
        }
    }
}
