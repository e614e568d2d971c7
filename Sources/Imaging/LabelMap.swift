/// Which object each pixel of a picture belongs to: 0 none or unknown, 1…N the objects.
public struct LabelMap: Sendable, Hashable {
    /// Columns.
    public let width: Int
    /// Rows.
    public let height: Int
    /// `height * width` labels, row-major.
    public let labels: [UInt16]

    /// A label map of `width` columns and `height` rows.
    ///
    /// - Precondition: `labels` holds `width * height` numbers.
    public init(width: Int, height: Int, labels: [UInt16]) {
        precondition(labels.count == width * height, "\(labels.count) labels do not fill \(width) x \(height)")
        self.width = width
        self.height = height
        self.labels = labels
    }

    /// Reads the PNG file at `path`: grey of 8 or 16 bits, or the indices of a palette of 8.
    public init(file path: String, limit: PixelLimit = .standard) throws(ImageError) {
        let bytes = try ImageDecoder(limit: limit).contents(ofFile: path)
        var result: Result<LabelMap, ImageError> = .failure(
            .unsupported(in: path, at: nil, "a label map is a PNG file"))
        bytes.withUnsafeBytes { bytes in
            guard bytes.starts(with: PNGDecoder.signature) else { return }
            do throws(ImageError) {
                result = .success(try PNGDecoder(bytes, named: path, limit: limit).labels())
            } catch {
                result = .failure(error)
            }
        }
        self = try result.get()
    }
}
