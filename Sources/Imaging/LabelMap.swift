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

    /// Reads the picture in the file at `path`: grey of 1 to 16 bits, whose levels are the labels, or the indices of a
    /// palette.
    ///
    /// The numbers are those of the file: white of a 1-bit picture is object 1.
    public init(file path: String, limit: PixelLimit = .standard) throws(ImageError) {
        let decoder = ImageDecoder(limit: limit)
        let map = try decoder.values(decoder.contents(ofFile: path), named: path)
        guard map.kind != .color else {
            throw ImageError(
                .unsupported, in: path, "it is a picture in colours, and a label map has a number for each pixel",
                remedy: "Save it with a palette, or as grey of 8 or 16 bits: 0 void, 1…N the objects")
        }
        self.init(width: map.width, height: map.height, labels: map.values.map { UInt16(truncatingIfNeeded: $0) })
    }
}
