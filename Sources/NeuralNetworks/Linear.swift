public import Tensors

/// A fully connected layer, or a 1 × 1 convolution: y = activation(x Wᵀ + b).
public struct Linear: Sendable {
    /// The packed product.
    public let product: LinearProduct

    /// Reads `name.weight` (outputs, inputs) and, where there is one, `name.bias` (outputs).
    public init(
        _ weights: some WeightSource, _ name: String, inputs: Int, outputs: Int, hasBias: Bool = true,
        activation: Activation = .none, input: ElementType = .float32, output: ElementType = .float32,
        quantizes: Bool = false
    ) throws {
        let weight = try weights.tensor("\(name).weight", shape: [outputs, inputs])
        let bias = hasBias ? try weights.tensor("\(name).bias", shape: [outputs]) : nil
        product = LinearProduct(
            weight: weight, bias: bias, activation: activation, input: input, output: output, quantizes: quantizes)
        weights.release("\(name).weight")
    }

    /// Packs weights that were computed, such as a convolution with its batch normalisation folded in.
    public init(
        weight: Tensor, bias: Tensor?, activation: Activation = .none, input: ElementType = .float32,
        output: ElementType = .float32, quantizes: Bool = false
    ) {
        product = LinearProduct(
            weight: weight, bias: bias, activation: activation, input: input, output: output, quantizes: quantizes)
    }
}

extension ThreadPool {
    /// Calls `body` for blocks of consecutive rows that together are `0 ..< rows`.
    ///
    /// The blocks do not depend on the number of threads, and so no number does.
    package func parallelRows(_ rows: Int, block: Int = LinearProduct.blockRows, _ body: (Range<Int>) -> Void) {
        parallel((rows + block - 1) / block) { index in
            body(index * block..<min(rows, (index + 1) * block))
        }
    }
}
