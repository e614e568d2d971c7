import CKernels
package import Tensors

/// A convolution of each channel on its own, of 3 × 3 or 5 × 5, and ReLU6, channels last.
///
/// The padding is TensorFlow's "same" on even sizes: with stride 1 half of the kernel on every side, with stride 2 one of the
/// k − 2 rows and columns fewer before than after (Tan and Le, "EfficientNet", 2019, <https://arxiv.org/abs/1905.11946>).
package struct DepthwiseReLU6: Sendable {
    /// Sides that a kernel may have.
    package static let sizes = [3, 5]

    package let channels: Int
    /// Rows and columns of the kernel.
    package let size: Int
    package let stride: Int
    /// (size², channels).
    private let weight: Tensor
    private let bias: Tensor

    /// Rows of zeros above the picture, and columns on its left.
    package var before: Int { stride == 1 ? size / 2 : (size - 2) / 2 }

    /// - Parameters:
    ///   - weight: (channels, 1, size, size), as `torch.nn.Conv2d` keeps it; the size is one of ``sizes``.
    ///   - bias: (channels).
    ///   - stride: 1 or 2, in both directions.
    package init(weight: Tensor, bias: Tensor, stride: Int) {
        let (channels, size) = (weight.shape[0], weight.shape[2])
        self.channels = channels
        self.size = size
        self.stride = stride
        self.bias = bias
        self.weight = Tensor(shape: [size * size, channels], packing: weight) { memory in
            weight.withUnsafeBufferPointer { weight in
                for channel in 0..<channels {
                    for place in 0..<size * size {
                        memory[place * channels + channel] = weight[channel * size * size + place]
                    }
                }
            }
        }
    }

    /// The first row that the answer in row `row` covers; it is negative above the picture.
    package func firstRow(of row: Int) -> Int { row * stride - before }

    /// Writes one row of answers, (⌈width / stride⌉, channels).
    ///
    /// - Parameters:
    ///   - width: columns of the picture.
    ///   - y: of either type, its rows dense.
    ///   - rows: the i-th of the rows that the kernel covers, dense and of the type of `y`; nil outside the picture.
    package func row(width: Int, y: Features, rows: (_ index: Int) -> Features?) {
        weight.withUnsafeBufferPointer { weight in
            bias.withUnsafeBufferPointer { bias in
                if y.type == .bfloat16 {
                    withUnsafeTemporaryAllocation(of: UnsafePointer<UInt16>?.self, capacity: size) { covered in
                        for index in 0..<size {
                            covered.initializeElement(at: index, to: rows(index).map { UnsafePointer($0.bfloat16Bits) })
                        }
                        var arguments = kirie_bf16_depthwise_relu6_arguments(
                            width: width, channels: channels, size: size, stride: stride, before: before,
                            rows: covered.baseAddress, weight: weight.baseAddress, bias: bias.baseAddress,
                            y: y.bfloat16Bits)
                        kirie_bf16_depthwise_relu6_row(&arguments)
                    }
                } else {
                    withUnsafeTemporaryAllocation(of: UnsafePointer<Float>?.self, capacity: size) { covered in
                        for index in 0..<size {
                            covered.initializeElement(at: index, to: rows(index).map { UnsafePointer($0.floats) })
                        }
                        var arguments = kirie_depthwise_relu6_arguments(
                            width: width, channels: channels, size: size, stride: stride, before: before,
                            rows: covered.baseAddress, weight: weight.baseAddress, bias: bias.baseAddress, y: y.floats)
                        kirie_depthwise_relu6_row(&arguments)
                    }
                }
            }
        }
    }
}
