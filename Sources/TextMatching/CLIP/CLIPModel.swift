public import Checkpoints
import Glibc
import NeuralNetworks
public import Tensors

/// A CLIP model, opened: its checkpoint, its sizes and its tokenizer; the two encoders are loaded apart.
///
/// ```swift
/// let model = try CLIPModel(path: "clip-vit-base-patch32")
/// let matcher = try model.matcher(pool: pool)
/// let rows = matcher.rows(of: masks, in: photo, pool: pool)
/// let scores = matcher.scores([try matcher.query("a dog")], of: rows)
/// ```
///
/// Read are the folders that `transformers` saves (`config.json`, `model.safetensors`, `tokenizer.json` or `vocab.json` and
/// `merges.txt`), and OpenAI's weights under their own names, the published TorchScript files among them, with
/// `bpe_simple_vocab_16e6.txt` or any of those tokenizers beside them.
public struct CLIPModel: Sendable {
    /// The file of the weights.
    public let checkpoint: Checkpoint
    /// How it names its tensors.
    public let layout: CLIPLayout
    /// The sizes that the tensors and the configuration tell.
    public let geometry: CLIPGeometry
    /// From texts to tokens.
    public let tokenizer: CLIPTokenizer
    /// How pictures are brought to the image encoder.
    public let preprocessing: CLIPPreprocessing
    /// How much similarities count: the model's learned scale, by which they are multiplied.
    public let logitScale: Float

    /// Opens a model and reads its geometry; weights are read when an encoder is loaded.
    ///
    /// - Parameters:
    ///   - path: a folder that holds a model, or its file of weights with the rest beside it.
    ///   - tokenizer: the tokenizer's folder or file; nil for the folder of the weights.
    /// - Throws: ``CheckpointError``, which names the file and the place in it.
    public init(path: String, tokenizer: String? = nil) throws(CheckpointError) {
        let checkpoint = try Checkpoint(path: path)
        let folder = CLIPTokenizer.split(checkpoint.path).folder
        let configuration = try CLIPConfiguration(folder: folder)
        let reader = try CLIPGeometryReader(checkpoint, configuration: configuration)
        let geometry = try reader.geometry()
        self.checkpoint = checkpoint
        self.geometry = geometry
        layout = reader.layout
        self.tokenizer = try CLIPTokenizer(path: tokenizer ?? folder)
        guard self.tokenizer.vocabularySize <= geometry.vocabularySize else {
            throw CheckpointError(
                .misshapenTensor, file: checkpoint.path,
                "has \(geometry.vocabularySize) tokens, and its tokenizer \(self.tokenizer.vocabularySize)",
                remedy: "Give the tokenizer that belongs to the model")
        }
        preprocessing = CLIPPreprocessing(
            size: geometry.imageSize, mean: configuration.mean ?? CLIPPreprocessing.publishedMean,
            deviation: configuration.deviation ?? CLIPPreprocessing.publishedDeviation,
            centre: layout == .huggingFace ? .down : .even)
        logitScale = try Self.logitScale(of: checkpoint)
    }

    /// e to the stored number.
    private static func logitScale(of checkpoint: Checkpoint) throws(CheckpointError) -> Float {
        let stored = try checkpoint.stored("logit_scale")
        let number = stored.count == 1 ? try stored.tensor().elements[0] : .nan
        // Training ends at 100, whose logarithm is 4.6.
        guard abs(number) < 20 else {
            throw CheckpointError(
                .misshapenTensor, file: checkpoint.path, at: "tensor \"logit_scale\"",
                "is not the logarithm of a scale: \(stored.count == 1 ? "\(number)" : "it has the shape \(stored.shape)")",
                remedy: "Fetch or save the checkpoint again")
        }
        return expf(number)
    }

    /// What tells this model's embeddings from another's: the hash of the weights, and with it what they do not say.
    ///
    /// - Parameters:
    ///   - cache: where fingerprints of files are kept between runs; nil to compute it now.
    ///   - threads: how many threads share the work.
    /// - Returns: the fingerprint, without the arithmetic of an encoder.
    /// - Throws: ``CheckpointError`` where the file cannot be read.
    public func fingerprint(
        cache: FingerprintCache? = nil, threads: Int = 2
    ) throws(CheckpointError) -> Fingerprint {
        try checkpoint.fingerprint(cache: cache, threads: threads)
            .combined(with: "clip 1: \(geometry.unspoken) \(preprocessing)")
    }

    /// Loads the text encoder, packing its weights.
    ///
    /// - Parameter precision: of its products, see ``Precision/isSupported``; nil for the fastest of this processor.
    /// - Returns: an encoder for any number of threads.
    /// - Throws: ``CheckpointError`` where a tensor is missing or of another shape.
    public func textEncoder(precision: Precision? = nil) throws -> CLIPTextEncoder {
        try CLIPTextEncoder(
            CLIPWeights(checkpoint: checkpoint, layout: layout), geometry, precision: precision ?? .automatic)
    }

    /// Loads the image encoder, packing its weights.
    ///
    /// - Parameter precision: of its products, see ``Precision/isSupported``; nil for the fastest of this processor.
    /// - Returns: an encoder for any number of threads.
    /// - Throws: ``CheckpointError`` where a tensor is missing or of another shape.
    public func imageEncoder(precision: Precision? = nil) throws -> CLIPImageEncoder {
        try CLIPImageEncoder(
            CLIPWeights(checkpoint: checkpoint, layout: layout), geometry, preprocessing: preprocessing,
            precision: precision ?? .automatic)
    }
}
