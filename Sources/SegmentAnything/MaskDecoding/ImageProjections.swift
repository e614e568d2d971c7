import NeuralNetworks
import Tensors

/// What the mask decoder computes of an image whatever the prompt: products of fixed matrices with the embedding.
///
/// The article <doc:MaskDecoding> derives it.
///
/// Layer l of the two-way transformer updates the image's features by its attention to the tokens and normalises:
///
/// ```text
/// y_l = ρ_l g_l ∘ C(y_{l−1} + G_l p_l + b_l) + s_l,    y_0 = x
/// ```
///
/// with C subtracting the mean over channels, ρ_l the norm's factor of each image token, p_l the token's attention over
/// the few columns of G_l. So y_l is linear in x, p_1 … p_l and 1, up to the factors:
///
/// ```text
/// C(y_{l−1} + …) = ρ_1…ρ_{l−1} X_l + Σ_j ρ_j…ρ_{l−1} G_{l,j} p_j,    X_1 = C x, X_{l+1} = C(g_l ∘ X_l)
/// ```
///
/// and every projection of y_l is a projection of x, computed once per image, plus a small matrix times the p_j. The
/// image's features themselves are never formed; ρ_l comes from their sum of squares,
///
/// ```text
/// |…|² = (ρ_1…ρ_{l−1})² |X_l|² + 2 ρ_1…ρ_{l−1} Σ_j ρ_j… (X_lᵀ G_{l,j}) p_j + a small quadratic form in the p_j,
/// ```
///
/// where X_lᵀ G_{l,j} is, head by head, a projection of X_l times the values of the tokens. Ba, Kiros and Hinton, "Layer
/// Normalization", 2016, section 3; the transformer: Kirillov et al., "Segment Anything", 2023, appendix A.
struct ImageProjections: Sendable {
    /// How a section of a tile is stored.
    enum Form: Sendable {
        /// (rows, 64): a right operand over the rows.
        case lanes
        /// (64, 8 · padded head): a right operand over the tokens.
        case values
        /// (rows, 64), by rows.
        case plain
    }

    /// One projection of the image's features.
    struct Section: Sendable {
        let form: Form
        let rows: Int
        /// Where it begins in a tile's numbers.
        let offset: Int
        /// (rows, C).
        let weight: TileOperand
        /// Whether positions are added to the features.
        let isPositioned: Bool
        /// (rows) or nil.
        let bias: [Float]?
        /// (rows, hidden) and (rows): what a mask prompt adds, from its features before their last layer.
        let maskWeight: Tensor
        let maskBias: [Float]
    }

    /// How a mask prompt comes into the image's features: weight (C, hidden) times its own, and what its bias changes
    /// where no mask's features were, (C).
    struct MaskPrompt: Sendable {
        let weight: Tensor
        let shift: [Float]

        var hidden: Int { weight.shape[1] }
    }

    /// Layers, L.
    let depth: Int
    let channels: Int
    let inner: Int
    let headPadded: Int
    let arithmetic: TileArithmetic

    /// By l from 0 to L: keys and values for the tokens' attention to y_l; keys[0] with positions.
    private(set) var keys: [Section] = []
    private(set) var values: [Section] = []
    /// By layer 1 … L at 0 … L − 1: the queries of y_{l−1} for its attention to the tokens; the first with positions and
    /// bias.
    private(set) var queries: [Section] = []
    /// crossTerms[l − 1][j − 1]: X_lᵀ G_{l,j} without the tokens' values.
    private(set) var crossTerms: [[Section]] = []
    /// The first transposed convolution of y_L.
    private(set) var upscaling: Section
    /// Numbers in a tile.
    private(set) var tileCount = 0

    /// Rows of scalars, fp32: |X_l|² for each l, then X_lᵀ of the constant of G_{l,j}, for j ≤ l.
    let scalarRows: Int
    /// (L (L + 1) / 2, C).
    private let constants: Tensor
    /// g_1 … g_{L−1}.
    private let gains: [[Float]]
    private let mask: MaskPrompt

    private var sections: [Section] {
        keys + values + queries + crossTerms.flatMap { $0 } + [upscaling]
    }

    /// The scalar row of |X_l|².
    func squares(_ layer: Int) -> Int { layer - 1 }
    /// The scalar row of X_lᵀ of G_{l,j}'s constant.
    func constant(_ layer: Int, _ update: Int) -> Int { depth + layer * (layer - 1) / 2 + update - 1 }

    /// - Parameters:
    ///   - imageToToken: by layer, the image's attention to the tokens.
    ///   - tokenToImage: the tokens' attentions to y_0 … y_L.
    ///   - norms: by layer, the norm after the image's update (`norm4`).
    ///   - upscaling: (rows, C), applied to y_L.
    ///   - channels: C.
    ///   - mask: how mask prompts come in.
    ///   - arithmetic: of the products with the features.
    init(
        imageToToken: [ImageToTokenAttention], tokenToImage: [TokenToImageAttention], norms: [LayerNorm],
        upscaling: Tensor, channels: Int, mask: MaskPrompt, arithmetic: TileArithmetic
    ) {
        let depth = imageToToken.count
        let inner = tokenToImage[0].inner
        self.mask = mask
        self.depth = depth
        self.channels = channels
        self.inner = inner
        self.arithmetic = arithmetic
        headPadded = tokenToImage[0].headPadded
        let gains = norms.map(\.gains)
        self.gains = Array(gains.dropLast())
        scalarRows = depth + depth * (depth + 1) / 2

        var offset = 0
        func section(
            _ form: Form, _ weight: [Float], isPositioned: Bool = false, bias: [Float]? = nil
        ) -> Section {
            let rows = weight.count / channels
            defer {
                offset += form == .values ? 64 * DecoderHeads.count * tokenToImage[0].headPadded : rows * 64
            }
            let matrix = Tensor(shape: [rows, channels], weight)
            return Section(
                form: form, rows: rows, offset: offset, weight: arithmetic.matrix(matrix), isPositioned: isPositioned,
                bias: bias, maskWeight: Self.product(matrix, mask.weight),
                maskBias: TokenToImageAttention.product(weight, mask.shift))
        }
        /// Each row w to the row over x that gives w g_l ∘ X_l: the embedding's part of a projection of y_l.
        func overEmbedding(_ rows: [Float], layer: Int) -> [Float] {
            layer == 0 ? rows : Self.pulledBack(rows, channels: channels, gains: gains, through: layer, scaled: true)
        }
        var constants: [Float] = []
        var (keys, values, queries, crossTerms): ([Section], [Section], [Section], [[Section]]) = ([], [], [], [])
        for layer in 0...depth {
            keys.append(
                section(.lanes, overEmbedding(tokenToImage[layer].keyRows, layer: layer), isPositioned: layer == 0))
            values.append(section(.values, overEmbedding(tokenToImage[layer].valueRows, layer: layer)))
            if layer < depth {
                queries.append(
                    section(
                        .lanes, overEmbedding(imageToToken[layer].queryRows, layer: layer), isPositioned: layer == 0,
                        bias: layer == 0 ? imageToToken[0].queryBiases : nil))
            }
            guard layer > 0 else { continue }
            crossTerms.append(
                (1...layer).map { update in
                    let pushed = Self.pushedForward(
                        imageToToken[update - 1].outputRows, channels: channels, gains: gains, from: update, to: layer)
                    return section(
                        .lanes,
                        Self.pulledBack(pushed, channels: channels, gains: gains, through: layer, scaled: false))
                })
            for update in 1...layer {
                let shift = Self.constant(of: update, imageToToken: imageToToken, norms: norms)
                let pushed = Self.pushedForward(shift, channels: channels, gains: gains, from: update, to: layer)
                constants += Self.pulledBack(pushed, channels: channels, gains: gains, through: layer, scaled: false)
            }
        }
        self.upscaling = section(.plain, overEmbedding(upscaling.elements, layer: depth))
        (self.keys, self.values, self.queries, self.crossTerms) = (keys, values, queries, crossTerms)
        self.constants = Tensor(shape: [constants.count / channels, channels], constants)
        tileCount = offset
    }

    /// b_j: what layer `update`'s update adds besides the folded values: the output's bias and the shift of the norm before.
    static func constant(of update: Int, imageToToken: [ImageToTokenAttention], norms: [LayerNorm]) -> [Float] {
        let bias = imageToToken[update - 1].outputBias.elements
        guard update > 1 else { return bias }
        return zip(bias, norms[update - 2].shifts).map { $0 + $1 }
    }

    /// Columns of G_{from,from} before centring, each a row here, to those of G_{to,from}.
    private static func pushedForward(_ rows: [Float], channels: Int, gains: [[Float]], from: Int, to: Int) -> [Float] {
        var rows = rows
        for start in stride(from: 0, to: rows.count, by: channels) {
            center(&rows, start, channels)
            for layer in from..<to {
                for channel in 0..<channels { rows[start + channel] *= gains[layer - 1][channel] }
                center(&rows, start, channels)
            }
        }
        return rows
    }

    /// Rows over X_l (or over g_l ∘ X_l) to rows over x.
    private static func pulledBack(
        _ rows: [Float], channels: Int, gains: [[Float]], through layer: Int, scaled: Bool
    ) -> [Float] {
        var rows = rows
        for start in stride(from: 0, to: rows.count, by: channels) {
            for step in stride(from: layer, through: 1, by: -1) {
                if step < layer || scaled {
                    for channel in 0..<channels { rows[start + channel] *= gains[step - 1][channel] }
                }
                center(&rows, start, channels)
            }
        }
        return rows
    }

    /// (m, k) times (k, n).
    private static func product(_ a: Tensor, _ b: Tensor) -> Tensor {
        let (rows, depth, columns) = (a.shape[0], a.shape[1], b.shape[1])
        return Tensor(shape: [rows, columns]) { c in
            c.initialize(repeating: 0)
            a.withUnsafeBufferPointer { a in
                b.withUnsafeBufferPointer { b in
                    for row in 0..<rows {
                        for k in 0..<depth {
                            for n in 0..<columns { c[row * columns + n] += a[row * depth + k] * b[k * columns + n] }
                        }
                    }
                }
            }
        }
    }

    private static func center(_ rows: inout [Float], _ start: Int, _ count: Int) {
        var sum = 0.0
        for index in start..<start + count { sum += Double(rows[index]) }
        let mean = Float(sum / Double(count))
        for index in start..<start + count { rows[index] -= mean }
    }

    // MARK: the projections of one image

    /// Projects an image's features.
    func state(_ image: ImageTiles, positions: ImageTiles, pool: ThreadPool) -> ImageState {
        ImageState(
            tokens: image.tokens, tileNumbers: tileCount, scalarRows: scalarRows, arithmetic: arithmetic, pool: pool
        ) { tile, numbers, scalars in
            Scratch.withFloats((5 * channels + max(inner, upscaling.rows) + DecoderHeads.count * headPadded) * 64) {
                memory in
                var parts = MemoryParts(memory)
                let x = parts.floats(channels * 64)
                let positioned = parts.floats(channels * 64)
                let operands = (
                    plain: parts.numbers(channels * 64, arithmetic.type),
                    positioned: parts.numbers(channels * 64, arithmetic.type)
                )
                let projected = parts.floats(max(inner, upscaling.rows) * 64)
                let transposed = parts.floats(DecoderHeads.count * headPadded * 64)
                image.withTile(tile) { x.update(from: $0, count: channels * 64) }
                positions.withTile(tile) { positioned.update(from: $0, count: channels * 64) }
                TileSteps.add(channels * 64, x, to: positioned)
                arithmetic.writeColumns(depth: channels, x, to: operands.plain)
                arithmetic.writeColumns(depth: channels, positioned, to: operands.positioned)
                for section in sections {
                    arithmetic.product(
                        rows: section.rows, depth: channels, a: section.weight.at(0), aStride: channels,
                        b: section.isPositioned ? operands.positioned : operands.plain, c: projected)
                    if let bias = section.bias { add(bias, to: projected) }
                    store(section, projected, transposed: transposed, to: numbers + arithmetic.bytes(section.offset))
                }
                writeScalars(x, to: scalars)
            }
        }
    }

    /// The projections of an image whose prompt is a mask besides.
    ///
    /// - Parameters:
    ///   - base: the image's projections without a mask.
    ///   - embedding: the image's features, neither with the mask's nor with no mask's.
    ///   - dense: the mask's features before their last layer.
    ///   - bias: (C), that of their last layer.
    ///   - pool: shares the tiles out.
    /// - Returns: what ``state(_:positions:pool:)`` makes of the features with the mask's.
    func state(
        _ base: ImageState, embedding: ImageTiles, adding dense: ImageTiles, bias: Tensor, pool: ThreadPool
    ) -> ImageState {
        let hidden = mask.hidden
        return ImageState(
            tokens: embedding.tokens, tileNumbers: tileCount, scalarRows: scalarRows, arithmetic: arithmetic, pool: pool
        ) { tile, numbers, scalars in
            let widest = max(inner, upscaling.rows)
            Scratch.withFloats((channels + widest + DecoderHeads.count * headPadded) * 64) { memory in
                var parts = MemoryParts(memory)
                let x = parts.floats(channels * 64)
                let projected = parts.floats(widest * 64)
                let transposed = parts.floats(DecoderHeads.count * headPadded * 64)
                dense.withTile(tile) { dense in
                    for section in sections {
                        product(section.maskWeight, dense, hidden: hidden, bias: section.maskBias, to: projected)
                        store(
                            section, projected, transposed: transposed, to: numbers + arithmetic.bytes(section.offset))
                    }
                    product(mask.weight, dense, hidden: hidden, bias: bias.elements, to: x)
                }
                arithmetic.add(tileCount, base.tile(tile), to: numbers)
                embedding.withTile(tile) { TileSteps.add(channels * 64, $0, to: x) }
                writeScalars(x, to: scalars)
            }
        }
    }

    /// y (rows, 64) = weight (rows, hidden) x + bias.
    private func product(
        _ weight: Tensor, _ x: UnsafePointer<Float>, hidden: Int, bias: [Float], to y: UnsafeMutablePointer<Float>
    ) {
        weight.withUnsafeBufferPointer { weight in
            guard let a = weight.baseAddress else { return }
            TileSteps.product(
                rows: weight.count / hidden, depth: hidden, a: a, aRow: hidden, b: x, c: y, rowBias: bias)
        }
    }

    /// The scalars of features x (C, 64), which are used up.
    private func writeScalars(_ x: UnsafeMutablePointer<Float>, to scalars: UnsafeMutablePointer<Float>) {
        constants.withUnsafeBufferPointer { rows in
            guard let rows = rows.baseAddress else { return }
            TileSteps.product(
                rows: scalarRows - depth, depth: channels, a: rows, aRow: channels, b: x, c: scalars + depth * 64)
        }
        for layer in 1...depth {
            TileSteps.centerColumns(
                rows: channels, x, gains: layer > 1 ? gains[layer - 2] : nil, squares: scalars + (layer - 1) * 64)
        }
    }

    private func add(_ bias: [Float], to projected: UnsafeMutablePointer<Float>) {
        for row in bias.indices {
            for lane in 0..<64 { projected[row * 64 + lane] += bias[row] }
        }
    }

    /// Writes a product (rows, 64) as the section keeps it.
    private func store(
        _ section: Section, _ projected: UnsafePointer<Float>, transposed: UnsafeMutablePointer<Float>,
        to target: UnsafeMutableRawPointer
    ) {
        switch section.form {
        case .lanes: arithmetic.writeColumns(depth: section.rows, projected, to: target)
        case .plain: arithmetic.writeRow(section.rows * 64, projected, to: target)
        case .values:
            let width = DecoderHeads.count * headPadded
            let headSize = section.rows / DecoderHeads.count
            transposed.update(repeating: 0, count: 64 * width)
            for head in 0..<DecoderHeads.count {
                TileSteps.transpose(
                    rows: headSize, columns: 64, projected + head * headSize * 64, stride: 64,
                    to: transposed + head * headPadded, stride: width)
            }
            arithmetic.writeColumns(depth: 64, columns: width, transposed, to: target)
        }
    }
}
