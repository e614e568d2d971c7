public import Tensors

/// Where layers get their weights: a checkpoint, or numbers drawn for a benchmark.
public protocol WeightSource: Sendable {
    /// The tensor of that published name.
    ///
    /// - Throws: an error that names the tensor when it is missing or has another shape.
    func tensor(_ name: String, shape: [Int]) throws -> Tensor

    /// Says that the tensor's own memory will not be read again, because a layer keeps its weights in another order.
    func release(_ name: String)
}

extension WeightSource {
    /// Keeps everything.
    public func release(_ name: String) {}
}

/// Weights drawn from a seed, for measuring without a checkpoint: the work is the same, the masks mean nothing.
public struct RandomWeights: WeightSource {
    private let seed: UInt64

    /// Weights that are the same for the same seed, name and shape.
    public init(seed: UInt64 = 7) { self.seed = seed }

    /// Numbers around 0 (around 1 for gains and variances), small enough that deep sums neither vanish nor overflow.
    public func tensor(_ name: String, shape: [Int]) -> Tensor {
        var state = name.utf8.reduce(seed) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
        let fanIn = max(1, shape.dropFirst().reduce(1, *))
        let isGain = shape.count == 1 && name.hasSuffix(".weight") || name.hasSuffix("running_var")
        let scale = shape.count == 1 ? 0.05 : 1 / Float(fanIn).squareRoot()
        return Tensor(shape: shape) { memory in
            for index in memory.indices {
                // SplitMix64: Steele, Lea and Flood, 2014.
                state &+= 0x9E37_79B9_7F4A_7C15
                var bits = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
                bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
                let uniform = Float((bits ^ (bits >> 31)) >> 40) / Float(1 << 24) * 2 - 1
                memory.initializeElement(at: index, to: (isGain ? 1 : 0) + uniform * scale)
            }
        }
    }
}
