public import Checkpoints
public import Imaging
import JSON
public import Segmentation
public import Tensors

/// A family of models, as everything above it sees it: an opened checkpoint, whose halves are loaded apart.
///
/// ```swift
/// let model = try ModelFamilies.open(path: "sam_vit_b_01ec64.pth")
/// let features = try model.imageEncoder().encode(photo, pool: pool)
/// let image = try model.promptDecoder().prepare(features, pool: pool)
/// let masks = try image.predict([prompt], multimask: true, pool: pool)
/// ```
///
/// Another family is a type that conforms, and a line in ``ModelFamilies/all``.
public protocol SegmentationModel: Sendable {
    /// The file.
    var checkpoint: Checkpoint { get }
    /// How the file names its tensors, for people.
    var layoutName: String { get }
    /// The sizes that the tensors tell, for people: a line for each part.
    var summary: String { get }
    /// What a file of these weights should say of them in its metadata, so that nobody has to be asked.
    var metadata: [String: String] { get }
    /// How pictures are brought to the encoder.
    var preprocessing: ImagePreprocessing { get }
    /// The feature maps that it makes and takes.
    var featureShapes: [FeatureShape] { get }
    /// Rows and columns of a mask prompt.
    var maskSide: Int { get }
    /// The precision that suits this model on this processor.
    var automaticPrecision: Precision { get }

    /// What tells this model's features from another's: the hash of the weights, and with it what they do not say.
    ///
    /// - Parameters:
    ///   - cache: where fingerprints of files are kept between runs; nil to compute it now.
    ///   - threads: how many threads share the work.
    /// - Returns: the fingerprint that goes into a ``ModelIdentifier``.
    /// - Throws: ``CheckpointError`` where the file cannot be read.
    func fingerprint(cache: FingerprintCache?, threads: Int) throws(CheckpointError) -> Fingerprint

    /// Loads the heavy half, packing its weights.
    ///
    /// - Parameter precision: of its products, see ``Precision/isSupported``; nil for the automatic one.
    /// - Returns: an encoder for any number of threads.
    /// - Throws: ``CheckpointError`` where a tensor cannot be read.
    func imageEncoder(precision: Precision?) throws -> any ImageEncoding

    /// Loads the light half and nothing else.
    ///
    /// - Parameter precision: of its products; it need not be the encoder's.
    /// - Returns: a decoder for any number of threads.
    /// - Throws: ``CheckpointError`` where a tensor cannot be read.
    func promptDecoder(precision: Precision?) throws -> any PromptDecoding
}

extension SegmentationModel {
    /// What everything mode asks of this model's masks where nobody says it: the published values, unless its file has
    /// others in its metadata, such as `"kirie.everything": {"pred_iou_thresh": 0.6}`.
    public var everythingDefaults: EverythingDefaults {
        var defaults = EverythingDefaults.published
        guard let text = metadata["kirie.everything"], let value = try? JSONValue(parsing: Array(text.utf8)),
            let given = try? EverythingParameters(value)
        else { return defaults }
        if let threshold = given.predictedIoUThreshold { defaults.predictedIoUThreshold = threshold }
        if let threshold = given.stabilityScoreThreshold { defaults.stabilityScoreThreshold = threshold }
        if let area = given.minimumRegionArea { defaults.minimumRegionArea = area }
        return defaults
    }

    /// Loads the heavy half in the automatic precision.
    public func imageEncoder() throws -> any ImageEncoding { try imageEncoder(precision: nil) }

    /// Loads the light half in the automatic precision.
    public func promptDecoder() throws -> any PromptDecoding { try promptDecoder(precision: nil) }
}

/// The heavy half of a model: a picture in, its features out.
///
/// A value without mutable state: any number of threads may use one at the same time.
public protocol ImageEncoding: Sendable {
    /// How pictures are brought to it.
    var preprocessing: ImagePreprocessing { get }
    /// In what it computes: part of what its features are kept under.
    var precision: Precision { get }

    /// Encodes a picture; the threads of the pool share the work, and the features do not depend on how many there are.
    func encode(_ image: Image, pool: ThreadPool) -> ImageFeatures

    /// Encodes what is already the model's input, (3, S, S).
    func encode(input: Tensor, pool: ThreadPool) -> [FeatureMap]
}

extension ImageEncoding {
    /// What an embedding's key says of the precision.
    public var arithmetic: EncoderArithmetic {
        switch precision {
        case .float32: .fp32
        case .bfloat16: .bf16
        case .int8: .int8
        }
    }
}

/// The light half of a model: features made ready for prompts.
///
/// A value without mutable state: any number of threads may use one at the same time.
public protocol PromptDecoding: Sendable {
    /// An image made ready for prompts.
    associatedtype Prepared: PreparedImage

    /// In what it computes; masks of one embedding are the same to the bit wherever they are decoded in the same precision.
    var precision: Precision { get }
    /// Rows and columns of a mask prompt.
    var maskSide: Int { get }
    /// Whether a click takes a millisecond or two on one thread, of which others could take little off.
    var isSmall: Bool { get }
    /// How the pictures of the features that it takes were brought to the encoder.
    var preprocessing: ImagePreprocessing { get }
    /// The feature maps that it takes.
    var featureShapes: [FeatureShape] { get }
    /// Numbers of a text's embedding that it takes in a prompt; nil for a family that knows places alone.
    var textWidth: Int? { get }

    /// Computes what depends on the image alone, once.
    ///
    /// - Throws: ``FeatureMismatch`` when another model made the features.
    func prepare(_ features: ImageFeatures, pool: ThreadPool) throws(FeatureMismatch) -> Prepared
}

extension PromptDecoding {
    /// Places alone.
    public var textWidth: Int? { nil }
}

/// An image made ready for any number of prompts by a ``PromptDecoding``.
public protocol PreparedImage: Sendable {
    /// Columns of the original picture.
    var width: Int { get }
    /// Rows of the original picture.
    var height: Int { get }
    /// Bytes that keeping it takes, for a cache that is bounded by bytes.
    var byteCount: Int { get }

    /// Decodes prompts, in pixels of the original picture, to low-resolution logits.
    ///
    /// Every answer equals that of its prompt decoded alone, to the bit.
    func decode(
        _ prompts: [Prompt], selection: MaskSelection, pool: ThreadPool
    ) throws(PromptError) -> [DecodedMasks]

    /// Full-size masks of many prompts' logits, where `isRanked` the highest predicted IoU of each prompt first, else
    /// in the order of the logits.
    func masks(_ decoded: [DecodedMasks], isRanked: Bool, pool: ThreadPool) -> [[PredictedMask]]

    /// Logits at the picture's size, (height, width).
    func fullSizeLogits(_ logits: LowResolutionLogits) -> [Float]

    /// What the encoder saw in masks: for each the mean of the image's features over it, less their mean over the picture,
    /// of length 1. All 0 for a mask without a pixel.
    ///
    /// - Parameter masks: of the picture's size.
    /// - Returns: a list of C numbers each; nil for a family whose features say nothing of the kind.
    func pooledFeatures(of masks: [RunLengthEncoding]) -> [[Float]]?

    /// The masks of single points, three readings each, that pass a filter: what everything mode is made of.
    ///
    /// - Parameters:
    ///   - points: in pixels of the picture; each is a prompt for itself.
    ///   - filter: which masks are kept.
    ///   - pool: the threads that share the work; the answer does not depend on how many there are.
    /// - Returns: for each point its masks that pass, in the order of the readings.
    /// - Throws: ``PromptError`` for the first point that is not in the picture.
    func candidates(
        at points: [SIMD2<Double>], filter: CandidateFilter, pool: ThreadPool
    ) throws(PromptError) -> [[ScoredMask]]

    /// The same masks as drafts, by scores and boxes alone: near those of ``candidates(at:filter:pool:)``, and cheaper.
    ///
    /// Whoever chooses among many asks for the masks of the chosen ones.
    func drafts(
        at points: [SIMD2<Double>], filter: CandidateFilter, pool: ThreadPool
    ) throws(PromptError) -> [[MaskDraft]]
}

extension PreparedImage {
    /// None.
    public func pooledFeatures(of masks: [RunLengthEncoding]) -> [[Float]]? { nil }

    /// The masks that pass, made one after the other of logits at the picture's size: slow, and for any family.
    public func candidates(
        at points: [SIMD2<Double>], filter: CandidateFilter, pool: ThreadPool
    ) throws(PromptError) -> [[ScoredMask]] {
        let prompts = points.map { Prompt(points: [LabeledPoint(x: $0.x, y: $0.y)]) }
        return try decode(prompts, selection: .multiple, pool: pool).map { decoded in
            zip(decoded.logits, decoded.predictedIoU).compactMap { logits, predictedIoU in
                guard filter.takes(predictedIoU: predictedIoU) else { return nil }
                let values = fullSizeLogits(logits)
                let inner = values.count { $0 > filter.stabilityScoreOffset }
                let outer = values.count { $0 > -filter.stabilityScoreOffset }
                let stability = outer == 0 ? 0 : Float(inner) / Float(outer)
                guard filter.takes(stability: stability, isEmpty: outer == 0) else { return nil }
                let mask = Mask(width: width, height: height, pixels: values.map { $0 > 0 ? 1 : 0 })
                return ScoredMask(
                    encoding: RunLengthEncoding(mask), predictedIoU: predictedIoU, stabilityScore: stability)
            }
        }
    }
}

extension PreparedImage {
    /// The masks themselves, of which only boxes and scores are told.
    public func drafts(
        at points: [SIMD2<Double>], filter: CandidateFilter, pool: ThreadPool
    ) throws(PromptError) -> [[MaskDraft]] {
        try candidates(at: points, filter: filter, pool: pool).map { $0.map(MaskDraft.init) }
    }
}

extension PreparedImage {
    /// Answers prompts at the picture's own size.
    ///
    /// - Parameters:
    ///   - prompts: in pixels of the original picture.
    ///   - multimask: three masks for an ambiguous prompt instead of one.
    ///   - pool: the threads that share the work; the answer does not depend on how many there are.
    /// - Returns: for each prompt its masks, the highest predicted IoU first.
    /// - Throws: ``PromptError`` for the first prompt that cannot be used on this picture.
    public func predict(
        _ prompts: [Prompt], multimask: Bool, pool: ThreadPool
    ) throws(PromptError) -> [[PredictedMask]] {
        masks(
            try decode(prompts, selection: multimask ? .multiple : .single, pool: pool), isRanked: true, pool: pool)
    }
}
