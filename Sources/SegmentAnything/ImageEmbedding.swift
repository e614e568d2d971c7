public import Tensors

/// What the image encoder makes of one picture, and what is needed to speak of that picture's pixels.
public struct ImageEmbedding: Sendable {
    /// (1, C, g, g).
    public let features: Tensor
    /// How the picture was resized.
    package let frame: ResizeLongestSide

    /// C.
    public var channels: Int { features.shape[1] }
    /// g: the features' rows and columns.
    public var grid: Int { features.shape[2] }
    /// Columns of the original picture, after EXIF orientation.
    public var originalWidth: Int { frame.originalWidth }
    /// Rows of the original picture, after EXIF orientation.
    public var originalHeight: Int { frame.originalHeight }
    /// Columns of the resized picture, before padding.
    public var inputWidth: Int { frame.width }
    /// Rows of the resized picture, before padding.
    public var inputHeight: Int { frame.height }

    package init(features: Tensor, frame: ResizeLongestSide) {
        self.features = features
        self.frame = frame
    }
}
