import CPNG

/// Decodes PNG through libpng's simplified API, to the pixels of Pillow's `convert("RGB")`.
///
/// - Grey of 1, 2 and 4 bits is stretched to 0…255; palettes are looked up, an index past the palette's end is black.
/// - Alpha and transparent colours are dropped: the colour below full transparency shows, as in Pillow.
/// - `gAMA`, `cHRM`, `sRGB`, `iCCP` and all other colour metadata is ignored, as in Pillow.
/// - 16-bit samples give their upper byte. There are two departures from Pillow. It clips 16-bit grey at 255, which
///   turns nearly every such picture white, so the upper byte is taken here too. And 16-bit colour with alpha comes from
///   libpng multiplied by alpha; it is divided again, which is exact where the picture is opaque, at most 1 off where it
///   is not, and black where it is fully transparent or nearly so (less than 1/256 opaque).
/// - An `eXIf` orientation is applied, as in `ImageOps.exif_transpose`.
///
/// libpng converts colours by the metadata it meets, and blends alpha over a background. Both are kept out by what it
/// is shown: a copy of the file with nothing but IHDR, PLTE, IDAT and IEND, in which 16-bit grey is declared as what
/// has the same bytes for each pixel, 8-bit grey with alpha (and 16-bit grey with alpha as 8-bit RGBA). libpng is never
/// asked to narrow 16 bits to 8, to blend or to correct gamma: in several releases the simplified API reads or writes
/// out of bounds there (CVE-2025-65018, CVE-2025-66293).
struct PNGDecoder {
    static let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

    enum ColorType: UInt8 {
        case gray = 0
        case rgb = 2
        case palette = 3
        case grayAlpha = 4
        case rgbAlpha = 6

        var bitDepths: [UInt8] {
            switch self {
            case .gray: [1, 2, 4, 8, 16]
            case .palette: [1, 2, 4, 8]
            case .rgb, .grayAlpha, .rgbAlpha: [8, 16]
            }
        }
    }

    private let bytes: UnsafeRawBufferPointer
    private let source: String
    private let chunks: [PNGChunks.Chunk]
    private var headPlace: String { chunks[0].place }
    private let width: Int
    private let height: Int
    private let colorType: ColorType
    private let bitDepth: UInt8
    private let interlace: UInt8
    private let orientation: Orientation

    /// Reads the header, checks it against the limit, and finds the chunks; `bytes` begin with the signature.
    init(_ bytes: UnsafeRawBufferPointer, named source: String, limit: PixelLimit) throws(ImageError) {
        self.bytes = bytes
        self.source = source
        let head = try PNGChunks.chunk(in: bytes, at: Self.signature.count, named: source)
        guard head.type == "IHDR", head.data.count == 13 else {
            throw .corrupt(in: source, at: head.place, "a PNG begins with an IHDR chunk of 13 bytes")
        }
        guard head.whole.upperBound <= bytes.count else {
            throw .truncated(in: source, at: head.place, "the file ends after \(bytes.count) bytes, inside its header")
        }
        let fields = head.data.lowerBound
        width = Int(bytes.bigEndian32(at: fields))
        height = Int(bytes.bigEndian32(at: fields + 4))
        bitDepth = bytes[fields + 8]
        interlace = bytes[fields + 12]
        guard PNGChunks.checksumHolds(of: head, in: bytes) else {
            throw .corrupt(in: source, at: head.place, "the header does not match its checksum")
        }
        guard let colorType = ColorType(rawValue: bytes[fields + 9]), colorType.bitDepths.contains(bitDepth),
            bytes[fields + 10] == 0, bytes[fields + 11] == 0, interlace <= 1
        else {
            throw .corrupt(
                in: source, at: head.place,
                "there is no PNG of colour type \(bytes[fields + 9]), \(bitDepth) bits, compression "
                    + "\(bytes[fields + 10]), filter \(bytes[fields + 11]), interlace \(interlace)")
        }
        self.colorType = colorType
        try limit.check(width: width, height: height, in: source, at: head.place)
        chunks = try PNGChunks(bytes, from: Self.signature.count, named: source).chunks
        orientation =
            chunks.first { $0.type == "eXIf" }
            .flatMap { Orientation(tiff: UnsafeRawBufferPointer(rebasing: bytes[$0.data])) } ?? .upright
    }

    var imageHeader: ImageHeader {
        ImageHeader(
            format: .png, width: orientation.swapsAxes ? height : width,
            height: orientation.swapsAxes ? width : height)
    }

    func decode() throws(ImageError) -> Image {
        let pixels: [UInt8]
        switch (colorType, bitDepth) {
        case (.gray, 16):
            pixels = try samples(.grayAlpha, declaredAs: .grayAlpha).mapPixels(width * height) { from, to in
                for index in 0..<to.count { to[index] = from[2 * (index / 3)] }
            }
        case (.grayAlpha, 16):
            pixels = try samples(.rgbAlpha, declaredAs: .rgbAlpha).mapPixels(width * height) { from, to in
                for index in 0..<to.count { to[index] = from[4 * (index / 3)] }
            }
        case (.rgb, 16):
            pixels = try samples(.linearRGB).mapPixels(width * height) { from, to in
                // libpng gives 16-bit samples in the machine's byte order, which is little-endian on x86-64 and arm64.
                for index in 0..<to.count { to[index] = from[2 * index + 1] }
            }
        case (.rgbAlpha, 16):
            pixels = try samples(.linearRGBAlpha).mapPixels(width * height) { from, to in
                func sample(_ index: Int) -> UInt32 { UInt32(from[2 * index]) | UInt32(from[2 * index + 1]) << 8 }
                for index in 0..<(to.count / 3) {
                    let alpha = sample(4 * index + 3)
                    for channel in 0..<3 {
                        let color = alpha == 0 ? 0 : (sample(4 * index + channel) * 65535 + alpha / 2) / alpha
                        to[3 * index + channel] = UInt8(min(color, 65535) >> 8)
                    }
                }
            }
        case (.grayAlpha, _), (.rgbAlpha, _):
            pixels = try samples(.rgbAlpha).mapPixels(width * height) { from, to in
                for index in 0..<(to.count / 3) {
                    for channel in 0..<3 { to[3 * index + channel] = from[4 * index + channel] }
                }
            }
        case (.gray, _), (.palette, _), (.rgb, _):
            pixels = try samples(.rgb)
        }
        return Image(width: width, height: height, pixels: pixels).oriented(orientation)
    }

    /// The numbers of a label map as they stand in the file: grey of 8 or 16 bits, or indices into a palette of 8.
    func labels() throws(ImageError) -> LabelMap {
        let count = width * height
        switch (colorType, bitDepth) {
        case (.gray, 16):
            let bytes = try samples(.grayAlpha, declaredAs: .grayAlpha)
            return LabelMap(
                width: width, height: height,
                labels: (0..<count).map { UInt16(bytes[2 * $0]) << 8 | UInt16(bytes[2 * $0 + 1]) })
        case (.gray, 8), (.palette, 8):
            let bytes = try samples(.rgb, declaredAs: .gray)
            return LabelMap(width: width, height: height, labels: (0..<count).map { UInt16(bytes[3 * $0]) })
        default:
            throw .unsupported(
                in: source, at: headPlace, "a label map is a PNG of 8 or 16 bits of grey, or of 8 with a palette")
        }
    }

    /// The layouts that libpng is asked for.
    private enum Layout {
        case rgb
        case grayAlpha
        case rgbAlpha
        /// 16-bit samples, as they stand in a file without gamma metadata.
        case linearRGB
        /// 16-bit samples, the colours multiplied by alpha.
        case linearRGBAlpha

        var bytesPerPixel: Int {
            switch self {
            case .rgb: 3
            case .grayAlpha: 2
            case .rgbAlpha: 4
            case .linearRGB: 6
            case .linearRGBAlpha: 8
            }
        }

        var format: UInt32 {
            switch self {
            case .rgb: UInt32(PNG_FORMAT_FLAG_COLOR)
            case .grayAlpha: UInt32(PNG_FORMAT_FLAG_ALPHA)
            case .rgbAlpha: UInt32(PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA)
            case .linearRGB: UInt32(PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_LINEAR)
            case .linearRGBAlpha: UInt32(PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA | PNG_FORMAT_FLAG_LINEAR)
            }
        }
    }

    private func samples(_ layout: Layout, declaredAs declared: ColorType? = nil) throws(ImageError) -> [UInt8] {
        let (count, overflow) = (width * height).multipliedReportingOverflow(by: layout.bytesPerPixel)
        // libpng counts a row in samples, in 32 bits.
        let samplesPerPixel =
            switch layout {
            case .grayAlpha: 2
            case .rgb, .linearRGB: 3
            case .rgbAlpha, .linearRGBAlpha: 4
            }
        guard !overflow, let stride = Int32(exactly: width * samplesPerPixel) else {
            throw .unsupported(in: source, at: headPlace, "rows of \(width) pixels are too long for libpng")
        }
        let stream = try essentialChunks(declaredAs: declared)
        var failure: String?
        let samples = stream.withUnsafeBytes { stream in
            [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
                var image = png_image()
                image.version = UInt32(PNG_IMAGE_VERSION)
                defer { png_image_free(&image) }
                guard png_image_begin_read_from_memory(&image, stream.baseAddress, stream.count) != 0 else {
                    failure = image.text
                    return
                }
                image.format = layout.format
                guard Int(image.width) == width, Int(image.height) == height,
                    png_image_finish_read(&image, nil, buffer.baseAddress, stride, nil) != 0
                else {
                    failure = image.text
                    return
                }
                initialized = count
            }
        }
        if let failure { throw diagnosis(failure) }
        return samples
    }

    /// The file as libpng is shown it.
    private func essentialChunks(declaredAs declared: ColorType?) throws(ImageError) -> [UInt8] {
        var stream = Self.signature
        let header = bytes[chunks[0].data]
        if let declared {
            var fields = Array(header)
            fields[8] = 8
            fields[9] = declared.rawValue
            stream += PNGChunks.encoded(type: "IHDR", data: fields)
        } else {
            stream += bytes[chunks[0].whole]
        }
        var hasPalette = false
        for chunk in chunks.dropFirst() {
            switch chunk.type {
            case "PLTE":
                guard colorType == .palette, declared == nil, !hasPalette else { continue }
                hasPalette = true
                stream += bytes[chunk.whole]
            case "IDAT", "IEND":
                stream += bytes[chunk.whole]
            default:
                // Bit 5 of the first letter is clear in chunks that a decoder must understand.
                guard chunk.type.utf8.first.map({ $0 & 0x20 != 0 }) ?? false else {
                    throw .unsupported(in: source, at: chunk.place, "the picture cannot be shown without this chunk")
                }
            }
        }
        guard colorType != .palette || declared != nil || hasPalette else {
            throw .corrupt(in: source, at: headPlace, "the picture has a palette, and no PLTE chunk holds it")
        }
        guard chunks.contains(where: { $0.type == "IDAT" }) else {
            throw .corrupt(in: source, at: nil, "no IDAT chunk holds pixels")
        }
        return stream
    }

    /// What libpng said, with the chunk at fault where a checksum gives it away.
    private func diagnosis(_ message: String) -> ImageError {
        let damaged = chunks.first { chunk in
            ["PLTE", "IDAT", "IEND"].contains(chunk.type) && !PNGChunks.checksumHolds(of: chunk, in: bytes)
        }
        if let damaged {
            return .corrupt(in: source, at: damaged.place, "the chunk does not match its checksum")
        }
        let first = chunks.first { $0.type == "IDAT" }
        return .corrupt(in: source, at: first?.place, "libpng cannot decode the pixels: \(message)")
    }
}

extension png_image {
    /// The message that libpng left; at most 64 bytes.
    fileprivate var text: String {
        withUnsafeBytes(of: message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}

extension [UInt8] {
    /// `count` RGB pixels that `convert` makes of these samples.
    fileprivate func mapPixels(
        _ count: Int, _ convert: (UnsafeBufferPointer<UInt8>, UnsafeMutableBufferPointer<UInt8>) -> Void
    ) -> [UInt8] {
        withUnsafeBufferPointer { samples in
            [UInt8](unsafeUninitializedCapacity: 3 * count) { pixels, initialized in
                convert(samples, UnsafeMutableBufferPointer(rebasing: pixels[..<(3 * count)]))
                initialized = 3 * count
            }
        }
    }
}
