import Glibc
public import Imaging
package import NeuralNetworks
public import Tensors

/// CLIP's image encoder: a plain vision transformer over patches and one token for the whole picture, whose last state,
/// projected, stands for the picture.
///
/// Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, <https://arxiv.org/abs/2010.11929>; Radford et al., 2021.
///
/// A value without mutable state: any number of threads may use one at the same time.
public struct CLIPImageEncoder: Sendable {
    /// Rows of tokens that go through the blocks together: enough to keep the threads at work, few enough for memory.
    private static let rowsAtOnce = 3328

    /// How pictures are brought to the encoder.
    public let preprocessing: CLIPPreprocessing
    private let geometry: CLIPGeometry
    private let precision: Precision
    private let patchEmbedding: Linear
    /// (1 + patches, width); the first has the token of the whole picture added to it.
    private let positions: Tensor
    private let firstNorm: LayerNorm
    private let blocks: [Block]
    private let attention: SequenceAttention
    private let lastNorm: LayerNorm
    private let projection: Linear

    /// Reads `vision_model.*` and `visual_projection` under the names of `transformers`.
    package init(
        _ weights: some WeightSource, _ geometry: CLIPGeometry, preprocessing: CLIPPreprocessing, precision: Precision
    ) throws {
        self.geometry = geometry
        self.preprocessing = preprocessing
        self.precision = precision
        let (tower, name, patch) = (geometry.image, "vision_model", geometry.patchSize)
        let (width, tokens) = (tower.width, geometry.imageTokens)
        patchEmbedding = Linear(
            weight: try weights.tensor("\(name).embeddings.patch_embedding.weight", shape: [width, 3, patch, patch])
                .reshaped(to: [width, 3 * patch * patch]),
            bias: nil, input: precision.elementType)
        let whole = try weights.tensor("\(name).embeddings.class_embedding", shape: [width])
        let embedding = try weights.tensor("\(name).embeddings.position_embedding.weight", shape: [tokens, width])
        positions = Tensor(shape: [tokens, width], packing: embedding) { memory in
            embedding.withUnsafeBufferPointer { from in
                whole.withUnsafeBufferPointer { whole in
                    for index in memory.indices { memory[index] = from[index] + (index < width ? whole[index] : 0) }
                }
            }
        }
        // The published name has this spelling.
        firstNorm = try LayerNorm(weights, "\(name).pre_layrnorm", features: width, epsilon: tower.epsilon)
        blocks = try (0..<tower.depth).map {
            try Block(weights, "\(name).encoder.layers.\($0)", tower, precision: precision)
        }
        attention = SequenceAttention(
            lengths: tokens...tokens, headSize: tower.headSize, offsets: tower.headOffsets, isCausal: false)
        lastNorm = try LayerNorm(weights, "\(name).post_layernorm", features: width, epsilon: tower.epsilon)
        projection = try Linear(weights, "visual_projection", inputs: width, outputs: geometry.width, hasBias: false)
    }

    /// Encodes pictures of any size.
    ///
    /// - Parameters:
    ///   - count: of pictures.
    ///   - pool: the threads that share the work; the answer does not depend on how many there are.
    ///   - image: gives the picture of an index; called on any thread, once for each.
    /// - Returns: (pictures, width), as the model projects them: not normalized.
    public func encode(count: Int, pool: ThreadPool, image: (Int) -> Image) -> Tensor {
        encode(count: count, pool: pool) { index, patches in
            preprocessing.write(image(index), patchSize: geometry.patchSize, to: patches)
        }
    }

    /// Encodes pictures of any size.
    public func encode(_ images: [Image], pool: ThreadPool) -> Tensor {
        encode(count: images.count, pool: pool) { images[$0] }
    }

    /// Encodes what is the model's input already, (pictures, 3, S, S).
    package func encode(input: Tensor, pool: ThreadPool) -> Tensor {
        let (side, patch) = (geometry.imageSize, geometry.patchSize)
        precondition(input.shape == [input.shape[0], 3, side, side], "pictures of the shape \(input.shape)")
        return encode(count: input.shape[0], pool: pool) { index, patches in
            input.withUnsafeBufferPointer { input in
                guard let picture = input.baseAddress.map({ $0 + index * 3 * side * side }) else { return }
                let grid = geometry.grid
                for row in 0..<grid * grid {
                    let corner = row / grid * patch * side + row % grid * patch
                    for line in 0..<3 * patch {
                        (patches + (row * 3 * patch + line) * patch).update(
                            from: picture + line / patch * side * side + line % patch * side + corner, count: patch)
                    }
                }
            }
        }
    }

    /// `fill` writes a picture's patches, (patches, 3 · patch size²), on any thread.
    private func encode(
        count: Int, pool: ThreadPool, fill: (Int, UnsafeMutablePointer<Float>) -> Void
    ) -> Tensor {
        let batch = max(1, Self.rowsAtOnce / geometry.imageTokens)
        return Tensor(shape: [count, geometry.width]) { memory in
            guard let base = memory.baseAddress else { return }
            for first in stride(from: 0, to: count, by: batch) {
                let size = min(batch, count - first)
                let y = Features(base + first * geometry.width, stride: geometry.width)
                run(pictures: size, pool: pool, y: y) { index, patches in fill(first + index, patches) }
            }
        }
    }

    private func run(
        pictures: Int, pool: ThreadPool, y: Features, fill: (Int, UnsafeMutablePointer<Float>) -> Void
    ) {
        let (width, tokens, type) = (geometry.image.width, geometry.imageTokens, precision.elementType)
        let rows = pictures * tokens
        let sequences = (0..<pictures).map { SequenceAttention.Sequence(first: $0 * tokens, count: tokens) }
        Scratch.withFeatures(rows: rows, columns: width, type: .float32) { x in
            Scratch.withFeatures(rows: rows, columns: 3 * width, type: type) { projected in
                Scratch.withFeatures(rows: rows, columns: width, type: type) { attended in
                    pool.parallel(pictures) { embed($0, fill: fill, to: x.from(row: $0 * tokens)) }
                    pool.parallelRows(rows) { rows in
                        firstNorm(rows: rows.count, x: x.from(row: rows.lowerBound), y: x.from(row: rows.lowerBound))
                        blocks.first?.project(rows, x: x, projected: projected)
                    }
                    for (index, block) in blocks.enumerated() {
                        attention(sequences, projected: projected, out: attended, pool: pool)
                        guard index + 1 < blocks.count else {
                            return finish(pictures, last: block, attended: attended, x: x, y: y, pool: pool)
                        }
                        // A block's tail and the next one's head touch the same rows: they stay in the cache between.
                        pool.parallelRows(rows) { rows in
                            block.finish(rows, attended: attended, x: x)
                            blocks[index + 1].project(rows, x: x, projected: projected)
                        }
                    }
                }
            }
        }
    }

    /// The last block's tail, norm and projection: of each picture only the token that stands for all of it is wanted.
    private func finish(
        _ pictures: Int, last: Block, attended: Features, x: Features, y: Features, pool: ThreadPool
    ) {
        let (width, tokens) = (geometry.image.width, geometry.imageTokens)
        pool.parallelRows(pictures, block: 32) { part in
            Scratch.withFeatures(rows: part.count, columns: width, type: .float32) { whole in
                Scratch.withFeatures(rows: part.count, columns: width, type: attended.type) { heads in
                    for (row, picture) in part.enumerated() {
                        memcpy(whole.from(row: row).base, x.from(row: picture * tokens).base, width * 4)
                        memcpy(
                            heads.from(row: row).base, attended.from(row: picture * tokens).base,
                            width * attended.type.byteCount)
                    }
                    last.finish(0..<part.count, attended: heads, x: whole)
                }
                lastNorm(rows: part.count, x: whole, y: whole)
                projection.product(rows: part.count, x: whole, y: y.from(row: part.lowerBound))
            }
        }
    }

    /// A picture's tokens before the first norm.
    private func embed(_ picture: Int, fill: (Int, UnsafeMutablePointer<Float>) -> Void, to x: Features) {
        let (width, patches) = (geometry.image.width, geometry.imageTokens - 1)
        let depth = 3 * geometry.patchSize * geometry.patchSize
        positions.withUnsafeBufferPointer { positions in
            guard let positions = positions.baseAddress else { return }
            x.floats.update(from: positions, count: (patches + 1) * width)
        }
        Scratch.withFloats(patches * depth) { memory in
            fill(picture, memory)
            let gathered = Features(memory, stride: depth)
            let y = x.from(row: 1)
            guard precision != .float32 else {
                return patchEmbedding.product(rows: patches, x: gathered, y: y, accumulate: true)
            }
            Scratch.withFeatures(rows: patches, columns: depth, type: precision.elementType) { narrowed in
                gathered.write(rows: patches, columns: depth, to: narrowed)
                patchEmbedding.product(rows: patches, x: narrowed, y: y, accumulate: true)
            }
        }
    }
}

extension CLIPImageEncoder {
    /// A transformer block: x += attention(norm1(x)); x += mlp(norm2(x)).
    fileprivate struct Block: Sendable {
        private let width: Int
        private let type: ElementType
        private let norm1: LayerNorm
        private let projection: Linear
        private let output: Linear
        private let norm2: LayerNorm
        private let mlp: MLP

        init(
            _ weights: some WeightSource, _ name: String, _ tower: CLIPGeometry.Tower, precision: Precision
        ) throws {
            let (type, quantizes) = (precision.elementType, precision.quantizesBlocks)
            (width, self.type) = (tower.width, type)
            norm1 = try LayerNorm(weights, "\(name).layer_norm1", features: width, epsilon: tower.epsilon)
            projection = try Linear(
                weights, "\(name).self_attn.in_proj", inputs: width, outputs: 3 * width, input: type, output: type,
                quantizes: quantizes)
            output = try Linear(
                weights, "\(name).self_attn.out_proj", inputs: width, outputs: width, input: type, quantizes: quantizes)
            norm2 = try LayerNorm(weights, "\(name).layer_norm2", features: width, epsilon: tower.epsilon)
            mlp = try MLP(
                weights, expand: "\(name).mlp.fc1", contract: "\(name).mlp.fc2", inputs: width, hidden: tower.mlpWidth,
                activation: tower.activation, type: type, quantizes: quantizes)
        }

        /// projected[rows] = in_proj(norm1(x[rows])).
        func project(_ rows: Range<Int>, x: Features, projected: Features) {
            Scratch.withFeatures(rows: rows.count, columns: width, type: type) { normal in
                norm1(rows: rows.count, x: x.from(row: rows.lowerBound), y: normal)
                projection.product(rows: rows.count, x: normal, y: projected.from(row: rows.lowerBound))
            }
        }

        /// x[rows] += out_proj(attended[rows]); x[rows] += mlp(norm2(x[rows])).
        func finish(_ rows: Range<Int>, attended: Features, x: Features) {
            let x = x.from(row: rows.lowerBound)
            output.product(rows: rows.count, x: attended.from(row: rows.lowerBound), y: x, accumulate: true)
            Scratch.withFeatures(rows: rows.count, columns: width, type: type) { normal in
                norm2(rows: rows.count, x: x, y: normal)
                mlp.add(rows: rows.count, x: normal, to: x)
            }
        }
    }
}
