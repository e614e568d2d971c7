import NeuralNetworks
import Tensors
import Testing

@Suite struct WeightSourceTests {
    @Test func drawnWeightsAreThoseOfTheirSeedAndName() {
        let weights = RandomWeights(seed: 3)
        let first = weights.tensor("a.weight", shape: [8, 4])
        #expect(first.elements == RandomWeights(seed: 3).tensor("a.weight", shape: [8, 4]).elements)
        #expect(first.elements != RandomWeights(seed: 4).tensor("a.weight", shape: [8, 4]).elements)
        #expect(first.elements != weights.tensor("b.weight", shape: [8, 4]).elements)
        #expect(first.elements.allSatisfy { abs($0) <= 0.5 }, "1 / √4 at most")
        #expect(weights.tensor("norm.weight", shape: [100]).elements.allSatisfy { abs($0 - 1) <= 0.05 })
        #expect(weights.tensor("bn.running_var", shape: [100]).elements.allSatisfy { $0 > 0.9 })
        #expect(weights.tensor("norm.bias", shape: [100]).elements.allSatisfy { abs($0) <= 0.05 })
    }

    @Test func whatALoaderReadsIsRecordedOnceAndInOrder() throws {
        let weights = RecordingWeights()
        _ = try Linear(weights, "first", inputs: 3, outputs: 5)
        _ = try LayerNorm(weights, "norm", features: 5, epsilon: 1e-6)
        _ = try Linear(weights, "first", inputs: 3, outputs: 5)
        #expect(weights.tensors.map(\.name) == ["first.weight", "first.bias", "norm.weight", "norm.bias"])
        #expect(weights.tensors.map(\.shape) == [[5, 3], [5], [5], [5]])
    }
}
