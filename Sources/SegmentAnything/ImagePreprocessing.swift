package import Imaging
package import Segmentation
package import Tensors

extension ImagePreprocessing {
    /// An encoder's input for a picture, (3, S, S), and what became of the picture's sizes.
    package func input(_ image: Image) -> (tensor: Tensor, frame: ImageFrame) {
        let frame = frame(width: image.width, height: image.height)
        let tensor = Tensor(shape: [3, size, size]) { memory in
            switch resize {
            case .longestSide: fill(memory, with: image, frame)
            case .square: fill(memory, with: image)
            }
        }
        return (tensor, frame)
    }

    /// As Pillow's bilinear filter makes it, in levels from 0 to 255.
    private func fill(_ memory: UnsafeMutableBufferPointer<Float>, with image: Image, _ frame: ImageFrame) {
        let resized: Image = image.resizedBilinear(width: frame.inputWidth, height: frame.inputHeight)
        let levels = (0..<3).map { channel in
            (0..<256).map { (Float($0) - mean[channel]) / deviation[channel] }
        }
        memory.initialize(repeating: 0)
        resized.pixels.withUnsafeBufferPointer { pixels in
            for channel in 0..<3 {
                levels[channel].withUnsafeBufferPointer { level in
                    for row in 0..<resized.height {
                        let target = (channel * size + row) * size
                        let source = row * resized.width * 3 + channel
                        for column in 0..<resized.width {
                            memory[target + column] = level[Int(pixels[source + column * 3])]
                        }
                    }
                }
            }
        }
    }

    /// As torchvision resizes a tensor (`SAM2Transforms`): nothing is rounded on the way.
    private func fill(_ memory: UnsafeMutableBufferPointer<Float>, with image: Image) {
        image.forEachResizedRow(width: size, height: size) { row, colours in
            for channel in 0..<3 {
                let target = (channel * size + row) * size
                let (mean, deviation) = (mean[channel], deviation[channel])
                for column in 0..<size {
                    memory.initializeElement(
                        at: target + column, to: (colours[3 * column + channel] - mean) / deviation)
                }
            }
        }
    }
}
