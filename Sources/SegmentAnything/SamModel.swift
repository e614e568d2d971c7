public import Checkpoints
import NeuralNetworks
public import Segmentation
public import Tensors

/// A Segment Anything's checkpoint, opened: what it is, and its two halves to be loaded apart.
///
/// ```swift
/// let model = try SamModel(path: "sam_vit_b_01ec64.pth")
/// let features = try model.encoder().encode(photo, pool: pool)
/// let image = try model.decoder().prepare(features, pool: pool)
/// let masks = try image.predict([prompt], multimask: true, pool: pool)
/// ```
public struct SamModel: SegmentationModel {
    /// The file.
    public let checkpoint: Checkpoint
    /// How the file names its tensors.
    public let layout: CheckpointLayout
    /// The sizes that its tensors tell.
    public let geometry: SamGeometry
    /// What tells the image size.
    public let imageSizeSource: ImageSizeSource
    /// Whether a SAM-HQ's masks are corrected by its own token, or those of the Segment Anything that it was made of; features
    /// are the same.
    package private(set) var usesHighQuality = true
    private let weights: CheckpointWeights
    private static let everythingKey = "kirie.everything"

    /// Opens a checkpoint and reads its geometry; no weights are read yet.
    ///
    /// - Parameters:
    ///   - path: a checkpoint, a folder that holds one, or an index of shards.
    ///   - imageSize: rows and columns of the pictures; see ``SamCheckpoint/init(_:imageSize:)``.
    /// - Throws: an error that names the file and the tensor.
    public init(path: String, imageSize: Int? = nil) throws(CheckpointError) {
        try self.init(try Checkpoint(path: path), imageSize: imageSize)
    }

    /// Reads the geometry of an opened checkpoint.
    public init(_ checkpoint: Checkpoint, imageSize: Int? = nil) throws(CheckpointError) {
        let sam = try SamCheckpoint(checkpoint, imageSize: imageSize)
        self.checkpoint = sam.checkpoint
        layout = sam.layout
        geometry = sam.geometry
        imageSizeSource = sam.imageSizeSource
        weights = CheckpointWeights(sam.checkpoint)
    }

    /// What tells this model's embeddings from another's: the hash of the weights, and with it what they do not say.
    ///
    /// The same weights at another image size, or with other strides, are another model.
    ///
    /// - Parameters:
    ///   - cache: where fingerprints of files are kept between runs; nil to compute it now.
    ///   - threads: how many threads share the work.
    /// - Returns: the fingerprint that goes into a ``ModelIdentifier``.
    /// - Throws: ``CheckpointError`` where the file cannot be read.
    public func fingerprint(
        cache: FingerprintCache? = nil, threads: Int = 2
    ) throws(CheckpointError) -> Fingerprint {
        let weights = try checkpoint.fingerprint(cache: cache, threads: threads)
        return geometry.unspoken.map { weights.combined(with: $0) } ?? weights
    }

    /// Segment Anything's own, at the model's size.
    public var preprocessing: ImagePreprocessing { geometry.preprocessing }
    /// `image_embedding`, (1, C, g, g), and the skips that its mask decoder takes, if any.
    public var featureShapes: [FeatureShape] { geometry.decoder.featureShapes }
    /// Rows and columns of a mask prompt: 4g.
    public var maskSide: Int { geometry.maskSide }
    /// See ``SamGeometry/automaticPrecision``.
    public var automaticPrecision: Precision { geometry.automaticPrecision }
    /// How the file names its tensors.
    public var layoutName: String { layout.rawValue }
    /// The geometry, and what tells the image size.
    public var summary: String { "\(geometry)\nimage size: \(geometry.imageSize), \(imageSizeSource.rawValue)" }

    /// What a file of these weights should say of them in its metadata, so that nobody has to be asked.
    public var metadata: [String: String] {
        var metadata = checkpoint.metadata.merging(geometry.metadata) { _, geometry in geometry }
        if let everything = geometry.everything, metadata[Self.everythingKey] == nil {
            metadata[Self.everythingKey] = everything
        }
        return metadata
    }

    /// Loads the image encoder, packing its weights.
    ///
    /// - Parameter precision: of its products, see ``Precision/isSupported``; nil for the model's automatic one.
    /// - Returns: an encoder for any number of threads.
    /// - Throws: ``CheckpointError`` where a tensor cannot be read.
    public func encoder(precision: Precision? = nil) throws -> SamEncoder {
        try Self.encoder(weights, geometry, precision ?? geometry.automaticPrecision)
    }

    /// Loads the image encoder, packing its weights.
    public func imageEncoder(precision: Precision?) throws -> any ImageEncoding { try encoder(precision: precision) }

    /// Loads the prompt encoder and the mask decoder and nothing else.
    public func promptDecoder(precision: Precision?) throws -> any PromptDecoding { try decoder(precision: precision) }

    /// Loads the prompt encoder and the mask decoder and nothing else.
    ///
    /// - Parameter precision: of the products on the image's side; masks of one embedding are the same to the bit
    ///   wherever they are decoded in the same precision. nil for the model's automatic one.
    /// - Returns: a decoder for any number of threads.
    /// - Throws: ``CheckpointError`` where a tensor cannot be read.
    public func decoder(precision: Precision? = nil) throws -> SamDecoder {
        var geometry = geometry
        if !usesHighQuality { geometry.decoder.isHighQuality = false }
        return try Self.decoder(weights, geometry, precision ?? geometry.automaticPrecision)
    }

    /// The same model without SAM-HQ's correction of its masks; nil for one that has none.
    public var withoutHighQuality: SamModel? {
        guard geometry.decoder.isHighQuality else { return nil }
        var plain = self
        plain.usesHighQuality = false
        return plain
    }

    /// An encoder with drawn weights, to measure a geometry without its checkpoint.
    package static func randomEncoder(_ geometry: SamGeometry, precision: Precision) throws -> SamEncoder {
        try encoder(RandomWeights(), geometry, precision)
    }

    /// A decoder with drawn weights.
    package static func randomDecoder(_ geometry: SamGeometry, precision: Precision) throws -> SamDecoder {
        try decoder(RandomWeights(), geometry, precision)
    }

    static func encoder(
        _ weights: some WeightSource, _ geometry: SamGeometry, _ precision: Precision
    ) throws -> SamEncoder {
        let imageEncoder: any ImageEncoder =
            switch geometry.encoder {
            case .vit(let configuration):
                try ImageEncoderViT(
                    weights, configuration, isHighQuality: geometry.decoder.isHighQuality, precision: precision)
            case .tinyViT(let configuration):
                try TinyViT(
                    weights, configuration, isHighQuality: geometry.decoder.isHighQuality, precision: precision)
            case .efficientNetLite(let configuration):
                try EfficientNetLite(weights, configuration, precision: precision)
            case .hiera(let configuration): try Hiera(weights, configuration, precision: precision)
            case .repViT(let configuration): try RepViT(weights, configuration, precision: precision)
            }
        return SamEncoder(preprocessing: geometry.preprocessing, precision: precision, imageEncoder: imageEncoder)
    }

    static func decoder(
        _ weights: some WeightSource, _ geometry: SamGeometry, _ precision: Precision
    ) throws -> SamDecoder {
        try SamDecoder(
            weights, preprocessing: geometry.preprocessing, maskChannels: geometry.maskChannels,
            configuration: geometry.decoder, conventions: geometry.prompts, precision: precision)
    }
}
