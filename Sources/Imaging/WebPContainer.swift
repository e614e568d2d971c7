/// The chunks of a WebP file, found and checked before libwebp sees a byte.
///
/// ```text
/// RIFF size WEBP | type (4) size (4) data, padded to even | …      numbers little-endian
/// ```
///
/// Simple files hold one VP8 or VP8L chunk. Extended ones begin with VP8X (flags, canvas) and may have EXIF, XMP, ALPH;
/// animated ones ANMF chunks, each a frame with its place on the canvas and the chunks of a simple file.
/// RFC 9649, "WebP Image Format", section 2, <https://www.rfc-editor.org/rfc/rfc9649>.
struct WebPContainer {
    struct Chunk {
        let type: String
        let offset: Int
        let data: Range<Int>

        var place: String { "\(type.filter { $0 != " " }) chunk at byte \(offset)" }
    }

    /// Columns and rows of the picture, and of the canvas of an animated one.
    let width: Int
    let height: Int
    /// Where that stands.
    let place: String
    /// A simple or extended file of one frame, and where it lies on the canvas.
    let frame: (file: [UInt8], left: Int, top: Int, width: Int, height: Int)?
    /// Whether there are frames behind the first.
    let isAnimated: Bool
    let orientation: Orientation

    /// Reads the chunks; `bytes` begin with `RIFF….WEBP`.
    init(_ bytes: UnsafeRawBufferPointer, named source: String, limit: PixelLimit) throws(ImageError) {
        let claimed = bytes.littleEndian32(at: 4)
        guard claimed >= 12 else {
            throw .corrupt(in: source, at: "byte 4", "a RIFF of \(claimed) bytes holds no picture")
        }
        guard bytes.count - 8 >= claimed else {
            throw .truncated(
                in: source, at: "byte 4", "the file claims \(claimed + 8) bytes and ends after \(bytes.count)")
        }
        let chunks = try Self.chunks(bytes, in: 12..<(claimed + 8), named: source)
        guard let first = chunks.first else { throw .corrupt(in: source, at: "byte 12", "there is no chunk") }
        var metadata = ImageMetadata()
        for chunk in chunks.dropFirst() where first.type == "VP8X" {
            if chunk.type == "EXIF" { metadata.setExif(bytes[chunk.data]) }
            if chunk.type == "XMP " { metadata.setXMP(bytes[chunk.data]) }
        }
        orientation = metadata.orientation
        guard first.type == "VP8X" else {
            (width, height) = try Self.size(of: first, in: bytes, named: source)
            place = first.place
            try limit.check(width: width, height: height, in: source, at: place)
            frame = nil
            isAnimated = false
            return
        }
        guard first.data.count >= 10 else {
            throw .corrupt(in: source, at: first.place, "its head has \(first.data.count) bytes instead of 10")
        }
        let start = first.data.lowerBound
        width = bytes.littleEndian24(at: start + 4) + 1
        height = bytes.littleEndian24(at: start + 7) + 1
        place = first.place
        try limit.check(width: width, height: height, in: source, at: place)
        let frames = chunks.filter { $0.type == "ANMF" }
        isAnimated = frames.count > 1
        guard bytes[start] & 2 != 0 else {
            frame = nil
            guard let pixels = chunks.first(where: { $0.type == "VP8 " || $0.type == "VP8L" }) else {
                throw .corrupt(in: source, at: nil, "no VP8 or VP8L chunk holds pixels")
            }
            let size = try Self.size(of: pixels, in: bytes, named: source)
            guard size == (width, height) else {
                throw .corrupt(
                    in: source, at: pixels.place,
                    "its pixels are \(size.0) x \(size.1), its head claims \(width) x \(height)")
            }
            return
        }
        guard let animation = frames.first else {
            throw .corrupt(in: source, at: nil, "it is an animation without a frame")
        }
        frame = try Self.frame(animation, in: bytes, canvas: (width, height), named: source)
    }

    /// The first frame as a file of its own.
    private static func frame(
        _ animation: Chunk, in bytes: UnsafeRawBufferPointer, canvas: (Int, Int), named source: String
    ) throws(ImageError) -> (file: [UInt8], left: Int, top: Int, width: Int, height: Int) {
        let start = animation.data.lowerBound
        guard animation.data.count >= 16 else {
            throw .corrupt(in: source, at: animation.place, "a frame's head has 16 bytes")
        }
        let (left, top) = (2 * bytes.littleEndian24(at: start), 2 * bytes.littleEndian24(at: start + 3))
        let width = bytes.littleEndian24(at: start + 6) + 1
        let height = bytes.littleEndian24(at: start + 9) + 1
        guard left + width <= canvas.0, top + height <= canvas.1 else {
            throw .corrupt(in: source, at: animation.place, "the frame reaches beyond its canvas")
        }
        let parts = try chunks(bytes, in: (start + 16)..<animation.data.upperBound, named: source)
            .filter { ["ALPH", "VP8 ", "VP8L"].contains($0.type) }
        guard let pixels = parts.first(where: { $0.type != "ALPH" }),
            try size(of: pixels, in: bytes, named: source) == (width, height)
        else { throw .corrupt(in: source, at: animation.place, "the frame has no pixels, or not of its own size") }
        // Transparency is dropped, so the alpha of a lossy frame need not come along.
        let body = Array(bytes[pixels.data])
        let padded = body.count % 2 == 0 ? body : body + [0]
        let chunk = Array(pixels.type.utf8) + UInt32(body.count).littleEndianBytes + padded
        let file = Array("RIFF".utf8) + UInt32(chunk.count + 4).littleEndianBytes + Array("WEBP".utf8) + chunk
        return (file, left, top, width, height)
    }

    private static func chunks(_ bytes: UnsafeRawBufferPointer, in range: Range<Int>, named source: String)
        throws(ImageError) -> [Chunk]
    {
        var chunks: [Chunk] = []
        var offset = range.lowerBound
        while range.upperBound - offset >= 8 {
            let type = String(decoding: bytes[offset..<(offset + 4)], as: UTF8.self)
            let size = bytes.littleEndian32(at: offset + 4)
            guard size <= range.upperBound - offset - 8 else {
                throw .corrupt(
                    in: source, at: "byte \(offset)", "a chunk of \(size) bytes does not fit into what holds it")
            }
            chunks.append(Chunk(type: type, offset: offset, data: (offset + 8)..<(offset + 8 + size)))
            offset += 8 + size + size % 2
        }
        return chunks
    }

    /// Columns and rows by the head of a VP8 or VP8L chunk.
    private static func size(of chunk: Chunk, in bytes: UnsafeRawBufferPointer, named source: String)
        throws(ImageError) -> (Int, Int)
    {
        let start = chunk.data.lowerBound
        switch chunk.type {
        case "VP8 " where chunk.data.count >= 10 && bytes[(start + 3)..<(start + 6)].elementsEqual([0x9D, 0x01, 0x2A]):
            return (
                Int(bytes[start + 6]) | Int(bytes[start + 7] & 0x3F) << 8,
                Int(bytes[start + 8]) | Int(bytes[start + 9] & 0x3F) << 8
            )
        case "VP8L" where chunk.data.count >= 5 && bytes[start] == 0x2F:
            let bits = bytes.littleEndian32(at: start + 1)
            return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        default:
            throw .corrupt(in: source, at: chunk.place, "the chunk does not begin as pixels do")
        }
    }
}

extension UnsafeRawBufferPointer {
    /// The little-endian number in the four bytes at `offset`, which must be there.
    func littleEndian32(at offset: Int) -> Int {
        Int(UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }

    /// The little-endian number in the three bytes at `offset`, which must be there.
    func littleEndian24(at offset: Int) -> Int {
        Int(self[offset]) | Int(self[offset + 1]) << 8 | Int(self[offset + 2]) << 16
    }
}

extension UInt32 {
    var littleEndianBytes: [UInt8] { bigEndianBytes.reversed() }
}
