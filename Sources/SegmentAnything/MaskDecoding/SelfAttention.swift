import Glibc
import NeuralNetworks
import Tensors

/// Attention among the tokens (`self_attn`).
struct SelfAttention: Sendable {
    private let channels: Int
    private let query: TokenLinear
    private let key: TokenLinear
    private let value: TokenLinear
    private let output: TokenLinear

    init(_ weights: some WeightSource, _ name: String, channels: Int) throws {
        self.channels = channels
        query = try TokenLinear(weights, "\(name).q_proj", inputs: channels, outputs: channels)
        key = try TokenLinear(weights, "\(name).k_proj", inputs: channels, outputs: channels)
        value = try TokenLinear(weights, "\(name).v_proj", inputs: channels, outputs: channels)
        output = try TokenLinear(weights, "\(name).out_proj", inputs: channels, outputs: channels)
    }

    /// tokens = or += attention(positioned, positioned, tokens), all (count, C); each range of tokens attends to itself
    /// only.
    func callAsFunction(
        tokens: UnsafeMutablePointer<Float>, positioned: UnsafePointer<Float>, count: Int, ranges: [Range<Int>],
        replaces: Bool, pool: ThreadPool
    ) {
        let size = count * channels
        let headSize = channels / DecoderHeads.count
        Scratch.withFloats(4 * size + count) { memory in
            let (q, k, v, attended) = (memory, memory + size, memory + 2 * size, memory + 3 * size)
            let weights = memory + 4 * size
            query(rows: count, x: positioned, xStride: channels, y: q, yStride: channels, pool: pool)
            key(rows: count, x: positioned, xStride: channels, y: k, yStride: channels, pool: pool)
            value(rows: count, x: tokens, xStride: channels, y: v, yStride: channels, pool: pool)
            for range in ranges {
                for head in 0..<DecoderHeads.count {
                    attend(
                        range, head * headSize, headSize: headSize, q: q, k: k, v: v, weights: weights,
                        attended: attended)
                }
            }
            output(
                rows: count, x: attended, xStride: channels, y: tokens, yStride: channels, accumulate: !replaces,
                pool: pool)
        }
    }

    /// One head, which begins at `start` of each row, for the tokens of `range`.
    private func attend(
        _ range: Range<Int>, _ start: Int, headSize: Int, q: UnsafePointer<Float>, k: UnsafePointer<Float>,
        v: UnsafePointer<Float>, weights: UnsafeMutablePointer<Float>, attended: UnsafeMutablePointer<Float>
    ) {
        let scale = 1 / Float(headSize).squareRoot()
        for row in range {
            let line = q + row * channels + start
            for other in range {
                let column = k + other * channels + start
                var score: Float = 0
                for d in 0..<headSize { score += line[d] * column[d] }
                weights[other - range.lowerBound] = score * scale
            }
            softmax(weights, count: range.count)
            let out = attended + row * channels + start
            for d in 0..<headSize { out[d] = 0 }
            for other in range {
                let column = v + other * channels + start
                let weight = weights[other - range.lowerBound]
                for d in 0..<headSize { out[d] += weight * column[d] }
            }
        }
    }

    private func softmax(_ x: UnsafeMutablePointer<Float>, count: Int) {
        var peak = x[0]
        for index in 1..<max(1, count) { peak = max(peak, x[index]) }
        var total: Float = 0
        for index in 0..<count {
            x[index] = expf(x[index] - peak)
            total += x[index]
        }
        for index in 0..<count { x[index] /= total }
    }
}
