package import NeuralNetworks
package import Tensors

/// EdgeTAM's image encoder: a RepViT, which is convolutions alone, and SAM 2's feature pyramid.
///
/// Features are (row, column, channel) throughout, and fp32 from layer to layer. Two convolutions of stride 2 come first; a
/// stage begins with a halving, and its blocks are those of ``RepViTBlock``.
///
/// Wang et al., "RepViT", 2023, <https://arxiv.org/abs/2307.09283>; Zhou et al., "EdgeTAM", 2025,
/// <https://arxiv.org/abs/2501.07256>.
package struct RepViT: ImageEncoder {
    /// What a RepViT is made of; every list has one entry per stage.
    package struct Configuration: Sendable, Hashable {
        /// One block.
        package struct Block: Sendable, Hashable {
            /// Channels inside its perceptron.
            package var hidden: Int
            /// Channels inside its squeeze and excitation; nil where it has none.
            package var squeezed: Int?

            package init(hidden: Int, squeezed: Int? = nil) {
                self.hidden = hidden
                self.squeezed = squeezed
            }
        }

        /// S, a multiple of 32.
        package var imageSize: Int
        /// Channels.
        package var dims: [Int]
        package var blocks: [[Block]]
        /// Channels inside the two perceptrons of the halving before each stage but the first.
        package var halvings: [(before: Int, after: Int)] { pairs.map { ($0[0], $0[1]) } }
        private var pairs: [[Int]]
        /// Whether the map of stride 16 has that of stride 32 added.
        package var isFused: Bool
        /// C, the embedding's channels.
        package var outChannels: Int

        package init(
            imageSize: Int, dims: [Int], blocks: [[Block]], halvings: [(before: Int, after: Int)], isFused: Bool = true,
            outChannels: Int
        ) {
            self.imageSize = imageSize
            self.dims = dims
            self.blocks = blocks
            self.pairs = halvings.map { [$0.before, $0.after] }
            self.isFused = isFused
            self.outChannels = outChannels
        }

        /// Positions along a side at each stage.
        package var grids: [Int] { dims.indices.map { imageSize / (4 << $0) } }

        /// EdgeTAM's, a RepViT-M1.
        package static let published: Configuration = {
            let dims = [48, 96, 192, 384]
            return Configuration(
                imageSize: HieraConfiguration.publishedImageSize, dims: dims,
                blocks: zip(dims, [2, 2, 14, 2]).map { dim, depth in
                    // Channels of the squeeze are a quarter, in eights, and no tenth less than that.
                    let eights = (dim / 4 + 4) / 8 * 8
                    let squeezed = 10 * eights < 9 * (dim / 4) ? eights + 8 : eights
                    return (0..<depth).map { Block(hidden: 2 * dim, squeezed: $0.isMultiple(of: 2) ? squeezed : nil) }
                }, halvings: zip(dims, dims.dropFirst()).map { (2 * $0, 2 * $1) }, outChannels: 256)
        }()
    }

    private struct Stage: Sendable {
        let halving: RepViTHalving?
        let blocks: [RepViTBlock]
    }

    private let configuration: Configuration
    private let type: ElementType
    private let firstConvolution: Convolution3x3
    private let secondConvolution: Convolution3x3
    private let stages: [Stage]
    private let pyramid: SegmentAnything2Pyramid

    /// Reads `image_encoder.*`, `no_mem_embed`, and the mask decoder's `conv_s0` and `conv_s1`.
    package init(_ weights: some WeightSource, _ configuration: Configuration, precision: Precision) throws {
        self.configuration = configuration
        let (type, names) = (precision.elementType, TensorNames.RepViT.self)
        self.type = type
        let (dims, grids) = (configuration.dims, configuration.grids)
        let first = try FoldedConvolution(weights, names.firstConvolution, shape: [dims[0] / 2, 3, 3, 3])
        firstConvolution = Convolution3x3(
            weight: first.weight, bias: first.bias, stride: 2, activation: .gelu, input: type, output: type)
        let second = try FoldedConvolution(weights, names.secondConvolution, shape: [dims[0], dims[0] / 2, 3, 3])
        secondConvolution = Convolution3x3(weight: second.weight, bias: second.bias, stride: 2, input: type)
        stages = try configuration.blocks.enumerated().map { stage, blocks in
            let name = names.stage(stage)
            let halving =
                stage == 0
                ? nil
                : try RepViTHalving(
                    weights, names.halving(name), inputs: dims[stage - 1], outputs: dims[stage], grid: grids[stage - 1],
                    hidden: configuration.halvings[stage - 1], type: type)
            return Stage(
                halving: halving,
                blocks: try blocks.enumerated().map { index, block in
                    try RepViTBlock(
                        weights, TensorNames.part(index, of: names.blocks(name)), channels: dims[stage],
                        grid: grids[stage], block, type: type)
                })
        }
        pyramid = try SegmentAnything2Pyramid(
            weights, dims: dims, channels: configuration.outChannels, grids: grids, isFused: configuration.isFused,
            type: type)
    }

    package func encode(_ image: Tensor, pool: ThreadPool) -> Tensor { maps(image, pool: pool)[0].tensor }

    package func maps(_ image: Tensor, pool: ThreadPool) -> [FeatureMap] {
        let largest = zip(configuration.grids, configuration.dims).reduce(0) { max($0, $1.0 * $1.0 * $1.1) }
        return pyramid.maps(pool: pool) { maps in
            Scratch.withFloats(2 * largest) { memory in
                var (x, y) = (memory, memory + largest)
                embed(image, y: Features(x, stride: configuration.dims[0]), pool: pool)
                for (index, stage) in stages.enumerated() {
                    let (dim, grid) = (configuration.dims[index], configuration.grids[index])
                    if let halving = stage.halving {
                        // Its first half has its answer in y, and the second one's comes back to x.
                        halving(
                            Features(x, stride: halving.inputs), between: Features(y, stride: halving.inputs),
                            y: Features(x, stride: dim), pool: pool)
                    }
                    for block in stage.blocks {
                        block(Features(x, stride: dim), y: Features(y, stride: dim), pool: pool)
                        swap(&x, &y)
                    }
                    let tokens = Features(x, stride: dim)
                    pool.parallelRows(grid * grid) { rows in
                        pyramid.project(stage: index, rows: rows.count, tokens: tokens.from(row: rows.lowerBound)) {
                            maps[index].from(row: rows.lowerBound).floats.update(
                                from: $0.floats, count: rows.count * $1)
                        }
                    }
                }
            }
        }
    }

    /// The picture (3, S, S) to (S / 4, S / 4, channels).
    private func embed(_ image: Tensor, y: Features, pool: ThreadPool) {
        let side = configuration.imageSize
        let (half, width) = (side / 2, configuration.dims[0] / 2)
        Scratch.withFeatures(rows: half * half, columns: width, type: type) { fine in
            image.withUnsafeBufferPointer { image in
                guard let image = image.baseAddress else { return }
                Scratch.withFeatures(rows: side * side, columns: 3, type: type) { pixels in
                    pool.parallelRows(side, block: 64) { rows in
                        let (first, count) = (rows.lowerBound * side, rows.count * side)
                        Scratch.withFloats(count * 3) { last in
                            for index in 0..<count {
                                for channel in 0..<3 {
                                    last[index * 3 + channel] = image[channel * side * side + first + index]
                                }
                            }
                            Features(last, stride: 3).write(rows: count, columns: 3, to: pixels.from(row: first))
                        }
                    }
                    pool.parallelRows(half * half, block: 1024) { positions in
                        firstConvolution(
                            positions: positions, height: side, width: side, x: pixels,
                            y: fine.from(row: positions.lowerBound))
                    }
                }
            }
            pool.parallelRows(half * half / 4, block: 256) { positions in
                secondConvolution(
                    positions: positions, height: half, width: half, x: fine, y: y.from(row: positions.lowerBound))
            }
        }
    }
}
