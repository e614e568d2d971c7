import NeuralNetworks
import Tensors
import Testing

/// Each layer against its formula in binary64, one number after the other.
@Suite struct LayerTests {
    private func tensor(_ shape: [Int], seed: UInt64, around center: Float = 0, scale: Float = 1) -> Tensor {
        let rows = Rows(1, shape.reduce(1, *), seed: seed)
        return Tensor(shape: shape, rows.numbers.map { center + $0 * scale })
    }

    /// The largest difference, in units of what the numbers are like.
    private func error(_ answer: Rows, _ expected: (Int, Int) -> Double) -> Double {
        var worst = 0.0
        for row in 0..<answer.count {
            for column in 0..<answer.columns {
                let value = expected(row, column)
                worst = max(worst, abs(answer[row, column] - value) / max(1, abs(value)))
            }
        }
        return worst
    }

    @Test(arguments: [(1, 1), (3, 5), (7, 64), (2, 257), (130, 96)])
    func layerNorm(rows: Int, features: Int) throws {
        let weights = GivenWeights(tensors: [
            "norm.weight": tensor([features], seed: 1, around: 1, scale: 0.3), "norm.bias": tensor([features], seed: 2),
        ])
        let norm = try LayerNorm(weights, "norm", features: features, epsilon: 1e-6)
        var x = Rows(rows, features, seed: 3)
        func expected(_ row: Int, _ column: Int) -> Double {
            let values = (0..<features).map { x[row, $0] }
            let mean = values.reduce(0, +) / Double(features)
            let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(features)
            return (values[column] - mean) / (variance + 1e-6).squareRoot() * Double(norm.gains[column])
                + Double(norm.shifts[column])
        }
        let reference = (0..<rows).map { row in (0..<features).map { expected(row, $0) } }
        for type in [ElementType.float32, .bfloat16] {
            var y = Rows(rows, features, filledWith: 9)
            x.withFeatures { x in y.withFeatures(type) { y in norm(rows: rows, x: x, y: y) } }
            // bf16 keeps eight bits of the answer.
            #expect(error(y) { reference[$0][$1] } < (type == .float32 ? 2e-5 : 8e-3), "\(type)")
        }
        // In place.
        x.withFeatures { x in norm(rows: rows, x: x, y: x) }
        #expect(error(x) { reference[$0][$1] } < 2e-5)
    }

    @Test(arguments: [
        (5, 12, 7, Activation.none), (40, 64, 33, .relu), (129, 96, 130, .gelu), (33, 64, 40, .quickGELU),
        (9, 24, 96, .relu6),
    ])
    func linear(rows: Int, inputs: Int, outputs: Int, activation: Activation) throws {
        let (weight, bias) = (tensor([outputs, inputs], seed: 1), tensor([outputs], seed: 2))
        let layer = try Linear(
            GivenWeights(tensors: ["l.weight": weight, "l.bias": bias]), "l", inputs: inputs, outputs: outputs,
            activation: activation)
        var (x, y) = (Rows(rows, inputs, seed: 3), Rows(rows, outputs, filledWith: 9))
        x.withFeatures { x in y.withFeatures { y in layer.product(rows: rows, x: x, y: y) } }
        let (weights, biases) = (weight.elements, bias.elements)
        let worst = error(y) { row, column in
            let sum = (0..<inputs).reduce(Double(biases[column])) {
                $0 + x[row, $1] * Double(weights[column * inputs + $1])
            }
            return switch activation {
            case .none: sum
            case .relu: max(0, sum)
            case .relu6: min(max(0, sum), 6)
            case .gelu: gelu(sum)
            case .quickGELU: quickGELU(sum)
            }
        }
        #expect(worst < (activation == .gelu ? 1e-3 : 2e-5))
        #expect(throws: GivenWeights.Missing.self) {
            _ = try Linear(GivenWeights(tensors: ["l.weight": weight]), "l", inputs: inputs, outputs: outputs)
        }
    }

    /// The hidden numbers are made a slice at a time; that must not be seen.
    @Test(arguments: [(3, 16, 64), (150, 48, 200), (70, 320, 1280)])
    func mlpAddsWhatTwoLayersMake(rows: Int, inputs: Int, hidden: Int) throws {
        let scale = 1 / Float(inputs).squareRoot()
        let tensors = [
            "a.weight": tensor([hidden, inputs], seed: 1, scale: scale), "a.bias": tensor([hidden], seed: 2),
            "b.weight": tensor([inputs, hidden], seed: 3, scale: scale), "b.bias": tensor([inputs], seed: 4),
        ]
        let mlp = try MLP(
            GivenWeights(tensors: tensors), expand: "a", contract: "b", inputs: inputs, hidden: hidden, type: .float32)
        var (x, y) = (Rows(rows, inputs, seed: 5), Rows(rows, inputs, seed: 6))
        let before = y
        x.withFeatures { x in y.withFeatures { y in mlp.add(rows: rows, x: x, to: y) } }
        let numbers = try ["a.weight", "a.bias", "b.weight", "b.bias"].map { try #require(tensors[$0]).elements }
        let middle = (0..<rows).map { row in
            (0..<hidden).map { unit in
                gelu(
                    (0..<inputs).reduce(Double(numbers[1][unit])) {
                        $0 + x[row, $1] * Double(numbers[0][unit * inputs + $1])
                    })
            }
        }
        let worst = error(y) { row, column in
            (0..<hidden).reduce(before[row, column] + Double(numbers[3][column])) {
                $0 + middle[row][$1] * Double(numbers[2][column * hidden + $1])
            }
        }
        #expect(worst < 3e-3)
    }

    /// A folded batch normalisation is the convolution and then the normalisation.
    @Test func foldingChangesNothing() throws {
        let (outputs, inputs) = (6, 5)
        let tensors = [
            "n.c.weight": tensor([outputs, inputs, 1, 1], seed: 1),
            "n.bn.weight": tensor([outputs], seed: 2, around: 1),
            "n.bn.bias": tensor([outputs], seed: 3), "n.bn.running_mean": tensor([outputs], seed: 4),
            "n.bn.running_var": tensor([outputs], seed: 5, around: 1.5),
        ]
        let folded = try FoldedConvolution(GivenWeights(tensors: tensors), "n", shape: [outputs, inputs, 1, 1])
        var (x, y) = (Rows(9, inputs, seed: 6), Rows(9, outputs, filledWith: 9))
        x.withFeatures { x in y.withFeatures { y in folded.linear().product(rows: 9, x: x, y: y) } }
        let numbers = try ["c.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"].map {
            try #require(tensors["n.\($0)"]).elements.map(Double.init)
        }
        let worst = error(y) { row, column in
            let sum = (0..<inputs).reduce(0) { $0 + x[row, $1] * numbers[0][column * inputs + $1] }
            return (sum - numbers[3][column]) / (numbers[4][column] + 1e-5).squareRoot() * numbers[1][column]
                + numbers[2][column]
        }
        #expect(worst < 2e-5)
    }

    @Test(
        arguments: [(1, 1, 3, 4, 1), (5, 4, 3, 8, 1), (6, 7, 5, 3, 2), (9, 8, 16, 20, 2), (2, 9, 4, 6, 2)], [0, 1])
    func convolution3x3(geometry: (Int, Int, Int, Int, Int), padding: Int) {
        let (height, width, inputs, outputs, stride) = geometry
        let (weight, bias) = (tensor([outputs, inputs, 3, 3], seed: 1), tensor([outputs], seed: 2))
        let layer = Convolution3x3(weight: weight, bias: bias, stride: stride, padding: padding)
        let (rows, columns) = ((height + stride - 1) / stride, (width + stride - 1) / stride)
        var (x, y) = (Rows(height * width, inputs, seed: 3), Rows(rows * columns, outputs, filledWith: 9))
        x.withFeatures { x in
            y.withFeatures { y in
                // In two parts, as threads take them.
                let half = rows * columns / 2
                layer(positions: 0..<half, height: height, width: width, x: x, y: y)
                layer(positions: half..<rows * columns, height: height, width: width, x: x, y: y.from(row: half))
            }
        }
        let (weights, biases) = (weight.elements, bias.elements)
        let worst = error(y) { position, output in
            neighbours(
                position, columns: columns, stride: stride, height: height, width: width, padding: padding
            ).reduce(Double(biases[output])) { sum, neighbour in
                (0..<inputs).reduce(sum) {
                    $0 + x[neighbour.pixel, $1] * Double(weights[(output * inputs + $1) * 9 + neighbour.index])
                }
            }
        }
        #expect(worst < 2e-5)
    }

    @Test(arguments: [(1, 1, 4, 1), (5, 6, 20, 1), (7, 5, 33, 2), (4, 9, 64, 2)], [false, true])
    func depthwiseConvolution3x3(geometry: (Int, Int, Int, Int), appliesGELU: Bool) {
        let (height, width, channels, stride) = geometry
        let (weight, bias) = (tensor([channels, 1, 3, 3], seed: 1), tensor([channels], seed: 2))
        let layer = DepthwiseConvolution3x3(weight: weight, bias: bias, stride: stride, gelu: appliesGELU)
        let (rows, columns) = ((height + stride - 1) / stride, (width + stride - 1) / stride)
        let (weights, biases) = (weight.elements, bias.elements)
        for type in [ElementType.float32, .bfloat16] {
            var x = Rows(height * width, channels, seed: 3)
            if type == .bfloat16 { x = x.rounded }
            var y = Rows(rows * columns, channels, filledWith: 9)
            x.withFeatures(type) { x in
                y.withFeatures(type) { y in
                    for row in 0..<rows {
                        let at = row * stride
                        layer.row(
                            width: width, above: at > 0 ? x.from(row: (at - 1) * width) : nil,
                            at: x.from(row: at * width),
                            below: at + 1 < height ? x.from(row: (at + 1) * width) : nil, y: y.from(row: row * columns))
                    }
                }
            }
            let worst = error(y) { position, channel in
                let sum = neighbours(position, columns: columns, stride: stride, height: height, width: width).reduce(
                    Double(biases[channel])
                ) { $0 + x[$1.pixel, channel] * Double(weights[channel * 9 + $1.index]) }
                return appliesGELU ? gelu(sum) : sum
            }
            #expect(worst < (type == .bfloat16 ? 1e-2 : appliesGELU ? 1e-3 : 2e-5), "\(type)")
        }
    }

    @Test(arguments: [(2, 2, 4, 1), (6, 10, 20, 1), (8, 4, 33, 2), (4, 24, 64, 2)], [3, 5])
    func depthwiseReLU6(geometry: (Int, Int, Int, Int), size: Int) {
        let (height, width, channels, stride) = geometry
        let (weight, bias) = (tensor([channels, 1, size, size], seed: 1, scale: 6), tensor([channels], seed: 2))
        let layer = DepthwiseReLU6(weight: weight, bias: bias, stride: stride)
        #expect(layer.before == [3: [1, 0], 5: [2, 1]][size]?[stride - 1])
        let (rows, columns) = (height / stride, width / stride)
        let (weights, biases) = (weight.elements, bias.elements)
        for type in [ElementType.float32, .bfloat16] {
            var x = Rows(height * width, channels, seed: 3)
            if type == .bfloat16 { x = x.rounded }
            var y = Rows(rows * columns, channels, filledWith: 9)
            x.withFeatures(type) { x in
                y.withFeatures(type) { y in
                    for row in 0..<rows {
                        layer.row(width: width, y: y.from(row: row * columns)) { index in
                            let from = layer.firstRow(of: row) + index
                            return (0..<height).contains(from) ? x.from(row: from * width) : nil
                        }
                    }
                }
            }
            let worst = error(y) { position, channel in
                let sum = neighbours(
                    position, columns: columns, stride: stride, height: height, width: width, size: size,
                    padding: layer.before
                ).reduce(Double(biases[channel])) {
                    $0 + x[$1.pixel, channel] * Double(weights[channel * size * size + $1.index])
                }
                return min(max(0, sum), 6)
            }
            #expect(worst < (type == .bfloat16 ? 2e-2 : 2e-5), "\(type)")
        }
    }

    /// The pixels that the kernel at an output position covers and that lie in the picture, and where in the kernel each is.
    private func neighbours(
        _ position: Int, columns: Int, stride: Int, height: Int, width: Int, size: Int = 3, padding: Int = 1
    ) -> [(pixel: Int, index: Int)] {
        let (row, column) = (position / columns * stride - padding, position % columns * stride - padding)
        return (0..<size * size).compactMap { index in
            let (r, c) = (row + index / size, column + index % size)
            return r >= 0 && r < height && c >= 0 && c < width ? (r * width + c, index) : nil
        }
    }
}
