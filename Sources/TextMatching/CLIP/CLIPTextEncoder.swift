import Glibc
package import NeuralNetworks
public import Tensors

/// CLIP's text encoder: a causal transformer whose last state at the end of a text, projected, stands for the text.
///
/// A token sees none after it, so what follows the end is never computed, and what texts begin with in common, the words of a
/// prompt's template, is computed once and kept: of each block its keys and values.
///
/// A value without mutable state: any number of threads may use one at the same time.
public struct CLIPTextEncoder: Sendable {
    /// The beginning of texts, computed.
    struct Prefix: Sendable {
        let tokens: [Int32]
        /// By block: the projections (tokens, 3 · width) of queries, keys and values, in the encoder's precision.
        let projections: [Tensor]
    }

    private let geometry: CLIPGeometry
    private let precision: Precision
    /// (vocabulary, width).
    private let tokenEmbedding: Tensor
    /// (context, width).
    private let positionEmbedding: Tensor
    private let blocks: [Block]
    private let attention: SequenceAttention
    private let finalNorm: LayerNorm
    private let projection: SharedLinear

    /// Reads `text_model.*` and `text_projection` under the names of `transformers`.
    package init(_ weights: some WeightSource, _ geometry: CLIPGeometry, precision: Precision) throws {
        self.geometry = geometry
        self.precision = precision
        let (tower, name) = (geometry.text, "text_model")
        tokenEmbedding = try weights.tensor(
            "\(name).embeddings.token_embedding.weight", shape: [geometry.vocabularySize, tower.width])
        positionEmbedding = try weights.tensor(
            "\(name).embeddings.position_embedding.weight", shape: [geometry.contextLength, tower.width])
        blocks = try (0..<tower.depth).map {
            try Block(weights, "\(name).encoder.layers.\($0)", tower, precision: precision)
        }
        attention = SequenceAttention(
            lengths: 1...geometry.contextLength, headSize: tower.headSize, offsets: tower.headOffsets, isCausal: true)
        finalNorm = try LayerNorm(
            weights, "\(name).final_layer_norm", features: tower.width, epsilon: tower.epsilon)
        projection = try SharedLinear(
            weights, "text_projection", inputs: tower.width, outputs: geometry.width, hasBias: false)
    }

    /// Encodes texts.
    ///
    /// - Parameters:
    ///   - texts: tokens with start and end, filled up or not; each as long as the model allows at most, and one at least.
    ///   - pool: the threads that share the work; the answer does not depend on how many there are.
    /// - Returns: (texts, width), as the model projects them: not normalized.
    public func encode(_ texts: [[Int32]], pool: ThreadPool) -> Tensor {
        encode(texts, prefixes: [], pool: pool)
    }

    /// The same, with what texts may begin with computed first.
    package func encode(_ texts: [[Int32]], beginnings: [[Int32]], pool: ThreadPool) -> Tensor {
        encode(texts, prefixes: beginnings.map { prefix($0, pool: pool) }, pool: pool)
    }

    /// The same where the beginnings of some texts are known.
    func encode(_ texts: [[Int32]], prefixes: [Prefix], pool: ThreadPool) -> Tensor {
        // A batch bounds the memory; a text's numbers depend on no other.
        let batch = 256
        return Tensor(shape: [texts.count, geometry.width]) { memory in
            guard let base = memory.baseAddress else { return }
            for first in stride(from: 0, to: texts.count, by: batch) {
                let part = texts[first..<min(texts.count, first + batch)].map { text in
                    precondition((1...geometry.contextLength).contains(text.count), "a text of \(text.count) tokens")
                    return Array(text[...pooledPlace(of: text)])
                }
                run(part, prefixes: prefixes, pool: pool) { pooled in
                    finalNorm(rows: part.count, x: pooled, y: pooled)
                    projection(
                        rows: part.count, x: pooled,
                        y: Features(base + first * geometry.width, stride: geometry.width), pool: pool)
                }
            }
        }
    }

    /// Computes the beginning of texts.
    func prefix(_ tokens: [Int32], pool: ThreadPool) -> Prefix {
        var projections: [Tensor] = []
        run([tokens], prefixes: [], pool: pool, keeping: { projections.append($0) }) { _ in }
        return Prefix(tokens: tokens, projections: projections)
    }

    /// Where a text is read off.
    func pooledPlace(of text: [Int32]) -> Int {
        switch geometry.endRule {
        case .largest: text.max().flatMap(text.firstIndex(of:)) ?? 0
        case .token(let end): text.firstIndex(of: end) ?? 0
        }
    }

    /// Sends texts through the blocks, and calls `body` with a row for the last token of each; `keeping` gets the first text's
    /// projections of each block.
    private func run(
        _ texts: [[Int32]], prefixes: [Prefix], pool: ThreadPool, keeping: ((Tensor) -> Void)? = nil,
        _ body: (Features) -> Void
    ) {
        let (width, type) = (geometry.text.width, precision.elementType)
        // The longest beginning of each text that is known; its last token is always computed.
        let known = texts.map { text in
            prefixes.filter { $0.tokens.count < text.count && text.starts(with: $0.tokens) }
                .max { $0.tokens.count < $1.tokens.count }
        }
        var sequences: [SequenceAttention.Sequence] = []
        var lasts: [Int] = []
        // Of each row that is computed: its place among all tokens, its token, and its place in its text.
        var rows: [(all: Int, token: Int32, place: Int)] = []
        var all = 0
        for (text, prefix) in zip(texts, known) {
            let first = prefix?.tokens.count ?? 0
            sequences.append(.init(first: all, count: text.count, known: first))
            rows += (first..<text.count).map { (all + $0, text[$0], $0) }
            lasts.append(rows.count - 1)
            all += text.count
        }
        let isWhole = rows.count == all
        let count = Self.filledUp(rows.count)
        Scratch.withFeatures(rows: count, columns: width, type: .float32) { x in
            embed(rows.map { ($0.token, $0.place) }, to: x)
            memset(x.from(row: rows.count).base, 0, (count - rows.count) * width * 4)
            Scratch.withFeatures(rows: isWhole ? count : all, columns: 3 * width, type: type) { projected in
                Scratch.withFeatures(rows: isWhole ? count : all, columns: width, type: type) { attended in
                    if isWhole {
                        memset(attended.from(row: all).base, 0, (count - all) * width * type.byteCount)
                    }
                    // Where parts are known, what is computed lies close together, and is spread out for the attention.
                    Scratch.withFeatures(rows: isWhole ? 0 : count, columns: 3 * width, type: type) { close in
                        for (index, block) in blocks.enumerated() {
                            block.project(rows: count, x: x, projected: isWhole ? projected : close, pool: pool)
                            if !isWhole {
                                gather(
                                    rows.lazy.enumerated().map { ($0.offset, $0.element.all) }, from: close,
                                    to: projected, columns: 3 * width)
                                for (sequence, prefix) in zip(sequences, known) {
                                    prefix?.write(block: index, to: projected.from(row: sequence.first))
                                }
                            }
                            keeping?(projected.kept(rows: all, columns: 3 * width))
                            attention(sequences, projected: projected, out: attended, pool: pool)
                            let out = isWhole ? attended : Features(close.base, type: type, stride: width)
                            if !isWhole {
                                gather(
                                    rows.lazy.enumerated().map { ($0.element.all, $0.offset) }, from: attended, to: out,
                                    columns: width)
                            }
                            guard index + 1 == blocks.count else {
                                block.finish(rows: count, attended: out, x: x, pool: pool)
                                continue
                            }
                            // Of what the last block makes only the texts' last tokens are wanted.
                            let wanted = Self.filledUp(texts.count)
                            Scratch.withFeatures(rows: wanted, columns: width, type: .float32) { pooled in
                                Scratch.withFeatures(rows: wanted, columns: width, type: type) { heads in
                                    memset(pooled.base, 0, wanted * width * 4)
                                    memset(heads.base, 0, wanted * width * type.byteCount)
                                    gather(zip(lasts, texts.indices), from: x, to: pooled, columns: width)
                                    gather(zip(lasts, texts.indices), from: out, to: heads, columns: width)
                                    block.finish(rows: wanted, attended: heads, x: pooled, pool: pool)
                                }
                                body(pooled)
                            }
                        }
                    }
                }
            }
        }
    }

    /// So many rows are computed where `rows` are wanted: products are planned for each number of rows that comes, which takes
    /// longer than a few rows of zeros do.
    private static func filledUp(_ rows: Int) -> Int {
        let step = rows <= 64 ? 8 : 64
        return (rows + step - 1) / step * step
    }

    /// x = token embedding + position embedding.
    private func embed(_ rows: [(token: Int32, place: Int)], to x: Features) {
        let width = geometry.text.width
        tokenEmbedding.withUnsafeBufferPointer { tokens in
            positionEmbedding.withUnsafeBufferPointer { positions in
                for (row, (token, place)) in rows.enumerated() {
                    precondition((0..<geometry.vocabularySize).contains(Int(token)), "the token \(token)")
                    let y = x.from(row: row).floats
                    let (from, at) = (Int(token) * width, place * width)
                    for column in 0..<width { y[column] = tokens[from + column] + positions[at + column] }
                }
            }
        }
    }

    /// Copies rows from their places to others.
    private func gather(
        _ rows: some Sequence<(Int, Int)>, from: Features, to: Features, columns: Int
    ) {
        let bytes = columns * from.type.byteCount
        for (source, target) in rows { memcpy(to.from(row: target).base, from.from(row: source).base, bytes) }
    }
}

extension CLIPTextEncoder.Prefix {
    /// Puts the projections of a block in front of a text's own.
    fileprivate func write(block: Int, to projected: Features) {
        let bytes = projections[block].count * 4
        projections[block].withUnsafeBufferPointer { kept in
            guard let kept = kept.baseAddress else { return }
            memcpy(projected.base, kept, bytes)
        }
    }
}

extension Features {
    /// A copy of dense rows; numbers of half the width lie two in the place of one.
    fileprivate func kept(rows: Int, columns: Int) -> Tensor {
        let bytes = rows * columns * type.byteCount
        precondition(stride == columns && bytes % 4 == 0, "rows with gaps")
        return Tensor(shape: [bytes / 4]) { memory in
            guard let to = memory.baseAddress else { return }
            memcpy(to, base, bytes)
        }
    }
}

extension CLIPGeometry.Tower {
    /// Where heads begin in the joint projection of queries, keys and values.
    var headOffsets: [HeadOffsets] {
        (0..<headCount).map {
            HeadOffsets(query: $0 * headSize, key: width + $0 * headSize, value: 2 * width + $0 * headSize)
        }
    }
}

extension CLIPTextEncoder {
    /// A transformer block: x += attention(norm1(x)); x += mlp(norm2(x)).
    fileprivate struct Block: Sendable {
        private let width: Int
        private let hidden: Int
        private let type: ElementType
        private let norm1: LayerNorm
        private let projection: SharedLinear
        private let output: SharedLinear
        private let norm2: LayerNorm
        private let expand: SharedLinear
        private let contract: SharedLinear

        init(
            _ weights: some WeightSource, _ name: String, _ tower: CLIPGeometry.Tower, precision: Precision
        ) throws {
            let (type, quantizes) = (precision.elementType, precision.quantizesBlocks)
            (width, hidden, self.type) = (tower.width, tower.mlpWidth, type)
            norm1 = try LayerNorm(weights, "\(name).layer_norm1", features: width, epsilon: tower.epsilon)
            projection = try SharedLinear(
                weights, "\(name).self_attn.in_proj", inputs: width, outputs: 3 * width, input: type, output: type,
                quantizes: quantizes)
            output = try SharedLinear(
                weights, "\(name).self_attn.out_proj", inputs: width, outputs: width, input: type, quantizes: quantizes)
            norm2 = try LayerNorm(weights, "\(name).layer_norm2", features: width, epsilon: tower.epsilon)
            expand = try SharedLinear(
                weights, "\(name).mlp.fc1", inputs: width, outputs: hidden, activation: tower.activation, input: type,
                output: type, quantizes: quantizes)
            contract = try SharedLinear(
                weights, "\(name).mlp.fc2", inputs: hidden, outputs: width, input: type, quantizes: quantizes)
        }

        /// projected = in_proj(norm1(x)).
        func project(rows: Int, x: Features, projected: Features, pool: ThreadPool) {
            Scratch.withFeatures(rows: rows, columns: width, type: type) { normal in
                norm1(rows: rows, x: x, y: normal)
                projection(rows: rows, x: normal, y: projected, pool: pool)
            }
        }

        /// x += out_proj(attended); x += fc2(f(fc1(norm2(x)))).
        func finish(rows: Int, attended: Features, x: Features, pool: ThreadPool) {
            output(rows: rows, x: attended, y: x, accumulate: true, pool: pool)
            Scratch.withFeatures(rows: rows, columns: width, type: type) { normal in
                norm2(rows: rows, x: x, y: normal)
                Scratch.withFeatures(rows: rows, columns: hidden, type: type) { between in
                    expand(rows: rows, x: normal, y: between, pool: pool)
                    contract(rows: rows, x: between, y: x, accumulate: true, pool: pool)
                }
            }
        }
    }
}
