import Glibc
package import Tensors

/// A 3 × 3 convolution with zero padding of 1 over a (height, width, channels) picture, as a matrix product over the
/// gathered neighbourhoods; only one block of rows is ever gathered.
package struct Convolution3x3: Sendable {
    package let inputs: Int
    package let outputs: Int
    package let stride: Int
    private let linear: Linear

    /// - Parameters:
    ///   - weight: (outputs, inputs, 3, 3), as `torch.nn.Conv2d` keeps it.
    ///   - bias: (outputs), or nil.
    ///   - stride: 1 or 2, in both directions.
    package init(weight: Tensor, bias: Tensor?, stride: Int = 1, activation: Activation = .none) {
        let (outputs, inputs) = (weight.shape[0], weight.shape[1])
        self.inputs = inputs
        self.outputs = outputs
        self.stride = stride
        // Neighbours first, channels last: the order in which a neighbourhood is gathered.
        let byNeighbour = Tensor(shape: [outputs, 9 * inputs]) { memory in
            weight.withUnsafeBufferPointer { weight in
                for output in 0..<outputs {
                    for input in 0..<inputs {
                        for neighbour in 0..<9 {
                            memory[output * 9 * inputs + neighbour * inputs + input] =
                                weight[(output * inputs + input) * 9 + neighbour]
                        }
                    }
                }
            }
        }
        linear = Linear(weight: byNeighbour, bias: bias, activation: activation)
    }

    /// Writes the answers at the output positions `positions` (row-major over the output picture) to `y`
    /// (positions.count, outputs); `x` is the whole (height, width, inputs) picture.
    package func callAsFunction(
        positions: Range<Int>, height: Int, width: Int, x: UnsafePointer<Float>, y: UnsafeMutablePointer<Float>,
        yStride: Int
    ) {
        let outWidth = (width + stride - 1) / stride
        let depth = 9 * inputs
        Scratch.withFloats(positions.count * depth) { gathered in
            for position in positions {
                let row = position / outWidth * stride
                let column = position % outWidth * stride
                let line = gathered + (position - positions.lowerBound) * depth
                for neighbour in 0..<9 {
                    let (r, c) = (row + neighbour / 3 - 1, column + neighbour % 3 - 1)
                    let target = line + neighbour * inputs
                    if r < 0 || r >= height || c < 0 || c >= width {
                        target.update(repeating: 0, count: inputs)
                    } else {
                        target.update(from: x + (r * width + c) * inputs, count: inputs)
                    }
                }
            }
            linear.product(
                rows: positions.count, x: Features(gathered, stride: depth), y: Features(y, stride: yStride))
        }
    }
}
