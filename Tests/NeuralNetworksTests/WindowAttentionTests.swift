import Glibc
import NeuralNetworks
import Tensors
import Testing

/// Window attention against the paper's formula in binary64.
@Suite struct WindowAttentionTests {
    private struct Case: CustomTestStringConvertible {
        let (grid, window, heads, size): (Int, Int, Int, Int)
        let isRelative: Bool
        var testDescription: String {
            "\(grid) x \(grid) tokens, window \(window), \(heads) heads of \(size), \(isRelative ? "relative" : "table")"
        }
    }

    /// Windows that fit, that reach over the edge, that are the grid; heads of odd sizes; a global one of the large form.
    private static let cases = [
        Case(grid: 4, window: 4, heads: 1, size: 8, isRelative: true),
        Case(grid: 8, window: 4, heads: 2, size: 16, isRelative: true),
        Case(grid: 7, window: 5, heads: 3, size: 20, isRelative: true),
        Case(grid: 9, window: 7, heads: 2, size: 32, isRelative: false),
        Case(grid: 6, window: 3, heads: 2, size: 12, isRelative: false),
        Case(grid: 32, window: 32, heads: 1, size: 16, isRelative: true),
    ]

    @Test(arguments: cases, [ElementType.float32, .bfloat16])
    private func isSoftmaxOfScaledProductsWithPositions(_ it: Case, type: ElementType) {
        let (features, tokens) = (it.heads * it.size, it.grid * it.grid)
        var projected = Rows(tokens, 3 * features, seed: 1)
        var padding = Rows(1, 3 * features, seed: 2)
        if type == .bfloat16 { (projected, padding) = (projected.rounded, padding.rounded) }
        let offsets = (0..<it.heads).map {
            HeadOffsets(
                query: $0 * it.size, key: features + $0 * it.size, value: 2 * features + $0 * it.size)
        }
        let side = 2 * it.window - 1
        var (height, width) = (Rows(side, it.size, seed: 3), Rows(side, it.size, seed: 4))
        if type == .bfloat16 { (height, width) = (height.rounded, width.rounded) }
        let places = it.window * it.window
        let table = Rows(it.heads * places, places, seed: 5)
        let attention = WindowAttention(
            grid: it.grid, window: it.window, headSize: it.size, offsets: offsets,
            paddingRow: Tensor(shape: [3 * features], padding.numbers),
            positionBias: it.isRelative
                ? .relative(
                    height: Tensor(shape: [side, it.size], height.numbers),
                    width: Tensor(shape: [side, it.size], width.numbers))
                : .table(Tensor(shape: [it.heads, places, places], table.numbers)))
        var out = Rows(tokens, features, filledWith: 9)
        projected.withFeatures(type) { projected in
            out.withFeatures(type) { out in
                attention(projected: projected, out: out, pool: ThreadPool(threadCount: 2))
            }
        }

        /// A number of the projection at a place of the picture's grid, or of what lies outside.
        func number(_ row: Int, _ column: Int, _ index: Int) -> Double {
            row < it.grid && column < it.grid ? projected[row * it.grid + column, index] : padding[0, index]
        }
        var worst = 0.0
        // Every query of a small grid; of a large one some of all rows and columns.
        for token in stride(from: 0, to: tokens, by: tokens > 200 ? 37 : 1) {
            let (row, column) = (token / it.grid, token % it.grid)
            let (top, left) = (row / it.window * it.window, column / it.window * it.window)
            for head in 0..<it.heads {
                let q = (0..<it.size).map { number(row, column, offsets[head].query + $0) }
                let query = (row - top) * it.window + column - left
                let scores = (0..<places).map { place -> Double in
                    let (r, c) = (place / it.window, place % it.window)
                    var score = 0.0
                    for k in 0..<it.size {
                        score += q[k] * number(top + r, left + c, offsets[head].key + k) / Double(it.size).squareRoot()
                    }
                    guard it.isRelative else { return score + table[head * places + query, place] }
                    for k in 0..<it.size {
                        score += q[k] * height[row - top - r + it.window - 1, k]
                        score += q[k] * width[column - left - c + it.window - 1, k]
                    }
                    return score
                }
                let largest = scores.max() ?? 0
                let weights = scores.map { exp($0 - largest) }
                let sum = weights.reduce(0, +)
                for k in 0..<it.size {
                    let expected = (0..<places).reduce(0.0) {
                        $0 + weights[$1] / sum
                            * number(top + $1 / it.window, left + $1 % it.window, offsets[head].value + k)
                    }
                    worst = max(worst, abs(out[token, head * it.size + k] - expected))
                }
            }
        }
        #expect(worst < (type == .float32 ? 1e-4 : 3e-2))
    }

    @Test func answersDoNotDependOnTheNumberOfThreads() {
        var answers: [[Float]] = []
        for threads in [1, 2, 5] {
            var projected = Rows(64, 96, seed: 1)
            let offsets = (0..<2).map {
                HeadOffsets(query: $0 * 16, key: 32 + $0 * 16, value: 64 + $0 * 16)
            }
            let side = Tensor(shape: [7, 16], Rows(7, 16, seed: 2).numbers)
            let attention = WindowAttention(
                grid: 8, window: 4, headSize: 16, offsets: offsets,
                paddingRow: Tensor(shape: [96], Rows(1, 96, seed: 3).numbers),
                positionBias: .relative(height: side, width: side))
            var out = Rows(64, 32, filledWith: 9)
            projected.withFeatures { projected in
                out.withFeatures { attention(projected: projected, out: $0, pool: ThreadPool(threadCount: threads)) }
            }
            answers.append(out.numbers)
        }
        #expect(answers[0] == answers[1] && answers[0] == answers[2])
    }
}
