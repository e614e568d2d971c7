package import NeuralNetworks
package import Tensors

/// The image encoder of the published ViT-B, ViT-L and ViT-H, of any size: a plain vision transformer whose blocks look
/// at windows, except a few that look at everything.
///
/// A pruned one (SlimSAM) has blocks of different widths inside.
///
/// Kirillov et al., "Segment Anything", 2023, section 3 and appendix A; Li et al., "Exploring Plain Vision Transformer
/// Backbones for Object Detection", 2022, <https://arxiv.org/abs/2203.16527>; Chen et al., "SlimSAM", 2023,
/// <https://arxiv.org/abs/2312.05284>.
package struct ImageEncoderViT: EarlyFeatureEncoder {
    /// What a ViT is made of.
    package struct Configuration: Sendable {
        /// What is inside one block.
        package struct Block: Sendable, Hashable {
            package var headCount: Int
            package var headSize: Int
            package var mlpDim: Int
            /// Whether queries, keys and values are three layers, `attn.q`, `attn.k` and `attn.v`, and not one.
            package var isApart: Bool

            package init(headCount: Int, headSize: Int, mlpDim: Int, isApart: Bool = false) {
                self.headCount = headCount
                self.headSize = headSize
                self.mlpDim = mlpDim
                self.isApart = isApart
            }

            /// Features of queries, of keys and of values.
            var width: Int { headCount * headSize }
        }

        package var imageSize: Int
        package var patchSize: Int
        package var embedDim: Int
        package var depth: Int
        package var headCount: Int
        package var mlpDim: Int
        /// Side of the windows in the blocks that are not global.
        package var windowSize: Int
        package var globalBlocks: Set<Int>
        /// C, the embedding's channels.
        package var outChannels: Int
        /// What is inside each block of a pruned model; empty where all are as wide as the tokens.
        package var prunedBlocks: [Block] = []

        /// What is inside each block.
        package var blocks: [Block] {
            guard prunedBlocks.isEmpty else { return prunedBlocks }
            let block = Block(headCount: headCount, headSize: embedDim / headCount, mlpDim: mlpDim)
            return [Block](repeating: block, count: depth)
        }
        /// Features of queries, of keys and of values, in the widest block.
        var attentionWidth: Int { prunedBlocks.isEmpty ? embedDim : prunedBlocks.reduce(0) { max($0, $1.width) } }

        package init(
            imageSize: Int, patchSize: Int, embedDim: Int, depth: Int, headCount: Int, mlpDim: Int, windowSize: Int,
            globalBlocks: Set<Int>, outChannels: Int
        ) {
            self.imageSize = imageSize
            self.patchSize = patchSize
            self.embedDim = embedDim
            self.depth = depth
            self.headCount = headCount
            self.mlpDim = mlpDim
            self.windowSize = windowSize
            self.globalBlocks = globalBlocks
            self.outChannels = outChannels
        }
    }

    private let configuration: Configuration
    private let precision: Precision
    private let grid: Int
    private let patchEmbedding: Linear
    /// (tokens, embed dim).
    private let positionEmbedding: Tensor
    private let blocks: [Block]
    private let neck: Neck
    /// SAM-HQ's, of the tokens after the first global block.
    let highQuality: HighQualityFeatures?

    /// Reads `image_encoder.*`, and for SAM-HQ what else of it depends on the picture alone.
    package init(
        _ weights: some WeightSource, _ configuration: Configuration, isHighQuality: Bool = false, precision: Precision
    ) throws {
        self.configuration = configuration
        self.precision = precision
        let (dim, patch) = (configuration.embedDim, configuration.patchSize)
        let grid = configuration.imageSize / patch
        self.grid = grid
        let patches = TensorNames.ViT.patches
        patchEmbedding = Linear(
            weight: try weights.tensor(TensorNames.weight(patches), shape: [dim, 3, patch, patch])
                .reshaped(to: [dim, 3 * patch * patch]),
            bias: try weights.tensor("\(patches).bias", shape: [dim]),
            input: precision.elementType)
        positionEmbedding = try weights.tensor(TensorNames.ViT.positions, shape: [1, grid, grid, dim])
            .reshaped(to: [grid * grid, dim])
        blocks = try configuration.blocks.enumerated().map { index, sizes in
            try Block(
                weights, TensorNames.part(index, of: TensorNames.ViT.blocks), sizes, dim: dim, grid: grid,
                window: configuration.globalBlocks.contains(index) ? grid : configuration.windowSize,
                precision: precision)
        }
        neck = try Neck(
            weights, inputs: dim, outputs: configuration.outChannels, grid: grid, type: precision.elementType)
        highQuality =
            isHighQuality
            ? try HighQualityFeatures(
                weights, inputs: dim, channels: configuration.outChannels, grid: grid, type: precision.elementType)
            : nil
    }

    /// Encodes one picture; `early` is given the tokens after the first global block, (g², embed dim).
    func encode(_ image: Tensor, pool: ThreadPool, early: (Features) -> Void) -> Tensor {
        let (dim, tokens) = (configuration.embedDim, grid * grid)
        let (type, width) = (precision.elementType, configuration.attentionWidth)
        // The residual stream, the joint projection of queries, keys and values, and what the heads read.
        return Scratch.withFeatures(rows: tokens, columns: dim, type: .float32) { x in
            Scratch.withFeatures(rows: tokens, columns: 3 * width, type: type) { projected in
                Scratch.withFeatures(rows: tokens, columns: width, type: type) { attended in
                    pool.parallelRows(tokens) { rows in
                        embedPatches(image, rows, x.from(row: rows.lowerBound))
                        blocks.first?.project(rows, x: x, projected: projected)
                    }
                    for (index, block) in blocks.enumerated() {
                        block.attention(projected: projected, out: attended, pool: pool)
                        // A block's tail and the next one's head touch the same rows: they stay in the cache between.
                        pool.parallelRows(tokens) { rows in
                            block.finish(rows, attended: attended, x: x)
                            if index + 1 < blocks.count {
                                blocks[index + 1].project(rows, x: x, projected: projected)
                            }
                        }
                        if index == configuration.globalBlocks.min() { early(x) }
                    }
                }
            }
            return neck(x, pool: pool)
        }
    }

    /// Gathers the patches of `rows` tokens, projects them and adds their positions.
    private func embedPatches(_ image: Tensor, _ rows: Range<Int>, _ y: Features) {
        let (dim, patch, side) = (configuration.embedDim, configuration.patchSize, configuration.imageSize)
        let depth = 3 * patch * patch
        Scratch.withFloats(rows.count * depth) { patches in
            image.withUnsafeBufferPointer { image in
                guard let image = image.baseAddress else { return }
                for token in rows {
                    let corner = token / grid * patch * side + token % grid * patch
                    let target = patches + (token - rows.lowerBound) * depth
                    for line in 0..<3 * patch {
                        (target + line * patch).update(
                            from: image + line / patch * side * side + line % patch * side + corner, count: patch)
                    }
                }
            }
            positionEmbedding.withUnsafeBufferPointer { positions in
                guard let positions = positions.baseAddress else { return }
                y.floats.update(from: positions + rows.lowerBound * dim, count: rows.count * dim)
            }
            let gathered = Features(patches, stride: depth)
            guard precision != .float32 else {
                return patchEmbedding.product(rows: rows.count, x: gathered, y: y, accumulate: true)
            }
            Scratch.withFeatures(rows: rows.count, columns: depth, type: precision.elementType) { narrowed in
                gathered.write(rows: rows.count, columns: depth, to: narrowed)
                patchEmbedding.product(rows: rows.count, x: narrowed, y: y, accumulate: true)
            }
        }
    }
}

extension ImageEncoderViT {
    /// A transformer block: x += attention(norm1(x)); x += mlp(norm2(x)).
    fileprivate struct Block: Sendable {
        let attention: WindowAttention
        private let dim: Int
        private let type: ElementType
        private let norm1: LayerNorm
        private let projection: Linear
        private let output: Linear
        private let norm2: LayerNorm
        private let mlp: MLP

        init(
            _ weights: some WeightSource, _ name: String, _ sizes: Configuration.Block, dim: Int, grid: Int,
            window: Int,
            precision: Precision
        ) throws {
            let (type, quantizes) = (precision.elementType, precision.quantizesBlocks)
            let (headSize, width) = (sizes.headSize, sizes.width)
            self.dim = dim
            self.type = type
            norm1 = try LayerNorm(weights, "\(name).norm1", features: dim, epsilon: 1e-6)
            let bias: Tensor
            (projection, bias) = try Self.projection(
                weights, "\(name).attn", inputs: dim, width: width, isApart: sizes.isApart, precision: precision)
            output = try Linear(
                weights, "\(name).attn.proj", inputs: width, outputs: dim, input: type, quantizes: quantizes)
            norm2 = try LayerNorm(weights, "\(name).norm2", features: dim, epsilon: 1e-6)
            mlp = try MLP(
                weights, expand: TensorNames.ViT.expansion(name), contract: "\(name).mlp.lin2", inputs: dim,
                hidden: sizes.mlpDim, type: type, quantizes: quantizes)
            attention = WindowAttention(
                grid: grid, window: window, headSize: headSize,
                offsets: .joint(headCount: sizes.headCount, dim: width),
                // Windows are filled up after norm1 with zeros, whose projection is the bias.
                paddingRow: bias,
                positionBias: .relative(
                    height: try weights.tensor(TensorNames.ViT.relativeRows(name), shape: [2 * window - 1, headSize]),
                    width: try weights.tensor("\(name).attn.rel_pos_w", shape: [2 * window - 1, headSize])))
        }

        /// Queries, keys and values by one product, and their bias (3 · width).
        private static func projection(
            _ weights: some WeightSource, _ name: String, inputs: Int, width: Int, isApart: Bool, precision: Precision
        ) throws -> (Linear, Tensor) {
            let (type, quantizes) = (precision.elementType, precision.quantizesBlocks)
            guard isApart else {
                let layer = try Linear(
                    weights, TensorNames.ViT.projection(name), inputs: inputs, outputs: 3 * width, input: type,
                    output: type, quantizes: quantizes)
                return (layer, try weights.tensor("\(TensorNames.ViT.projection(name)).bias", shape: [3 * width]))
            }
            let parts = TensorNames.ViT.partsApart.map { "\(name).\($0)" }
            func joined(_ kind: String, _ shape: [Int]) throws -> Tensor {
                let tensors = try parts.map { try weights.tensor("\($0).\(kind)", shape: shape) }
                return Tensor(shape: [3 * shape[0]] + shape.dropFirst(), packing: tensors[0]) { memory in
                    _ = memory.initialize(from: tensors.lazy.flatMap(\.elements))
                }
            }
            let (weight, bias) = (try joined("weight", [width, inputs]), try joined("bias", [width]))
            for part in parts { weights.release("\(part).weight") }
            return (Linear(weight: weight, bias: bias, input: type, output: type, quantizes: quantizes), bias)
        }

        /// projected[rows] = qkv(norm1(x[rows])).
        func project(_ rows: Range<Int>, x: Features, projected: Features) {
            Scratch.withFeatures(rows: rows.count, columns: dim, type: type) { normal in
                norm1(rows: rows.count, x: x.from(row: rows.lowerBound), y: normal)
                projection.product(rows: rows.count, x: normal, y: projected.from(row: rows.lowerBound))
            }
        }

        /// x[rows] += proj(attended[rows]); x[rows] += mlp(norm2(x[rows])).
        func finish(_ rows: Range<Int>, attended: Features, x: Features) {
            let x = x.from(row: rows.lowerBound)
            output.product(rows: rows.count, x: attended.from(row: rows.lowerBound), y: x, accumulate: true)
            Scratch.withFeatures(rows: rows.count, columns: dim, type: type) { normal in
                norm2(rows: rows.count, x: x, y: normal)
                mlp.add(rows: rows.count, x: normal, to: x)
            }
        }
    }
}
