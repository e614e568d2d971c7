/// Merges of byte pairs: a word begins as its bytes, and of the pairs that stand next to each other the one that was learned
/// first is joined, until none is left that was learned.
struct BytePairs: Sendable {
    /// Two tokens, and what they become.
    private struct Pair: Hashable {
        let left: Int32
        let right: Int32
    }

    private struct Merge {
        let rank: Int32
        let token: Int32
    }

    /// The tokens of a byte, and of a byte at the end of a word.
    private let bytes: [Int32]
    private let lastBytes: [Int32]
    private let merges: [Pair: Merge]

    /// What a byte is written as: letters and signs as themselves, others as letters from U+0100 on.
    static let letters: [Unicode.Scalar] = {
        var letters: [Unicode.Scalar] = []
        var next: UInt32 = 0x100
        for byte in UInt8.min...UInt8.max {
            switch byte {
            case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: letters.append(Unicode.Scalar(byte))
            default:
                letters.append(Unicode.Scalar(next) ?? " ")
                next += 1
            }
        }
        return letters
    }()

    /// What the last token of a word is written with at its end.
    static let wordEnd = "</w>"

    /// Merges in the order in which they were learned.
    ///
    /// - Parameters:
    ///   - tokens: of texts, as files write them.
    ///   - merges: pairs of such texts, the first learned first.
    ///   - unknown: the token of a byte that the vocabulary lacks.
    ///   - missing: makes the error for a merge.
    /// - Throws: what `missing` gives for a merge whose parts or sum the vocabulary lacks.
    init<Failure: Error>(
        tokens: [String: Int32], merges: [(left: String, right: String)], unknown: Int32,
        missing: (_ merge: Int, _ token: String) -> Failure
    ) throws(Failure) {
        bytes = Self.letters.map { tokens[String($0)] ?? unknown }
        lastBytes = Self.letters.map { tokens[String($0) + Self.wordEnd] ?? unknown }
        var table: [Pair: Merge] = [:]
        table.reserveCapacity(merges.count)
        for (index, merge) in merges.enumerated() {
            guard let left = tokens[merge.left] else { throw missing(index, merge.left) }
            guard let right = tokens[merge.right] else { throw missing(index, merge.right) }
            guard let token = tokens[merge.left + merge.right] else { throw missing(index, merge.left + merge.right) }
            // Of a pair that is there twice the later rank holds, as in a dictionary that is filled in order.
            table[Pair(left: left, right: right)] = Merge(rank: Int32(index), token: token)
        }
        self.merges = table
    }

    /// Appends the tokens of a word.
    ///
    /// Costs n log n for n bytes: pairs wait in a heap by their rank and place.
    func append(tokensOf word: ArraySlice<Unicode.Scalar>, to tokens: inout [Int32]) {
        var symbols: [Int32] = []
        for scalar in word {
            if let units = UTF8.encode(scalar) { symbols.append(contentsOf: units.map { Int32($0) }) }
        }
        guard let last = symbols.last else { return }
        for index in symbols.indices.dropLast() { symbols[index] = bytes[Int(symbols[index])] }
        symbols[symbols.count - 1] = lastBytes[Int(last)]
        guard symbols.count > 1 else { return tokens.append(symbols[0]) }

        // A joined symbol stands at its first place; the others are -1.
        var next = Array(1...symbols.count)
        var previous = Array(-1..<symbols.count - 1)
        var heap = Heap()
        func offer(_ place: Int) {
            guard place >= 0, next[place] < symbols.count,
                let merge = merges[Pair(left: symbols[place], right: symbols[next[place]])]
            else { return }
            heap.push(UInt64(merge.rank) << 32 | UInt64(place))
        }
        for place in 0..<symbols.count - 1 { offer(place) }
        while let entry = heap.pop() {
            let place = Int(entry & 0xFFFF_FFFF)
            guard symbols[place] >= 0, next[place] < symbols.count,
                let merge = merges[Pair(left: symbols[place], right: symbols[next[place]])],
                UInt64(merge.rank) == entry >> 32
            else { continue }
            let gone = next[place]
            symbols[place] = merge.token
            symbols[gone] = -1
            next[place] = next[gone]
            if next[gone] < symbols.count { previous[next[gone]] = place }
            offer(previous[place])
            offer(place)
        }
        tokens.append(contentsOf: symbols.lazy.filter { $0 >= 0 })
    }
}

/// A heap of numbers, the smallest first.
private struct Heap {
    private var numbers: [UInt64] = []

    mutating func push(_ number: UInt64) {
        numbers.append(number)
        var at = numbers.count - 1
        while at > 0, numbers[at] < numbers[(at - 1) / 2] {
            numbers.swapAt(at, (at - 1) / 2)
            at = (at - 1) / 2
        }
    }

    mutating func pop() -> UInt64? {
        guard let first = numbers.first, let last = numbers.popLast() else { return nil }
        guard !numbers.isEmpty else { return first }
        numbers[0] = last
        var at = 0
        while true {
            let (left, right) = (2 * at + 1, 2 * at + 2)
            var least = at
            if left < numbers.count, numbers[left] < numbers[least] { least = left }
            if right < numbers.count, numbers[right] < numbers[least] { least = right }
            guard least != at else { return first }
            numbers.swapAt(at, least)
            at = least
        }
    }
}
