import NeuralNetworks
import Tensors

/// Maps of strides 8, 16 and 32 to one embedding of stride 16 (`image_encoder.neck`).
///
/// The first is averaged over 2 by 2 cells, the last repeated; a 1 × 1 convolution each (Lin et al., "Feature Pyramid
/// Networks", 2017, <https://arxiv.org/abs/1612.03144>, whose laterals they are), summed, then two 3 × 3 ones:
///
/// ```text
/// n = norm1(sum),   norm3(conv2(n + relu(norm2(conv1(relu(n))))))
/// ```
///
/// with norms over the channels of each position.
struct PyramidNeck: Sendable {
    private let grid: Int
    private let inputs: [Int]
    private let width: Int
    private let outputs: Int
    private let type: ElementType
    private let laterals: [Projection]
    private let norms: [LayerNorm]
    private let convolutions: [Convolution3x3]

    /// Reads `image_encoder.neck.*`.
    ///
    /// - Parameters:
    ///   - weights: a checkpoint's.
    ///   - inputs: channels of the three maps.
    ///   - width: channels inside.
    ///   - outputs: C.
    ///   - grid: the embedding's side, which is even.
    ///   - type: of the products' inputs.
    /// - Throws: what the weights throw where a tensor is missing or of another shape.
    init(
        _ weights: some WeightSource, inputs: [Int], width: Int, outputs: Int, grid: Int, type: ElementType
    ) throws {
        let name = TensorNames.neck
        self.grid = grid
        self.inputs = inputs
        self.width = width
        self.outputs = outputs
        self.type = type
        laterals = try inputs.enumerated().map { index, channels in
            // The middle one's bias is that of the sum.
            try Projection(
                weights, TensorNames.part(index, of: TensorNames.EfficientNetLite.laterals), inputs: channels,
                outputs: width, hasBias: index == 1, input: type)
        }
        norms = try [width, width, outputs].enumerated().map { index, features in
            try LayerNorm(weights, "\(name).norm\(index + 1)", features: features, epsilon: 1e-6)
        }
        convolutions = try [width, outputs].enumerated().map { index, channels in
            Convolution3x3(
                weight: try weights.tensor("\(name).conv\(index + 1).weight", shape: [channels, width, 3, 3]),
                bias: try weights.tensor("\(name).conv\(index + 1).bias", shape: [channels]), input: type)
        }
    }

    /// fp32 maps of (2 · grid)², grid² and (grid / 2)² positions to the embedding, (1, C, grid, grid).
    func callAsFunction(fine: Features, middle: Features, coarse: Features, pool: ThreadPool) -> Tensor {
        let tokens = grid * grid
        return Scratch.withFloats(tokens * width) { normed in
            Scratch.withFeatures(rows: tokens, columns: width, type: type) { active in
                join(fine: fine, middle: middle, coarse: coarse, normed: normed, active: active, pool: pool)
                return Scratch.withFeatures(rows: tokens, columns: width, type: type) { mixed in
                    pool.parallelRows(tokens, block: 96) { rows in
                        mix(rows, active: active, normed: normed, y: mixed.from(row: rows.lowerBound))
                    }
                    return Tensor(shape: [1, outputs, grid, grid]) { embedding in
                        guard let embedding = embedding.baseAddress else { return }
                        pool.parallelRows(tokens, block: 96) { rows in
                            Scratch.withFloats(rows.count * outputs) { memory in
                                let last = Features(memory, stride: outputs)
                                convolutions[1](positions: rows, height: grid, width: grid, x: mixed, y: last)
                                norms[2](rows: rows.count, x: last, y: last)
                                TileSteps.transpose(
                                    rows: rows.count, columns: outputs, memory, stride: outputs,
                                    to: embedding + rows.lowerBound, stride: tokens)
                            }
                        }
                    }
                }
            }
        }
    }

    /// n to `normed`, and ReLU of it to `active`.
    private func join(
        fine: Features, middle: Features, coarse: Features, normed: UnsafeMutablePointer<Float>, active: Features,
        pool: ThreadPool
    ) {
        let half = grid / 2
        Scratch.withFloats(half * half * width) { repeated in
            pool.parallelRows(half * half, block: 72) { rows in
                laterals[2](
                    rows: rows.count, x: coarse.from(row: rows.lowerBound),
                    y: Features(repeated + rows.lowerBound * width, stride: width))
            }
            pool.parallelRows(grid, block: max(1, min((grid + 1) / 2, 144 / grid))) { rows in
                let (first, count) = (rows.lowerBound * grid, rows.count * grid)
                let sums = Features(normed + first * width, stride: width)
                laterals[1](rows: count, x: middle.from(row: first), y: sums)
                Scratch.withFloats(count * inputs[0]) { averages in
                    average(fine, rows: rows, to: averages)
                    laterals[0](rows: count, x: Features(averages, stride: inputs[0]), y: sums, accumulate: true)
                }
                for token in first..<first + count {
                    let cell = token / grid / 2 * half + token % grid / 2
                    TileSteps.add(width, repeated + cell * width, to: normed + token * width)
                }
                norms[0](rows: count, x: sums, y: sums)
                write(count, sums.floats, to: active.from(row: first))
            }
        }
    }

    /// `rows` of the mean over 2 by 2 cells.
    private func average(_ fine: Features, rows: Range<Int>, to y: UnsafeMutablePointer<Float>) {
        let channels = inputs[0]
        for row in rows {
            for column in 0..<grid {
                let above = fine.from(row: 2 * row * 2 * grid + 2 * column).floats
                let below = above + 2 * grid * channels
                let target = y + ((row - rows.lowerBound) * grid + column) * channels
                for channel in 0..<channels {
                    let left = above[channel] + below[channel]
                    let right = above[channels + channel] + below[channels + channel]
                    target[channel] = 0.25 * (left + right)
                }
            }
        }
    }

    /// y = n + relu(norm2(conv1(active))) at those positions.
    private func mix(_ rows: Range<Int>, active: Features, normed: UnsafePointer<Float>, y: Features) {
        Scratch.withFloats(rows.count * width) { memory in
            let sums = Features(memory, stride: width)
            convolutions[0](positions: rows, height: grid, width: grid, x: active, y: sums)
            norms[1](rows: rows.count, x: sums, y: sums)
            Activation.relu.apply(rows.count * width, memory)
            TileSteps.add(rows.count * width, normed + rows.lowerBound * width, to: memory)
            sums.write(rows: rows.count, columns: width, to: y)
        }
    }

    /// ReLU of `count` rows, as the next convolution reads them.
    private func write(_ count: Int, _ x: UnsafePointer<Float>, to y: Features) {
        Scratch.withFloats(count * width) { memory in
            memory.update(from: x, count: count * width)
            Activation.relu.apply(count * width, memory)
            Features(memory, stride: width).write(rows: count, columns: width, to: y)
        }
    }
}
