import Glibc
import NeuralNetworks
import Tensors

/// One block of a RepViT: a token mixer, squeeze and excitation in every other one, and a perceptron that is added.
///
/// ```text
/// m = x + depthwise3(x) + depthwise1(x),   m = m · sigmoid(w₂ relu(w₁ mean(m))),   y = m + conv2(gelu(conv1(m)))
/// ```
///
/// What the token mixer sums is one depthwise convolution of 3 × 3 here, made when the weights are read, as the paper has it.
/// Squeeze and excitation: Hu et al., 2018, <https://arxiv.org/abs/1709.01507>.
struct RepViTBlock: Sendable {
    /// The two layers of squeeze and excitation.
    private struct Excitation: Sendable {
        /// (squeezed, channels) and (squeezed).
        let squeeze: (weight: [Float], bias: [Float])
        /// (channels, squeezed) and (channels).
        let excite: (weight: [Float], bias: [Float])

        /// Factors of the channels from their means.
        func factors(_ means: [Float]) -> [Float] {
            func layer(_ x: [Float], _ layer: (weight: [Float], bias: [Float])) -> [Float] {
                layer.bias.indices.map { row in
                    x.indices.reduce(layer.bias[row]) { $0 + layer.weight[row * x.count + $1] * x[$1] }
                }
            }
            return layer(layer(means, squeeze).map { max($0, 0) }, excite).map { 1 / (1 + exp(-$0)) }
        }
    }

    /// Rows of the grid that are one task.
    private static let bandRows = 4

    private let grid: Int
    private let channels: Int
    private let type: ElementType
    private let mixer: DepthwiseConvolution3x3
    private let excitation: Excitation?
    private let mlp: MLP

    /// Reads `name.token_mixer`, `name.se`, where there is one, and `name.channel_mixer`.
    init(
        _ weights: some WeightSource, _ name: String, channels: Int, grid: Int, _ block: RepViT.Configuration.Block,
        type: ElementType
    ) throws {
        self.grid = grid
        self.channels = channels
        self.type = type
        mixer = try Self.mixer(weights, TensorNames.RepViT.mixer(name), channels: channels)
        excitation = try block.squeezed.map { squeezed in
            func layer(_ part: String, _ inputs: Int, _ outputs: Int) throws -> (weight: [Float], bias: [Float]) {
                (
                    try weights.tensor("\(part).weight", shape: [outputs, inputs, 1, 1]).elements,
                    try weights.tensor("\(part).bias", shape: [outputs]).elements
                )
            }
            return Excitation(
                squeeze: try layer(TensorNames.RepViT.squeeze(name), channels, squeezed),
                excite: try layer("\(name).se.fc2", squeezed, channels))
        }
        mlp = try MLP(
            folding: weights, TensorNames.RepViT.perceptron(name), inputs: channels, hidden: block.hidden, type: type)
    }

    /// The sum of a depthwise convolution of 3 × 3, one of 1 × 1, and what comes in.
    private static func mixer(
        _ weights: some WeightSource, _ name: String, channels: Int
    ) throws -> DepthwiseConvolution3x3 {
        let wide = try FoldedConvolution(weights, "\(name).conv", shape: [channels, 1, 3, 3])
        let narrow = try FoldedConvolution(weights, "\(name).conv1", shape: [channels, 1, 1, 1])
        let weight = Tensor(shape: [channels, 1, 3, 3], packing: wide.weight) { memory in
            let (wide, narrow) = (wide.weight.elements, narrow.weight.elements)
            for index in memory.indices {
                memory.initializeElement(at: index, to: wide[index] + (index % 9 == 4 ? narrow[index / 9] + 1 : 0))
            }
        }
        let bias = Tensor(shape: [channels], zip(wide.bias.elements, narrow.bias.elements).map { $0 + $1 })
        return DepthwiseConvolution3x3(weight: weight, bias: bias, stride: 1, gelu: false)
    }

    /// x (grid, grid, channels) to y of the same shape, both fp32; different memory.
    func callAsFunction(_ x: Features, y: Features, pool: ThreadPool) {
        guard let excitation else {
            return pool.parallelRows(grid, block: Self.bandRows) { band in
                mix(band, x: x, y: y)
                addPerceptron(band, y)
            }
        }
        // By row and then in order, so that sums do not depend on the threads.
        Scratch.withFloats(grid * channels) { sums in
            pool.parallelRows(grid, block: Self.bandRows) { band in
                mix(band, x: x, y: y)
                for row in band { sum(y.from(row: row * grid).floats, to: sums + row * channels) }
            }
            var means = [Float](repeating: 0, count: channels)
            for row in 0..<grid {
                for channel in 0..<channels { means[channel] += sums[row * channels + channel] }
            }
            let factors = excitation.factors(means.map { $0 / Float(grid * grid) })
            pool.parallelRows(grid, block: Self.bandRows) { band in
                for token in band.lowerBound * grid..<band.upperBound * grid {
                    let target = y.from(row: token).floats
                    for channel in 0..<channels { target[channel] *= factors[channel] }
                }
                addPerceptron(band, y)
            }
        }
    }

    /// The sum over one row of the grid.
    private func sum(_ x: UnsafePointer<Float>, to sums: UnsafeMutablePointer<Float>) {
        sums.update(repeating: 0, count: channels)
        for token in 0..<grid { TileSteps.add(channels, x + token * channels, to: sums) }
    }

    private func mix(_ band: Range<Int>, x: Features, y: Features) {
        for row in band {
            mixer.row(
                width: grid, above: row > 0 ? x.from(row: (row - 1) * grid) : nil, at: x.from(row: row * grid),
                below: row + 1 < grid ? x.from(row: (row + 1) * grid) : nil, y: y.from(row: row * grid))
        }
    }

    /// y += conv2(gelu(conv1(y))) of those rows.
    private func addPerceptron(_ band: Range<Int>, _ y: Features) {
        mlp.add(rows: band.count * grid, columns: channels, type: type, to: y.from(row: band.lowerBound * grid))
    }
}

/// What stands before a RepViT's stage: a block, a depthwise convolution of stride 2, a 1 × 1 convolution to the stage's
/// channels, and a perceptron that is added.
struct RepViTHalving: Sendable {
    /// Rows of the coarser grid that are one task.
    private static let bandRows = 4

    let inputs: Int
    private let outputs: Int
    private let grid: Int
    private let type: ElementType
    private let block: RepViTBlock
    private let depthwise: DepthwiseConvolution3x3
    private let widen: Projection
    private let mlp: MLP

    /// Reads `name.pre_block`, `name.spatial_downsample`, `name.channel_downsample` and `name.ffn`; `grid` is the finer one's.
    init(
        _ weights: some WeightSource, _ name: String, inputs: Int, outputs: Int, grid: Int,
        hidden: (before: Int, after: Int), type: ElementType
    ) throws {
        self.inputs = inputs
        self.outputs = outputs
        self.grid = grid
        self.type = type
        let names = TensorNames.RepViT.self
        block = try RepViTBlock(
            weights, names.firstBlock(name), channels: inputs, grid: grid, .init(hidden: hidden.before), type: type)
        depthwise = try FoldedConvolution(weights, "\(name).spatial_downsample", shape: [inputs, 1, 3, 3])
            .depthwise(stride: 2, gelu: false)
        let wide = try FoldedConvolution(weights, names.widening(name), shape: [outputs, inputs, 1, 1])
        widen = Projection(weight: wide.weight.reshaped(to: [outputs, inputs]), bias: wide.bias, input: type)
        mlp = try MLP(folding: weights, names.lastPerceptron(name), inputs: outputs, hidden: hidden.after, type: type)
    }

    /// x (grid, grid, inputs) to y (grid / 2, grid / 2, outputs), which may be the same memory; what lies between them is
    /// as large as x.
    func callAsFunction(_ x: Features, between: Features, y: Features, pool: ThreadPool) {
        block(x, y: between, pool: pool)
        let half = grid / 2
        pool.parallelRows(half, block: Self.bandRows) { band in
            Scratch.withFloats(band.count * half * inputs) { memory in
                let narrow = Features(memory, stride: inputs)
                for row in band {
                    let centre = 2 * row
                    depthwise.row(
                        width: grid, above: row > 0 ? between.from(row: (centre - 1) * grid) : nil,
                        at: between.from(row: centre * grid),
                        below: centre + 1 < grid ? between.from(row: (centre + 1) * grid) : nil,
                        y: narrow.from(row: (row - band.lowerBound) * half))
                }
                let target = y.from(row: band.lowerBound * half)
                widen(rows: band.count * half, x: narrow, y: target)
                mlp.add(rows: band.count * half, columns: outputs, type: type, to: target)
            }
        }
    }
}

extension MLP {
    /// Reads `name.conv1` (hidden, inputs, 1, 1) and `name.conv2` (inputs, hidden, 1, 1), each with its batch normalisation.
    fileprivate init(
        folding weights: some WeightSource, _ name: String, inputs: Int, hidden: Int, type: ElementType
    ) throws {
        let first = try FoldedConvolution(weights, TensorNames.RepViT.expansion(name), shape: [hidden, inputs, 1, 1])
        let second = try FoldedConvolution(weights, "\(name).conv2", shape: [inputs, hidden, 1, 1])
        self.init(
            expand: first.weight.reshaped(to: [hidden, inputs]), first.bias,
            contract: second.weight.reshaped(to: [inputs, hidden]), second.bias, type: type)
    }

    /// y += what the layers make of y (rows, columns) as it was, fp32.
    fileprivate func add(rows: Int, columns: Int, type: ElementType, to y: Features) {
        Scratch.withFeatures(rows: rows, columns: columns, type: type) { x in
            y.write(rows: rows, columns: columns, to: x)
            add(rows: rows, x: x, to: y)
        }
    }
}
