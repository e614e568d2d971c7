public import Embeddings
public import SegmentAnything
public import Segmentation

extension EmbeddingRecord {
    /// Writes a model's embedding.
    ///
    /// - Parameters:
    ///   - fingerprint: the SHA-256 of the model's weights.
    ///   - image: the SHA-256 of the image file.
    ///   - precision: how to write the numbers.
    ///   - encodeTime: how long the encoder took, which a cache hit saves.
    public init(
        _ embedding: ImageEmbedding, fingerprint: [UInt8], image: ImageDigest, precision: EmbeddingPrecision,
        encodeTime: Duration
    ) throws(EmbeddingRecordError) {
        try self.init(
            embedding.features,
            frame: .init(
                originalWidth: embedding.originalWidth, originalHeight: embedding.originalHeight,
                inputWidth: embedding.inputWidth, inputHeight: embedding.inputHeight),
            fingerprint: fingerprint, image: image, precision: precision, encodeTime: encodeTime)
    }

    /// The embedding as a model of that image size takes it; nil where the picture was resized for another size.
    public func embedding(imageSize: Int) -> ImageEmbedding? {
        let resize = ResizeLongestSide(
            width: frame.originalWidth, height: frame.originalHeight, target: imageSize)
        guard resize.width == frame.inputWidth, resize.height == frame.inputHeight else { return nil }
        return ImageEmbedding(features: tensor(), frame: resize)
    }
}
