public import Checkpoints
public import Imaging
public import Segmentation
public import Tensors

/// What tells which of many masks a text means: candidates and texts in, scores out.
///
/// A matcher looks at each candidate once, without a text; what it saw is a row of numbers that can be kept. A text
/// becomes a row, too, and then all scores are one matrix product: a second text on the same picture costs milliseconds.
///
/// A value without mutable state: any number of threads may use one at the same time.
public protocol TextMatcher: Sendable {
    /// How people call it, such as `clip_b32`.
    var name: String { get }
    /// What tells its rows from another's.
    var fingerprint: Fingerprint { get }
    /// Numbers of a candidate's row.
    var width: Int { get }

    /// Looks at candidates.
    ///
    /// - Parameters:
    ///   - candidates: masks of the picture's size.
    ///   - image: the picture, after EXIF orientation.
    ///   - pool: the threads that share the work; the rows do not depend on how many there are.
    /// - Returns: (candidates, width).
    func rows(of candidates: [RunLengthEncoding], in image: Image, pool: ThreadPool) -> Tensor

    /// Makes a text ready for any number of pictures.
    ///
    /// - Throws: ``TextError`` for one that says nothing, is too long, or lies outside of what the matcher knows.
    func query(_ text: String) throws(TextError) -> TextQuery

    /// Makes several texts ready, which may cost less than one after the other.
    ///
    /// - Parameters:
    ///   - texts: as many as there are.
    ///   - pool: the threads that share the work; the rows do not depend on how many there are.
    /// - Returns: a query for each text, in their order.
    /// - Throws: ``TextError`` for the first that says nothing, is too long, or lies outside of what the matcher knows.
    func queries(_ texts: [String], pool: ThreadPool) throws(TextError) -> [TextQuery]

    /// Numbers of a text's embedding; nil for a matcher that has none.
    var embeddingWidth: Int? { get }

    /// A text as a model of masks takes it that has a text projection: the text as it is, encoded, of length 1.
    ///
    /// Kirillov et al., "Segment Anything", 2023, appendix D.5, <https://arxiv.org/abs/2304.02643>.
    ///
    /// - Returns: ``embeddingWidth`` numbers; none for a matcher that has none.
    /// - Throws: ``TextError`` for one that says nothing or is too long.
    func embedding(of text: String, pool: ThreadPool) throws(TextError) -> [Float]

    /// How well each text fits each candidate.
    ///
    /// - Parameters:
    ///   - queries: of this matcher.
    ///   - rows: of this matcher, (candidates, width).
    /// - Returns: by query, a score for each candidate, 0 to 1: comparable between texts and pictures.
    func scores(_ queries: [TextQuery], of rows: Tensor) -> [[Float]]
}

extension TextMatcher {
    /// None.
    public var embeddingWidth: Int? { nil }

    /// None.
    public func embedding(of text: String, pool: ThreadPool) throws(TextError) -> [Float] { [] }

    /// A prompt for a model with a text projection, its words encoded.
    ///
    /// - Parameters:
    ///   - prompt: with words or without.
    ///   - width: the numbers that the projection takes.
    ///   - pool: the threads that share the work.
    /// - Returns: the prompt without words.
    /// - Throws: ``TextError`` for words that cannot be encoded, and for a matcher of another width.
    public func encoded(_ prompt: Prompt, width: Int, pool: ThreadPool) throws(TextError) -> Prompt {
        guard let text = prompt.text else { return prompt }
        guard let embeddingWidth, embeddingWidth == width else {
            throw .width(found: embeddingWidth ?? 0, expected: width)
        }
        var encoded = prompt
        encoded.text = nil
        encoded.textEmbedding = try embedding(of: text, pool: pool)
        return encoded
    }

    /// One after the other.
    public func queries(_ texts: [String], pool: ThreadPool) throws(TextError) -> [TextQuery] {
        var queries: [TextQuery] = []
        for text in texts { queries.append(try query(text)) }
        return queries
    }
}

/// A text made ready by a ``TextMatcher``.
public struct TextQuery: Sendable, Hashable {
    /// As it was given.
    public let text: String
    /// What the matcher makes of it: as many numbers as a candidate's row has.
    public let row: [Float]

    /// A text and its row.
    public init(text: String, row: [Float]) {
        self.text = text
        self.row = row
    }
}
