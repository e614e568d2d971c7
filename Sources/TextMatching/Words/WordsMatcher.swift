public import Checkpoints
import Glibc
public import Imaging
import NeuralNetworks
public import Segmentation
public import Tensors

/// Texts without a model of language: nouns of WordNet over the classes of a classifier of crops.
///
/// A candidate's row holds the probability of each class, the class of nothing left out; a noun is the set of its classes,
/// and its score the sum of their probabilities. So a second text costs one matrix product, and a score of 0.5 means that
/// the candidate is as likely as not a whole thing of that name. It knows several thousand nouns and nothing else: neither
/// adjectives nor relations, and no thing without a class.
///
/// ```swift
/// let words = try WordsMatcher(checkpoint: Checkpoint(path: "weights/kirie-words.safetensors"))
/// let rows = words.rows(of: masks, in: image, pool: pool)
/// let scores = words.scores([try words.query("a dog")], of: rows)
/// ```
public struct WordsMatcher: TextMatcher {
    /// How people call the shipped one.
    public static let shippedName = "kirie-words"

    /// What the file says, or ``shippedName``.
    public let name: String
    /// Of the weights, the words, the crops and the arithmetic.
    public let fingerprint: Fingerprint
    /// Classes, without the one of nothing.
    public var width: Int { classifier.classCount - 1 }
    private let vocabulary: WordsVocabulary
    private let classifier: WordsClassifier
    private let crops: [CandidateCrop]

    /// Reads a file as `weights/kirie-words.safetensors` is.
    ///
    /// - Parameters:
    ///   - checkpoint: the file.
    ///   - precision: of the classifier's products.
    ///   - cache: where fingerprints are kept between runs.
    /// - Throws: ``CheckpointError``, naming the place in the file.
    public init(
        checkpoint: Checkpoint, precision: Precision = .float32, cache: FingerprintCache? = nil
    ) throws {
        let file = try WordsFile(checkpoint)
        name = checkpoint.metadata["kirie.name"] ?? Self.shippedName
        vocabulary = file.vocabulary
        crops = file.crops
        classifier = try WordsClassifier(file, precision: precision)
        let ways = crops.map { "\($0.margin) \($0.surroundings)" }.joined(separator: ", ")
        fingerprint = try checkpoint.fingerprint(cache: cache)
            .combined(with: "words \(file.trunk.imageSize) \(precision.rawValue) \(ways)")
    }

    /// All words that it knows, in alphabetical order.
    public var words: [String] { vocabulary.words }

    /// A noun's classes, as 1 in the row of a candidate.
    ///
    /// Articles and plurals do not matter. Words of other languages, adjectives and the like are refused, with the nearest
    /// words that are known.
    public func query(_ text: String) throws(TextError) -> TextQuery {
        var row = [Float](repeating: 0, count: width)
        for classes in try vocabulary.classes(of: text) {
            for index in classes { row[index] = 1 }
        }
        return TextQuery(text: text, row: row)
    }

    /// The probability of each class: what is missing to 1 is that of no whole thing.
    public func rows(of candidates: [RunLengthEncoding], in image: Image, pool: ThreadPool) -> Tensor {
        let logits = logits(of: candidates, in: image, pool: pool)
        let classes = classifier.classCount
        return Tensor(shape: [candidates.count, width]) { memory in
            logits.withUnsafeBufferPointer { logits in
                for candidate in 0..<candidates.count {
                    let row = logits[candidate * classes..<(candidate + 1) * classes]
                    let largest = row.max() ?? 0
                    let exponentials = row.map { expf($0 - largest) }
                    let share = 1 / exponentials.reduce(0, +)
                    for index in 0..<width {
                        memory.initializeElement(at: candidate * width + index, to: exponentials[index] * share)
                    }
                }
            }
        }
    }

    /// What the classifier says before the probabilities; for tests.
    package func logits(of candidates: [RunLengthEncoding], in image: Image, pool: ThreadPool) -> Tensor {
        classifier.logits(of: candidates, in: image, crops: crops, pool: pool)
    }

    /// The sum of the probabilities of a text's classes.
    public func scores(_ queries: [TextQuery], of rows: Tensor) -> [[Float]] {
        let width = width
        precondition(rows.shape.count == 2 && rows.shape[1] == width, "rows \(rows.shape) of another matcher")
        return rows.withUnsafeBufferPointer { rows in
            queries.map { query in
                precondition(query.row.count == width, "a text of another matcher")
                let chosen = query.row.indices.filter { query.row[$0] != 0 }
                return (0..<rows.count / max(1, width)).map { candidate in
                    min(1, chosen.reduce(0) { $0 + query.row[$1] * rows[candidate * width + $1] })
                }
            }
        }
    }
}
