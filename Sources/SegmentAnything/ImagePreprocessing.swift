package import Imaging
import Segmentation
package import Tensors

/// The published preprocessing: resize, normalise by the mean and deviation of ImageNet's colours, pad with zeros on
/// the right and below.
package enum ImagePreprocessing {
    /// Changes whenever a picture's tensor would change; part of every embedding's key.
    package static let version = Int(ModelIdentifier.currentPreprocessing)

    /// Red, green, blue, from 0 to 255.
    private static let mean: [Float] = [123.675, 116.28, 103.53]
    private static let deviation: [Float] = [58.395, 57.12, 57.375]

    /// The model's input for a picture, (3, side, side), and how it was resized.
    package static func input(_ image: Image, side: Int) -> (tensor: Tensor, frame: ResizeLongestSide) {
        let frame = ResizeLongestSide(width: image.width, height: image.height, target: side)
        let resized = frame.apply(image)
        let levels = (0..<3).map { channel in
            (0..<256).map { (Float($0) - mean[channel]) / deviation[channel] }
        }
        let tensor = Tensor(shape: [3, side, side]) { memory in
            memory.initialize(repeating: 0)
            resized.pixels.withUnsafeBufferPointer { pixels in
                for channel in 0..<3 {
                    levels[channel].withUnsafeBufferPointer { level in
                        for row in 0..<resized.height {
                            let target = (channel * side + row) * side
                            let source = row * resized.width * 3 + channel
                            for column in 0..<resized.width {
                                memory[target + column] = level[Int(pixels[source + column * 3])]
                            }
                        }
                    }
                }
            }
        }
        return (tensor, frame)
    }
}
