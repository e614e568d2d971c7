package import NeuralNetworks
package import Tensors

/// MobileSAM's image encoder, of any size: convolutions at the fine scales, windowed attention at the coarse ones.
///
/// Wu et al., "TinyViT", 2022, <https://arxiv.org/abs/2207.10666>; Zhang et al., "Faster Segment Anything", 2023,
/// <https://arxiv.org/abs/2306.14289>. Features are (row, column, channel) throughout.
package struct TinyViT: EarlyFeatureEncoder {
    /// What a TinyViT is made of; every list has one entry per stage.
    package struct Configuration: Sendable {
        package var imageSize: Int
        package var embedDims: [Int]
        package var depths: [Int]
        /// Unused for the first stage, which is convolutional.
        package var headCounts: [Int]
        /// Unused for the first stage.
        package var windowSizes: [Int]
        /// Stride of the merging after each stage but the last.
        package var strides: [Int]
        /// Channels inside each stage's MBConv (first stage) or MLP.
        package var hiddenDims: [Int]
        /// C, the embedding's channels.
        package var outChannels: Int

        package init(
            imageSize: Int, embedDims: [Int], depths: [Int], headCounts: [Int], windowSizes: [Int], strides: [Int],
            hiddenDims: [Int], outChannels: Int
        ) {
            self.imageSize = imageSize
            self.embedDims = embedDims
            self.depths = depths
            self.headCounts = headCounts
            self.windowSizes = windowSizes
            self.strides = strides
            self.hiddenDims = hiddenDims
            self.outChannels = outChannels
        }

        /// Tokens along a side at each stage.
        package var grids: [Int] {
            strides.reduce(into: [(imageSize + 3) / 4]) { grids, stride in
                grids.append(((grids.last ?? 0) + stride - 1) / stride)
            }
        }
    }

    private enum Step: Sendable {
        case convolution(InvertedBottleneck)
        case transformer(TinyViTBlock)
    }

    /// The first layer: a product over gathered neighbourhoods, or in bf16 a kernel of its own.
    private enum FirstConvolution: Sendable {
        case gathered(Convolution3x3)
        case planes(PlanesConvolution3x3)
    }

    private let configuration: Configuration
    private let type: ElementType
    private let firstConvolution: FirstConvolution
    private let secondConvolution: Convolution3x3
    private let steps: [Step]
    private let neck: Neck
    /// SAM-HQ's, of the tokens that come into the stage of that number.
    let highQuality: HighQualityFeatures?
    private static let earlyStage = 2

    /// Reads `image_encoder.*`, and for SAM-HQ what else of it depends on the picture alone.
    package init(
        _ weights: some WeightSource, _ configuration: Configuration, isHighQuality: Bool = false, precision: Precision
    ) throws {
        self.configuration = configuration
        let type = precision.elementType
        self.type = type
        let dims = configuration.embedDims
        let grids = configuration.grids
        let first = try FoldedConvolution(
            weights, TensorNames.TinyViT.firstConvolution, shape: [dims[0] / 2, 3, 3, 3])
        firstConvolution =
            type == .bfloat16
            ? .planes(PlanesConvolution3x3(weight: first.weight, bias: first.bias))
            : .gathered(Convolution3x3(weight: first.weight, bias: first.bias, stride: 2, activation: .gelu))
        let second = try FoldedConvolution(
            weights, TensorNames.TinyViT.secondConvolution, shape: [dims[0], dims[0] / 2, 3, 3])
        secondConvolution = Convolution3x3(
            weight: second.weight, bias: second.bias, stride: 2, input: type, output: type)

        var steps: [Step] = []
        for stage in dims.indices {
            let name = TensorNames.part(stage, of: TensorNames.TinyViT.stages)
            let blocks = TensorNames.TinyViT.blocks(name)
            for block in 0..<configuration.depths[stage] {
                if stage == 0 {
                    steps.append(
                        .convolution(
                            try InvertedBottleneck(
                                weights, TensorNames.part(block, of: blocks), inputs: dims[0],
                                hidden: configuration.hiddenDims[0], outputs: dims[0], grid: grids[0], stride: 1,
                                isResidual: true, type: type, output: type)))
                } else {
                    steps.append(
                        .transformer(
                            try TinyViTBlock(
                                weights, TensorNames.part(block, of: blocks), dim: dims[stage],
                                hidden: configuration.hiddenDims[stage], headCount: configuration.headCounts[stage],
                                window: configuration.windowSizes[stage], grid: grids[stage], precision: precision)))
                }
            }
            if stage + 1 < dims.count {
                // What follows is a transformer, whose residual stream is fp32.
                steps.append(
                    .convolution(
                        try InvertedBottleneck(
                            weights, "\(name).downsample", inputs: dims[stage], hidden: dims[stage + 1],
                            outputs: dims[stage + 1], grid: grids[stage], stride: configuration.strides[stage],
                            isResidual: false, type: type, output: .float32)))
            }
        }
        self.steps = steps
        neck = try Neck(
            weights, inputs: dims[dims.count - 1], outputs: configuration.outChannels, grid: grids[grids.count - 1],
            type: type)
        highQuality =
            isHighQuality
            ? try HighQualityFeatures(
                weights, inputs: dims[Self.earlyStage], channels: configuration.outChannels,
                grid: grids[grids.count - 1], type: type)
            : nil
    }

    /// Encodes one picture; `early` is given the tokens that come into the stage which SAM-HQ takes them from.
    func encode(_ image: Tensor, pool: ThreadPool, early: (Features) -> Void) -> Tensor {
        let (grids, dims) = (configuration.grids, configuration.embedDims)
        let sizes = zip(grids, dims).map { $0 * $0 * $1 }
        let largest = (sizes + zip(grids.dropFirst(), dims).map { $0 * $0 * $1 }).max() ?? 0
        return Scratch.withFloats(2 * largest) { memory in
            // The convolutional stage writes numbers of the products' type, every later one fp32.
            func features(_ memory: UnsafeMutablePointer<Float>, stage: Int) -> Features {
                Features(memory, type: stage == 0 ? type : .float32, stride: dims[stage])
            }
            var x = memory
            var y = memory + largest
            var stage = 0
            embedPatches(image, y: features(x, stage: 0), pool: pool)
            for step in steps {
                switch step {
                case .convolution(let bottleneck):
                    let next = bottleneck.isResidual ? stage : stage + 1
                    bottleneck(features(x, stage: stage), y: features(y, stage: next), pool: pool)
                    if next == Self.earlyStage, next != stage { early(features(y, stage: next)) }
                    stage = next
                case .transformer(let block):
                    block(features(x, stage: stage), y: features(y, stage: stage), pool: pool)
                }
                swap(&x, &y)
            }
            return neck(features(x, stage: stage), pool: pool)
        }
    }

    /// Two convolutions of stride 2: (3, S, S) to (S / 4, S / 4, dim).
    private func embedPatches(_ image: Tensor, y: Features, pool: ThreadPool) {
        let side = configuration.imageSize
        let half = (side + 1) / 2
        let quarter = (half + 1) / 2
        let outputs = configuration.embedDims[0] / 2
        Scratch.withFeatures(rows: half * half, columns: outputs, type: type) { fine in
            image.withUnsafeBufferPointer { image in
                guard let image = image.baseAddress else { return }
                switch firstConvolution {
                case .gathered(let convolution):
                    embedPixels(image, by: convolution, y: fine, pool: pool)
                case .planes(let convolution):
                    pool.parallelRows(half, block: 16) { rows in
                        for row in rows {
                            convolution.row(row, height: side, width: side, x: image, y: fine.from(row: row * half))
                        }
                    }
                }
            }
            pool.parallelRows(quarter * quarter, block: 512) { positions in
                secondConvolution(
                    positions: positions, height: half, width: half, x: fine, y: y.from(row: positions.lowerBound))
            }
        }
    }

    /// The first convolution on a picture whose channels were brought to the end.
    private func embedPixels(
        _ image: UnsafePointer<Float>, by convolution: Convolution3x3, y: Features, pool: ThreadPool
    ) {
        let side = configuration.imageSize
        let half = (side + 1) / 2
        Scratch.withFloats(side * side * 3) { pixels in
            pool.parallelRows(side, block: 64) { rows in
                for index in rows.lowerBound * side..<rows.upperBound * side {
                    for channel in 0..<3 { pixels[index * 3 + channel] = image[channel * side * side + index] }
                }
            }
            pool.parallelRows(half * half, block: 1024) { positions in
                convolution(
                    positions: positions, height: side, width: side, x: Features(pixels, stride: 3),
                    y: y.from(row: positions.lowerBound))
            }
        }
    }
}
