import CKernels
import Tensors
import Testing

/// Rows to int8 and back, and products of them, where the processor has them.
@Suite(.enabled(if: kirie_has_int8() != 0, "this processor has no AVX512_VNNI"))
struct Int8KernelTests {
    @Test(arguments: [1, 15, 16, 100, 768]) func quantizing(columns: Int) {
        var numbers = Numbers(state: 11)
        let stride = columns + 3
        var x = narrowed(numbers.array(4 * stride))
        for index in 2 * stride..<2 * stride + columns { x[index] = 0 }  // a row of zeros
        var found = [Int8](repeating: 1, count: 4 * columns)
        var scales = [Float](repeating: 1, count: 4)
        var (expected, expectedScales) = (found, scales)
        kirie_bf16_quantize_rows(4, columns, x, stride, &found, &scales)
        kirie_kernels.plain.bf16_quantize_rows(4, columns, x, stride, &expected, &expectedScales)
        #expect(found == expected && scales == expectedScales)
        #expect(scales[2] == 0 && found[2 * columns..<3 * columns].allSatisfy { $0 == 0 })
        for index in 0..<columns {
            #expect(abs(Float(found[index]) * scales[0] - widened(x[index])) <= 0.51 * scales[0])
        }
    }

    @Test(arguments: [1, 16, 37, 384]) func dequantizing(columns: Int) {
        var numbers = Numbers(state: 12)
        let stride = columns + 5
        let sums = numbers.array(3 * columns).map { Int32($0 * 1_000_000) }
        let (rows, scales, bias) = (numbers.array(3), numbers.array(columns), numbers.array(columns))
        let start = numbers.array(3 * stride)
        for accumulate: Int32 in [0, 1] {
            var (found, expected) = (start, start)
            kirie_kernels.best.dequantize(3, columns, sums, rows, scales, bias, accumulate, &found, stride)
            kirie_kernels.plain.dequantize(3, columns, sums, rows, scales, bias, accumulate, &expected, stride)
            #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= 1e-5 * (1 + abs($1)) })
        }
        var (found, expected) = (narrowed(start), narrowed(start))
        kirie_bf16_dequantize_rows(3, columns, sums, rows, scales, bias, &found, stride)
        kirie_kernels.plain.bf16_dequantize_rows(3, columns, sums, rows, scales, bias, &expected, stride)
        #expect(zip(found, expected).allSatisfy { abs(widened($0) - widened($1)) <= abs(widened($1)) / 128 })
    }

    /// Against the same product in fp32: what is lost is rounding to 255 steps, of rows and of weights.
    @Test(arguments: [
        (150, 1000, 320, Activation.gelu, ElementType.bfloat16), (140, 700, 128, .none, .bfloat16),
        (140, 320, 640, .none, .float32),
    ])
    func products(rows: Int, columns: Int, depth: Int, activation: Activation, output: ElementType) {
        var numbers = Numbers(state: 13)
        let weight = Tensor(shape: [columns, depth], numbers.array(columns * depth))
        let bias = Tensor(shape: [columns], numbers.array(columns))
        let x = narrowed(numbers.array(rows * depth))
        let exact = LinearProduct(weight: weight, bias: bias, activation: activation)
        let quantized = LinearProduct(
            weight: weight, bias: bias, activation: activation, input: .bfloat16, output: output, quantizes: true)
        let (found, expected) = answers(of: quantized, and: exact, rows: rows, x: x, output: output)
        let size = expected.map { abs($0) }.reduce(0, +) / Float(expected.count)
        let mean = zip(found, expected).map { abs($0 - $1) }.reduce(0, +) / Float(expected.count)
        let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? 1
        #expect(mean <= 0.01 * size && worst <= 0.1 * size, "\(mean) and \(worst) of \(size)")
    }
}
