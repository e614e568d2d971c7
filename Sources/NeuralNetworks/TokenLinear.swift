import CKernels
package import Tensors

/// A fully connected layer for a handful of rows, such as the mask decoder's tokens.
///
/// Reading the weights is the cost here, so they lie in panels of 64 columns that are read front to back, and nothing
/// is packed per call. A row's bits do not depend on how many rows come along.
package struct TokenLinear: Sendable {
    private static let panel = 64

    package let inputs: Int
    package let outputs: Int
    /// `outputs` rounded up to 16: what one row of answers takes.
    package let outputStride: Int
    private let activation: Activation
    /// Panels of (inputs, 64), the last one as wide as what is left.
    private let weight: Tensor
    /// (outputStride), zero beyond `outputs`.
    private let bias: Tensor

    /// Packs a weight (outputs, inputs), as `torch.nn.Linear` keeps it, and a bias (outputs).
    package init(weight: Tensor, bias: Tensor, activation: Activation = .none) {
        let (outputs, inputs) = (weight.shape[0], weight.shape[1])
        let stride = (outputs + 15) / 16 * 16
        self.outputs = outputs
        self.inputs = inputs
        self.activation = activation
        outputStride = stride
        self.weight = Tensor(shape: [stride * inputs], packing: weight) { memory in
            memory.initialize(repeating: 0)
            weight.withUnsafeBufferPointer { weight in
                for output in 0..<outputs {
                    let start = output / Self.panel * Self.panel
                    let width = min(Self.panel, stride - start)
                    for input in 0..<inputs {
                        memory[start * inputs + input * width + output - start] = weight[output * inputs + input]
                    }
                }
            }
        }
        self.bias = Tensor(
            shape: [stride], bias.elements + [Float](repeating: 0, count: stride - outputs))
    }

    /// Reads `name.weight` and `name.bias`.
    package init(
        _ weights: some WeightSource, _ name: String, inputs: Int, outputs: Int, activation: Activation = .none
    ) throws {
        self.init(
            weight: try weights.tensor("\(name).weight", shape: [outputs, inputs]),
            bias: try weights.tensor("\(name).bias", shape: [outputs]), activation: activation)
    }

    /// y (rows, outputStride) = activation(x (rows, inputs) Wᵀ + b), or with `accumulate` y = activation(y + x Wᵀ + b).
    ///
    /// The strides are floats from row to row, that of `y` at least ``outputStride``. The pool shares the columns out;
    /// the answer is the same with any pool.
    package func callAsFunction(
        rows: Int, x: UnsafePointer<Float>, xStride: Int, y: UnsafeMutablePointer<Float>, yStride: Int,
        accumulate: Bool = false, pool: ThreadPool
    ) {
        precondition(yStride >= outputStride, "rows of \(yStride) numbers for answers of \(outputStride)")
        weight.withUnsafeBufferPointer { weight in
            bias.withUnsafeBufferPointer { bias in
                guard let weight = weight.baseAddress, let bias = bias.baseAddress else { return }
                let isLarge = inputs * outputs >= 1 << 18
                pool.parallelRows(outputStride, block: isLarge ? 4 * Self.panel : outputStride) { columns in
                    for start in stride(from: columns.lowerBound, to: columns.upperBound, by: Self.panel) {
                        let width = min(Self.panel, outputStride - start)
                        var arguments = kirie_product_arguments(
                            groups: 1, rows: rows, columns: width, depth: inputs, a: x, a_step: 0, a_row: xStride,
                            a_column: 1, b: weight + start * inputs, b_step: 0, b_stride: width, c: y + start,
                            c_step: 0, c_stride: yStride, row_bias: nil, column_bias: bias + start,
                            accumulate: accumulate ? 1 : 0)
                        kirie_product(&arguments)
                        guard activation != .none else { continue }
                        for row in 0..<rows { activation.apply(width, y + row * yStride + start) }
                    }
                }
            }
        }
    }
}
