import NeuralNetworks
import Tensors
import Testing

/// Both layers of an MLP multiply in int8 when they are told to.
@Suite(.enabled(if: Precision.int8.isSupported, "this processor has no AVX512_VNNI"))
struct QuantizedMLPTests {
    /// Tensors by name.
    private struct Given: WeightSource {
        var tensors: [String: Tensor]

        struct Missing: Error { var name: String }

        func tensor(_ name: String, shape: [Int]) throws -> Tensor {
            guard let tensor = tensors[name], tensor.shape == shape else { throw Missing(name: name) }
            return tensor
        }
    }

    private let width = 64

    /// (width, width) with ones on the diagonal, changed by `change`.
    private func identity(_ change: (inout [Float]) -> Void) -> Tensor {
        var numbers = (0..<width * width).map { Float($0 % (width + 1) == 0 ? 1 : 0) }
        change(&numbers)
        return Tensor(shape: [width, width], numbers)
    }

    /// The mean of what the MLP makes of one row of bf16 numbers.
    private func mean(_ weights: Given, _ row: [Float], quantizes: Bool) throws -> Float {
        let mlp = try MLP(
            weights, expand: "lin1", contract: "lin2", inputs: width, hidden: width, type: .bfloat16,
            quantizes: quantizes)
        var answer = [Float](repeating: 0, count: width)
        var numbers = row
        numbers.withUnsafeMutableBufferPointer { numbers in
            answer.withUnsafeMutableBufferPointer { answer in
                guard let numbers = numbers.baseAddress, let answer = answer.baseAddress else { return }
                Scratch.withFeatures(rows: 1, columns: width, type: .bfloat16) { x in
                    Features(numbers, stride: width).write(rows: 1, columns: width, to: x)
                    mlp.add(rows: 1, x: x, to: Features(answer, stride: width))
                }
            }
        }
        return answer.reduce(0, +) / Float(width)
    }

    /// A row of int8 numbers that has one large one keeps nothing of the small ones: which layer's rows lose them tells which
    /// layer quantizes.
    @Test(arguments: ["lin1", "lin2"]) func smallNumbersBesideALargeOneAreLost(layer: String) throws {
        let zeros = Tensor(shape: [width], [Float](repeating: 0, count: width))
        // Nobody reads the large number itself.
        let deaf = identity { $0[0] = 0 }
        let given: Given
        let row: [Float]
        if layer == "lin1" {
            given = Given(tensors: [
                "lin1.weight": deaf, "lin1.bias": zeros, "lin2.weight": identity { _ in }, "lin2.bias": zeros,
            ])
            row = [1000] + [Float](repeating: 1, count: width - 1)
        } else {
            // The first hidden number becomes large, of a row whose numbers are all alike.
            let loud = identity { for index in 0..<width { $0[index] = 100 } }
            given = Given(tensors: [
                "lin1.weight": loud, "lin1.bias": zeros, "lin2.weight": deaf, "lin2.bias": zeros,
            ])
            row = [Float](repeating: 1, count: width)
        }
        let (narrow, quantized) = (try mean(given, row, quantizes: false), try mean(given, row, quantizes: true))
        // gelu(1) = 0.841, and of one number in 64 there is nothing.
        #expect(abs(narrow - 0.828) < 0.01 && abs(quantized) < 0.001, "\(narrow) and \(quantized)")
    }
}
