package import Tensors

/// The stem and the blocks of an EfficientNet-Lite of any size: what is left of the network without its classifier.
///
/// Tan and Le, "EfficientNet", 2019, <https://arxiv.org/abs/1905.11946>, in its Lite form: no squeeze and excite, ReLU6,
/// TensorFlow's one-sided "same" padding. Batch normalisations are folded into the file's convolutions. Features are (row,
/// column, channel) throughout, and fp32 from block to block.
package struct EfficientNetTrunk: Sendable {
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

    /// What a trunk is made of.
    package struct Configuration: Sendable {
        /// Rows and columns of the input, a multiple of the last stride.
        package var imageSize: Int
        /// Channels of the first convolution, of stride 2.
        package var stem: Int
        package var blocks: [Block]

        package init(imageSize: Int, stem: Int, blocks: [Block]) {
            self.imageSize = imageSize
            self.stem = stem
            self.blocks = blocks
        }

        /// The stride, of the whole picture, of each block's answer.
        package var strides: [Int] { blocks.reduce(into: []) { $0.append(($0.last ?? 2) * $1.stride) } }

        /// The last block of each stride.
        package var lastBlocks: [Int: Int] {
            Dictionary(strides.enumerated().map { ($1, $0) }, uniquingKeysWith: { max($0, $1) })
        }

        /// Numbers of the largest map between the layers, widened ones among them.
        package var largestMap: Int {
            var (side, largest) = (imageSize / 2, imageSize / 2 * (imageSize / 2) * stem)
            for block in blocks {
                largest = max(largest, side * side * block.hidden)
                side /= block.stride
                largest = max(largest, side * side * block.outputs)
            }
            return largest
        }

        /// Channels of the last block's answer of a stride.
        package func channels(atStride stride: Int) -> Int { lastBlocks[stride].map { blocks[$0].outputs } ?? 0 }
    }

    /// The names of the tensors of a trunk below a module's name.
    package enum Names {
        /// (channels, 3, 3, 3).
        package static func stem(of module: String) -> String { "\(module).stem" }
        package static func blocks(of module: String) -> String { "\(module).blocks" }
        /// (hidden, inputs, 1, 1), of a block that widens.
        package static func expansion(_ block: String) -> String { "\(block).expand" }
        /// (hidden, 1, size, size).
        package static func depthwise(_ block: String) -> String { "\(block).depthwise" }
        /// (outputs, hidden, 1, 1).
        package static func projection(_ block: String) -> String { "\(block).project" }
    }

    private let configuration: Configuration
    private let stem: Convolution3x3
    private let blocks: [InvertedResidual]

    /// Reads `name.stem` and `name.blocks.*`.
    package init(
        _ weights: some WeightSource, _ name: String, _ configuration: Configuration, precision: Precision
    ) throws {
        self.configuration = configuration
        let stemName = Names.stem(of: name)
        stem = Convolution3x3(
            weight: try weights.tensor("\(stemName).weight", shape: [configuration.stem, 3, 3, 3]),
            bias: try weights.tensor("\(stemName).bias", shape: [configuration.stem]), stride: 2, padding: 0)
        var (inputs, grid) = (configuration.stem, configuration.imageSize / 2)
        blocks = try configuration.blocks.enumerated().map { index, block in
            defer { (inputs, grid) = (block.outputs, grid / block.stride) }
            return try InvertedResidual(
                weights, "\(Names.blocks(of: name)).\(index)", block, inputs: inputs, grid: grid,
                type: precision.elementType)
        }
    }

    /// Computes the last maps of some strides.
    ///
    /// - Parameters:
    ///   - image: (3, S, S), normalised.
    ///   - kept: strides.
    ///   - pool: the threads that share the work; the numbers do not depend on how many there are.
    ///   - body: gets the map of each of those strides, (S / stride, S / stride, channels), valid during the call.
    /// - Returns: what `body` gives.
    package func withMaps<Result>(
        of image: Tensor, strides kept: [Int], pool: ThreadPool, _ body: (_ map: (Int) -> Features) -> Result
    ) -> Result {
        let side = configuration.imageSize
        let (strides, lastBlocks) = (configuration.strides, configuration.lastBlocks)
        func numbers(_ stride: Int, _ channels: Int) -> Int { side / stride * (side / stride) * channels }
        let sizes = zip(strides, configuration.blocks).map { numbers($0, $1.outputs) }
        let largest = max(numbers(2, configuration.stem), sizes.max() ?? 0)
        let keptSizes = kept.map { lastBlocks[$0].map { sizes[$0] } ?? 0 }
        return Scratch.withFloats(2 * (largest + 16) + keptSizes.reduce(0) { $0 + $1 + 16 }) { memory in
            var parts = MemoryParts(memory)
            var x = parts.floats(largest)
            var free = [parts.floats(largest)]
            let taps = Dictionary(uniqueKeysWithValues: zip(kept, keptSizes).map { ($0, parts.floats($1)) })
            embedPixels(image, y: Features(x, stride: configuration.stem), pool: pool)
            var channels = configuration.stem
            // Whether x is one of the maps that stay.
            var stays = false
            for (index, block) in blocks.enumerated() {
                let outputs = configuration.blocks[index].outputs
                let tap = lastBlocks[strides[index]] == index ? taps[strides[index]] : nil
                let y = tap ?? free.removeLast()
                block(Features(x, stride: channels), y: Features(y, stride: outputs), pool: pool)
                if !stays { free.append(x) }
                (x, stays, channels) = (y, tap != nil, outputs)
            }
            return body { stride in
                guard let tap = taps[stride] else { preconditionFailure("the map of stride \(stride) is kept") }
                return Features(tap, stride: configuration.channels(atStride: stride))
            }
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
