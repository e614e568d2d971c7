import Checkpoints
import Platform

/// Nouns, and the classes of a classifier that each means.
///
/// Made from WordNet's nouns by `weights/words/vocabulary.py`: a word means the classes that lie below it in the tree of
/// hypernyms (Miller, "WordNet: A Lexical Database for English", 1995), "dog" those of 118 breeds.
///
/// ```text
/// 151-268⇥dog;domestic dog        classes as ranges, the words that mean them
/// …
///                                  an empty line
/// ruminant⇥giraffe;okapi           a known word, words that mean no class and lie near it
/// ```
package struct WordsVocabulary: Sendable {
    /// Bytes that a text may have: a word and what stands around it.
    package static let byteLimit = 256

    /// The classes of each word: an index into ``sets``.
    private let sets: [[Range<Int>]]
    private let places: [String: Int]
    private let neighbours: [String: String]

    /// Reads the lines of a vocabulary.
    ///
    /// - Parameters:
    ///   - text: as above, in UTF-8.
    ///   - classCount: classes that there are; none may lie beyond.
    /// - Throws: ``Malformed``, naming the line.
    package init(_ text: some Sequence<UInt8>, classCount: Int) throws(Malformed) {
        var (sets, places, neighbours) = ([[Range<Int>]](), [String: Int](), [String: String]())
        var isNeighbours = false
        let lines = String(decoding: Array(text), as: UTF8.self)
            .split(separator: "\n", omittingEmptySubsequences: false).dropLast()
        for (index, line) in lines.enumerated() {
            if line.isEmpty, !isNeighbours {
                isNeighbours = true
                continue
            }
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
            guard fields.count == 2, !fields[1].isEmpty else { throw Malformed(line: index + 1) }
            let words = fields[1].split(separator: ";").map(String.init)
            if isNeighbours {
                let known = String(fields[0])
                guard places[known] != nil else { throw Malformed(line: index + 1) }
                for word in words { neighbours[word] = known }
            } else {
                guard let classes = Self.ranges(fields[0], below: classCount) else { throw Malformed(line: index + 1) }
                for word in words { places[word] = sets.count }
                sets.append(classes)
            }
        }
        guard !places.isEmpty else { throw Malformed(line: 1) }
        (self.sets, self.places, self.neighbours) = (sets, places, neighbours)
    }

    /// A line that is none of a vocabulary.
    package struct Malformed: Error {
        /// From 1 on.
        package let line: Int
    }

    /// "151-268,273" as ranges that ascend.
    private static func ranges(_ text: Substring, below limit: Int) -> [Range<Int>]? {
        var (ranges, end) = ([Range<Int>](), 0)
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let bounds = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard bounds.count <= 2, let first = bounds[0], let last = bounds[bounds.count - 1], first >= end,
                last >= first, last < limit
            else { return nil }
            ranges.append(first..<last + 1)
            end = last + 1
        }
        return ranges
    }

    /// All words that it knows, in alphabetical order.
    package var words: [String] { places.keys.sorted() }

    /// The classes that a text means.
    ///
    /// - Throws: ``TextError`` for a text of nothing, one too long, and one whose words it does not know.
    package func classes(of text: String) throws(TextError) -> [Range<Int>] {
        guard text.utf8.count <= Self.byteLimit else {
            throw .tooLong(bytes: text.utf8.count, limit: Self.byteLimit)
        }
        let phrase = NounPhrase(text)
        guard !phrase.isEmpty else { throw .empty }
        for form in phrase.forms {
            if let place = places[form] { return sets[place] }
        }
        throw .unknown(word: phrase.text, nearest: nearest(to: phrase))
    }

    /// Known words near an unknown phrase: what it is a kind of by its last words, what WordNet has above it, and words
    /// that are spelled like it.
    private func nearest(to phrase: NounPhrase) -> [String] {
        var found: [String] = []
        func add(_ word: String) {
            if !found.contains(word), found.count < 4 { found.append(word) }
        }
        // The longest end of the phrase that is known: "car" of "red car".
        for end in phrase.ends {
            if let known = end.forms.first(where: { places[$0] != nil }) {
                add(known)
                break
            }
        }
        for form in phrase.forms {
            if let known = neighbours[form] { add(known) }
        }
        let spelled = phrase.text.utf8.count <= 40 ? NameDistance.closest(to: phrase.text, among: words, count: 3) : []
        spelled.forEach(add)
        return found
    }
}
