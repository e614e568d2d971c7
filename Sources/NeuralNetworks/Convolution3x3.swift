import Glibc
package import Tensors

/// A 3 × 3 convolution with zero padding over a (height, width, channels) picture, as a matrix product over the gathered
/// neighbourhoods; only one block of rows is ever gathered.
package struct Convolution3x3: Sendable {
    package let inputs: Int
    package let outputs: Int
    package let stride: Int
    private let padding: Int
    private let linear: Linear

    /// - Parameters:
    ///   - weight: (outputs, inputs, 3, 3), as `torch.nn.Conv2d` keeps it.
    ///   - bias: (outputs), or nil.
    ///   - stride: 1 or 2, in both directions.
    ///   - padding: rows of zeros above and columns on the left: 1, or 0 for TensorFlow's "same" with stride 2 on even
    ///     sizes; below and on the right there are as many as the last answer covers.
    ///   - activation: applied to the sum with its bias.
    ///   - input: how the picture is written, and with it the weights.
    ///   - output: how the answers are written.
    package init(
        weight: Tensor, bias: Tensor?, stride: Int = 1, padding: Int = 1, activation: Activation = .none,
        input: ElementType = .float32, output: ElementType = .float32
    ) {
        let (outputs, inputs) = (weight.shape[0], weight.shape[1])
        self.inputs = inputs
        self.outputs = outputs
        self.stride = stride
        self.padding = padding
        // Neighbours first, channels last: the order in which a neighbourhood is gathered.
        let byNeighbour = Tensor(shape: [outputs, 9 * inputs], packing: weight) { memory in
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
        linear = Linear(weight: byNeighbour, bias: bias, activation: activation, input: input, output: output)
    }

    /// Writes the answers at the output positions `positions` (row-major over the output picture) to `y`
    /// (positions.count, outputs); `x` is the whole (height, width, inputs) picture, its positions `inputs` numbers apart.
    package func callAsFunction(positions: Range<Int>, height: Int, width: Int, x: Features, y: Features) {
        let outWidth = (width + stride - 1) / stride
        let size = inputs * x.type.byteCount
        Scratch.withFeatures(rows: positions.count, columns: 9 * inputs, type: x.type) { gathered in
            for position in positions {
                // The first that the kernel covers.
                let top = position / outWidth * stride - padding
                let left = position % outWidth * stride - padding
                var target = gathered.from(row: position - positions.lowerBound).base
                for r in top..<top + 3 {
                    if r < 0 || r >= height {
                        memset(target, 0, 3 * size)
                    } else if left >= 0, left + 3 <= width {
                        // The three neighbours of a row lie side by side.
                        memcpy(target, x.base + (r * width + left) * size, 3 * size)
                    } else {
                        for (index, c) in (left..<left + 3).enumerated() {
                            if c < 0 || c >= width {
                                memset(target + index * size, 0, size)
                            } else {
                                memcpy(target + index * size, x.base + (r * width + c) * size, size)
                            }
                        }
                    }
                    target += 3 * size
                }
            }
            linear.product(rows: positions.count, x: gathered, y: y)
        }
    }
}
