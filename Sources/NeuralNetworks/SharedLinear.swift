package import Tensors

/// A fully connected layer for a few dozen rows, whose columns the threads share: with so few rows the weights are what is
/// read, and each thread reads a part of them.
///
/// The cut does not depend on the number of threads, and so no number does.
package struct SharedLinear: Sendable {
    /// Columns of a part: as many as oneDNN's kernels take at once, and enough to outweigh a thread's waking up.
    private static let partColumns = 256

    /// Numbers per row of the answer.
    package let outputs: Int
    private let parts: [(first: Int, product: LinearProduct)]

    /// Packs a weight (outputs, inputs), as `torch.nn.Linear` keeps it, and a bias (outputs).
    package init(
        weight: Tensor, bias: Tensor?, activation: Activation = .none, input: ElementType = .float32,
        output: ElementType = .float32, quantizes: Bool = false
    ) {
        let (outputs, inputs) = (weight.shape[0], weight.shape[1])
        self.outputs = outputs
        parts = stride(from: 0, to: outputs, by: Self.partColumns).map { first in
            let range = first..<min(outputs, first + Self.partColumns)
            return (
                first,
                LinearProduct(
                    weight: weight.rectangle(rows: range, columns: 0..<inputs),
                    bias: bias?.reshaped(to: [outputs, 1]).rectangle(rows: range, columns: 0..<1).reshaped(
                        to: [range.count]),
                    activation: activation, input: input, output: output, quantizes: quantizes)
            )
        }
    }

    /// Reads `name.weight` (outputs, inputs) and, where there is one, `name.bias` (outputs).
    package init(
        _ weights: some WeightSource, _ name: String, inputs: Int, outputs: Int, hasBias: Bool = true,
        activation: Activation = .none, input: ElementType = .float32, output: ElementType = .float32,
        quantizes: Bool = false
    ) throws {
        self.init(
            weight: try weights.tensor("\(name).weight", shape: [outputs, inputs]),
            bias: hasBias ? try weights.tensor("\(name).bias", shape: [outputs]) : nil, activation: activation,
            input: input, output: output, quantizes: quantizes)
        weights.release("\(name).weight")
    }

    /// y (rows, outputs) = activation(x (rows, inputs) Wᵀ + b), or with `accumulate` y += x Wᵀ + b.
    package func callAsFunction(rows: Int, x: Features, y: Features, accumulate: Bool = false, pool: ThreadPool) {
        pool.parallel(parts.count) { index in
            let part = parts[index]
            part.product(rows: rows, x: x, y: y.from(row: 0, column: part.first), accumulate: accumulate)
        }
    }
}
