import Glibc
import NeuralNetworks
import Tensors

/// Positions as random Fourier features: sin and cos of 2π times a fixed random projection of (x, y) in [−1, 1].
///
/// Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions", 2020,
/// <https://arxiv.org/abs/2006.10739>.
struct PositionEmbeddingRandom: Sendable {
    /// C / 2.
    private let half: Int
    /// (2, C / 2): the projection of x, then of y.
    private let matrix: [Float]

    init(_ weights: some WeightSource, channels: Int) throws {
        half = channels / 2
        matrix = try weights.tensor(
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", shape: [2, channels / 2]
        ).elements
    }

    /// Writes the C numbers of the position (x, y), each from 0 to 1.
    func encode(x: Float, y: Float, into out: UnsafeMutablePointer<Float>) {
        for index in 0..<half {
            let angle = 2 * Float.pi * ((2 * x - 1) * matrix[index] + (2 * y - 1) * matrix[half + index])
            out[index] = sinf(angle)
            out[half + index] = cosf(angle)
        }
    }

    /// The positions of all cells of the embedding: (C, grid, grid), `image_pe` of the paper's code.
    func grid(_ grid: Int) -> Tensor {
        Tensor(shape: [2 * half, grid, grid]) { memory in
            withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * half) { cell in
                guard let cell = cell.baseAddress else { return }
                for row in 0..<grid {
                    for column in 0..<grid {
                        encode(
                            x: (Float(column) + 0.5) / Float(grid), y: (Float(row) + 0.5) / Float(grid), into: cell)
                        for channel in 0..<2 * half { memory[(channel * grid + row) * grid + column] = cell[channel] }
                    }
                }
            }
        }
    }
}
