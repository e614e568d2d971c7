import CKernels
package import Tensors

/// A 3 × 3 convolution of each channel on its own, with zero padding of 1, channels last.
package struct DepthwiseConvolution3x3: Sendable {
    package let channels: Int
    package let stride: Int
    private let weight: Tensor
    private let bias: Tensor
    private let gelu: Bool

    /// - Parameters:
    ///   - weight: (channels, 1, 3, 3).
    ///   - bias: (channels).
    ///   - stride: 1 or 2, in both directions.
    ///   - gelu: whether the answers go through GELU.
    package init(weight: Tensor, bias: Tensor, stride: Int, gelu: Bool) {
        let channels = weight.shape[0]
        self.channels = channels
        self.stride = stride
        self.bias = bias
        self.gelu = gelu
        self.weight = Tensor(shape: [9, channels], packing: weight) { memory in
            weight.withUnsafeBufferPointer { weight in
                for channel in 0..<channels {
                    for neighbour in 0..<9 { memory[neighbour * channels + channel] = weight[channel * 9 + neighbour] }
                }
            }
        }
    }

    /// Writes one row of answers, (⌈width / stride⌉, channels), of the input's type; rows outside the picture are nil and
    /// all rows are dense.
    package func row(width: Int, above: Features?, at row: Features, below: Features?, y: Features) {
        weight.withUnsafeBufferPointer { weight in
            bias.withUnsafeBufferPointer { bias in
                if y.type == .bfloat16 {
                    var arguments = kirie_bf16_depthwise3x3_arguments(
                        width: width, channels: channels, stride: stride, above: above?.bfloat16Bits,
                        at: row.bfloat16Bits, below: below?.bfloat16Bits, weight: weight.baseAddress,
                        bias: bias.baseAddress, gelu: gelu ? 1 : 0, y: y.bfloat16Bits)
                    kirie_bf16_depthwise3x3_row(&arguments)
                } else {
                    var arguments = kirie_depthwise3x3_arguments(
                        width: width, channels: channels, stride: stride, above: above?.floats, at: row.floats,
                        below: below?.floats, weight: weight.baseAddress, bias: bias.baseAddress,
                        gelu: gelu ? 1 : 0, y: y.floats)
                    kirie_depthwise3x3_row(&arguments)
                }
            }
        }
    }
}
