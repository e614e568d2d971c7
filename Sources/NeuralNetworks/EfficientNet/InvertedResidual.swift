import Tensors

/// A 1 × 1 convolution that widens, a depthwise one, and a 1 × 1 convolution that narrows, with ReLU6 before and after the
/// depthwise one and the input added where shape and stride allow it.
///
/// Sandler et al., "MobileNetV2", 2018, <https://arxiv.org/abs/1801.04381>. The widened features are the largest thing in the
/// encoder. Where they are small enough for the caches they exist whole, and products are tall; on the fine grids only the
/// rows that the kernel covers exist at a time.
struct InvertedResidual: Sendable {
    /// Numbers of widened features that are kept whole.
    private static let mostWhole = 1 << 20

    private let grid: Int
    private let inputs: Int
    private let hidden: Int
    private let outputs: Int
    private let isResidual: Bool
    private let type: ElementType
    private let expand: Projection?
    private let depthwise: DepthwiseReLU6
    private let project: Projection

    private var outGrid: Int { grid / depthwise.stride }

    /// Reads `name.expand`, where the block widens, `name.depthwise` and `name.project`.
    ///
    /// - Parameters:
    ///   - weights: a checkpoint's, its batch normalisations folded into the convolutions.
    ///   - name: of the block, such as `image_encoder.blocks.0`.
    ///   - block: its sizes.
    ///   - inputs: channels of the input.
    ///   - grid: the input's side, a multiple of the stride.
    ///   - type: of the products and of what lies between them.
    /// - Throws: what the weights throw where a tensor is missing or of another shape.
    init(
        _ weights: some WeightSource, _ name: String, _ block: EfficientNetTrunk.Block, inputs: Int,
        grid: Int, type: ElementType
    ) throws {
        let names = EfficientNetTrunk.Names.self
        self.grid = grid
        self.inputs = inputs
        hidden = block.hidden
        outputs = block.outputs
        isResidual = block.stride == 1 && inputs == block.outputs
        self.type = type
        expand =
            block.isWidened
            ? try Projection(
                weights, names.expansion(name), inputs: inputs, outputs: hidden, activation: .relu6, input: type,
                output: type) : nil
        let kernel = names.depthwise(name)
        depthwise = DepthwiseReLU6(
            weight: try weights.tensor("\(kernel).weight", shape: [hidden, 1, block.size, block.size]),
            bias: try weights.tensor("\(kernel).bias", shape: [hidden]), stride: block.stride)
        project = try Projection(
            weights, names.projection(name), inputs: hidden, outputs: outputs, input: type)
    }

    /// x (grid, grid, inputs) to y (grid / stride, grid / stride, outputs), both fp32; different memory.
    func callAsFunction(_ x: Features, y: Features, pool: ThreadPool) {
        if grid * grid * hidden <= Self.mostWhole { whole(x, y: y, pool: pool) } else { byRows(x, y: y, pool: pool) }
    }

    /// All widened features first.
    private func whole(_ x: Features, y: Features, pool: ThreadPool) {
        Scratch.withFeatures(rows: grid * grid, columns: hidden, type: type) { widened in
            pool.parallelRows(grid * grid, block: 96) { positions in
                widen(
                    positions.count, x.from(row: positions.lowerBound), y: widened.from(row: positions.lowerBound))
            }
            // Some 144 positions are a tall product, and two tasks at least.
            pool.parallelRows(outGrid, block: max(1, min((outGrid + 1) / 2, 144 / outGrid))) { band in
                Scratch.withFeatures(rows: band.count * outGrid, columns: hidden, type: type) { mixed in
                    for row in band {
                        mix(row, to: mixed.from(row: (row - band.lowerBound) * outGrid)) {
                            widened.from(row: $0 * grid)
                        }
                    }
                    narrow(band, mixed, x: x, y: y)
                }
            }
        }
    }

    /// A band of rows after the other, each with the few widened rows that its next answers need.
    private func byRows(_ x: Features, y: Features, pool: ThreadPool) {
        let size = depthwise.size
        pool.parallelRows(outGrid, block: depthwise.stride == 1 ? 16 : 8) { band in
            Scratch.withFeatures(rows: size * grid + outGrid, columns: hidden, type: type) { rows in
                let mixed = rows.from(row: size * grid)
                var next = max(0, depthwise.firstRow(of: band.lowerBound))
                for row in band {
                    while next < min(grid, depthwise.firstRow(of: row) + size) {
                        widen(grid, x.from(row: next * grid), y: rows.from(row: next % size * grid))
                        next += 1
                    }
                    mix(row, to: mixed) { rows.from(row: $0 % size * grid) }
                    narrow(row..<row + 1, mixed, x: x, y: y)
                }
            }
        }
    }

    /// What the depthwise convolution takes of `count` positions: at least ReLU6 of them.
    private func widen(_ count: Int, _ x: Features, y: Features) {
        if let expand { return expand(rows: count, x: x, y: y) }
        Scratch.withFloats(count * hidden) { clipped in
            clipped.update(from: x.floats, count: count * hidden)
            Activation.relu6.apply(count * hidden, clipped)
            Features(clipped, stride: count * hidden).write(rows: 1, columns: count * hidden, to: y)
        }
    }

    /// One row of the depthwise convolution's answers; `widened` gives rows of its input.
    private func mix(_ row: Int, to y: Features, _ widened: (_ row: Int) -> Features) {
        let first = depthwise.firstRow(of: row)
        depthwise.row(width: grid, y: y) { index in
            (0..<grid).contains(first + index) ? widened(first + index) : nil
        }
    }

    /// Rows of the block's answer from the depthwise convolution's.
    private func narrow(_ band: Range<Int>, _ mixed: Features, x: Features, y: Features) {
        let (first, count) = (band.lowerBound * outGrid, band.count * outGrid)
        let out = y.from(row: first)
        if isResidual { out.floats.update(from: x.from(row: first).floats, count: count * outputs) }
        project(rows: count, x: mixed, y: out, accumulate: isResidual)
    }
}
