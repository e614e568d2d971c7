/// A noun as people type it, brought to the forms under which a vocabulary may have it.
///
/// "A dog", "the dogs." and "photo of a dog" become "dog". The rules for plurals are those of WordNet's own morphological
/// processor, Morphy (<https://wordnet.princeton.edu/documentation/morphy7wn>); its exceptions ("mice") are words of the
/// vocabulary.
struct NounPhrase {
    /// Words in small letters with one space between them, without articles.
    let text: String

    var isEmpty: Bool { text.isEmpty }

    /// What may stand before a noun and changes nothing of what is looked for.
    private static let determiners: Set<String> = [
        "a", "an", "the", "this", "that", "these", "those", "my", "your", "his", "her", "its", "our", "their", "some",
        "any", "every", "each", "all", "one", "both",
    ]
    /// What prompts for other models begin with.
    private static let introductions = [["photo", "of"], ["picture", "of"], ["image", "of"], ["photograph", "of"]]
    private static let plurals = [
        ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y"),
        ("s", ""),
    ]

    /// Reads a text of any kind.
    init(_ text: String) {
        // What is not seen parts words like a space: it neither hides in a word nor in an error's text.
        let visible = String(String.UnicodeScalarView(text.unicodeScalars.map { Self.isVisible($0) ? $0 : " " }))
        var words = visible.lowercased().split { $0.isWhitespace }
            .map { Self.trimmed($0.replacing("’", with: "'")) }.filter { !$0.isEmpty }
        while true {
            if words.count > 1, Self.determiners.contains(words[0]) {
                words.removeFirst()
            } else if words.count > 2, Self.introductions.contains(Array(words[..<2])) {
                words.removeFirst(2)
            } else {
                break
            }
        }
        self.text = words.joined(separator: " ")
    }

    private init(words: some Sequence<Substring>) { text = words.joined(separator: " ") }

    private static func isVisible(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
        default: true
        }
    }

    /// A word without what closes a sentence or quotes it.
    private static func trimmed(_ word: some StringProtocol) -> String {
        let letters = word.drop { !$0.isLetter && !$0.isNumber }
        return String(letters.reversed().drop { !$0.isLetter && !$0.isNumber }.reversed())
    }

    /// The text, its singulars, and both with other joints: "t shirt" and "tshirt" for "t-shirt".
    var forms: [String] {
        var joints = [text]
        if text.contains("-") { joints.append(text.replacing("-", with: " ")) }
        if text.contains(" ") { joints += [text.replacing(" ", with: "-"), text.replacing(" ", with: "")] }
        if text.contains("-") { joints.append(text.replacing("-", with: "")) }
        return joints
            + joints.flatMap { joint in
                Self.plurals.compactMap { ending, singular in
                    joint.hasSuffix(ending) && joint.count > ending.count
                        ? joint.dropLast(ending.count) + singular : nil
                }
            }
    }

    /// The phrases that are left when words fall away at the beginning, the longest first.
    var ends: [NounPhrase] {
        let words = text.split(separator: " ")
        return words.count < 2 ? [] : (1..<words.count).map { NounPhrase(words: words[$0...]) }
    }
}
