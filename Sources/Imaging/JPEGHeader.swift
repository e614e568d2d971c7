/// What stands before the first scan of a JPEG file: the frame header and the metadata that decoding needs.
///
/// ```text
/// FF D8 (SOI) | FF marker, length (2), data | … | FF C0/C2 (SOF) … | FF DA (SOS) | entropy-coded data
/// ```
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
    /// Whether scans refine each other (SOF2).
    let isProgressive: Bool
    /// Where the first scan's marker stands.
    let firstScan: Int
    /// Bytes among the segments that belong to none.
    let stray: [Range<Int>]
    /// Fields of the metadata that libjpeg frowns at, and what stands there in files that it likes.
    let patches: [(offset: Int, value: UInt8)]

    /// Reads the segments up to the first scan; `bytes` begin with SOI.
    init(_ bytes: UnsafeRawBufferPointer, named source: String) throws(ImageError) {
        var frame: (width: Int, height: Int, components: Int, place: String)?
        var frameMarker: UInt8 = 0
        var metadata = ImageMetadata()
        var stray: [Range<Int>] = []
        var patches: [(offset: Int, value: UInt8)] = []
        var transform: (offset: Int, value: UInt8)?
        var offset = 2
        while true {
            let (marker, start) = try Self.marker(in: bytes, at: offset, named: source)
            if start > offset, bytes[offset..<start].contains(where: { $0 != 0xFF }) { stray.append(offset..<start) }
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
                frameMarker = marker
            case 0xC3, 0xC5...0xC7, 0xC9...0xCB, 0xCD...0xCF:
                throw .unsupported(in: source, at: place, "the frame is lossless, hierarchical or arithmetic-coded")
            case 0xE0 where data.count >= 14 && data.starts(with: Array("JFIF\0".utf8)) && data[5] != 1:
                patches.append((start + 9, 1))
            case 0xE1 where data.starts(with: Array("Exif\0\0".utf8)):
                metadata.appendExif(data.dropFirst(6))
            case 0xE1 where data.starts(with: Self.xmpName):
                metadata.setXMP(data.dropFirst(Self.xmpName.count))
            case 0xEE where data.count >= 12 && data.starts(with: Array("Adobe".utf8)):
                transform = (start + 15, data[11])
            case 0xDA:
                guard let frame else {
                    throw .corrupt(in: source, at: place, "a scan begins, and no frame header came before it")
                }
                (width, height, components) = (frame.width, frame.height, frame.components)
                self.place = frame.place
                isProgressive = frameMarker == 0xC2
                orientation = metadata.orientation
                firstScan = start
                // Of three components 1 is YCbCr, of four 2 is YCCK, and libjpeg takes what it does not know for that.
                let usual: UInt8 = components == 3 ? 1 : 2
                if let transform, components > 1, ![0, usual].contains(transform.value) {
                    patches.append((transform.offset, usual))
                }
                self.stray = stray
                self.patches = patches
                return
            default:
                break
            }
        }
    }

    private static let xmpName = Array("http://ns.adobe.com/xap/1.0/\0".utf8)

    /// The marker at or after `offset`, past fill bytes and whatever else stands there, and where its FF stands.
    static func marker(in bytes: UnsafeRawBufferPointer, at offset: Int, named source: String)
        throws(ImageError) -> (UInt8, Int)
    {
        guard offset < bytes.count else {
            throw .truncated(in: source, at: "byte \(offset)", "the file ends where a marker was to follow")
        }
        var place = offset
        while place + 1 < bytes.count {
            if bytes[place] == 0xFF, bytes[place + 1] != 0, bytes[place + 1] != 0xFF {
                return (bytes[place + 1], place)
            }
            place += 1
        }
        throw .truncated(
            in: source, at: "byte \(offset)", "the file ends after \(bytes.count) bytes, and no marker follows here")
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
