import NeuralNetworks
import Tensors

/// One block of a Hiera: attention within windows or over everything, and an MLP (`MultiScaleBlock`).
///
/// A stage's first block widens the tokens and leaves one of each 2 by 2: queries are pooled by their maximum, and so is the
/// projection of what came in, to which the answer is added.
struct HieraBlock: Sendable {
    /// Its place and sizes.
    let sizes: HieraConfiguration.Block
    private let type: ElementType
    private let norm1: LayerNorm
    private let projection: Linear
    private let shortcut: Linear?
    private let output: Linear
    private let norm2: LayerNorm
    private let mlp: MLP
    private let attention: Attention

    private enum Attention: Sendable {
        /// A few units on one thread.
        case units(UnitAttention)
        /// The whole grid on all threads.
        case whole(WindowAttention)
    }

    /// From which stage on a block is given the whole grid: there are few tokens there, and so many weights that they are read
    /// for as many rows together as go into a product at once, however large windows are.
    private static let wholeStage = 2

    /// Whether it is given the whole grid: see ``callAsFunction(whole:pool:)``.
    var isWhole: Bool { if case .whole = attention { true } else { false } }

    /// Reads `name.*`.
    init(
        _ weights: some WeightSource, _ name: String, _ sizes: HieraConfiguration.Block, headCount: Int, hidden: Int,
        precision: Precision
    ) throws {
        let (type, quantizes) = (precision.elementType, precision.quantizesBlocks)
        let (inputs, outputs) = (sizes.inputs, sizes.outputs)
        self.sizes = sizes
        self.type = type
        norm1 = try LayerNorm(weights, "\(name).norm1", features: inputs, epsilon: 1e-6)
        projection = try Linear(
            weights, TensorNames.Hiera.projection(name), inputs: inputs, outputs: 3 * outputs, input: type,
            output: type, quantizes: quantizes)
        shortcut =
            inputs == outputs
            ? nil
            : try Linear(
                weights, TensorNames.Hiera.shortcut(name), inputs: inputs, outputs: outputs, input: type,
                quantizes: quantizes)
        output = try Linear(
            weights, "\(name).attn.proj", inputs: outputs, outputs: outputs, input: type, quantizes: quantizes)
        norm2 = try LayerNorm(weights, "\(name).norm2", features: outputs, epsilon: 1e-6)
        mlp = try MLP(
            weights, expand: TensorNames.Hiera.expansion(name), contract: "\(name).mlp.layers.1", inputs: outputs,
            hidden: hidden, type: type, quantizes: quantizes)
        // Windows are filled up after norm1 with zeros, whose projection is the bias.
        let padding = try weights.tensor("\(TensorNames.Hiera.projection(name)).bias", shape: [3 * outputs])
        attention =
            !sizes.pools && (sizes.window == sizes.grid || sizes.stage >= Self.wholeStage)
            ? .whole(
                WindowAttention(
                    grid: sizes.grid, window: sizes.window, headSize: outputs / headCount,
                    offsets: .joint(headCount: headCount, dim: outputs), paddingRow: padding, positionBias: .none))
            : .units(
                UnitAttention(
                    side: sizes.window, grid: sizes.grid, dim: outputs, headCount: headCount, paddingRow: padding,
                    poolsQueries: sizes.pools))
    }

    // MARK: a few units on one thread

    /// Takes units of tokens, which lie one after the other, through the block.
    ///
    /// - Parameters:
    ///   - units: in the block's own grid.
    ///   - x: (tokens, inputs), fp32, used up.
    ///   - spare: memory for the answer, where that is no longer as wide as `x`.
    /// - Precondition: not ``isWhole``.
    /// - Returns: which of the two holds the answer, (tokens or a quarter of them, outputs).
    func callAsFunction(_ units: [MaskUnit], x: Features, spare: Features) -> Features {
        guard case .units(let attention) = attention else {
            preconditionFailure("block \(sizes.index) takes the whole grid")
        }
        let tokens = units.reduce(0) { $0 + $1.count }
        let answers = sizes.pools ? tokens / 4 : tokens
        let (inputs, outputs) = (sizes.inputs, sizes.outputs)
        let y = shortcut == nil ? x : Features(spare.floats, stride: outputs)
        Scratch.withFeatures(rows: tokens, columns: 3 * outputs, type: type) { projected in
            Scratch.withFeatures(rows: tokens, columns: inputs, type: type) { normal in
                norm1(rows: tokens, x: x, y: normal)
                projection.product(rows: tokens, x: normal, y: projected)
                shortcut?.product(rows: tokens, x: normal, y: y)
            }
            Scratch.withFeatures(rows: answers, columns: outputs, type: type) { attended in
                var (first, answer) = (0, 0)
                for unit in units {
                    if sizes.pools {
                        MaximumPooling.halve(
                            rows: unit.rows, columns: unit.columns, width: outputs, x: y.from(row: first),
                            y: y.from(row: answer))
                    }
                    attention(
                        rows: unit.rows, columns: unit.columns, projected: projected.from(row: first),
                        out: attended.from(row: answer))
                    first += unit.count
                    answer += sizes.pools ? unit.count / 4 : unit.count
                }
                output.product(rows: answers, x: attended, y: y, accumulate: true)
            }
        }
        addMLP(answers, y)
        return y
    }

    // MARK: the whole grid on all threads

    /// projected[rows] = qkv(norm1(x[rows])).
    private func project(_ rows: Range<Int>, x: Features, projected: Features) {
        Scratch.withFeatures(rows: rows.count, columns: sizes.inputs, type: type) { normal in
            norm1(rows: rows.count, x: x.from(row: rows.lowerBound), y: normal)
            projection.product(rows: rows.count, x: normal, y: projected.from(row: rows.lowerBound))
        }
    }

    /// x (grid², outputs), fp32, to its answer in place.
    ///
    /// - Precondition: ``isWhole``.
    func callAsFunction(whole x: Features, pool: ThreadPool) {
        guard case .whole(let attention) = attention else {
            preconditionFailure("block \(sizes.index) takes units")
        }
        let tokens = sizes.grid * sizes.grid
        Scratch.withFeatures(rows: tokens, columns: 3 * sizes.outputs, type: type) { projected in
            Scratch.withFeatures(rows: tokens, columns: sizes.outputs, type: type) { attended in
                pool.parallelRows(tokens) { project($0, x: x, projected: projected) }
                attention(projected: projected, out: attended, pool: pool)
                pool.parallelRows(tokens) { rows in
                    let x = x.from(row: rows.lowerBound)
                    output.product(
                        rows: rows.count, x: attended.from(row: rows.lowerBound), y: x, accumulate: true)
                    addMLP(rows.count, x)
                }
            }
        }
    }

    /// x += mlp(norm2(x)).
    private func addMLP(_ rows: Int, _ x: Features) {
        Scratch.withFeatures(rows: rows, columns: sizes.outputs, type: type) { normal in
            norm2(rows: rows, x: x, y: normal)
            mlp.add(rows: rows, x: normal, to: x)
        }
    }
}

/// A unit of tokens of one stage's grid: a square, or what of it lies in the grid.
struct MaskUnit: Sendable {
    /// Its first row and column in the grid.
    let row: Int
    let column: Int
    let rows: Int
    let columns: Int

    var count: Int { rows * columns }

    /// The same part of the picture in the next stage's grid.
    var halved: MaskUnit { MaskUnit(row: row / 2, column: column / 2, rows: rows / 2, columns: columns / 2) }

    /// All units of a grid, row by row.
    static func units(side: Int, grid: Int) -> [MaskUnit] {
        stride(from: 0, to: grid, by: side).flatMap { row in
            stride(from: 0, to: grid, by: side).map { column in
                MaskUnit(row: row, column: column, rows: min(side, grid - row), columns: min(side, grid - column))
            }
        }
    }

    /// Copies the unit's tokens from a map (grid, grid, width), or to it, where they lie one after the other here.
    func copy(width: Int, grid: Int, map: Features, tokens: Features, toMap: Bool) {
        for index in 0..<rows {
            let here = tokens.from(row: index * columns).floats
            let there = map.from(row: (row + index) * grid + column).floats
            if toMap {
                there.update(from: here, count: columns * width)
            } else {
                here.update(from: there, count: columns * width)
            }
        }
    }
}
