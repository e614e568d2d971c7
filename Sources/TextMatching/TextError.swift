public import Platform

/// A text that cannot be a prompt.
public enum TextError: ReportableError, Sendable, Hashable {
    /// Nothing but white space.
    case empty
    /// More bytes than any prompt has.
    case tooLong(bytes: Int, limit: Int)
    /// More tokens than the text encoder takes: a token is a short word, or a part of a longer one.
    case tooManyTokens(count: Int, limit: Int)
    /// A word that the matcher has no picture of, and the nearest that it knows.
    case unknown(word: String, nearest: [String])
    /// A CLIP whose embeddings have other numbers than the text projection of the model of masks takes.
    case width(found: Int, expected: Int)

    /// What is wrong and what to do.
    public var report: ErrorReport {
        let (what, remedy) =
            switch self {
            case .empty: ("the text is empty", "name what to look for, such as \"dog\"")
            case .tooLong(let bytes, let limit):
                ("the text has \(bytes) bytes, and at most \(limit) are read", "name one thing in a few words")
            case .width(let found, let expected):
                (
                    "the text model's embeddings have \(found) numbers, and the text projection of the model of masks takes "
                        + "\(expected)", "name a CLIP of that width, or kirie-words, with --text-model"
                )
            case .tooManyTokens(let count, let limit):
                ("the text has \(count) tokens, and at most \(limit) are read", "name one thing in a few words")
            case .unknown(let word, let nearest):
                (
                    "\"\(word)\" is outside the vocabulary",
                    nearest.isEmpty
                        ? "ask for another word, or use a CLIP model"
                        : "the nearest words are \(nearest.joined(separator: ", ")); or use a CLIP model"
                )
            }
        return ErrorReport(.input, "text", what, remedy: remedy)
    }

    /// The report in one line.
    public var description: String { report.text }
}
