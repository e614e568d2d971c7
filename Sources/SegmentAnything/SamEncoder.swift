public import Imaging
import NeuralNetworks
public import Tensors

/// A picture in, its embedding out: preprocessing and image encoder of one model.
///
/// A value without mutable state: any number of threads may use one at the same time.
public struct SamEncoder: Sendable {
    /// S, the model's size.
    public let imageSize: Int
    private let imageEncoder: any ImageEncoder

    package init(imageSize: Int, imageEncoder: any ImageEncoder) {
        self.imageSize = imageSize
        self.imageEncoder = imageEncoder
    }

    /// Encodes a picture.
    ///
    /// - Parameter pool: the threads that share the work; the answer does not depend on how many there are.
    public func encode(_ image: Image, pool: ThreadPool) -> ImageEmbedding {
        let (input, frame) = ImagePreprocessing.input(image, side: imageSize)
        return ImageEmbedding(features: imageEncoder.encode(input, pool: pool), frame: frame)
    }

    /// Encodes a picture that is already the model's input, (3, S, S).
    package func encode(input: Tensor, pool: ThreadPool) -> Tensor { imageEncoder.encode(input, pool: pool) }
}
