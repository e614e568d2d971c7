/// A cut-out: which pixels of a picture belong to the object.
public struct Mask: Sendable, Hashable {
    /// Columns.
    public let width: Int
    /// Rows.
    public let height: Int
    /// `height * width` bytes, row-major: 1 on the object, 0 elsewhere.
    public let pixels: [UInt8]

    /// A mask of `width` columns and `height` rows.
    ///
    /// - Precondition: `pixels` holds `width * height` bytes, each 0 or 1.
    public init(width: Int, height: Int, pixels: [UInt8]) {
        precondition(pixels.count == width * height, "\(pixels.count) pixels do not fill \(width) x \(height)")
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// The number of pixels on the object.
    public var area: Int { pixels.reduce(0) { $0 + Int($1) } }
}
