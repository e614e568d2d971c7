/// A colour picture: 8-bit sRGB, three interleaved channels, shape `(H, W, 3)`.
///
/// The pixels are an array, so passing a picture around copies a reference and never the pixels.
public struct Image: Sendable, Hashable {
    /// Columns.
    public let width: Int
    /// Rows.
    public let height: Int
    /// `height * width * 3` bytes, row-major: red, green, blue.
    public let pixels: [UInt8]

    /// A picture of `width` columns and `height` rows.
    ///
    /// - Precondition: `pixels` holds `width * height * 3` bytes.
    public init(width: Int, height: Int, pixels: [UInt8]) {
        precondition(pixels.count == width * height * 3, "\(pixels.count) bytes do not fill \(width) x \(height) x 3")
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// The brightness of every pixel as Pillow's `convert("L")` has it: ITU-R 601-2, 16-bit fixed point.
    ///
    /// A picture that was grey in its file gives back exactly the grey levels of the file.
    public var luminance: GrayImage {
        let count = width * height
        let gray = pixels.withUnsafeBufferPointer { rgb in
            [UInt8](unsafeUninitializedCapacity: count) { gray, initialized in
                for index in 0..<count {
                    let red = UInt32(rgb[3 * index]) &* 19595
                    let green = UInt32(rgb[3 * index &+ 1]) &* 38470
                    let blue = UInt32(rgb[3 * index &+ 2]) &* 7471
                    gray[index] = UInt8(truncatingIfNeeded: (red &+ green &+ blue &+ 0x8000) >> 16)
                }
                initialized = count
            }
        }
        return GrayImage(width: width, height: height, pixels: gray)
    }
}

/// A picture of one 8-bit channel, shape `(H, W)`: grey levels, or a mask where every value but 0 is on the object.
public struct GrayImage: Sendable, Hashable {
    /// Columns.
    public let width: Int
    /// Rows.
    public let height: Int
    /// `height * width` bytes, row-major.
    public let pixels: [UInt8]

    /// A picture of `width` columns and `height` rows.
    ///
    /// - Precondition: `pixels` holds `width * height` bytes.
    public init(width: Int, height: Int, pixels: [UInt8]) {
        precondition(pixels.count == width * height, "\(pixels.count) bytes do not fill \(width) x \(height)")
        self.width = width
        self.height = height
        self.pixels = pixels
    }
}
