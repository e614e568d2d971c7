package import Tensors

/// A 1 × 1 convolution of features that are fp32 from layer to layer, whatever the products' type is.
package struct Projection: Sendable {
    private let inputs: Int
    package let outputs: Int
    private let linear: Linear
    private let input: ElementType

    /// Reads `name.weight`, (outputs, inputs, 1, 1), and `name.bias`, where there is one.
    package init(
        _ weights: some WeightSource, _ name: String, inputs: Int, outputs: Int, hasBias: Bool = true,
        activation: Activation = .none, input: ElementType, output: ElementType = .float32
    ) throws {
        let weight = try weights.tensor("\(name).weight", shape: [outputs, inputs, 1, 1])
        self.init(
            weight: weight.reshaped(to: [outputs, inputs]),
            bias: hasBias ? try weights.tensor("\(name).bias", shape: [outputs]) : nil, activation: activation,
            input: input, output: output)
    }

    /// Packs a weight (outputs, inputs) that was computed, and a bias (outputs).
    package init(
        weight: Tensor, bias: Tensor?, activation: Activation = .none, input: ElementType,
        output: ElementType = .float32
    ) {
        (outputs, inputs) = (weight.shape[0], weight.shape[1])
        self.input = input
        linear = Linear(weight: weight, bias: bias, activation: activation, input: input, output: output)
    }

    /// y (+)= the convolution of `rows` rows of x, of either type.
    package func callAsFunction(rows: Int, x: Features, y: Features, accumulate: Bool = false) {
        guard x.type != input else { return linear.product(rows: rows, x: x, y: y, accumulate: accumulate) }
        Scratch.withFeatures(rows: rows, columns: inputs, type: input) { narrowed in
            x.write(rows: rows, columns: inputs, to: narrowed)
            linear.product(rows: rows, x: narrowed, y: y, accumulate: accumulate)
        }
    }

    /// The convolution of a map (side, side, inputs) as (1, outputs, side, side).
    package func channelsFirst(_ x: Features, side: Int, pool: ThreadPool) -> Tensor {
        let positions = side * side
        return Tensor(shape: [1, outputs, side, side]) { memory in
            guard let memory = memory.baseAddress else { return }
            pool.parallelRows(positions, block: 256) { rows in
                Scratch.withFloats(rows.count * outputs) { projected in
                    self(
                        rows: rows.count, x: x.from(row: rows.lowerBound), y: Features(projected, stride: outputs))
                    TileSteps.transpose(
                        rows: rows.count, columns: outputs, projected, stride: outputs, to: memory + rows.lowerBound,
                        stride: positions)
                }
            }
        }
    }
}
