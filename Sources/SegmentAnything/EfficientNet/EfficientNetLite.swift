package import NeuralNetworks
package import Tensors

/// The trunk of an EfficientNet-Lite of any size, with a neck to one embedding of stride 16 and two skips for the mask
/// decoder's up-scaling.
package struct EfficientNetLite: ImageEncoder {
    /// What an EfficientNet-Lite is made of.
    package struct Configuration: Sendable {
        package typealias Block = EfficientNetTrunk.Block

        package var trunk: EfficientNetTrunk.Configuration
        /// Channels inside the neck.
        package var neckWidth: Int
        /// C, the embedding's channels.
        package var outChannels: Int

        package init(imageSize: Int, stem: Int, blocks: [Block], neckWidth: Int, outChannels: Int) {
            trunk = EfficientNetTrunk.Configuration(imageSize: imageSize, stem: stem, blocks: blocks)
            self.neckWidth = neckWidth
            self.outChannels = outChannels
        }

        package var imageSize: Int {
            get { trunk.imageSize }
            set { trunk.imageSize = newValue }
        }
        /// Channels of the first convolution, of stride 2.
        package var stem: Int {
            get { trunk.stem }
            set { trunk.stem = newValue }
        }
        package var blocks: [Block] {
            get { trunk.blocks }
            set { trunk.blocks = newValue }
        }
        /// The stride, of the whole picture, of each block's answer.
        package var strides: [Int] { trunk.strides }
        /// The last block of each stride.
        package var lastBlocks: [Int: Int] { trunk.lastBlocks }
        /// Channels of the last block's answer of a stride.
        func channels(atStride stride: Int) -> Int { trunk.channels(atStride: stride) }
    }

    /// The strides whose last maps are used, in the order of the trunk.
    package static let usedStrides = [4, 8, 16, 32]

    private let configuration: Configuration
    private let trunk: EfficientNetTrunk
    private let neck: PyramidNeck
    /// From strides 8 and 4.
    private let skips: [Projection]

    /// Reads `image_encoder.*`.
    package init(_ weights: some WeightSource, _ configuration: Configuration, precision: Precision) throws {
        self.configuration = configuration
        let type = precision.elementType
        let names = TensorNames.EfficientNetLite.self
        trunk = try EfficientNetTrunk(weights, names.encoder, configuration.trunk, precision: precision)
        neck = try PyramidNeck(
            weights, inputs: [8, 16, 32].map(configuration.channels), width: configuration.neckWidth,
            outputs: configuration.outChannels, grid: configuration.imageSize / 16, type: type)
        skips = try [8, 4].enumerated().map { index, stride in
            try Projection(
                weights, TensorNames.part(index, of: names.skips), inputs: configuration.channels(atStride: stride),
                outputs: configuration.outChannels / (index == 0 ? 4 : 8), input: type)
        }
    }

    package func encode(_ image: Tensor, pool: ThreadPool) -> Tensor { maps(image, pool: pool)[0].tensor }

    package func maps(_ image: Tensor, pool: ThreadPool) -> [FeatureMap] {
        let side = configuration.imageSize
        return trunk.withMaps(of: image, strides: Self.usedStrides, pool: pool) { map in
            let embedding = neck(fine: map(8), middle: map(16), coarse: map(32), pool: pool)
            return zip(
                [FeatureMap.imageEmbedding] + FeatureMap.skips,
                [
                    embedding, skips[0].channelsFirst(map(8), side: side / 8, pool: pool),
                    skips[1].channelsFirst(map(4), side: side / 4, pool: pool),
                ]
            ).map { FeatureMap($0, $1) }
        }
    }
}

extension FeatureMap {
    /// What is added while a mask is scaled up, at twice and at four times the embedding's grid.
    package static let skips = ["skips.0", "skips.1"]
}
