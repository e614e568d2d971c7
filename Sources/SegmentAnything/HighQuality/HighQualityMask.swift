import NeuralNetworks
import Tensors

/// SAM-HQ's correction of a prompt's masks: the token's own mask of refined features.
///
/// Ke et al., "Segment Anything in High Quality", 2023, <https://arxiv.org/abs/2306.01567>, section 3.2: with U the features that
/// masks are made of, (C / 8) at four times the grid, F the picture's ``FeatureMap/highQuality``, and w the numbers that a
/// perceptron makes of the token,
///
/// ```text
/// logits = w · (conv2(GELU(norm(conv1(U)))) + F)         both 3 × 3, C / 8 to C / 4 and back
/// ```
///
/// conv2 is linear and nothing comes after it but w, so w · conv2 is one convolution to a single number, made for each prompt:
/// nine products of each position, which are then summed over its neighbours.
struct HighQualityMask: Sendable {
    private static let rowsAtOnce = 256
    /// Numbers that a position's nine products take.
    private static let products = 16

    private let side: Int
    private let fine: Int
    private let first: Convolution3x3
    private let norm: LayerNorm
    /// (C / 8, C / 4, 3, 3) and (C / 8).
    private let second: Tensor
    private let secondBias: [Float]
    private let perceptron: [TokenLinear]
    /// (1, C).
    let token: [Float]
    private let type: ElementType

    /// Reads `mask_decoder.hf_token`, `hf_mlp` and `embedding_maskfeature`.
    init(_ weights: some WeightSource, channels: Int, grid: Int, type: ElementType) throws {
        let names = TensorNames.HighQuality.self
        let (fine, middle) = (channels / 8, channels / 4)
        side = 4 * grid
        self.fine = fine
        self.type = type
        token = try weights.tensor(TensorNames.weight(names.token), shape: [1, channels]).elements
        perceptron = try [channels, channels, fine].enumerated().map { index, outputs in
            try TokenLinear(
                weights, TensorNames.part(index, of: TensorNames.MaskDecoder.layers(names.perceptron)),
                inputs: channels, outputs: outputs, activation: index < 2 ? .relu : .none)
        }
        func layer(_ index: Int) -> String { TensorNames.part(index, of: names.mask) }
        first = Convolution3x3(
            weight: try weights.tensor(TensorNames.weight(layer(0)), shape: [middle, fine, 3, 3]),
            bias: try weights.tensor("\(layer(0)).bias", shape: [middle]), input: type)
        norm = try LayerNorm(weights, layer(1), features: middle, epsilon: 1e-6)
        second = try weights.tensor(TensorNames.weight(layer(3)), shape: [fine, middle, 3, 3])
        secondBias = try weights.tensor("\(layer(3)).bias", shape: [fine]).elements
    }

    /// The layers that make w of the token.
    var layers: [TokenLinear] { perceptron }

    /// Calls `body` with memory for U, a row of C / 8 numbers for each position.
    func withFeatures<Result>(_ body: (Features) -> Result) -> Result {
        Scratch.withFeatures(rows: side * side, columns: fine, type: type, body)
    }

    /// Adds the correction to logits.
    ///
    /// - Parameters:
    ///   - masks: how many masks there are.
    ///   - logits: (masks, 4g, 4g).
    ///   - features: U.
    ///   - map: F, (1, C / 8, 4g, 4g).
    ///   - weights: w.
    ///   - pool: shares the positions out.
    func add(
        to masks: Int, _ logits: UnsafeMutablePointer<Float>, features: Features, map: Tensor, weights: [Float],
        pool: ThreadPool
    ) {
        let (middle, positions) = (first.outputs, side * side)
        let folded = fold(weights)
        let bias = zip(weights, secondBias).reduce(Float(0)) { $0 + $1.0 * $1.1 }
        Scratch.withFloats(positions * Self.products) { products in
            pool.parallelRows(positions, block: Self.rowsAtOnce) { rows in
                Scratch.withFloats(rows.count * middle) { hidden in
                    let mixed = Features(hidden, stride: middle)
                    first(positions: rows, height: side, width: side, x: features, y: mixed)
                    norm(rows: rows.count, x: mixed, y: mixed)
                    applyGELU(rows.count * middle, hidden)
                    folded(
                        rows: rows.count, x: hidden, xStride: middle, y: products + rows.lowerBound * Self.products,
                        yStride: Self.products, pool: .inline)
                }
            }
            pool.parallelRows(side, block: 8) { rows in
                Scratch.withFloats(side) { line in
                    for row in rows {
                        sum(row, products: products, map: map, weights: weights, bias: bias, to: line)
                        for mask in 0..<masks { TileSteps.add(side, line, to: logits + (mask * side + row) * side) }
                    }
                }
            }
        }
    }

    /// w · conv2 as nine rows of C / 4, one for each neighbour.
    private func fold(_ weights: [Float]) -> TokenLinear {
        let middle = first.outputs
        var rows = [Float](repeating: 0, count: 9 * middle)
        second.withUnsafeBufferPointer { second in
            for output in 0..<fine {
                for input in 0..<middle {
                    for neighbour in 0..<9 {
                        rows[neighbour * middle + input] +=
                            weights[output] * second[(output * middle + input) * 9 + neighbour]
                    }
                }
            }
        }
        return TokenLinear(
            weight: Tensor(shape: [9, middle], rows), bias: Tensor(shape: [9], [Float](repeating: 0, count: 9)))
    }

    /// One row of the correction: neighbours' products, and w times the picture's map.
    private func sum(
        _ row: Int, products: UnsafePointer<Float>, map: Tensor, weights: [Float], bias: Float,
        to line: UnsafeMutablePointer<Float>
    ) {
        line.update(repeating: bias, count: side)
        for neighbour in 0..<9 {
            let (source, shift) = (row + neighbour / 3 - 1, neighbour % 3 - 1)
            guard (0..<side).contains(source) else { continue }
            let start = products + (source * side + shift) * Self.products + neighbour
            for column in max(0, -shift)..<min(side, side - shift) { line[column] += start[column * Self.products] }
        }
        map.withUnsafeBufferPointer { map in
            guard let map = map.baseAddress else { return }
            for channel in 0..<fine {
                let (source, weight) = (map + (channel * side + row) * side, weights[channel])
                for column in 0..<side { line[column] += weight * source[column] }
            }
        }
    }
}
