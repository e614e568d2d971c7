/// What a file's metadata says of the picture's orientation, wherever the format keeps it.
///
/// The rules are those of Pillow's `getexif`, which `ImageOps.exif_transpose` follows: EXIF proper, else a raw EXIF
/// profile as ImageMagick writes it into PNG text; and where that has no orientation, the first one in XMP.
struct ImageMetadata {
    /// A TIFF structure, with or without `Exif\0\0` before it.
    private var exif: [UInt8]?
    private var rawProfile: [UInt8]?
    private var xmp: [UInt8]?

    /// Takes an EXIF block; a later one is the one that counts.
    mutating func setExif(_ bytes: some Sequence<UInt8>) { exif = Array(bytes) }

    /// Takes a part of an EXIF block that was split over segments.
    mutating func appendExif(_ bytes: some Sequence<UInt8>) { exif = (exif ?? []) + bytes }

    /// Takes an XMP packet.
    mutating func setXMP(_ bytes: some Sequence<UInt8>) { xmp = Array(bytes) }

    /// Takes a text of a PNG file by its keyword; texts of no concern are dropped.
    mutating func setText(_ text: some Sequence<UInt8>, keyword: String) {
        switch keyword {
        case "exif": exif = Array(text)
        case "Raw profile type exif": rawProfile = Self.bytes(ofProfile: Array(text))
        case "XML:com.adobe.xmp": xmp = Array(text)
        default: break
        }
    }

    /// Upright where nothing is said, or nothing that can be read: metadata does not spoil a picture.
    var orientation: Orientation {
        let tiff = exif ?? rawProfile
        if let value = tiff.flatMap({ $0.withUnsafeBytes { Orientation.number(inTIFF: $0) } }) {
            return Orientation(rawValue: UInt16(clamping: value)) ?? .upright
        }
        return xmp.flatMap { Self.orientation(inXMP: $0) } ?? .upright
    }

    /// `tiff:Orientation="6"` or `<tiff:Orientation>6`, the first in the packet.
    private static func orientation(inXMP packet: [UInt8]) -> Orientation? {
        let name = Array("tiff:Orientation".utf8)
        var rest = packet[...]
        while let start = rest.firstIndex(of: name[0]) {
            rest = rest[start...]
            guard rest.starts(with: name) else {
                rest = rest.dropFirst()
                continue
            }
            rest = rest.dropFirst(name.count)
            let separator = rest.starts(with: Array("=\"".utf8)) ? 2 : rest.first == UInt8(ascii: ">") ? 1 : 0
            guard separator > 0, let digit = rest.dropFirst(separator).first, (0x30...0x39).contains(digit) else {
                continue
            }
            return Orientation(rawValue: UInt16(digit - 0x30)) ?? .upright
        }
        return nil
    }

    /// The bytes of a raw profile: an empty line, the name, the length, then hexadecimal digits.
    private static func bytes(ofProfile text: [UInt8]) -> [UInt8]? {
        let lines = text.split(separator: UInt8(ascii: "\n"), maxSplits: 3, omittingEmptySubsequences: false)
        guard lines.count == 4 else { return nil }
        var digits: [UInt8] = []
        for unit in lines[3] {
            if [0x20, 0x0A, 0x0D, 0x09].contains(unit) { continue }
            guard let digit = Character(Unicode.Scalar(unit)).hexDigitValue else { return nil }
            digits.append(UInt8(digit))
        }
        guard digits.count.isMultiple(of: 2) else { return nil }
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }
}
