public import Imaging
import NeuralNetworks
public import Segmentation
public import Tensors

/// Segment Anything's heavy half: preprocessing and image encoder of one model.
///
/// A value without mutable state: any number of threads may use one at the same time.
public struct SamEncoder: ImageEncoding {
    /// How pictures are brought to it.
    public let preprocessing: ImagePreprocessing
    /// In what it computes.
    public let precision: Precision
    private let imageEncoder: any ImageEncoder

    package init(preprocessing: ImagePreprocessing, precision: Precision, imageEncoder: any ImageEncoder) {
        self.preprocessing = preprocessing
        self.precision = precision
        self.imageEncoder = imageEncoder
    }

    /// Encodes a picture to `image_embedding`, (1, C, g, g), and where the decoder takes skips to those as well.
    public func encode(_ image: Image, pool: ThreadPool) -> ImageFeatures {
        let (input, frame) = preprocessing.input(image)
        return ImageFeatures(encode(input: input, pool: pool), preprocessing: preprocessing, frame: frame)
    }

    /// Encodes what is already the model's input, (3, S, S).
    public func encode(input: Tensor, pool: ThreadPool) -> [FeatureMap] {
        imageEncoder.maps(input, pool: pool)
    }
}
