package import Imaging
package import Segmentation
package import Tensors

extension ImagePreprocessing {
    /// An encoder's input for a picture, (3, S, S), and what became of the picture's sizes.
    package func input(_ image: Image) -> (tensor: Tensor, frame: ImageFrame) {
        let frame = frame(width: image.width, height: image.height)
        // As Pillow's bilinear filter makes it.
        let resized: Image = image.resizedBilinear(width: frame.inputWidth, height: frame.inputHeight)
        let levels = (0..<3).map { channel in
            (0..<256).map { (Float($0) - mean[channel]) / deviation[channel] }
        }
        let side = size
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
