import CTurboJPEG

/// Decodes JPEG through TurboJPEG, to the pixels of Pillow's `convert("RGB")`.
///
/// Baseline and progressive, grey, YCbCr, RGB, CMYK and YCCK; accurate inverse DCT and smooth ("fancy") upsampling of
/// the chroma, which is libjpeg's and therefore Pillow's default. CMYK is taken to be stored inverted, as Adobe
/// writes it and Pillow reads it. The orientation in EXIF or XMP is applied.
///
/// What lacks pixels or contradicts itself is an error where Pillow may show a half-grey picture. Faults that touch no
/// pixel are read over, with a note: stray bytes before a marker, which some cameras leave; an end mark that is missing
/// behind the last pixel; a JFIF version or an Adobe colour transform that does not exist. TurboJPEG tells of the first
/// warning only and may be made to stop there, so each is taken out of a copy of the file until nothing is left to warn
/// of: whatever then decodes has had no other fault.
struct JPEGDecoder {
    /// The most decodes that are spent on one file: a progressive one may have stray bytes behind each of its scans.
    private static let mostAttempts = 48

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

    func decode() throws(ImageError) -> DecodedImage {
        let (format, channels) = header.components == 4 ? (TJPF_CMYK, 4) : (TJPF_RGB, 3)
        var (pixels, notes) = try samples(format, perPixel: channels)
        if channels == 4 { pixels = Self.rgb(fromInvertedCMYK: pixels, count: header.width * header.height) }
        let image = Image(width: header.width, height: header.height, pixels: pixels).oriented(header.orientation)
        return DecodedImage(image: image, notes: notes)
    }

    private func samples(_ format: TJPF, perPixel: Int) throws(ImageError) -> ([UInt8], [ImageNote]) {
        let (count, overflow) = (header.width * header.height).multipliedReportingOverflow(by: perPixel)
        guard !overflow else {
            throw .unsupported(in: source, at: header.place, "a picture of this size cannot be addressed")
        }
        guard let decoder = tjInitDecompress() else {
            throw .corrupt(in: source, at: nil, "TurboJPEG cannot be started, probably for want of memory")
        }
        defer { tjDestroy(decoder) }
        var warning: String?
        func decompress(_ file: UnsafeRawBufferPointer) -> [UInt8] {
            [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
                warning = nil
                let status = tjDecompress2(
                    decoder, file.bindMemory(to: UInt8.self).baseAddress, UInt(file.count), buffer.baseAddress,
                    Int32(header.width), Int32(header.width * perPixel), Int32(header.height), format.rawValueAsInt32,
                    TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS | TJFLAG_STOPONWARNING)
                if status != 0 {
                    warning = tjGetErrorStr2(decoder).map { String(cString: $0) } ?? "unknown fault"
                    return
                }
                initialized = count
            }
        }
        var repair = JPEGRepair(bytes, header)
        var pixels = repair.isNeeded ? repair.file.withUnsafeBytes(decompress) : decompress(bytes)
        var attempts = 1
        repairing: while let fault = warning {
            // Of several scans before such a marker, the first that does not need those bytes has them to spare.
            for place in repair.places(of: fault) where attempts < Self.mostAttempts {
                attempts += 1
                let candidate = repair.without(place)
                pixels = candidate.file.withUnsafeBytes(decompress)
                if warning.map({ JPEGRepair.strayBytes(in: $0) != nil }) ?? true {
                    repair = candidate
                    continue repairing
                }
            }
            throw diagnosis(fault, hasEnd: repair.hadEnd)
        }
        guard repair.hasEveryScan else {
            throw .truncated(
                in: source, at: "byte \(bytes.count)", "the file ends before the scans that were to refine the picture")
        }
        return (pixels, repair.notes)
    }

    private func diagnosis(_ message: String, hasEnd: Bool) -> ImageError {
        if !hasEnd || message.contains("remature end") {
            return .truncated(
                in: source, at: "byte \(bytes.count)", "the file ends before the picture does (\(message))")
        }
        return .corrupt(in: source, at: nil, "TurboJPEG cannot decode it: \(message)")
    }

    /// RGB from CMYK bytes that count down from full ink, in Pillow's 8-bit arithmetic.
    static func rgb(fromInvertedCMYK samples: [UInt8], count: Int) -> [UInt8] {
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
