import NeuralNetworks
import Tensors

/// The last layers of either image encoder, which bring its features to the decoder's width: 1 × 1 convolution,
/// LayerNorm2d, 3 × 3 convolution, LayerNorm2d (`image_encoder.neck`).
struct Neck: Sendable {
    private let grid: Int
    private let outputs: Int
    private let narrow: Linear
    private let firstNorm: LayerNorm
    private let convolution: Convolution3x3
    private let secondNorm: LayerNorm

    init(_ weights: some WeightSource, inputs: Int, outputs: Int, grid: Int) throws {
        let name = "image_encoder.neck"
        self.grid = grid
        self.outputs = outputs
        let projection = try weights.tensor("\(name).0.weight", shape: [outputs, inputs, 1, 1])
        narrow = Linear(weight: projection.reshaped(to: [outputs, inputs]), bias: nil)
        firstNorm = try LayerNorm(weights, "\(name).1", features: outputs, epsilon: 1e-6)
        convolution = Convolution3x3(
            weight: try weights.tensor("\(name).2.weight", shape: [outputs, outputs, 3, 3]), bias: nil)
        secondNorm = try LayerNorm(weights, "\(name).3", features: outputs, epsilon: 1e-6)
    }

    /// (tokens, inputs), row-major over the grid, to the embedding (1, outputs, grid, grid).
    func callAsFunction(_ x: Features, pool: ThreadPool) -> Tensor {
        let tokens = grid * grid
        return Scratch.withFloats(2 * tokens * outputs) { features in
            let mixed = features + tokens * outputs
            pool.parallelRows(tokens) { rows in
                let y = features + rows.lowerBound * outputs
                narrow.product(
                    rows: rows.count, x: x.from(row: rows.lowerBound), y: Features(y, stride: outputs))
                firstNorm(rows: rows.count, x: y, xStride: outputs, y: y, yStride: outputs)
            }
            pool.parallelRows(tokens) { rows in
                let y = mixed + rows.lowerBound * outputs
                convolution(positions: rows, height: grid, width: grid, x: features, y: y, yStride: outputs)
                secondNorm(rows: rows.count, x: y, xStride: outputs, y: y, yStride: outputs)
            }
            return Tensor(shape: [1, outputs, grid, grid]) { embedding in
                for channel in 0..<outputs {
                    for token in 0..<tokens {
                        embedding[channel * tokens + token] = mixed[token * outputs + channel]
                    }
                }
            }
        }
    }
}
