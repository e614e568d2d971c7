import NeuralNetworks
import Tensors

/// The last layers of either image encoder, which bring its features to the decoder's width: 1 × 1 convolution,
/// LayerNorm2d, 3 × 3 convolution, LayerNorm2d (`image_encoder.neck`).
struct Neck: Sendable {
    private let grid: Int
    private let inputs: Int
    private let outputs: Int
    private let type: ElementType
    private let narrow: Linear
    private let firstNorm: LayerNorm
    private let convolution: Convolution3x3
    private let secondNorm: LayerNorm

    /// Reads `image_encoder.neck.*`, for products whose inputs are of `type`.
    init(_ weights: some WeightSource, inputs: Int, outputs: Int, grid: Int, type: ElementType) throws {
        let name = TensorNames.neck
        self.grid = grid
        self.inputs = inputs
        self.outputs = outputs
        self.type = type
        let projection = try weights.tensor(
            TensorNames.weight(TensorNames.neckProjection), shape: [outputs, inputs, 1, 1])
        narrow = Linear(weight: projection.reshaped(to: [outputs, inputs]), bias: nil, input: type)
        firstNorm = try LayerNorm(weights, "\(name).1", features: outputs, epsilon: 1e-6)
        convolution = Convolution3x3(
            weight: try weights.tensor("\(name).2.weight", shape: [outputs, outputs, 3, 3]), bias: nil, input: type)
        secondNorm = try LayerNorm(weights, "\(name).3", features: outputs, epsilon: 1e-6)
    }

    /// (tokens, inputs) in fp32, row-major over the grid, to the embedding (1, outputs, grid, grid).
    func callAsFunction(_ x: Features, pool: ThreadPool) -> Tensor {
        let tokens = grid * grid
        return Scratch.withFeatures(rows: tokens, columns: outputs, type: type) { features in
            pool.parallelRows(tokens) { rows in
                Scratch.withFeatures(rows: rows.count, columns: outputs, type: .float32) { projected in
                    project(rows, x: x, y: projected)
                    firstNorm(rows: rows.count, x: projected, y: features.from(row: rows.lowerBound))
                }
            }
            return Tensor(shape: [1, outputs, grid, grid]) { embedding in
                guard let embedding = embedding.baseAddress else { return }
                pool.parallelRows(tokens) { rows in
                    Scratch.withFeatures(rows: rows.count, columns: outputs, type: .float32) { mixed in
                        convolution(positions: rows, height: grid, width: grid, x: features, y: mixed)
                        secondNorm(rows: rows.count, x: mixed, y: mixed)
                        for channel in 0..<outputs {
                            let line = embedding + channel * tokens + rows.lowerBound
                            for token in 0..<rows.count { line[token] = mixed.floats[token * outputs + channel] }
                        }
                    }
                }
            }
        }
    }

    /// y = the 1 × 1 convolution of `rows` of x.
    private func project(_ rows: Range<Int>, x: Features, y: Features) {
        let x = x.from(row: rows.lowerBound)
        guard type != .float32 else { return narrow.product(rows: rows.count, x: x, y: y) }
        Scratch.withFeatures(rows: rows.count, columns: inputs, type: type) { narrowed in
            x.write(rows: rows.count, columns: inputs, to: narrowed)
            narrow.product(rows: rows.count, x: narrowed, y: y)
        }
    }
}
