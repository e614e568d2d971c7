import CTurboJPEG

/// Decodes JPEG through TurboJPEG, to the pixels of Pillow's `convert("RGB")`.
///
/// Baseline and progressive, grey, YCbCr, RGB, CMYK and YCCK; accurate inverse DCT and smooth ("fancy") upsampling of
/// the chroma, which is libjpeg's and therefore Pillow's default. CMYK is taken to be stored inverted, as Adobe
/// writes it and Pillow reads it. The EXIF orientation is applied.
///
/// What is cut short or contradicts itself is an error where Pillow may show a half-grey picture. One fault is read
/// over, as other programs do: a few stray bytes between the last scan and the end marker, which some cameras leave.
struct JPEGDecoder {
    /// The most stray bytes before the end marker that are read over.
    private static let strayBytes = 64

    private let bytes: UnsafeRawBufferPointer
    private let source: String
    private let header: JPEGHeader

    /// Reads the header and checks it against the limit; `bytes` begin with SOI.
    init(_ bytes: UnsafeRawBufferPointer, named source: String, limit: PixelLimit) throws(ImageError) {
        self.bytes = bytes
        self.source = source
        header = try JPEGHeader(bytes, named: source)
        try limit.check(width: header.width, height: header.height, in: source, at: header.place)
    }

    var imageHeader: ImageHeader {
        let swap = header.orientation.swapsAxes
        return ImageHeader(
            format: .jpeg, width: swap ? header.height : header.width, height: swap ? header.width : header.height)
    }

    func decode() throws(ImageError) -> Image {
        let pixels: [UInt8]
        if header.components == 4 {
            let samples = try samples(TJPF_CMYK, perPixel: 4)
            pixels = Self.rgb(fromInvertedCMYK: samples, count: header.width * header.height)
        } else {
            pixels = try samples(TJPF_RGB, perPixel: 3)
        }
        return Image(width: header.width, height: header.height, pixels: pixels).oriented(header.orientation)
    }

    private func samples(_ format: TJPF, perPixel: Int) throws(ImageError) -> [UInt8] {
        let (count, overflow) = (header.width * header.height).multipliedReportingOverflow(by: perPixel)
        guard !overflow else {
            throw .unsupported(in: source, at: header.place, "a picture of this size cannot be addressed")
        }
        guard let decoder = tjInitDecompress() else {
            throw .corrupt(in: source, at: nil, "TurboJPEG cannot be started, probably for want of memory")
        }
        defer { tjDestroy(decoder) }
        var failure: String?
        func decompress(_ flags: Int32) -> [UInt8] {
            [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
                failure = nil
                let status = tjDecompress2(
                    decoder, bytes.bindMemory(to: UInt8.self).baseAddress, UInt(bytes.count), buffer.baseAddress,
                    Int32(header.width), Int32(header.width * perPixel), Int32(header.height), format.rawValueAsInt32,
                    TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS | flags)
                if status != 0 {
                    failure = tjGetErrorStr2(decoder).map { String(cString: $0) } ?? "unknown fault"
                    // A mere warning leaves all pixels written.
                    guard tjGetErrorCode(decoder) == TJERR_WARNING.rawValueAsInt32, flags == 0 else { return }
                }
                initialized = count
            }
        }
        var pixels = decompress(TJFLAG_STOPONWARNING)
        if let warning = failure, Self.isHarmless(warning) {
            pixels = decompress(0)
            if let again = failure, Self.isHarmless(again) { failure = nil }
        }
        if let failure { throw diagnosis(failure) }
        return pixels
    }

    /// Whether the warning speaks of a few stray bytes before the end of the picture.
    private static func isHarmless(_ warning: String) -> Bool {
        let words = warning.split(separator: " ")
        guard warning.hasSuffix("extraneous bytes before marker 0xd9"),
            let count = words.lazy.compactMap({ Int($0) }).first
        else { return false }
        return count <= strayBytes
    }

    private func diagnosis(_ message: String) -> ImageError {
        if message.contains("remature end") {
            return .truncated(
                in: source, at: "byte \(bytes.count)", "the file ends before the picture does (\(message))")
        }
        return .corrupt(in: source, at: nil, "TurboJPEG cannot decode it: \(message)")
    }

    /// RGB from CMYK bytes that count down from full ink, in Pillow's 8-bit arithmetic.
    private static func rgb(fromInvertedCMYK samples: [UInt8], count: Int) -> [UInt8] {
        samples.withUnsafeBufferPointer { cmyk in
            [UInt8](unsafeUninitializedCapacity: 3 * count) { rgb, initialized in
                for index in 0..<count {
                    let black = Int(cmyk[4 * index + 3])
                    for channel in 0..<3 {
                        let product = (255 - Int(cmyk[4 * index + channel])) * black + 128
                        rgb[3 * index + channel] = UInt8(clamping: black - ((product >> 8) + product) >> 8)
                    }
                }
                initialized = 3 * count
            }
        }
    }
}

extension RawRepresentable where RawValue: BinaryInteger {
    /// The value as TurboJPEG's functions take their enumerations.
    fileprivate var rawValueAsInt32: Int32 { Int32(truncatingIfNeeded: rawValue) }
}
