import Platform

/// Turns the bytes of a PNG, JPEG, WebP or TIFF file into an ``Image``.
///
/// ```swift
/// let photo = try ImageDecoder().decode(file: "truck.jpg")
/// ```
///
/// The format is told by the content. The pixels are those of Pillow's
/// `ImageOps.exif_transpose(Image.open(file)).convert("RGB")`, to the bit, apart from what `PNGDecoder`, `JPEGDecoder`,
/// `WebPDecoder` and `TIFFDecoder` list; the published preprocessing of Segment Anything starts from them.
/// A decoder is a value without state: one serves any number of threads.
public struct ImageDecoder: Sendable, Hashable {
    /// How files of the formats that are read end, in lower case: what is looked for in folders.
    ///
    /// A file that is named by hand may be called anything.
    public static let fileExtensions = ["jpg", "jpeg", "png", "webp", "tif", "tiff"]

    /// The largest picture that is decoded.
    public var limit: PixelLimit
    /// What becomes of samples of more than 8 bits.
    public var levels: Levels

    /// A decoder of pictures up to `limit`.
    public init(limit: PixelLimit = .standard, levels: Levels = .auto) {
        self.limit = limit
        self.levels = levels
    }

    /// Decodes the picture in the file at `path`.
    public func decode(file path: String) throws(ImageError) -> Image {
        try decode(contents(ofFile: path), named: path)
    }

    /// Decodes the picture in `bytes`; errors speak of it as `name`.
    public func decode(_ bytes: [UInt8], named name: String = "picture") throws(ImageError) -> Image {
        try read(bytes, named: name).image
    }

    /// Decodes the picture in `bytes`, which are read during the call only.
    public func decode(_ bytes: UnsafeRawBufferPointer, named name: String = "picture") throws(ImageError) -> Image {
        try read(bytes, named: name).image
    }

    /// Decodes the picture in `bytes` and says what is to be said of it; errors speak of it as `name`.
    public func read(_ bytes: [UInt8], named name: String = "picture") throws(ImageError) -> DecodedImage {
        try bytes.withUnsafeBufferPointer { (buffer) throws(ImageError) in
            try read(UnsafeRawBufferPointer(buffer), named: name)
        }
    }

    /// Decodes the picture in `bytes`, which are read during the call only, and says what is to be said of it.
    public func read(_ bytes: UnsafeRawBufferPointer, named name: String = "picture") throws(ImageError)
        -> DecodedImage
    {
        switch try format(of: bytes, named: name) {
        case .png: try PNGDecoder(bytes, named: name, limit: limit).decode(levels)
        case .jpeg: try JPEGDecoder(bytes, named: name, limit: limit).decode()
        case .webp: try WebPDecoder(bytes, named: name, limit: limit).decode()
        case .tiff: try TIFFDecoder(bytes, named: name, limit: limit).decode(levels)
        }
    }

    /// The numbers of a picture as they stand in its file: what masks and label maps are read from.
    func values(_ bytes: [UInt8], named name: String) throws(ImageError) -> ValueMap {
        try bytes.withUnsafeBufferPointer { (buffer) throws(ImageError) in
            let bytes = UnsafeRawBufferPointer(buffer)
            return switch try format(of: bytes, named: name) {
            case .png: try PNGDecoder(bytes, named: name, limit: limit).values()
            case .jpeg: ValueMap(try JPEGDecoder(bytes, named: name, limit: limit).decode().image)
            case .webp: ValueMap(try WebPDecoder(bytes, named: name, limit: limit).decode().image)
            case .tiff: try TIFFDecoder(bytes, named: name, limit: limit).values()
            }
        }
    }

    /// The format and size of the picture in `bytes`; no pixel is decoded and no memory taken for them.
    public func header(of bytes: UnsafeRawBufferPointer, named name: String = "picture") throws(ImageError)
        -> ImageHeader
    {
        switch try format(of: bytes, named: name) {
        case .png: try PNGDecoder(bytes, named: name, limit: limit).imageHeader
        case .jpeg: try JPEGDecoder(bytes, named: name, limit: limit).imageHeader
        case .webp: try WebPDecoder(bytes, named: name, limit: limit).imageHeader
        case .tiff: try TIFFDecoder(bytes, named: name, limit: limit).imageHeader
        }
    }

    /// The format and size of the picture in `bytes`; no pixel is decoded and no memory taken for them.
    public func header(of bytes: [UInt8], named name: String = "picture") throws(ImageError) -> ImageHeader {
        try bytes.withUnsafeBufferPointer { (buffer) throws(ImageError) in
            try header(of: UnsafeRawBufferPointer(buffer), named: name)
        }
    }

    /// Reads the file of an encoded picture, whole and unchanged: the bytes that its content hash is taken of.
    ///
    /// A file that is larger than any picture within the limit is refused before it is read.
    public func contents(ofFile path: String) throws(ImageError) -> [UInt8] {
        try EncodedFile.read(path, atMost: limit.encodedBytes)
    }

    private func format(of bytes: UnsafeRawBufferPointer, named name: String) throws(ImageError) -> ImageHeader.Format {
        guard !bytes.isEmpty else {
            throw ImageError(
                .empty, in: name, "there is not a single byte in it", remedy: "Give a PNG, JPEG, WebP or TIFF picture")
        }
        if bytes.starts(with: PNGDecoder.signature) { return .png }
        if bytes.starts(with: [0xFF, 0xD8, 0xFF]) { return .jpeg }
        if bytes.count >= 12, bytes.starts(with: "RIFF".utf8), bytes.dropFirst(8).starts(with: "WEBP".utf8) {
            return .webp
        }
        // Plain and big, in either byte order.
        if Self.tiffSignatures.contains(where: { bytes.starts(with: $0) }) { return .tiff }
        let signatures = [PNGDecoder.signature, [0xFF, 0xD8], Array("RIFF".utf8)] + Self.tiffSignatures
        if signatures.contains(where: { $0.starts(with: bytes) })
            || bytes.count < 12 && bytes.starts(with: "RIFF".utf8)
        {
            throw .truncated(in: name, at: nil, "it ends after \(bytes.count) bytes, inside the format's signature")
        }
        let magic = Hexadecimal.text(of: bytes.prefix(8), separator: " ")
        let guess = Self.foreignFormat(bytes).map { ", which is \($0)" } ?? ""
        throw .unsupported(in: name, at: "byte 0", "it begins with \(magic)\(guess)")
    }

    private static let tiffSignatures: [[UInt8]] = [
        [0x49, 0x49, 0x2A, 0], [0x4D, 0x4D, 0, 0x2A], [0x49, 0x49, 0x2B, 0], [0x4D, 0x4D, 0, 0x2B],
    ]

    /// The name of a well-known format that is not decoded, for the error message.
    private static func foreignFormat(_ bytes: UnsafeRawBufferPointer) -> String? {
        func text(_ string: String, at offset: Int = 0) -> Bool { bytes.dropFirst(offset).starts(with: string.utf8) }
        if text("GIF8") { return "GIF" }
        if text("BM") { return "BMP" }
        if text("ftypavif", at: 4) { return "AVIF" }
        if text("ftyphei", at: 4) || text("ftypmif1", at: 4) || text("ftyphev", at: 4) { return "HEIF" }
        if text("\0\0\0\u{0C}jP  ") { return "JPEG 2000" }
        if text("%PDF") { return "PDF" }
        if text("<svg") || text("<?xml") { return "SVG or XML" }
        if text("<!") || text("<html") { return "HTML" }
        return nil
    }
}
