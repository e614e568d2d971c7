/// Turns the bytes of a PNG or JPEG file into an ``Image``.
///
///     let photo = try ImageDecoder().decode(file: "truck.jpg")
///
/// The format is told by the content. The pixels are those of Pillow's
/// `ImageOps.exif_transpose(Image.open(file)).convert("RGB")`, to the bit, apart from what `PNGDecoder` and
/// `JPEGDecoder` list; the published preprocessing of Segment Anything starts from them.
/// A decoder is a value without state: one serves any number of threads.
public struct ImageDecoder: Sendable, Hashable {
    /// How files of the formats that are read end, in lower case: what is looked for in folders.
    ///
    /// A file that is named by hand may be called anything.
    public static let fileExtensions = ["jpg", "jpeg", "png"]

    /// The largest picture that is decoded.
    public var limit: PixelLimit

    /// A decoder of pictures up to `limit`.
    public init(limit: PixelLimit = .standard) {
        self.limit = limit
    }

    /// Decodes the picture in the file at `path`.
    public func decode(file path: String) throws(ImageError) -> Image {
        try decode(contents(ofFile: path), named: path)
    }

    /// Decodes the picture in `bytes`; errors speak of it as `name`.
    public func decode(_ bytes: [UInt8], named name: String = "picture") throws(ImageError) -> Image {
        try bytes.withUnsafeBufferPointer { (buffer) throws(ImageError) in
            try decode(UnsafeRawBufferPointer(buffer), named: name)
        }
    }

    /// Decodes the picture in `bytes`, which are read during the call only.
    public func decode(_ bytes: UnsafeRawBufferPointer, named name: String = "picture") throws(ImageError) -> Image {
        switch try format(of: bytes, named: name) {
        case .png: try PNGDecoder(bytes, named: name, limit: limit).decode()
        case .jpeg: try JPEGDecoder(bytes, named: name, limit: limit).decode()
        }
    }

    /// The format and size of the picture in `bytes`; no pixel is decoded and no memory taken for them.
    public func header(of bytes: UnsafeRawBufferPointer, named name: String = "picture") throws(ImageError)
        -> ImageHeader
    {
        switch try format(of: bytes, named: name) {
        case .png: try PNGDecoder(bytes, named: name, limit: limit).imageHeader
        case .jpeg: try JPEGDecoder(bytes, named: name, limit: limit).imageHeader
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
            throw ImageError(.empty, in: name, "there is not a single byte in it", remedy: "Give a PNG or JPEG picture")
        }
        if bytes.starts(with: PNGDecoder.signature) { return .png }
        if bytes.starts(with: [0xFF, 0xD8, 0xFF]) { return .jpeg }
        if bytes.count < 8, PNGDecoder.signature.starts(with: bytes) || [0xFF, 0xD8].starts(with: bytes) {
            throw .truncated(in: name, at: nil, "it ends after \(bytes.count) bytes, inside the format's signature")
        }
        let magic = bytes.prefix(8).map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }
        let guess = Self.foreignFormat(bytes).map { ", which is \($0)" } ?? ""
        throw .unsupported(in: name, at: "byte 0", "it begins with \(magic.joined(separator: " "))\(guess)")
    }

    /// The name of a well-known format that is not decoded, for the error message.
    private static func foreignFormat(_ bytes: UnsafeRawBufferPointer) -> String? {
        func text(_ string: String, at offset: Int = 0) -> Bool { bytes.dropFirst(offset).starts(with: string.utf8) }
        if text("GIF8") { return "GIF" }
        if text("BM") { return "BMP" }
        if text("II*\0") || text("MM\0*") { return "TIFF" }
        if text("RIFF"), text("WEBP", at: 8) { return "WebP" }
        if text("ftypavif", at: 4) { return "AVIF" }
        if text("ftyphei", at: 4) || text("ftypmif1", at: 4) || text("ftyphev", at: 4) { return "HEIF" }
        if text("\0\0\0\u{0C}jP  ") { return "JPEG 2000" }
        if text("%PDF") { return "PDF" }
        if text("<svg") || text("<?xml") { return "SVG or XML" }
        if text("<!") || text("<html") { return "HTML" }
        return nil
    }
}
