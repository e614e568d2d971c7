import CPNG

/// Decodes PNG through libpng's simplified API, to the pixels of Pillow's `convert("RGB")`.
///
/// - Grey of 1, 2 and 4 bits is stretched to 0…255; palettes are looked up, an index past the palette's end is black.
/// - Alpha and transparent colours are dropped: the colour below full transparency shows, as in Pillow.
/// - `gAMA`, `cHRM`, `sRGB`, `iCCP` and all other colour metadata is ignored, as in Pillow.
/// - 16-bit samples give their upper byte, or what ``Levels`` makes of them. There are two departures from Pillow. It
///   clips 16-bit grey at 255, which turns nearly every such picture white, so the upper byte is taken here too. And
///   16-bit colour with alpha comes from libpng multiplied by alpha; it is divided again, which is exact where the
///   picture is opaque, at most 1 off where it is not, and black where it is fully transparent or nearly so (less than
///   1/256 opaque).
/// - An orientation in EXIF or XMP is applied, as in `ImageOps.exif_transpose`.
/// - A file that ends before its IEND chunk, or in which something else stands there, is read if every pixel is there.
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
    private let fault: ImageError?
    private let note: ImageNote?
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
        guard head.type != "CgBI" else { throw Self.appleVariant(in: source, at: head.place) }
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
        let walk = try PNGChunks(bytes, from: Self.signature.count, named: source)
        (chunks, fault, note) = (walk.chunks, walk.fault, walk.note)
        var metadata = ImageMetadata()
        for chunk in chunks {
            let data = UnsafeRawBufferPointer(rebasing: bytes[chunk.data])
            if chunk.type == "eXIf" { metadata.setExif(data) }
            if let text = PNGText(type: chunk.type, data: data) { metadata.setText(text.text, keyword: text.keyword) }
        }
        orientation = metadata.orientation
    }

    /// iOS cannot show what others can: its PNGs have other channels and no zlib header.
    private static func appleVariant(in source: String, at place: String) -> ImageError {
        ImageError(
            .unsupported, in: source, at: place,
            "this is Apple's variant of PNG (CgBI), which Xcode packs into apps and only Apple's programs show",
            remedy:
                "Take the picture from before it was packed, or turn it back: `pngcrush -revert-iphone-optimizations`")
    }

    var imageHeader: ImageHeader {
        ImageHeader(
            format: .png, width: orientation.swapsAxes ? height : width,
            height: orientation.swapsAxes ? width : height, isDeep: bitDepth == 16)
    }

    func decode(_ levels: Levels) throws(ImageError) -> DecodedImage {
        var notes = note.map { [$0] } ?? []
        let pixels: [UInt8]
        switch (colorType, bitDepth) {
        case (_, 16):
            let (samples, channels) = try deepSamples()
            let table = LevelTable(levels, largest: samples.max() ?? 0)
            if let note = table.note { notes.append(note) }
            let count = width * height
            pixels = samples.withUnsafeBufferPointer { samples in
                [UInt8](unsafeUninitializedCapacity: 3 * count) { pixels, initialized in
                    for index in 0..<(3 * count) {
                        pixels[index] = table[samples[channels == 3 ? index : index / 3]]
                    }
                    initialized = 3 * count
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
        let image = Image(width: width, height: height, pixels: pixels).oriented(orientation)
        return DecodedImage(image: image, notes: notes)
    }

    /// 16-bit samples without their alpha, of one channel or of three.
    private func deepSamples() throws(ImageError) -> (samples: [UInt16], channels: Int) {
        let count = width * height
        switch colorType {
        case .gray, .grayAlpha:
            // Declared as 8-bit pixels of as many bytes, the upper byte of the grey level first.
            let stride = colorType == .gray ? 2 : 4
            let bytes =
                colorType == .gray
                ? try samples(.grayAlpha, declaredAs: (.grayAlpha, 8))
                : try samples(.rgbAlpha, declaredAs: (.rgbAlpha, 8))
            return (
                (0..<count).map { UInt16(bytes[stride * $0]) << 8 | UInt16(bytes[stride * $0 + 1]) }, 1
            )
        case .rgb, .palette:
            // libpng gives 16-bit samples in the machine's byte order, which is little-endian on x86-64 and arm64.
            let bytes = try samples(.linearRGB)
            return ((0..<(3 * count)).map { UInt16(bytes[2 * $0]) | UInt16(bytes[2 * $0 + 1]) << 8 }, 3)
        case .rgbAlpha:
            let bytes = try samples(.linearRGBAlpha)
            func sample(_ index: Int) -> UInt32 { UInt32(bytes[2 * index]) | UInt32(bytes[2 * index + 1]) << 8 }
            var colors: [UInt16] = []
            colors.reserveCapacity(3 * count)
            for index in 0..<count {
                let alpha = sample(4 * index + 3)
                for channel in 0..<3 {
                    let color = alpha == 0 ? 0 : (sample(4 * index + channel) * 65535 + alpha / 2) / alpha
                    colors.append(UInt16(min(color, 65535)))
                }
            }
            return (colors, 3)
        }
    }

    /// The numbers as they stand in the file; of colours that have 16 bits the upper bytes.
    func values() throws(ImageError) -> ValueMap {
        let count = width * height
        func map(_ kind: ValueMap.Kind, _ values: [UInt32]) -> ValueMap {
            ValueMap(width: width, height: height, kind: kind, values: values).oriented(orientation)
        }
        switch (colorType, bitDepth) {
        case (.gray, 16), (.grayAlpha, 16):
            return map(.gray(white: 65535), try deepSamples().samples.map { UInt32($0) })
        case (.gray, _), (.palette, _):
            // libpng stretches grey to 8 bits, which divides again without a rest.
            let white = UInt8((1 << Int(bitDepth)) - 1)
            let bytes = try samples(.rgb, declaredAs: (.gray, bitDepth))
            return map(
                colorType == .gray ? .gray(white: UInt32(white)) : .palette,
                (0..<count).map { UInt32(bytes[3 * $0] / (255 / white)) })
        case (.grayAlpha, _), (.rgb, _), (.rgbAlpha, _):
            return ValueMap(try decode(.full).image)
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

    private func samples(_ layout: Layout, declaredAs declared: (color: ColorType, bits: UInt8)? = nil)
        throws(ImageError) -> [UInt8]
    {
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
    private func essentialChunks(declaredAs declared: (color: ColorType, bits: UInt8)?) throws(ImageError) -> [UInt8] {
        var stream = Self.signature
        let header = bytes[chunks[0].data]
        if let declared {
            var fields = Array(header)
            fields[8] = declared.bits
            fields[9] = declared.color.rawValue
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
            case "IDAT" where chunk.isCut:
                stream += PNGChunks.encoded(type: chunk.type, data: Array(bytes[chunk.data]))
            case "IDAT", "IEND":
                stream += bytes[chunk.whole]
            case "CgBI":
                throw Self.appleVariant(in: source, at: chunk.place)
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
        if fault != nil { stream += PNGChunks.encoded(type: "IEND", data: []) }
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
        // Pixels are missing, and where the file stops being one is known.
        if let fault { return fault }
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
