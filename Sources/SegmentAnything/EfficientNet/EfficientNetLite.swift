package import NeuralNetworks
package import Tensors

/// The trunk of an EfficientNet-Lite of any size, with a neck to one embedding of stride 16 and two skips for the mask
/// decoder's up-scaling.
///
/// Tan and Le, "EfficientNet", 2019, <https://arxiv.org/abs/1905.11946>, in its Lite form: no squeeze and excite, ReLU6,
/// TensorFlow's one-sided "same" padding. Batch normalisations are folded into the file's convolutions. Features are (row,
/// column, channel) throughout, and fp32 from block to block.
package struct EfficientNetLite: ImageEncoder {
    /// What an EfficientNet-Lite is made of.
    package struct Configuration: Sendable {
        /// One inverted bottleneck.
        package struct Block: Sendable, Hashable {
            /// Channels that the depthwise convolution works on.
            package var hidden: Int
            /// Whether a 1 × 1 convolution makes them; else they are the input's.
            package var isWidened: Bool
            /// Side of the depthwise kernel, 3 or 5.
            package var size: Int
            package var stride: Int
            package var outputs: Int

            package init(hidden: Int, isWidened: Bool, size: Int, stride: Int, outputs: Int) {
                self.hidden = hidden
                self.isWidened = isWidened
                self.size = size
                self.stride = stride
                self.outputs = outputs
            }
        }

        package var imageSize: Int
        /// Channels of the first convolution, of stride 2.
        package var stem: Int
        package var blocks: [Block]
        /// Channels inside the neck.
        package var neckWidth: Int
        /// C, the embedding's channels.
        package var outChannels: Int

        package init(imageSize: Int, stem: Int, blocks: [Block], neckWidth: Int, outChannels: Int) {
            self.imageSize = imageSize
            self.stem = stem
            self.blocks = blocks
            self.neckWidth = neckWidth
            self.outChannels = outChannels
        }

        /// The stride, of the whole picture, of each block's answer.
        package var strides: [Int] { blocks.reduce(into: []) { $0.append(($0.last ?? 2) * $1.stride) } }

        /// The last block of each stride.
        package var lastBlocks: [Int: Int] {
            Dictionary(strides.enumerated().map { ($1, $0) }, uniquingKeysWith: { max($0, $1) })
        }

        /// Channels of the last block's answer of a stride.
        func channels(atStride stride: Int) -> Int { lastBlocks[stride].map { blocks[$0].outputs } ?? 0 }
    }

    /// The strides whose last maps are used, in the order of the trunk.
    package static let usedStrides = [4, 8, 16, 32]

    private let configuration: Configuration
    private let stem: Convolution3x3
    private let blocks: [InvertedResidual]
    private let neck: PyramidNeck
    /// From strides 8 and 4.
    private let skips: [Projection]

    /// Reads `image_encoder.*`.
    package init(_ weights: some WeightSource, _ configuration: Configuration, precision: Precision) throws {
        self.configuration = configuration
        let type = precision.elementType
        let names = TensorNames.EfficientNetLite.self
        stem = Convolution3x3(
            weight: try weights.tensor(TensorNames.weight(names.stem), shape: [configuration.stem, 3, 3, 3]),
            bias: try weights.tensor("\(names.stem).bias", shape: [configuration.stem]), stride: 2, padding: 0)
        var (inputs, grid) = (configuration.stem, configuration.imageSize / 2)
        blocks = try configuration.blocks.enumerated().map { index, block in
            defer { (inputs, grid) = (block.outputs, grid / block.stride) }
            return try InvertedResidual(
                weights, TensorNames.part(index, of: names.blocks), block, inputs: inputs, grid: grid, type: type)
        }
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
        let strides = configuration.strides
        let kept = configuration.lastBlocks
        func numbers(_ stride: Int, _ channels: Int) -> Int { side / stride * (side / stride) * channels }
        let sizes = zip(strides, configuration.blocks).map { numbers($0, $1.outputs) }
        let largest = max(numbers(2, configuration.stem), sizes.max() ?? 0)
        let keptSizes = Self.usedStrides.map { kept[$0].map { sizes[$0] } ?? 0 }
        return Scratch.withFloats(2 * (largest + 16) + keptSizes.reduce(0) { $0 + $1 + 16 }) { memory in
            var parts = MemoryParts(memory)
            var x = parts.floats(largest)
            var free = [parts.floats(largest)]
            let taps = Dictionary(
                uniqueKeysWithValues: zip(Self.usedStrides, keptSizes).map { ($0, parts.floats($1)) })
            embedPixels(image, y: Features(x, stride: configuration.stem), pool: pool)
            var channels = configuration.stem
            // Whether x is one of the maps that stay.
            var stays = false
            for (index, block) in blocks.enumerated() {
                let outputs = configuration.blocks[index].outputs
                let tap = kept[strides[index]] == index ? taps[strides[index]] : nil
                let y = tap ?? free.removeLast()
                block(Features(x, stride: channels), y: Features(y, stride: outputs), pool: pool)
                if !stays { free.append(x) }
                (x, stays, channels) = (y, tap != nil, outputs)
            }
            func map(_ stride: Int) -> Features {
                guard let tap = taps[stride] else { preconditionFailure("the map of stride \(stride) is kept") }
                return Features(tap, stride: configuration.channels(atStride: stride))
            }
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

    /// The first convolution on a picture whose channels were brought to the end.
    private func embedPixels(_ image: Tensor, y: Features, pool: ThreadPool) {
        let side = configuration.imageSize
        let half = side / 2
        image.withUnsafeBufferPointer { image in
            guard let image = image.baseAddress else { return }
            Scratch.withFloats(side * side * 3) { pixels in
                pool.parallelRows(side, block: 64) { rows in
                    for index in rows.lowerBound * side..<rows.upperBound * side {
                        for channel in 0..<3 { pixels[index * 3 + channel] = image[channel * side * side + index] }
                    }
                }
                pool.parallelRows(half * half, block: 1024) { positions in
                    stem(
                        positions: positions, height: side, width: side, x: Features(pixels, stride: 3),
                        y: y.from(row: positions.lowerBound))
                }
            }
        }
    }
}

extension FeatureMap {
    /// What is added while a mask is scaled up, at twice and at four times the embedding's grid.
    package static let skips = ["skips.0", "skips.1"]
}
