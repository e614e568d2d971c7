/// How a picture becomes what an image encoder sees: resized, its colours normalised, filled up to a square.
///
/// A value that goes with what was made of the picture, so that whoever reads features knows of which pixels they speak
/// and nothing is assumed of the model that made them.
public struct ImagePreprocessing: Sendable, Hashable, CustomStringConvertible {
    /// How the picture is brought to the model's square.
    public enum Resize: String, Sendable, Hashable, CaseIterable {
        /// The longest side to the model's size, the shape kept; the rest is filled with zeros on the right and below, after
        /// the colours were normalised (Segment Anything's `ResizeLongestSide`).
        case longestSide = "longest side"
        /// Both sides to the model's size, the shape given up (SAM 2's `SAM2Transforms`).
        case square

        /// What becomes of a picture's sizes in a square of `size`; they are rounded half up.
        public func frame(width: Int, height: Int, size: Int) -> ImageFrame {
            switch self {
            case .square:
                return ImageFrame(originalWidth: width, originalHeight: height, inputWidth: size, inputHeight: size)
            case .longestSide:
                let scale = Double(size) / Double(max(width, height, 1))
                return ImageFrame(
                    originalWidth: width, originalHeight: height,
                    inputWidth: max(1, Int(Double(width) * scale + 0.5)),
                    inputHeight: max(1, Int(Double(height) * scale + 0.5)))
            }
        }
    }

    /// How sizes change.
    public let resize: Resize
    /// S: rows and columns of what the encoder sees.
    public let size: Int
    /// What is taken off red, green and blue, which go from 0 to 255.
    public let mean: SIMD3<Float>
    /// What they are divided by then.
    public let deviation: SIMD3<Float>

    /// A way of bringing pictures to a model.
    ///
    /// - Precondition: `size` is from 1 to 16,777,216, and no deviation is zero.
    public init(resize: Resize, size: Int, mean: SIMD3<Float>, deviation: SIMD3<Float>) {
        precondition((1...ImageFrame.largestSide).contains(size), "an encoder's pictures have a side of 1 or more")
        precondition((0..<3).allSatisfy { deviation[$0] != 0 }, "colours are divided by their deviation")
        self.resize = resize
        self.size = size
        self.mean = mean
        self.deviation = deviation
    }

    /// Segment Anything's own: the longest side, and the mean and deviation of ImageNet's colours
    /// (<https://github.com/facebookresearch/segment-anything>, `modeling/sam.py`).
    public static func segmentAnything(size: Int) -> ImagePreprocessing {
        ImagePreprocessing(
            resize: .longestSide, size: size, mean: [123.675, 116.28, 103.53], deviation: [58.395, 57.12, 57.375])
    }

    /// SAM 2's own: both sides, and the mean and deviation of ImageNet's colours
    /// (<https://github.com/facebookresearch/sam2>, `sam2/utils/transforms.py`).
    public static func segmentAnything2(size: Int) -> ImagePreprocessing {
        ImagePreprocessing(
            resize: .square, size: size, mean: [123.675, 116.28, 103.53], deviation: [58.395, 57.12, 57.375])
    }

    /// What becomes of a picture's sizes.
    public func frame(width: Int, height: Int) -> ImageFrame { resize.frame(width: width, height: height, size: size) }

    /// One line for people and for what is hashed.
    public var description: String {
        func list(_ numbers: SIMD3<Float>) -> String { (0..<3).map { "\(numbers[$0])" }.joined(separator: ", ") }
        return "\(resize.rawValue) to \(size), mean \(list(mean)), deviation \(list(deviation))"
    }
}

/// What a picture's coordinates need: its size, and its size after it was resized and before it was filled up.
public struct ImageFrame: Sendable, Hashable {
    /// The largest side that is spoken of anywhere.
    public static let largestSide = 1 << 24

    /// Columns of the original picture, after EXIF orientation.
    public let originalWidth: Int
    /// Rows of the original picture, after EXIF orientation.
    public let originalHeight: Int
    /// Columns of the resized picture.
    public let inputWidth: Int
    /// Rows of the resized picture.
    public let inputHeight: Int

    /// Sizes in pixels.
    public init(originalWidth: Int, originalHeight: Int, inputWidth: Int, inputHeight: Int) {
        self.originalWidth = originalWidth
        self.originalHeight = originalHeight
        self.inputWidth = inputWidth
        self.inputHeight = inputHeight
    }

    /// From pixels of the original picture to pixels of the resized one: coordinates scale by the ratio of the rounded sizes.
    public func apply(x: Double, y: Double) -> (x: Float, y: Float) {
        (
            Float(x * (Double(inputWidth) / Double(originalWidth))),
            Float(y * (Double(inputHeight) / Double(originalHeight)))
        )
    }
}
