import CKernels
package import Tensors

/// Normalises each row of features: Ba, Kiros and Hinton, 2016, <https://arxiv.org/abs/1607.06450>.
///
/// With channels last it is also SAM's `LayerNorm2d`, which normalises over the channels of each pixel.
public struct LayerNorm: Sendable {
    private let gain: Tensor
    private let shift: Tensor

    /// Reads `name.weight` and `name.bias`, each (features).
    public init(_ weights: some WeightSource, _ name: String, features: Int, epsilon: Float) throws {
        gain = try weights.tensor("\(name).weight", shape: [features])
        shift = try weights.tensor("\(name).bias", shape: [features])
        self.epsilon = epsilon
    }

    /// Normalises `rows` rows of `x` into `y`; both may be the same memory, strides are in floats.
    package func callAsFunction(
        rows: Int, x: UnsafePointer<Float>, xStride: Int, y: UnsafeMutablePointer<Float>, yStride: Int
    ) {
        gain.withUnsafeBufferPointer { gain in
            shift.withUnsafeBufferPointer { shift in
                var arguments = kirie_layer_norm_arguments(
                    rows: rows, columns: gain.count, x: x, x_stride: xStride, gain: gain.baseAddress,
                    shift: shift.baseAddress, epsilon: epsilon, y: y, y_stride: yStride)
                kirie_layer_norm_rows(&arguments)
            }
        }
    }

    /// Normalises `rows` rows of fp32 into rows of either type; both may be the same memory when both are fp32.
    package func callAsFunction(rows: Int, x: Features, y: Features) {
        guard y.type == .bfloat16 else {
            return self(rows: rows, x: x.floats, xStride: x.stride, y: y.floats, yStride: y.stride)
        }
        gain.withUnsafeBufferPointer { gain in
            shift.withUnsafeBufferPointer { shift in
                var arguments = kirie_bf16_layer_norm_arguments(
                    rows: rows, columns: gain.count, x: x.floats, x_stride: x.stride, gain: gain.baseAddress,
                    shift: shift.baseAddress, epsilon: epsilon, y: y.bfloat16Bits, y_stride: y.stride)
                kirie_bf16_layer_norm_rows(&arguments)
            }
        }
    }

    /// What a row of zeros becomes: the shift.
    package var answerToZeros: Tensor { shift }

    /// The factor of each feature.
    package var gains: [Float] { gain.elements }
    /// The shift of each feature.
    package var shifts: [Float] { shift.elements }
    /// What is added to the variance.
    package let epsilon: Float
}
