import CKernels
import Testing

/// A depthwise convolution's row.
struct DepthwiseShape: CustomTestStringConvertible {
    var width: Int
    var channels: Int
    var size: Int
    var stride: Int

    /// Columns of zeros on the left: half of the kernel, or with a stride of 2 what TensorFlow's "same" puts on even sizes.
    var before: Int { stride == 1 ? size / 2 : (size - 2) / 2 }
    /// Numbers of a row of answers.
    var outputs: Int { (width + stride - 1) / stride * channels }
    var testDescription: String { "\(width) × \(channels), \(size) × \(size), stride \(stride)" }

    /// Narrower and wider than a block of positions, channels of whole vectors and others, more of them than are fast, and
    /// sizes that no fast kernel is made for.
    static let all =
        [1, 2, 3, 7, 12, 29].flatMap { width in
            [3, 5].flatMap { size in
                [1, 2].flatMap { stride in
                    [16, 20, 48].map { DepthwiseShape(width: width, channels: $0, size: size, stride: stride) }
                }
            }
        } + [
            DepthwiseShape(width: 5, channels: 4112, size: 5, stride: 1),
            DepthwiseShape(width: 9, channels: 16, size: 7, stride: 1),
            DepthwiseShape(width: 9, channels: 16, size: 3, stride: 3),
        ]

    /// Which rows lie inside the picture: all, and at either edge.
    var insides: [ClosedRange<Int>] { [0...size - 1, 1...size - 1, 0...size - 2, size / 2...size / 2] }
}

/// Depthwise convolutions of every instruction set that this processor runs, against their plain twins.
@Suite struct DepthwiseReLU6Tests {
    @Test(arguments: DepthwiseShape.all) func rows(_ shape: DepthwiseShape) {
        var numbers = Numbers(state: 11)
        let rows = (0..<shape.size).map { _ in numbers.array(shape.width * shape.channels).map { 3 * $0 } }
        let weight = numbers.array(shape.size * shape.size * shape.channels).map { 2 * $0 }
        let bias = numbers.array(shape.channels)
        for inside in shape.insides {
            let rows = rows.enumerated().map { inside.contains($0) ? $1 : nil }
            let expected = kirie_kernels.plain.depthwiseReLU6(shape, rows, weight, bias)
            #expect(expected.allSatisfy { (0...6).contains($0) })
            for (set, kernels) in kirie_kernels.sets() {
                let found = kernels.depthwiseReLU6(shape, rows, weight, bias)
                // NaN is near nothing.
                let isClose = zip(found, expected).allSatisfy { abs($0 - $1) <= 2e-5 }
                #expect(isClose, "\(set), rows \(inside) inside")
            }
        }
    }

    @Test(arguments: DepthwiseShape.all) func narrowRows(_ shape: DepthwiseShape) {
        var numbers = Numbers(state: 12)
        let rows = (0..<shape.size).map { _ in narrowed(numbers.array(shape.width * shape.channels).map { 3 * $0 }) }
        let weight = numbers.array(shape.size * shape.size * shape.channels).map { 2 * $0 }
        let bias = numbers.array(shape.channels)
        for inside in shape.insides {
            let rows = rows.enumerated().map { inside.contains($0) ? $1 : nil }
            let expected = kirie_kernels.plain.narrowDepthwiseReLU6(shape, rows, weight, bias)
            for (set, kernels) in kirie_kernels.sets(from: KIRIE_BF16) {
                let found = kernels.narrowDepthwiseReLU6(shape, rows, weight, bias)
                // The last of bf16's eight bits may round the other way.
                let isClose = zip(found, expected).allSatisfy {
                    abs(widened($0) - widened($1)) <= 2e-5 + widened($1) / 128
                }
                #expect(isClose, "\(set), rows \(inside) inside")
            }
        }
    }
}
