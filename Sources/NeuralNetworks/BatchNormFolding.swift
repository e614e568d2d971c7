package import Tensors

/// A convolution without bias followed by a batch normalisation, as one convolution with a bias.
///
/// At inference the normalisation is a fixed gain and shift per output channel: Ioffe and Szegedy, 2015,
/// <https://arxiv.org/abs/1502.03167>.
package struct FoldedConvolution: Sendable {
    /// (outputs, inputs / groups, kernel, kernel).
    package let weight: Tensor
    /// (outputs).
    package let bias: Tensor

    /// The name of the convolution's own tensor.
    package static func kernel(_ name: String) -> String { "\(name).c.weight" }

    /// Reads `name.c.weight` of the given shape and `name.bn.{weight,bias,running_mean,running_var}` (TinyViT's
    /// `Conv2d_BN`).
    package init(_ weights: some WeightSource, _ name: String, shape: [Int], epsilon: Float = 1e-5) throws {
        let outputs = shape[0]
        let convolution = try weights.tensor(Self.kernel(name), shape: shape)
        let gain = try weights.tensor("\(name).bn.weight", shape: [outputs]).elements
        let shift = try weights.tensor("\(name).bn.bias", shape: [outputs]).elements
        let mean = try weights.tensor("\(name).bn.running_mean", shape: [outputs]).elements
        let variance = try weights.tensor("\(name).bn.running_var", shape: [outputs]).elements
        let factors = (0..<outputs).map { gain[$0] / (variance[$0] + epsilon).squareRoot() }
        let perOutput = convolution.count / outputs
        weight = Tensor(shape: shape, packing: convolution) { memory in
            convolution.withUnsafeBufferPointer { old in
                for index in memory.indices { memory[index] = old[index] * factors[index / perOutput] }
            }
        }
        bias = Tensor(shape: [outputs], (0..<outputs).map { shift[$0] - mean[$0] * factors[$0] })
    }

    /// The convolution as a fully connected layer over channels; for 1 × 1 kernels.
    package func linear(
        activation: Activation = .none, input: ElementType = .float32, output: ElementType = .float32
    ) -> Linear {
        Linear(
            weight: weight.reshaped(to: [weight.shape[0], weight.shape[1]]), bias: bias, activation: activation,
            input: input, output: output)
    }

    /// The convolution as a depthwise layer; for 3 × 3 kernels with one input channel each.
    package func depthwise(stride: Int = 1, gelu: Bool) -> DepthwiseConvolution3x3 {
        DepthwiseConvolution3x3(weight: weight, bias: bias, stride: stride, gelu: gelu)
    }
}
