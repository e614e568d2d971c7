import Checkpoints
import Imaging
import NeuralNetworks
import Segmentation
import Tensors

/// An EfficientNet-Lite with its classifier, over crops of a picture.
///
/// The trunk is the published one (Tan and Le 2019, <https://arxiv.org/abs/1905.11946>), the classes are the thousand of
/// ImageNet and those that `weights/words/head.py` adds.
struct WordsClassifier: Sendable {
    static let trunkName = "trunk"
    /// The published preprocessing of the Lite models: (p − 127) / 128.
    private static let (mean, deviation): (Float, Float) = (127, 128)
    /// The level that becomes 0.
    static let background = SIMD3<UInt8>(repeating: 127)

    let imageSize: Int
    let classCount: Int
    private let featureCount: Int
    private let channels: Int
    private let trunk: EfficientNetTrunk
    private let convolution: Projection
    private let classes: Linear

    /// Reads the weights.
    init(_ file: WordsFile, precision: Precision) throws {
        let weights = Weights(checkpoint: file.checkpoint)
        imageSize = file.trunk.imageSize
        classCount = file.classCount
        featureCount = file.featureCount
        channels = file.trunk.channels(atStride: 32)
        trunk = try EfficientNetTrunk(weights, Self.trunkName, file.trunk, precision: precision)
        convolution = try Projection(
            weights, "head.convolution", inputs: channels, outputs: featureCount, activation: .relu6,
            input: precision.elementType)
        classes = try Linear(weights, "head.classes", inputs: featureCount, outputs: classCount)
    }

    private struct Weights: WeightSource {
        let checkpoint: Checkpoint
        func tensor(_ name: String, shape: [Int]) throws -> Tensor { try checkpoint.tensor(named: name, shape: shape) }
        func release(_ name: String) { checkpoint[name]?.releasePages() }
    }

    /// The classes' logits for each candidate: what several crops of one say is averaged.
    ///
    /// A crop is computed by one thread from beginning to end, so that nothing depends on how many there are.
    ///
    /// - Returns: (candidates, classes).
    func logits(
        of candidates: [RunLengthEncoding], in image: Image, crops: [CandidateCrop], pool: ThreadPool
    ) -> Tensor {
        let width = featureCount
        let features = Tensor(shape: [candidates.count, width]) { memory in
            guard let memory = memory.baseAddress else { return }
            pool.parallel(candidates.count) { index in
                let sum = memory + index * width
                sum.initialize(repeating: 0, count: width)
                for crop in crops {
                    let cut = crop(candidates[index], of: image)
                    addFeatures(of: cut.resizedBilinear(width: imageSize, height: imageSize), to: sum)
                }
                let share = 1 / Float(max(1, crops.count))
                for feature in 0..<width { sum[feature] *= share }
            }
        }
        return Tensor(shape: [candidates.count, classCount]) { memory in
            memory.initialize(repeating: 0)
            guard let memory = memory.baseAddress, !candidates.isEmpty else { return }
            features.withUnsafeBufferPointer { features in
                guard let features = features.baseAddress else { return }
                pool.parallelRows(candidates.count) { rows in
                    classes.product(
                        rows: rows.count,
                        x: Features(UnsafeMutablePointer(mutating: features) + rows.lowerBound * width, stride: width),
                        y: Features(memory + rows.lowerBound * classCount, stride: classCount))
                }
            }
        }
    }

    /// Adds the mean over the last map's positions.
    private func addFeatures(of crop: Image, to sum: UnsafeMutablePointer<Float>) {
        let side = imageSize
        let input = Tensor(shape: [3, side, side]) { memory in
            crop.pixels.withUnsafeBufferPointer { pixels in
                for index in 0..<side * side {
                    for channel in 0..<3 {
                        memory[channel * side * side + index] =
                            (Float(pixels[index * 3 + channel]) - Self.mean) / Self.deviation
                    }
                }
            }
        }
        let positions = side / 32 * (side / 32)
        let width = featureCount
        trunk.withMaps(of: input, strides: [32], pool: .inline) { map in
            Scratch.withFloats(positions * width) { memory in
                convolution(rows: positions, x: map(32), y: Features(memory, stride: width))
                let share = 1 / Float(positions)
                for position in 0..<positions {
                    for feature in 0..<width { sum[feature] += share * memory[position * width + feature] }
                }
            }
        }
    }
}
