import CKernels
package import Tensors

/// A 3 × 3 convolution of stride 2 with zero padding of 1 and GELU over the planes of a picture, (planes, height, width),
/// to bf16 numbers with the channels last: the first layer of a convolutional encoder.
///
/// With three planes a product would gather 27 numbers for every position; here they are read where they lie.
package struct PlanesConvolution3x3: Sendable {
    package let outputs: Int
    private let planes: Int
    /// (planes, 9, outputs).
    private let weight: Tensor
    private let bias: Tensor

    /// - Parameters:
    ///   - weight: (outputs, planes, 3, 3), as `torch.nn.Conv2d` keeps it.
    ///   - bias: (outputs).
    package init(weight: Tensor, bias: Tensor) {
        let (outputs, planes) = (weight.shape[0], weight.shape[1])
        self.outputs = outputs
        self.planes = planes
        self.bias = bias
        self.weight = Tensor(shape: [planes, 9, outputs], packing: weight) { memory in
            weight.withUnsafeBufferPointer { weight in
                for output in 0..<outputs {
                    for index in 0..<planes * 9 {
                        memory[index * outputs + output] = weight[output * planes * 9 + index]
                    }
                }
            }
        }
    }

    /// Writes one row of answers, (⌈width / 2⌉, outputs); `x` is the whole (planes, height, width) picture.
    package func row(_ row: Int, height: Int, width: Int, x: UnsafePointer<Float>, y: Features) {
        weight.withUnsafeBufferPointer { weight in
            bias.withUnsafeBufferPointer { bias in
                var arguments = kirie_bf16_planes3x3_arguments(
                    planes: planes, height: height, width: width, row: row, x: x, channels: outputs,
                    weight: weight.baseAddress, bias: bias.baseAddress, y: y.bfloat16Bits)
                kirie_bf16_planes3x3_row(&arguments)
            }
        }
    }
}
