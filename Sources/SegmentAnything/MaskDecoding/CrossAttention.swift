import NeuralNetworks
import Tensors

/// The eight heads of every attention in the mask decoder.
enum DecoderHeads {
    static let count = 8
}

/// folded (count · 8, C), row t · 8 + h = weightᵀ x for head h's rows of the weights (inner, C) and of x (count, inner).
private func foldHeads(
    _ x: UnsafePointer<Float>, by weights: [Float], headSize: Int, channels: Int, count: Int,
    to folded: UnsafeMutablePointer<Float>
) {
    TileSteps.products(
        groups: DecoderHeads.count, rows: count, columns: channels, depth: headSize, a: x, aStep: headSize,
        aStride: headSize * DecoderHeads.count, b: weights, bStep: headSize * channels, bStride: channels, c: folded,
        cStep: channels, cStride: DecoderHeads.count * channels)
}

/// Attention of tokens to image (`cross_attn_token_to_image`, `final_attn_token_to_image`): the tokens' side.
///
/// The image's keys and values are ``ImageProjections``'. The key's bias adds the same to all scores of a query and
/// falls out of the softmax. Vaswani et al., 2017, section 3.2, <https://arxiv.org/abs/1706.03762>.
struct TokenToImageAttention: Sendable {
    let channels: Int
    /// Numbers per head, C / 2 / 8 in the published models, and the same rounded up to 16.
    let headSize: Int
    let headPadded: Int
    /// (inner, C), as the checkpoint has them: row d makes feature d of the keys or values.
    let keyRows: [Float]
    let valueRows: [Float]
    private let query: TokenLinear
    /// The values' weights as (heads, C, headPadded).
    private let valuePanels: Tensor
    /// (inner): what the values' bias, and the shift of the norm before, add to every weighted sum of values.
    private let valueShift: Tensor
    private let output: TokenLinear

    var inner: Int { headSize * DecoderHeads.count }

    /// Reads `name`'s projections; `shift` is that of the norm that made the image's features, nil where they are the
    /// embedding.
    init(
        _ weights: some WeightSource, _ name: String, channels: Int, inner: Int, shift: [Float]?
    ) throws {
        let headSize = inner / DecoderHeads.count
        let headPadded = (headSize + 15) / 16 * 16
        self.channels = channels
        self.headSize = headSize
        self.headPadded = headPadded
        query = try TokenLinear(weights, TensorNames.MaskDecoder.queries(name), inputs: channels, outputs: inner)
        keyRows = try weights.tensor("\(name).k_proj.weight", shape: [inner, channels]).elements
        // It adds the same to all logits of a query, which softmax takes out again: it belongs to the model all the same.
        _ = try weights.tensor("\(name).k_proj.bias", shape: [inner])
        let valueRows = try weights.tensor("\(name).v_proj.weight", shape: [inner, channels]).elements
        self.valueRows = valueRows
        let valueBias = try weights.tensor("\(name).v_proj.bias", shape: [inner])
        valueShift =
            shift.map { shift in
                Tensor(shape: [inner], zip(valueBias.elements, Self.product(valueRows, shift)).map { $0 + $1 })
            } ?? valueBias
        output = try TokenLinear(weights, "\(name).out_proj", inputs: inner, outputs: channels)
        valuePanels = Tensor(shape: [DecoderHeads.count, channels, headPadded]) { panels in
            panels.initialize(repeating: 0)
            for feature in 0..<inner {
                let (head, d) = (feature / headSize, feature % headSize)
                for channel in 0..<channels {
                    panels[(head * channels + channel) * headPadded + d] = valueRows[feature * channels + channel]
                }
            }
        }
    }

    /// A matrix by rows times a vector.
    static func product(_ rows: [Float], _ vector: [Float]) -> [Float] {
        stride(from: 0, to: rows.count, by: vector.count).map { start in
            var sum: Float = 0
            for index in vector.indices { sum += rows[start + index] * vector[index] }
            return sum
        }
    }

    /// q (count, inner), scaled, from tokens with their positions, (count, C).
    func queries(_ tokens: UnsafePointer<Float>, count: Int, q: UnsafeMutablePointer<Float>, pool: ThreadPool) {
        query(rows: count, x: tokens, xStride: channels, y: q, yStride: inner, pool: pool)
        let scale = 1 / Float(headSize).squareRoot()
        for index in 0..<count * inner { q[index] *= scale }
    }

    /// The queries folded into the keys' weights: (count · 8, C), row t · 8 + h = W_k,hᵀ q_t,h.
    func fold(queries q: UnsafePointer<Float>, count: Int, to folded: UnsafeMutablePointer<Float>) {
        foldHeads(q, by: keyRows, headSize: headSize, channels: channels, count: count, to: folded)
    }

    /// attended (count, inner) += W_v applied to weighted sums (C, sumStride) of the image's features, column t · 8 + h.
    func addValues(
        of sums: UnsafePointer<Float>, sumStride: Int, count: Int, to attended: UnsafeMutablePointer<Float>
    ) {
        Scratch.withFloats(count * headPadded) { row in
            valuePanels.withUnsafeBufferPointer { panels in
                guard let panels = panels.baseAddress else { return }
                for head in 0..<DecoderHeads.count {
                    TileSteps.product(
                        rows: count, columns: headPadded, depth: channels, a: sums + head, aRow: DecoderHeads.count,
                        aColumn: sumStride, b: panels + head * channels * headPadded, bStride: headPadded, c: row,
                        cStride: headPadded)
                    for token in 0..<count {
                        TileSteps.add(
                            headSize, row + token * headPadded, to: attended + token * inner + head * headSize)
                    }
                }
            }
        }
    }

    /// Adds the output projection to the tokens; `attended` is (count, inner), the heads' weighted sums of the values
    /// without their bias.
    func addOutput(
        of attended: UnsafeMutablePointer<Float>, count: Int, to tokens: UnsafeMutablePointer<Float>, pool: ThreadPool
    ) {
        valueShift.withUnsafeBufferPointer { shift in
            guard let shift = shift.baseAddress else { return }
            for row in 0..<count { TileSteps.add(inner, shift, to: attended + row * inner) }
        }
        output(
            rows: count, x: attended, xStride: inner, y: tokens, yStride: channels, accumulate: true, pool: pool)
    }
}

/// Attention of image to tokens (`cross_attn_image_to_token`): the tokens' side.
///
/// The weights over the tokens are few, so the values are folded into the output projection first: the residual update of
/// the image's features is Σ p (W_o,h v_h).
struct ImageToTokenAttention: Sendable {
    let channels: Int
    let headSize: Int
    /// (inner, C), and its bias.
    let queryRows: [Float]
    let queryBiases: [Float]
    /// (inner, C): the output projection transposed.
    let outputRows: [Float]
    /// (C).
    let outputBias: Tensor
    private let key: TokenLinear
    private let value: TokenLinear

    var inner: Int { headSize * DecoderHeads.count }

    init(_ weights: some WeightSource, _ name: String, channels: Int, inner: Int) throws {
        self.channels = channels
        headSize = inner / DecoderHeads.count
        key = try TokenLinear(weights, "\(name).k_proj", inputs: channels, outputs: inner)
        value = try TokenLinear(weights, "\(name).v_proj", inputs: channels, outputs: inner)
        queryRows = try weights.tensor("\(name).q_proj.weight", shape: [inner, channels]).elements
        queryBiases = try weights.tensor("\(name).q_proj.bias", shape: [inner]).elements
        let output = try weights.tensor("\(name).out_proj.weight", shape: [channels, inner]).elements
        outputRows = (0..<inner * channels).map { output[$0 % channels * inner + $0 / channels] }
        outputBias = try weights.tensor("\(name).out_proj.bias", shape: [channels])
    }

    /// k (count, inner), scaled, from tokens with their positions, (count, C).
    func keys(_ tokens: UnsafePointer<Float>, count: Int, k: UnsafeMutablePointer<Float>, pool: ThreadPool) {
        key(rows: count, x: tokens, xStride: channels, y: k, yStride: inner, pool: pool)
        let scale = 1 / Float(headSize).squareRoot()
        for index in 0..<count * inner { k[index] *= scale }
    }

    /// v (count, inner), from tokens without their positions.
    func values(_ tokens: UnsafePointer<Float>, count: Int, v: UnsafeMutablePointer<Float>, pool: ThreadPool) {
        value(rows: count, x: tokens, xStride: channels, y: v, yStride: inner, pool: pool)
    }

    /// The keys folded into the queries' weights: (count · 8, C), row t · 8 + h = W_q,hᵀ k_t,h.
    func fold(keys k: UnsafePointer<Float>, count: Int, to folded: UnsafeMutablePointer<Float>) {
        foldHeads(k, by: queryRows, headSize: headSize, channels: channels, count: count, to: folded)
    }

    /// The values folded into the output projection: (count · 8, C), row t · 8 + h = W_o,h v_t,h.
    func fold(values v: UnsafePointer<Float>, count: Int, to folded: UnsafeMutablePointer<Float>) {
        foldHeads(v, by: outputRows, headSize: headSize, channels: channels, count: count, to: folded)
    }
}
