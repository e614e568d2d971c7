public import Embeddings
public import SegmentAnything
public import Segmentation

extension EmbeddingRecord {
    /// Writes a model's features.
    ///
    /// - Parameters:
    ///   - features: of the picture, with how it was brought to the encoder.
    ///   - fingerprint: of the model.
    ///   - image: the SHA-256 of the image file.
    ///   - precision: how to write the numbers.
    ///   - arithmetic: of the encoder; nil for a record under an identifier that does not say it.
    ///   - encodeTime: how long the encoder took, which a cache hit saves.
    /// - Throws: ``EmbeddingRecordError/notFinite`` where a number is infinite or none.
    public init(
        _ features: ImageFeatures, fingerprint: [UInt8], image: ImageDigest, precision: EmbeddingPrecision,
        arithmetic: EncoderArithmetic?, encodeTime: Duration
    ) throws(EmbeddingRecordError) {
        try self.init(
            features.maps, preprocessing: features.preprocessing, frame: features.frame, fingerprint: fingerprint,
            image: image, precision: precision, arithmetic: arithmetic, encodeTime: encodeTime)
    }

    /// The features, as a decoder takes them.
    public func features() -> ImageFeatures {
        ImageFeatures(maps(), preprocessing: preprocessing, frame: frame)
    }
}
