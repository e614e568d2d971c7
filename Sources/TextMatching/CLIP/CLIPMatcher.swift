public import Checkpoints
import Glibc
public import Imaging
public import Segmentation
public import Tensors

/// Tells by CLIP which candidates a text means.
///
/// A candidate is looked at twice, touching the square of its box, and with a margin and its surroundings dimmed; its row is
/// the mean of both embeddings, of length 1. A text is put into several sentences, and its row is the mean of theirs. A score
/// is the probability that the crop's caption is the text and none of some captions that say nothing, by the softmax that
/// CLIP was trained with.
public struct CLIPMatcher: TextMatcher {
    /// Bytes that a text has at most.
    public static let byteLimit = 2000

    /// How people call it.
    public let name: String
    /// Of the weights, the arithmetic and the way in which candidates are cut out.
    public let fingerprint: Fingerprint
    /// Numbers of a row.
    public let width: Int
    private let imageEncoder: CLIPImageEncoder
    private let textEncoder: CLIPTextEncoder
    private let tokenizer: CLIPTokenizer
    private let contextLength: Int
    private let logitScale: Float
    private let templates: PromptTemplates
    private let beginnings: [CLIPTextEncoder.Prefix]
    private let crops: [CandidateCrop]
    /// (texts, width), of length 1 each.
    private let backgrounds: Tensor

    /// Loads a model's encoders.
    ///
    /// - Parameters:
    ///   - model: opened.
    ///   - name: how people call it, such as `clip_b32`.
    ///   - precision: of both encoders; nil for the fastest of this processor.
    ///   - cache: where fingerprints of files are kept between runs.
    ///   - pool: the threads that share the work of loading.
    /// - Throws: ``CheckpointError`` where a tensor is missing or of another shape.
    public init(
        _ model: CLIPModel, name: String = "clip", precision: Precision? = nil, cache: FingerprintCache? = nil,
        pool: ThreadPool
    ) throws {
        let precision = precision ?? .automatic
        let templates = PromptTemplates.photographs
        let (text, tokenizer) = (try model.textEncoder(precision: precision), model.tokenizer)
        let colour = model.preprocessing.meanColour
        let crops = [
            CandidateCrop(margin: 0, surroundings: 1, background: colour),
            CandidateCrop(margin: 0.2, surroundings: 0.25, background: colour),
        ]
        self.name = name
        self.templates = templates
        self.tokenizer = tokenizer
        self.crops = crops
        width = model.geometry.width
        contextLength = model.geometry.contextLength
        logitScale = model.logitScale
        imageEncoder = try model.imageEncoder(precision: precision)
        textEncoder = text
        fingerprint = try model.fingerprint(cache: cache, threads: pool.threadCount)
            .combined(with: "crops 1: \(precision.rawValue) \(crops)")
        let start = [tokenizer.start]
        beginnings = Set(templates.beginnings.map { start + tokenizer.tokens($0) })
            .filter { $0.count < model.geometry.contextLength }
            .sorted { $0.lexicographicallyPrecedes($1) }
            .map { text.prefix($0, pool: pool) }
        let length = model.geometry.contextLength
        backgrounds =
            text.encode(
                PromptTemplates.backgrounds.map { tokenizer.encode($0, length: length) }, pool: pool
            ).rowsOfLengthOne
    }

    /// Looks at candidates, each twice.
    public func rows(of candidates: [RunLengthEncoding], in image: Image, pool: ThreadPool) -> Tensor {
        let views = crops.count
        let embeddings = imageEncoder.encode(count: candidates.count * views, pool: pool) { index in
            crops[index % views](candidates[index / views], of: image)
        }
        return embeddings.rowsOfLengthOne.meansOfRows(views).rowsOfLengthOne
    }

    /// Makes a text ready: one pass of a few sentences through the text encoder.
    public func query(_ text: String) throws(TextError) -> TextQuery {
        try queries([text], pool: .inline)[0]
    }

    /// Makes texts ready, all sentences of all in one pass.
    public func queries(_ texts: [String], pool: ThreadPool) throws(TextError) -> [TextQuery] {
        var sentences: [[Int32]] = []
        for text in texts { sentences += try tokens(of: text) }
        guard !sentences.isEmpty else { return [] }
        let embeddings = textEncoder.encode(sentences, prefixes: beginnings, pool: pool)
        let means = embeddings.rowsOfLengthOne.meansOfRows(templates.sentences.count).rowsOfLengthOne
        let numbers = means.elements
        return texts.enumerated().map { index, text in
            TextQuery(text: text, row: Array(numbers[index * width..<(index + 1) * width]))
        }
    }

    /// Numbers of a text's embedding.
    public var embeddingWidth: Int? { width }

    /// A text as it is, encoded, of length 1.
    public func embedding(of text: String, pool: ThreadPool) throws(TextError) -> [Float] {
        guard text.utf8.count <= Self.byteLimit else {
            throw .tooLong(bytes: text.utf8.count, limit: Self.byteLimit)
        }
        guard text.contains(where: { !$0.isWhitespace }) else { throw .empty }
        let tokens = tokenizer.tokens(text)
        guard tokens.count <= contextLength - 2 else {
            throw .tooManyTokens(count: tokens.count, limit: contextLength - 2)
        }
        let sentence = [tokenizer.start] + tokens + [tokenizer.end]
        return textEncoder.encode([sentence], pool: pool).rowsOfLengthOne.elements
    }

    /// The sentences of a text, in tokens.
    private func tokens(of text: String) throws(TextError) -> [[Int32]] {
        guard text.utf8.count <= Self.byteLimit else {
            throw .tooLong(bytes: text.utf8.count, limit: Self.byteLimit)
        }
        let phrase = PromptTemplates.phrase(text)
        guard !phrase.isEmpty else { throw .empty }
        let sentences = templates.filled(with: phrase).map { tokenizer.tokens($0) }
        // Cut off, a text would be another one.
        let room = contextLength - 2
        if let longest = sentences.map(\.count).max(), longest > room {
            let own = tokenizer.tokens(phrase).count
            throw .tooManyTokens(count: own, limit: max(0, room - (longest - own)))
        }
        return sentences.map { [tokenizer.start] + $0 + [tokenizer.end] }
    }

    /// The probability of each text beside captions that say nothing.
    public func scores(_ queries: [TextQuery], of rows: Tensor) -> [[Float]] {
        precondition(rows.shape.count == 2 && rows.shape[1] == width, "rows of the shape \(rows.shape)")
        let others = similarities(of: rows, to: backgrounds)
        return queries.map { query in
            precondition(query.row.count == width, "a text of another matcher")
            let own = similarities(of: rows, to: Tensor(shape: [1, width], query.row))
            return own.indices.map { candidate in
                // As a softmax, whose largest term is taken off first.
                let logits = others[candidate].map { $0 * logitScale }
                let logit = own[candidate][0] * logitScale
                let largest = max(logit, logits.max() ?? logit)
                let mine = expf(logit - largest)
                return mine / logits.reduce(mine) { $0 + expf($1 - largest) }
            }
        }
    }

    /// By row, its product with each text.
    private func similarities(of rows: Tensor, to texts: Tensor) -> [[Float]] {
        rows.withUnsafeBufferPointer { rows in
            texts.withUnsafeBufferPointer { texts in
                (0..<rows.count / width).map { row in
                    (0..<texts.count / width).map { text in
                        var sum = SIMD8<Float>()
                        var rest: Float = 0
                        var column = 0
                        while column + 8 <= width {
                            for lane in 0..<8 {
                                sum[lane] += rows[row * width + column + lane] * texts[text * width + column + lane]
                            }
                            column += 8
                        }
                        while column < width {
                            rest += rows[row * width + column] * texts[text * width + column]
                            column += 1
                        }
                        return sum.sum() + rest
                    }
                }
            }
        }
    }
}

extension CLIPModel {
    /// Loads what tells which candidates a text means.
    ///
    /// - Parameters:
    ///   - name: how people call it, such as `clip_b32`.
    ///   - precision: of both encoders; nil for the fastest of this processor.
    ///   - cache: where fingerprints of files are kept between runs.
    ///   - pool: the threads that share the work of loading.
    /// - Returns: a matcher for any number of threads.
    /// - Throws: ``CheckpointError`` where a tensor is missing or of another shape.
    public func matcher(
        name: String = "clip", precision: Precision? = nil, cache: FingerprintCache? = nil, pool: ThreadPool
    ) throws -> CLIPMatcher {
        try CLIPMatcher(self, name: name, precision: precision, cache: cache, pool: pool)
    }
}

extension Tensor {
    /// Each row divided by its length; a row of zeros stays one.
    package var rowsOfLengthOne: Tensor {
        let width = shape[1]
        return Tensor(shape: shape) { memory in
            withUnsafeBufferPointer { from in
                for start in stride(from: 0, to: from.count, by: max(1, width)) {
                    var squares = 0.0
                    for index in start..<start + width { squares += Double(from[index]) * Double(from[index]) }
                    let factor = squares > 0 ? 1 / squares.squareRoot() : 0
                    for index in start..<start + width { memory[index] = Float(Double(from[index]) * factor) }
                }
            }
        }
    }

    /// The mean of each `count` rows.
    func meansOfRows(_ count: Int) -> Tensor {
        let (groups, width) = (shape[0] / count, shape[1])
        return Tensor(shape: [groups, width]) { memory in
            withUnsafeBufferPointer { from in
                for group in 0..<groups {
                    for column in 0..<width {
                        var sum: Float = 0
                        for row in 0..<count { sum += from[(group * count + row) * width + column] }
                        memory[group * width + column] = sum / Float(count)
                    }
                }
            }
        }
    }
}
