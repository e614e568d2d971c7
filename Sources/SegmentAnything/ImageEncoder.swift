package import Tensors

/// The heavy half: a picture in, its embedding out.
package protocol ImageEncoder: Sendable {
    /// Encodes one picture.
    ///
    /// - Parameters:
    ///   - image: (3, S, S), RGB, normalised and padded: see ``ImagePreprocessing``.
    ///   - pool: the threads that share the work; the answer does not depend on how many there are.
    /// - Returns: (1, C, g, g).
    func encode(_ image: Tensor, pool: ThreadPool) -> Tensor

    /// Encodes one picture to all that the decoder takes, the embedding first.
    func maps(_ image: Tensor, pool: ThreadPool) -> [FeatureMap]
}

extension ImageEncoder {
    /// The embedding alone.
    package func maps(_ image: Tensor, pool: ThreadPool) -> [FeatureMap] {
        [FeatureMap(FeatureMap.imageEmbedding, encode(image, pool: pool))]
    }
}
