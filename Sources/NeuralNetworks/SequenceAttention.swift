package import Tensors

/// Multi-head attention within sequences of tokens that lie one after the other: every token attends to all of its own
/// sequence, or with a causal mask to itself and to those before it.
///
/// Vaswani et al., "Attention Is All You Need", 2017, <https://arxiv.org/abs/1706.03762>.
package struct SequenceAttention: Sendable {
    /// Where a sequence lies.
    package struct Sequence: Sendable {
        /// The row of its first token.
        package let first: Int
        /// Its tokens.
        package let count: Int
        /// Tokens at its beginning whose answers are not wanted, such as those that were computed before.
        package let known: Int

        package init(first: Int, count: Int, known: Int = 0) {
            self.first = first
            self.count = count
            self.known = known
        }
    }

    /// By length; those that do not occur are nil.
    private let heads: [AttentionHeads?]
    /// By length: each token at its own place.
    private let windows: [AttentionHeads.Window]
    private let headCount: Int

    /// - Parameters:
    ///   - lengths: of the sequences that come; at least 1.
    ///   - headSize: numbers per head.
    ///   - offsets: one per head.
    ///   - isCausal: whether no token sees those after it.
    package init(lengths: ClosedRange<Int>, headSize: Int, offsets: [HeadOffsets], isCausal: Bool) {
        precondition(lengths.lowerBound > 0, "a sequence has a token")
        headCount = offsets.count
        heads = (0...lengths.upperBound).map { length in
            guard lengths.contains(length) else { return nil }
            return AttentionHeads(
                rows: 1, columns: length, headSize: headSize, offsets: offsets, paddingRow: nil,
                positions: isCausal && length > 1 ? .table(Self.causalMask(length)) : .none)
        }
        windows = (0...lengths.upperBound).map { length in
            let tokens = (0..<Int32(length)).map(\.self)
            return lengths.contains(length)
                ? AttentionHeads.Window(tokens: tokens, queryTokens: tokens, queryPlaces: tokens)
                : AttentionHeads.Window()
        }
    }

    /// out (tokens, heads · head size) = attention over `projected`, the rows that queries, keys and values lie in.
    ///
    /// Both are of the same type, which is the precision of the products. A sequence's answer depends on nothing but its
    /// own tokens.
    ///
    /// - Precondition: each sequence has one of the lengths.
    package func callAsFunction(_ sequences: [Sequence], projected: Features, out: Features, pool: ThreadPool) {
        pool.parallel(sequences.count * headCount) { index in
            let sequence = sequences[index / headCount]
            guard heads.indices.contains(sequence.count), let heads = heads[sequence.count] else {
                preconditionFailure("a sequence of \(sequence.count) tokens")
            }
            heads.attend(
                windows[sequence.count], head: index % headCount, queries: sequence.known..<sequence.count,
                projected: projected.from(row: sequence.first), out: out.from(row: sequence.first))
        }
    }

    /// (1, length, length): what keeps a query's weights off the keys after it.
    private static func causalMask(_ length: Int) -> Tensor {
        let hidden: Float = -1e30
        return Tensor(
            shape: [1, length, length],
            (0..<length * length).map { place -> Float in place % length > place / length ? hidden : 0 })
    }
}
