/// The largest picture that is decoded, checked against the header before any memory is taken for pixels.
///
/// A few hundred bytes of PNG can claim billions of pixels (a decompression bomb); a header over the limit is refused.
public struct PixelLimit: Sendable, Hashable {
    /// Width times height, at most.
    public let pixels: Int

    /// A limit of `pixels` pixels.
    ///
    /// - Precondition: `pixels` is at least 1.
    public init(pixels: Int) {
        precondition(pixels >= 1, "a limit of \(pixels) pixels lets no picture through")
        self.pixels = pixels
    }

    /// What to do about a picture over the limit.
    static let remedy =
        "Scale the picture down, or raise the limit (--max-pixels, KIRIE_MAX_PIXELS) if you trust where it comes from"

    /// The limits that users may set: from a pixel to two gigapixels, which are 6 GB once decoded.
    public static let range = 1...2_000_000_000

    /// 100 million pixels: 300 MB once decoded.
    public static let standard = PixelLimit(pixels: 100_000_000)

    /// The most bytes an encoded picture within the limit can reasonably take: 8 bytes a pixel (16-bit RGBA, stored
    /// without compression) and 64 MiB for metadata.
    var encodedBytes: Int {
        let (raw, overflow) = pixels.multipliedReportingOverflow(by: 8)
        let (sum, overflowOfSum) = raw.addingReportingOverflow(64 << 20)
        return overflow || overflowOfSum ? Int.max : sum
    }

    /// Refuses a header that claims no pixels or too many.
    func check(width: Int, height: Int, in source: String, at place: String) throws(ImageError) {
        guard width > 0, height > 0 else {
            throw .corrupt(in: source, at: place, "the header claims \(width) x \(height) pixels, which is no picture")
        }
        let (count, overflow) = width.multipliedReportingOverflow(by: height)
        guard !overflow, count <= pixels else {
            throw ImageError(
                .tooLarge, in: source, at: place,
                "the header claims \(width) x \(height) pixels, more than the limit of \(pixels)",
                remedy: Self.remedy)
        }
    }
}

/// What the header of an encoded picture says.
public struct ImageHeader: Sendable, Hashable {
    /// The file formats that are decoded.
    public enum Format: String, Sendable, Hashable, CaseIterable {
        /// Portable Network Graphics.
        case png
        /// JPEG in JFIF or EXIF.
        case jpeg
        /// WebP, lossy or lossless.
        case webp
        /// Tag Image File Format, plain or big.
        case tiff
    }

    /// The format, told by the content and not by a name.
    public let format: Format
    /// Columns of the decoded picture, after its orientation was applied.
    public let width: Int
    /// Rows of the decoded picture, after its orientation was applied.
    public let height: Int
    /// Whether samples have more than 8 bits, so that ``Levels`` matter.
    public let isDeep: Bool

    init(format: Format, width: Int, height: Int, isDeep: Bool = false) {
        self.format = format
        self.width = width
        self.height = height
        self.isDeep = isDeep
    }
}
