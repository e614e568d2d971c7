import CKernels
import NeuralNetworks
import Tensors

/// A 1 × 1 convolution that widens, a depthwise one, and a 1 × 1 convolution that narrows: TinyViT's `MBConv`
/// (residual, with GELU after the sum) and its `PatchMerging` (with a stride, without the residual).
///
/// The widened features are the largest thing in the encoder; only three rows of them exist at a time.
/// Sandler et al., "MobileNetV2", 2018, <https://arxiv.org/abs/1801.04381>.
struct InvertedBottleneck: Sendable {
    /// Output rows of one task; the rows above and below them are widened twice, which costs 2 in 32.
    private static let bandRows = 32

    private let grid: Int
    private let inputs: Int
    private let hidden: Int
    private let outputs: Int
    private let isResidual: Bool
    private let widen: Linear
    private let depthwise: DepthwiseConvolution3x3
    private let narrow: Linear

    /// Reads `name.conv1`, `name.conv2` and `name.conv3`; `grid` is the input's side.
    init(
        _ weights: some WeightSource, _ name: String, inputs: Int, hidden: Int, outputs: Int, grid: Int, stride: Int,
        isResidual: Bool
    ) throws {
        self.grid = grid
        self.inputs = inputs
        self.hidden = hidden
        self.outputs = outputs
        self.isResidual = isResidual
        widen = try FoldedConvolution(weights, "\(name).conv1", shape: [hidden, inputs, 1, 1])
            .linear(activation: .gelu)
        depthwise = try FoldedConvolution(weights, "\(name).conv2", shape: [hidden, 1, 3, 3])
            .depthwise(stride: stride, gelu: true)
        narrow = try FoldedConvolution(weights, "\(name).conv3", shape: [outputs, hidden, 1, 1]).linear()
    }

    /// x (grid, grid, inputs) to y (grid / stride, grid / stride, outputs); different memory.
    func callAsFunction(_ x: UnsafeMutablePointer<Float>, y: UnsafeMutablePointer<Float>, pool: ThreadPool) {
        let outGrid = (grid + depthwise.stride - 1) / depthwise.stride
        pool.parallelRows(outGrid, block: Self.bandRows) { band in
            let line = grid * hidden
            Scratch.withFloats(3 * line + outGrid * hidden) { rows in
                let mixed = rows + 3 * line
                var widened = max(0, band.lowerBound * depthwise.stride - 1)
                for outRow in band {
                    let centre = outRow * depthwise.stride
                    while widened <= min(grid - 1, centre + 1) {
                        widen.product(
                            rows: grid, x: Features(x + widened * grid * inputs, stride: inputs),
                            y: Features(rows + widened % 3 * line, stride: hidden))
                        widened += 1
                    }
                    depthwise.row(
                        width: grid, above: centre > 0 ? rows + (centre - 1) % 3 * line : nil,
                        at: rows + centre % 3 * line, below: centre + 1 < grid ? rows + (centre + 1) % 3 * line : nil,
                        y: mixed)
                    let out = y + outRow * outGrid * outputs
                    if isResidual { out.update(from: x + outRow * grid * inputs, count: grid * inputs) }
                    narrow.product(
                        rows: outGrid, x: Features(mixed, stride: hidden), y: Features(out, stride: outputs),
                        accumulate: isResidual)
                    if isResidual { kirie_gelu(outGrid * outputs, out) }
                }
            }
        }
    }
}
