import CKernels
import Tensors
import Testing

@Suite struct LinearProductTests {
    private func tensor(_ shape: [Int], seed: Int) -> Tensor {
        Tensor(shape: shape, (0..<shape.reduce(1, *)).map { Float(($0 * 7919 + seed * 104_729) % 2001) / 1000 - 1 })
    }

    @Test(arguments: [
        (128, 64, 48, Activation.gelu), (128, 768, 96, .none), (37, 20, 27, .relu), (1, 256, 256, .none),
        (300, 32, 9, .gelu), (140, 96, 64, .quickGELU),
        // Cut by columns, and by depth.
        (150, 700, 640, .gelu), (150, 640, 700, .none), (130, 64, 6000, .relu),
        (96, 96, 16, .relu6), (40, 240, 41, .relu6),
    ])
    func librariesAgree(rows: Int, columns: Int, depth: Int, activation: Activation) {
        let (weight, bias) = (tensor([columns, depth], seed: 1), tensor([columns], seed: 2))
        let x = tensor([rows, depth], seed: 3).elements
        for accumulate in activation == .none ? [false, true] : [false] {
            let answers = MatrixLibrary.allCases.map { library in
                let product = LinearProduct(weight: weight, bias: bias, activation: activation, library: library)
                var y = [Float](repeating: 0.25, count: rows * (columns + 8))
                var x = x
                x.withUnsafeMutableBufferPointer { x in
                    y.withUnsafeMutableBufferPointer { y in
                        guard let x = x.baseAddress, let y = y.baseAddress else { return }
                        product(
                            rows: rows, x: Features(x, stride: depth), y: Features(y, stride: columns + 8),
                            accumulate: accumulate)
                    }
                }
                return y
            }
            let (weights, biases) = (weight.elements, bias.elements)
            let expected = (0..<rows * (columns + 8)).map { index -> Float in
                let (row, column) = (index / (columns + 8), index % (columns + 8))
                guard column < columns else { return 0.25 }
                var sum = Double(biases[column]) + (accumulate ? 0.25 : 0)
                for k in 0..<depth { sum += Double(x[row * depth + k]) * Double(weights[column * depth + k]) }
                switch activation {
                case .none: return Float(sum)
                case .relu: return Float(max(0, sum))
                case .quickGELU: return Float(sum / (1 + exponential(-1.702 * sum)))
                case .relu6: return Float(min(max(0, sum), 6))
                // The tanh form is within 1e-3 of the exact one: enough to tell a missing activation.
                case .gelu:
                    return Float(0.5 * sum * (1 + hyperbolicTangent(0.7978845608 * (sum + 0.044715 * sum * sum * sum))))
                }
            }
            // Long sums lose more.
            let length = max(1, Float(depth) / 256)
            let tolerance: Float = activation == .gelu ? 2e-3 : 2e-4 * length
            for answer in answers {
                #expect(zip(answer, expected).allSatisfy { abs($0 - $1) <= tolerance })
            }
            for answer in answers.dropFirst() {
                #expect(zip(answers[0], answer).allSatisfy { abs($0 - $1) <= 5e-5 * length * length })
            }
        }
    }

    /// Rows of bf16 against the same numbers in fp32; widths that are cut by columns and by depth among them.
    @Test(
        .enabled(if: kirie_has_bf16() != 0, "this processor has no AVX512_BF16"),
        arguments: [
            (70, 96, 64, Activation.gelu, ElementType.bfloat16), (140, 1000, 768, .gelu, .bfloat16),
            (140, 1000, 768, .none, .bfloat16), (140, 640, 1400, .none, .float32), (140, 1400, 640, .none, .float32),
        ])
    func narrowRows(rows: Int, columns: Int, depth: Int, activation: Activation, output: ElementType) {
        let (weight, bias) = (tensor([columns, depth], seed: 1), tensor([columns], seed: 2))
        let x = narrowed(tensor([rows, depth], seed: 3).elements.map { $0 / 16 })
        let wide = LinearProduct(
            weight: Tensor(shape: [columns, depth], narrowed(weight.elements).map(widened)), bias: bias,
            activation: activation)
        let narrow = LinearProduct(
            weight: weight, bias: bias, activation: activation, input: .bfloat16, output: output)
        let (found, expected) = answers(of: narrow, and: wide, rows: rows, x: x, output: output)
        let worst = zip(found, expected).map { abs($0 - $1) - abs($1) / 200 }.max() ?? 1
        // The number that goes into GELU was rounded to 8 bits as well.
        #expect(worst <= (activation == .gelu ? 1e-2 : 1e-3), "\(worst)")
    }

    private func hyperbolicTangent(_ x: Double) -> Double {
        let e = exponential(2 * x)
        return (e - 1) / (e + 1)
    }

    private func exponential(_ x: Double) -> Double {
        let e = Swift.max(-40, Swift.min(40, x))
        var term = 1.0
        var sum = 1.0
        // e^y by its series on a reduced argument.
        let reduced = e / 1024
        for n in 1..<12 {
            term *= reduced / Double(n)
            sum += term
        }
        for _ in 0..<10 { sum *= sum }
        return sum
    }
}
