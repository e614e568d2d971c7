import Glibc
import NeuralNetworks
import Tensors
import Testing

/// Attention over sequences, and the layer for a few rows, against their formulas in binary64.
@Suite struct SequenceAttentionTests {
    private static func offsets(heads: Int, size: Int) -> [HeadOffsets] {
        (0..<heads).map {
            HeadOffsets(query: $0 * size, key: (heads + $0) * size, value: (2 * heads + $0) * size)
        }
    }

    /// One head's answer to a query.
    private static func answer(
        _ projected: Rows, _ sequence: SequenceAttention.Sequence, query: Int, _ head: HeadOffsets, size: Int,
        isCausal: Bool
    ) -> [Double] {
        let keys = 0..<(isCausal ? query + 1 : sequence.count)
        let scores = keys.map { key in
            (0..<size).reduce(0.0) {
                $0 + projected[sequence.first + query, head.query + $1] * projected[sequence.first + key, head.key + $1]
            } / Double(size).squareRoot()
        }
        let largest = scores.max() ?? 0
        let weights = scores.map { exp($0 - largest) }
        let total = weights.reduce(0, +)
        return (0..<size).map { d in
            keys.reduce(0.0) { $0 + weights[$1] / total * projected[sequence.first + $1, head.value + d] }
        }
    }

    @Test(arguments: [(2, 16), (3, 20), (1, 64)], [ElementType.float32, .bfloat16])
    func isSoftmaxOfScaledProducts(_ it: (heads: Int, size: Int), type: ElementType) {
        let (heads, size) = it
        let lengths = [1, 7, 16, 33, 50]
        let all = lengths.reduce(0, +)
        let offsets = Self.offsets(heads: heads, size: size)
        var projected = Rows(all, 3 * heads * size, seed: 3)
        if type == .bfloat16 { projected = projected.rounded }
        for isCausal in [false, true] {
            let attention = SequenceAttention(lengths: 1...50, headSize: size, offsets: offsets, isCausal: isCausal)
            var first = 0
            let sequences = lengths.map { length in
                defer { first += length }
                // Of some, the beginning is not asked for.
                return SequenceAttention.Sequence(first: first, count: length, known: length / 3)
            }
            var out = Rows(all, heads * size, filledWith: 9)
            projected.withFeatures(type) { projected in
                out.withFeatures(type) { out in
                    attention(sequences, projected: projected, out: out, pool: ThreadPool(threadCount: 2))
                }
            }
            var worst = 0.0
            for sequence in sequences {
                for query in 0..<sequence.count {
                    for head in 0..<heads {
                        let expected = Self.answer(
                            projected, sequence, query: query, offsets[head], size: size, isCausal: isCausal)
                        for d in 0..<size {
                            let found = out[sequence.first + query, head * size + d]
                            worst = max(worst, abs(found - (query < sequence.known ? 9 : expected[d])))
                        }
                    }
                }
            }
            #expect(worst < (type == .float32 ? 1e-5 : 1e-2), "causal: \(isCausal)")
        }
    }

    @Test(arguments: [(1, 40, 600), (23, 64, 256), (9, 100, 1000)])
    func aSharedLayerIsTheLayer(rows: Int, inputs: Int, outputs: Int) throws {
        let weight = Tensor(shape: [outputs, inputs], Rows(outputs, inputs, seed: 1).numbers)
        let bias = Tensor(shape: [outputs], Rows(1, outputs, seed: 2).numbers)
        var x = Rows(rows, inputs, seed: 3)
        for accumulate in [false, true] {
            var answers: [[Float]] = []
            for threads in [1, 3] {
                var y = Rows(rows, outputs, filledWith: 0.5)
                x.withFeatures { x in
                    y.withFeatures { y in
                        SharedLinear(weight: weight, bias: bias)(
                            rows: rows, x: x, y: y, accumulate: accumulate, pool: ThreadPool(threadCount: threads))
                    }
                }
                answers.append(y.numbers)
            }
            #expect(answers[0] == answers[1])
            let (weights, biases) = (weight.elements, bias.elements)
            for (index, found) in answers[0].enumerated() {
                let (row, column) = (index / outputs, index % outputs)
                let sum = (0..<inputs).reduce(Double(biases[column]) + (accumulate ? 0.5 : 0)) {
                    $0 + x[row, $1] * Double(weights[column * inputs + $1])
                }
                #expect(abs(Double(found) - sum) < 1e-4)
            }
        }
    }
}
