package import Tensors

/// The two fully connected layers of a transformer block: y += W₂ f(W₁ x + b₁) + b₂.
///
/// The hidden numbers are made and used a slice at a time. All of them never exist at once, and the slices of both layers'
/// weights stay in a core's second-level cache while rows go through them.
package struct MLP: Sendable {
    private struct Slice: Sendable {
        let expand: LinearProduct
        let contract: LinearProduct
    }

    private let type: ElementType
    private let slices: [Slice]

    /// Reads `expand` (hidden, inputs) and `contract` (inputs, hidden), each with `.weight` and `.bias`.
    ///
    /// `activation` is f, in one of GELU's forms. `type` is that of the rows that come in and of the hidden numbers; the
    /// answer is fp32. With `quantizes` it multiplies in int8.
    package init(
        _ weights: some WeightSource, expand: String, contract: String, inputs: Int, hidden: Int,
        activation: Activation = .gelu, type: ElementType, quantizes: Bool = false
    ) throws {
        let first = try weights.tensor("\(expand).weight", shape: [hidden, inputs])
        let second = try weights.tensor("\(contract).weight", shape: [inputs, hidden])
        let firstBias = try weights.tensor("\(expand).bias", shape: [hidden])
        let secondBias = try weights.tensor("\(contract).bias", shape: [inputs])
        self.init(
            expand: first, firstBias, contract: second, secondBias, activation: activation, type: type,
            quantizes: quantizes)
        weights.release("\(expand).weight")
        weights.release("\(contract).weight")
    }

    /// Packs weights that were computed: (hidden, inputs) and (hidden), then (inputs, hidden) and (inputs).
    package init(
        expand first: Tensor, _ firstBias: Tensor, contract second: Tensor, _ secondBias: Tensor,
        activation: Activation = .gelu, type: ElementType, quantizes: Bool = false
    ) {
        let (hidden, inputs) = (first.shape[0], first.shape[1])
        let firstBias = firstBias.reshaped(to: [hidden, 1])
        self.type = type
        let most = LinearProduct.chainedWeights(type) / inputs
        slices = LinearProduct.slices(of: hidden, most: most).map { range in
            return Slice(
                expand: LinearProduct(
                    weight: first.rectangle(rows: range, columns: 0..<inputs),
                    bias: firstBias.rectangle(rows: range, columns: 0..<1), activation: activation, input: type,
                    output: type, quantizes: quantizes),
                contract: LinearProduct(
                    weight: second.rectangle(rows: 0..<inputs, columns: range),
                    bias: range.lowerBound == 0 ? secondBias : nil,
                    input: type, quantizes: quantizes))
        }
    }

    /// y (rows, inputs) += what the layers make of x (rows, inputs).
    package func add(rows: Int, x: Features, to y: Features) {
        for first in stride(from: 0, to: rows, by: LinearProduct.blockRows) {
            let (x, y) = (x.from(row: first), y.from(row: first))
            let count = min(LinearProduct.blockRows, rows - first)
            slices.first?.expand.withRows(count, x: x) { x in
                for slice in slices {
                    Scratch.withFeatures(rows: count, columns: slice.expand.columns, type: type) { hidden in
                        slice.expand(x, y: hidden)
                        slice.contract(rows: count, x: hidden, y: y, accumulate: true)
                    }
                }
            }
        }
    }
}
