import NeuralNetworks
import Tensors

/// A 1 × 1 convolution that widens, a depthwise one, and a 1 × 1 convolution that narrows: TinyViT's `MBConv`
/// (residual, with GELU after the sum) and its `PatchMerging` (with a stride, without the residual).
///
/// The widened features are the largest thing in the encoder; only three rows of them exist at a time.
/// Sandler et al., "MobileNetV2", 2018, <https://arxiv.org/abs/1801.04381>.
struct InvertedBottleneck: Sendable {
    /// Output rows of one task.
    ///
    /// What lies above and below them is widened twice, which costs 2 rows in 16, or 1 in 16 with stride 2; larger tasks
    /// would leave threads without work at the end of a layer.
    private var bandRows: Int { depthwise.stride == 1 ? 16 : 8 }

    private let grid: Int
    private let inputs: Int
    private let hidden: Int
    private let outputs: Int
    /// Whether the answer is added to the input, whose size it has then.
    let isResidual: Bool
    private let type: ElementType
    private let widen: Linear
    private let depthwise: DepthwiseConvolution3x3
    private let narrow: Linear

    /// Reads `name.conv1`, `name.conv2` and `name.conv3`.
    ///
    /// - Parameters:
    ///   - weights: a checkpoint's, each convolution with the batch normalization after it.
    ///   - name: of the module, such as `image_encoder.layers.0.blocks.0`.
    ///   - inputs: channels of the input.
    ///   - hidden: channels of the widened features.
    ///   - outputs: channels of the answer; where it is residual, as many as of the input.
    ///   - grid: the input's side.
    ///   - stride: of the depthwise convolution, 1 or 2.
    ///   - isResidual: whether the input is added before the last GELU.
    ///   - type: of the products and of what lies between them.
    ///   - output: of the answer; where it is residual, also of the input.
    /// - Throws: what the weights throw where a tensor is missing or of another shape.
    init(
        _ weights: some WeightSource, _ name: String, inputs: Int, hidden: Int, outputs: Int, grid: Int, stride: Int,
        isResidual: Bool, type: ElementType, output: ElementType
    ) throws {
        self.grid = grid
        self.inputs = inputs
        self.hidden = hidden
        self.outputs = outputs
        self.isResidual = isResidual
        self.type = type
        widen = try FoldedConvolution(weights, TensorNames.TinyViT.widening(name), shape: [hidden, inputs, 1, 1])
            .linear(activation: .gelu, input: type, output: type)
        depthwise = try FoldedConvolution(weights, "\(name).conv2", shape: [hidden, 1, 3, 3])
            .depthwise(stride: stride, gelu: true)
        narrow = try FoldedConvolution(weights, "\(name).conv3", shape: [outputs, hidden, 1, 1])
            .linear(activation: isResidual ? .gelu : .none, input: type, output: output)
    }

    /// x (grid, grid, inputs) to y (grid / stride, grid / stride, outputs); different memory.
    func callAsFunction(_ x: Features, y: Features, pool: ThreadPool) {
        let outGrid = (grid + depthwise.stride - 1) / depthwise.stride
        pool.parallelRows(outGrid, block: bandRows) { band in
            Scratch.withFeatures(rows: 3 * grid + outGrid, columns: hidden, type: type) { rows in
                let mixed = rows.from(row: 3 * grid)
                func line(_ row: Int) -> Features? { (0..<grid).contains(row) ? rows.from(row: row % 3 * grid) : nil }
                var widened = max(0, band.lowerBound * depthwise.stride - 1)
                for outRow in band {
                    let centre = outRow * depthwise.stride
                    while widened <= min(grid - 1, centre + 1) {
                        widen(x.from(row: widened * grid), y: rows.from(row: widened % 3 * grid))
                        widened += 1
                    }
                    depthwise.row(
                        width: grid, above: line(centre - 1), at: rows.from(row: centre % 3 * grid),
                        below: line(centre + 1), y: mixed)
                    let out = y.from(row: outRow * outGrid)
                    if isResidual {
                        out.base.copyMemory(
                            from: x.from(row: outRow * grid).base, byteCount: grid * inputs * x.type.byteCount)
                    }
                    narrow.product(rows: outGrid, x: mixed, y: out, accumulate: isResidual)
                }
            }
        }
    }

    /// One row of the picture.
    private func widen(_ x: Features, y: Features) {
        guard x.type != type else { return widen.product(rows: grid, x: x, y: y) }
        Scratch.withFeatures(rows: grid, columns: inputs, type: type) { narrowed in
            x.write(rows: grid, columns: inputs, to: narrowed)
            widen.product(rows: grid, x: narrowed, y: y)
        }
    }
}
