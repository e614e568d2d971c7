@_spi(_Unicode) import Swift

/// CLIP's byte-pair encoding of lower-cased text: from a text to the tokens that the text encoder reads.
///
/// Token for token what `transformers` 5 calls `CLIPTokenizer`, and its version 4 `CLIPTokenizerFast`: canonical composition
/// (NFC), each run of white space one space, lower case letter by letter, a split into words, single digits and runs of
/// signs, and merges over the bytes of each. The slow tokenizer of version 4 differs from it: it mends text with `ftfy` where
/// that is installed (curly quotes, HTML entities, text that was decoded twice), and else drops control characters and sets
/// spaces around Chinese characters; and it lower-cases a final sigma as Greek does. OpenAI's own is the slow one with `ftfy`.
///
/// Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, section 2.4,
/// <https://arxiv.org/abs/2103.00020>; byte pairs: Sennrich et al., 2016, <https://arxiv.org/abs/1508.07909>.
public struct CLIPTokenizer: Sendable {
    /// A token that stands for itself wherever its text is met.
    struct Special: Sendable {
        let text: [Unicode.Scalar]
        let token: Int32
        /// Whether its text is looked for after the text was composed and lower-cased, not before.
        let isNormalized: Bool
    }

    /// How many tokens there are: all are below it.
    public let vocabularySize: Int
    /// What every text begins with, `<|startoftext|>`.
    public let start: Int32
    /// What every text ends with, `<|endoftext|>`.
    public let end: Int32
    /// What short texts are filled up with.
    public let padding: Int32
    private let pairs: BytePairs
    /// Those that are met before the text is normalized, and those that are met after.
    private let specials: [Special]
    private let normalizedSpecials: [Special]

    /// Puts together what the files of a tokenizer say.
    init(
        vocabularySize: Int, start: Int32, end: Int32, padding: Int32, pairs: BytePairs, specials: [Special]
    ) {
        self.vocabularySize = vocabularySize
        self.start = start
        self.end = end
        self.padding = padding
        self.pairs = pairs
        self.specials = specials.filter { !$0.isNormalized }
        normalizedSpecials = specials.filter(\.isNormalized).map { special in
            var view = String.UnicodeScalarView()
            view.append(contentsOf: special.text)
            return Special(text: Self.normalized(String(view)), token: special.token, isNormalized: true)
        }
    }

    /// The tokens of a text between the start and the end of one, as many as there are room for.
    ///
    /// - Parameters:
    ///   - text: of any length; what is too long is cut off.
    ///   - length: tokens at most, with those of start and end; 2 or more.
    /// - Returns: the start, tokens, and in any case the end.
    public func encode(_ text: String, length: Int) -> [Int32] {
        precondition(length >= 2, "no room for the start and the end")
        return [start] + tokens(text).prefix(length - 2) + [end]
    }

    /// The same filled up to `length` tokens.
    public func encodePadded(_ text: String, length: Int) -> [Int32] {
        let tokens = encode(text, length: length)
        return tokens + Array(repeating: padding, count: length - tokens.count)
    }

    /// The tokens of a text without its start and end, all of them.
    public func tokens(_ text: String) -> [Int32] {
        var tokens: [Int32] = []
        for part in Self.parts(Array(text.unicodeScalars), around: specials) {
            switch part {
            case .special(let token): tokens.append(token)
            case .text(let scalars):
                var view = String.UnicodeScalarView()
                view.append(contentsOf: scalars)
                for part in Self.parts(Self.normalized(String(view)), around: normalizedSpecials) {
                    switch part {
                    case .special(let token): tokens.append(token)
                    case .text(let scalars):
                        TextSplitting.pieces(of: scalars) { pairs.append(tokensOf: $0, to: &tokens) }
                    }
                }
            }
        }
        return tokens
    }

    private enum Part {
        case text(ArraySlice<Unicode.Scalar>)
        case special(Int32)
    }

    /// A text cut at special tokens: the first that begins, and of several there the longest.
    private static func parts(_ text: [Unicode.Scalar], around specials: [Special]) -> [Part] {
        guard !specials.isEmpty else { return [.text(text[...])] }
        var parts: [Part] = []
        var (at, begin) = (0, 0)
        let firsts = Set(specials.compactMap(\.text.first))
        while at < text.count {
            guard firsts.contains(text[at]),
                let special = specials.filter({ text[at...].starts(with: $0.text) })
                    .max(by: { $0.text.count < $1.text.count })
            else {
                at += 1
                continue
            }
            if begin < at { parts.append(.text(text[begin..<at])) }
            parts.append(.special(special.token))
            at += special.text.count
            begin = at
        }
        if begin < text.count { parts.append(.text(text[begin...])) }
        return parts
    }

    /// Composed, with single spaces, in lower case.
    private static func normalized(_ text: String) -> [Unicode.Scalar] {
        var scalars: [Unicode.Scalar] = []
        var isAfterSpace = false
        func append(_ scalar: Unicode.Scalar) {
            guard !scalar.properties.isWhitespace else {
                if !isAfterSpace { scalars.append(" ") }
                isAfterSpace = true
                return
            }
            isAfterSpace = false
            if scalar.isASCII {
                scalars.append(("A"..."Z").contains(scalar) ? Unicode.Scalar(UInt8(scalar.value) + 32) : scalar)
            } else {
                // Letter by letter: no rule of what stands around it.
                scalars.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
            }
        }
        if text.utf8.allSatisfy({ $0 < 0x80 }) {
            for scalar in text.unicodeScalars { append(scalar) }
        } else {
            // The standard library's own normalization, which Foundation uses in this way.
            for scalar in text._nfc { append(scalar) }
        }
        return scalars
    }
}

/// The split of a normalized text into what is encoded on its own:
/// `<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`.
enum TextSplitting {
    private enum Kind {
        case space, letter, number, sign
    }

    private static let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map { Array($0.unicodeScalars) }
    private static let marks = ["<|startoftext|>", "<|endoftext|>"].map { Array($0.unicodeScalars) }

    /// Calls `body` with one piece after the other; white space is in none.
    static func pieces(of text: ArraySlice<Unicode.Scalar>, _ body: (ArraySlice<Unicode.Scalar>) -> Void) {
        var at = text.startIndex
        while at < text.endIndex {
            let rest = text[at...]
            let first = text[at]
            if first == "<", let mark = marks.first(where: rest.starts(with:)) {
                // What the words of such a mark are is decided by a second split, into signs, letters, signs.
                body(rest.prefix(2))
                body(rest.dropFirst(2).prefix(mark.count - 4))
                body(rest.dropFirst(mark.count - 2).prefix(2))
                at += mark.count
                continue
            }
            if first == "'", let contraction = contractions.first(where: rest.starts(with:)) {
                body(rest.prefix(contraction.count))
                at += contraction.count
                continue
            }
            let kind = kind(of: first)
            var end = at + 1
            if kind == .letter || kind == .sign {
                while end < text.endIndex, Self.kind(of: text[end]) == kind { end += 1 }
            }
            if kind != .space { body(text[at..<end]) }
            at = end
        }
    }

    private static func kind(of scalar: Unicode.Scalar) -> Kind {
        if scalar.isASCII {
            switch scalar {
            case "a"..."z", "A"..."Z": return .letter
            case "0"..."9": return .number
            case " ", "\t", "\n", "\r", "\u{b}", "\u{c}": return .space
            default: return .sign
            }
        }
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return .letter
        case .decimalNumber, .letterNumber, .otherNumber: return .number
        default: return scalar.properties.isWhitespace ? .space : .sign
        }
    }
}
