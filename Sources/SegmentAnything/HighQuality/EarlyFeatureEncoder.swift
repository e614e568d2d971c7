import Tensors

/// An image encoder on its way through which SAM-HQ takes early features.
protocol EarlyFeatureEncoder: ImageEncoder {
    /// What is made of them; nil where the checkpoint is not SAM-HQ's.
    var highQuality: HighQualityFeatures? { get }

    /// Encodes one picture; `early` is given the early tokens, a row for each of the grid, as soon as they are there.
    func encode(_ image: Tensor, pool: ThreadPool, early: (Features) -> Void) -> Tensor
}

extension EarlyFeatureEncoder {
    package func encode(_ image: Tensor, pool: ThreadPool) -> Tensor { encode(image, pool: pool) { _ in } }

    package func maps(_ image: Tensor, pool: ThreadPool) -> [FeatureMap] {
        guard let highQuality else { return [FeatureMap(FeatureMap.imageEmbedding, encode(image, pool: pool))] }
        return Scratch.withFloats(highQuality.count) { map in
            let embedding = encode(image, pool: pool) { highQuality.write(early: $0, to: map, pool: pool) }
            return [
                FeatureMap(FeatureMap.imageEmbedding, embedding),
                FeatureMap(FeatureMap.highQuality, highQuality.adding(embedding, to: map, pool: pool)),
            ]
        }
    }
}
