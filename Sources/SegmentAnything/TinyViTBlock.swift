import NeuralNetworks
import Tensors

/// Attention in windows, a depthwise convolution, and an MLP (`TinyViTBlock`).
struct TinyViTBlock: Sendable {
    private let grid: Int
    private let dim: Int
    private let type: ElementType
    private let norm: LayerNorm
    private let projection: Linear
    private let attention: WindowAttention
    private let output: Linear
    private let local: DepthwiseConvolution3x3
    private let mlpNorm: LayerNorm
    private let mlp: MLP

    /// Reads `name.attn`, `name.local_conv` and `name.mlp`, for products of that precision; the residual stream is
    /// fp32.
    init(
        _ weights: some WeightSource, _ name: String, dim: Int, hidden: Int, headCount: Int, window: Int, grid: Int,
        precision: Precision
    ) throws {
        let (type, quantizes) = (precision.elementType, precision.quantizesBlocks)
        let headSize = dim / headCount
        self.grid = grid
        self.dim = dim
        self.type = type
        let norm = try LayerNorm(weights, "\(name).attn.norm", features: dim, epsilon: 1e-5)
        self.norm = norm
        projection = try Linear(
            weights, "\(name).attn.qkv", inputs: dim, outputs: 3 * dim, input: type, output: type,
            quantizes: quantizes)
        output = try Linear(weights, "\(name).attn.proj", inputs: dim, outputs: dim, input: type, quantizes: quantizes)
        local = try FoldedConvolution(weights, "\(name).local_conv", shape: [dim, 1, 3, 3]).depthwise(gelu: false)
        mlpNorm = try LayerNorm(weights, "\(name).mlp.norm", features: dim, epsilon: 1e-5)
        mlp = try MLP(
            weights, expand: TensorNames.TinyViT.expansion(name), contract: "\(name).mlp.fc2", inputs: dim,
            hidden: hidden, type: type,
            quantizes: quantizes)

        // Windows are filled up before the norm: a zero token's norm is the norm's shift, and that is projected.
        let weight = try weights.tensor("\(name).attn.qkv.weight", shape: [3 * dim, dim])
        let bias = try weights.tensor("\(name).attn.qkv.bias", shape: [3 * dim])
        let padding = Tensor(shape: [3 * dim], packing: weight) { padding in
            let (weight, bias, shift) = (weight.elements, bias.elements, norm.answerToZeros.elements)
            for row in 0..<3 * dim {
                padding[row] = (0..<dim).reduce(bias[row]) { $0 + weight[row * dim + $1] * shift[$1] }
            }
        }
        let biases = try weights.tensor(TensorNames.TinyViT.biases(name), shape: [headCount, window * window])
        attention = WindowAttention(
            grid: grid, window: window, headSize: headSize,
            offsets: (0..<headCount).map {
                let start = $0 * 3 * headSize
                return .init(query: start, key: start + headSize, value: start + 2 * headSize)
            },
            paddingRow: padding, positionBias: .table(Self.table(biases, window: window)))
    }

    /// (heads, window²) biases by distance to (heads, window², window²): entry |Δrow| · window + |Δcolumn|.
    private static func table(_ biases: Tensor, window: Int) -> Tensor {
        let n = window * window
        let heads = biases.shape[0]
        return Tensor(shape: [heads, n, n], packing: biases) { table in
            biases.withUnsafeBufferPointer { biases in
                for head in 0..<heads {
                    for query in 0..<n {
                        for key in 0..<n {
                            let rows = abs(query / window - key / window)
                            let columns = abs(query % window - key % window)
                            table[(head * n + query) * n + key] = biases[head * n + rows * window + columns]
                        }
                    }
                }
            }
        }
    }

    /// x (grid, grid, dim) to y, both fp32; x is used up.
    func callAsFunction(_ x: Features, y: Features, pool: ThreadPool) {
        attend(x, pool: pool)
        // Whole rows of the picture, as many as make about one block of tokens.
        let rowsAtOnce = max(1, LinearProduct.blockRows / grid)
        pool.parallelRows(grid, block: rowsAtOnce) { rows in
            for row in rows {
                local.row(
                    width: grid, above: row > 0 ? x.from(row: (row - 1) * grid) : nil, at: x.from(row: row * grid),
                    below: row + 1 < grid ? x.from(row: (row + 1) * grid) : nil, y: y.from(row: row * grid))
            }
            let count = rows.count * grid
            let start = y.from(row: rows.lowerBound * grid)
            Scratch.withFeatures(rows: count, columns: dim, type: type) { normal in
                mlpNorm(rows: count, x: start, y: normal)
                mlp.add(rows: count, x: normal, to: start)
            }
        }
    }

    /// x += proj(attention(norm(x))).
    private func attend(_ x: Features, pool: ThreadPool) {
        let tokens = grid * grid
        Scratch.withFeatures(rows: tokens, columns: 3 * dim, type: type) { projected in
            Scratch.withFeatures(rows: tokens, columns: dim, type: type) { attended in
                pool.parallelRows(tokens) { rows in
                    Scratch.withFeatures(rows: rows.count, columns: dim, type: type) { normal in
                        norm(rows: rows.count, x: x.from(row: rows.lowerBound), y: normal)
                        projection.product(rows: rows.count, x: normal, y: projected.from(row: rows.lowerBound))
                    }
                }
                attention(projected: projected, out: attended, pool: pool)
                pool.parallelRows(tokens) { rows in
                    output.product(
                        rows: rows.count, x: attended.from(row: rows.lowerBound), y: x.from(row: rows.lowerBound),
                        accumulate: true)
                }
            }
        }
    }
}
