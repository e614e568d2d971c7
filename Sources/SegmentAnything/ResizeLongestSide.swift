import Imaging

/// How a picture is brought to the model's frame: its longest side to the model's size, its shape kept.
///
/// The published `ResizeLongestSide`: sizes are rounded half up, coordinates scale by the ratio of the rounded sizes.
package struct ResizeLongestSide: Sendable, Hashable {
    /// Columns of the original picture.
    package let originalWidth: Int
    /// Rows of the original picture.
    package let originalHeight: Int
    /// Columns after resizing, before padding.
    package let width: Int
    /// Rows after resizing, before padding.
    package let height: Int

    /// - Parameter target: the model's size S.
    package init(width: Int, height: Int, target: Int) {
        let scale = Double(target) / Double(max(width, height, 1))
        originalWidth = width
        originalHeight = height
        self.width = max(1, Int(Double(width) * scale + 0.5))
        self.height = max(1, Int(Double(height) * scale + 0.5))
    }

    /// The resized picture, as Pillow's bilinear filter makes it.
    func apply(_ image: Image) -> Image { image.resizedBilinear(width: width, height: height) }

    /// From pixels of the original picture to pixels of the resized one.
    func apply(x: Double, y: Double) -> (x: Float, y: Float) {
        (
            Float(x * (Double(width) / Double(originalWidth))),
            Float(y * (Double(height) / Double(originalHeight)))
        )
    }
}
