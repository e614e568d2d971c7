/// What stands before the first scan of a JPEG file: the frame header and the metadata that decoding needs.
///
///     FF D8 (SOI) | FF marker, length (2), data | … | FF C0/C2 (SOF) … | FF DA (SOS) | entropy-coded data
///
/// ITU-T T.81, "Digital compression and coding of continuous-tone still images", annex B,
/// <https://www.w3.org/Graphics/JPEG/itu-t81.pdf>. The length counts its own two bytes.
struct JPEGHeader {
    let width: Int
    let height: Int
    /// 1 grey, 3 colour, 4 CMYK.
    let components: Int
    let orientation: Orientation
    /// Where the frame header stands, for messages.
    let place: String

    /// Reads the segments up to the first scan; `bytes` begin with SOI.
    init(_ bytes: UnsafeRawBufferPointer, named source: String) throws(ImageError) {
        var frame: (width: Int, height: Int, components: Int, place: String)?
        var orientation: Orientation?
        var offset = 2
        while true {
            let (marker, start) = try Self.marker(in: bytes, at: offset, named: source)
            let place = "marker FF \(String(marker, radix: 16, uppercase: true)) at byte \(start)"
            offset = start + 2
            // TEM and the restart markers stand alone.
            if marker == 0x01 || (0xD0...0xD7).contains(marker) { continue }
            if marker == 0xD9 { throw .truncated(in: source, at: place, "the picture ends before its first scan") }
            guard bytes.count - offset >= 2 else {
                throw .truncated(in: source, at: place, "the file ends after \(bytes.count) bytes, inside its header")
            }
            let length = Int(bytes.bigEndian16(at: offset))
            guard length >= 2 else {
                throw .corrupt(in: source, at: place, "a segment of \(length) bytes cannot hold its own length")
            }
            guard bytes.count - offset >= length else {
                throw .truncated(
                    in: source, at: place, "the segment holds \(length) bytes, and the file ends after \(bytes.count)")
            }
            let data = UnsafeRawBufferPointer(rebasing: bytes[(offset + 2)..<(offset + length)])
            offset += length
            switch marker {
            case 0xC0, 0xC1, 0xC2:
                guard frame == nil else { throw .corrupt(in: source, at: place, "a second frame header") }
                frame = try Self.frame(data, in: source, at: place)
            case 0xC3, 0xC5...0xC7, 0xC9...0xCB, 0xCD...0xCF:
                throw .unsupported(in: source, at: place, "the frame is lossless, hierarchical or arithmetic-coded")
            case 0xE1 where orientation == nil && data.starts(with: Array("Exif\0".utf8)) && data.count > 6:
                orientation = Orientation(tiff: UnsafeRawBufferPointer(rebasing: data[6...]))
            case 0xDA:
                guard let frame else {
                    throw .corrupt(in: source, at: place, "a scan begins, and no frame header came before it")
                }
                (width, height, components) = (frame.width, frame.height, frame.components)
                self.place = frame.place
                self.orientation = orientation ?? .upright
                return
            default:
                break
            }
        }
    }

    /// The marker at or after `offset`, past fill bytes, and where its FF stands.
    private static func marker(in bytes: UnsafeRawBufferPointer, at offset: Int, named source: String)
        throws(ImageError) -> (UInt8, Int)
    {
        guard offset < bytes.count else {
            throw .truncated(in: source, at: "byte \(offset)", "the file ends where a marker was to follow")
        }
        guard bytes[offset] == 0xFF else {
            throw .corrupt(in: source, at: "byte \(offset)", "a marker was to follow here")
        }
        guard let code = bytes[offset...].firstIndex(where: { $0 != 0xFF }) else {
            throw .truncated(in: source, at: "byte \(offset)", "the file ends inside a marker")
        }
        guard bytes[code] != 0 else { throw .corrupt(in: source, at: "byte \(code)", "a marker was to follow here") }
        return (bytes[code], code - 1)
    }

    private static func frame(_ data: UnsafeRawBufferPointer, in source: String, at place: String) throws(ImageError)
        -> (width: Int, height: Int, components: Int, place: String)
    {
        guard data.count >= 6, data.count == 6 + 3 * Int(data[5]) else {
            throw .corrupt(in: source, at: place, "the frame header's length and its components do not agree")
        }
        guard data[0] == 8 else {
            throw .unsupported(in: source, at: place, "samples of \(data[0]) bits")
        }
        let components = Int(data[5])
        guard [1, 3, 4].contains(components) else {
            throw .unsupported(in: source, at: place, "\(components) colour components")
        }
        return (Int(data.bigEndian16(at: 3)), Int(data.bigEndian16(at: 1)), components, place)
    }
}
