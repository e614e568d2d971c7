import CTIFF

/// The first page of a TIFF file: what its directory says, and its samples.
///
/// Adobe, "TIFF Revision 6.0", 1992; Adobe Photoshop TIFF Technical Notes, 2002 (JPEG, deflate).
final class TIFFPage {
    /// The most samples of a pixel, those that are dropped included.
    private static let mostSamples = 16

    let width: Int
    let height: Int
    /// Bits of a sample: 1, 2, 4, 8, 12 or 16.
    let bits: Int
    private let samplesPerPixel: Int
    private let photometric: UInt16
    private let isPlanar: Bool
    private let isJPEG: Bool
    /// Whether the first further sample is an alpha that colours were multiplied by.
    let isPremultiplied: Bool
    private let limit: PixelLimit
    private let source: String
    private let library: TIFFLibrary
    private let bytes: TIFFBytes
    private let file: TIFFLibrary.Handle

    init(_ bytes: UnsafeRawBufferPointer, named source: String, limit: PixelLimit, _ library: TIFFLibrary)
        throws(ImageError)
    {
        self.source = source
        self.library = library
        self.limit = limit
        self.bytes = TIFFBytes(bytes)
        guard let file = library.open(self.bytes) else {
            throw Self.fault(self.bytes, in: source, "libtiff cannot read its first directory")
        }
        self.file = file
        func number(_ tag: kirie_tiff_tag) -> UInt16 {
            var value: UInt16 = 0
            return kirie_tiff_get16(library.getFieldOrDefault, file, tag.rawValue, &value) != 0 ? value : 0
        }
        var (columns, rows) = (UInt32(0), UInt32(0))
        _ = kirie_tiff_get32(library.getField, file, kirie_tiff_width.rawValue, &columns)
        _ = kirie_tiff_get32(library.getField, file, kirie_tiff_height.rawValue, &rows)
        (width, height) = (Int(columns), Int(rows))
        bits = Int(number(kirie_tiff_bits))
        samplesPerPixel = Int(number(kirie_tiff_samples))
        isPlanar = number(kirie_tiff_planes) == 2
        let compression = number(kirie_tiff_compression)
        isJPEG = compression == 7
        photometric = number(kirie_tiff_photometric)
        var (extraCount, extra) = (UInt16(0), UnsafePointer<UInt16>?.none)
        _ = kirie_tiff_get_list16(
            library.getFieldOrDefault, file, kirie_tiff_extra_samples.rawValue, &extraCount, &extra)
        isPremultiplied = extraCount > 0 && extra?.pointee == 1
        try limit.check(width: width, height: height, in: source, at: "the first directory")
        let format = number(kirie_tiff_sample_format)
        // 1 whole numbers, 2 with a sign, 3 floating point, 4 undefined.
        guard format == 1 || format == 4 || (format == 2 && bits == 8) else {
            throw .unsupported(
                in: source, at: "the first directory",
                "its samples are \(format == 3 ? "floating-point" : "signed or complex") numbers of \(bits) bits")
        }
        guard [1, 2, 4, 8, 12, 16].contains(bits), (1...Self.mostSamples).contains(samplesPerPixel) else {
            throw .unsupported(
                in: source, at: "the first directory", "\(samplesPerPixel) samples of \(bits) bits for each pixel")
        }
        guard compression != 6 else {
            throw .unsupported(in: source, at: "the first directory", "it is compressed as old-style JPEG")
        }
        if isJPEG, photometric == 6 {
            // libjpeg's colours, as Pillow asks for them; else libtiff would give subsampled blocks.
            _ = kirie_tiff_set(library.setField, file, kirie_tiff_jpeg_color_mode.rawValue, 1)
        }
    }

    deinit { library.close(file) }

    /// How samples become colours.
    func colors() throws(ImageError) -> TIFFDecoder.Colors {
        let colors: TIFFDecoder.Colors
        let depths: [Int]
        switch photometric {
        case 0, 1: (colors, depths) = (.gray(whiteIsZero: photometric == 0), [1, 2, 4, 8, 12, 16])
        case 2: (colors, depths) = (.rgb, [8, 16])
        case 3: (colors, depths) = (.palette(try palette()), [1, 2, 4, 8])
        case 5: (colors, depths) = (.cmyk, [8, 16])
        case 6 where isJPEG: (colors, depths) = (samplesPerPixel == 1 ? .gray(whiteIsZero: false) : .rgb, [8])
        default: throw unsupported("its colours are of kind \(photometric)")
        }
        guard depths.contains(bits), samplesPerPixel >= colors.channels else {
            throw unsupported(
                "\(samplesPerPixel) samples of \(bits) bits for each pixel, in colours of kind \(photometric)")
        }
        return colors
    }

    var orientation: Orientation {
        var value: UInt16 = 0
        if kirie_tiff_get16(library.getField, file, kirie_tiff_orientation.rawValue, &value) != 0 {
            return Orientation(rawValue: value) ?? .upright
        }
        var (count, packet) = (UInt32(0), UnsafeRawPointer?.none)
        guard kirie_tiff_get_bytes(library.getField, file, kirie_tiff_xmp.rawValue, &count, &packet) != 0, let packet
        else { return .upright }
        var metadata = ImageMetadata()
        metadata.setXMP(UnsafeRawBufferPointer(start: packet, count: Int(count)))
        return metadata.orientation
    }

    /// Whether there are more pages.
    var note: ImageNote? {
        library.isLast(file) != 0
            ? nil : ImageNote(.firstOfSeveral, "it has several pages or sizes; the first is the picture")
    }

    /// The first `channels` samples of every pixel, interleaved, each a number of ``bits`` bits.
    func samples<Sample: FixedWidthInteger & UnsignedInteger>(_ type: Sample.Type, channels: Int) throws(ImageError)
        -> [Sample]
    {
        let (pixels, overflow) = width.multipliedReportingOverflow(by: height)
        let (count, overflowOfCount) = pixels.multipliedReportingOverflow(by: channels)
        guard !overflow, !overflowOfCount else { throw unsupported("a picture of this size cannot be addressed") }
        var samples = [Sample](repeating: 0, count: count)
        let isTiled = library.isTiled(file) != 0
        let block = try isTiled ? tile() : strip()
        let planes = isPlanar ? channels : 1
        let together = isPlanar ? 1 : samplesPerPixel
        let rowBytes = (block.width * together * bits + 7) / 8
        var buffer = [UInt8](repeating: 0, count: rowBytes * block.height)
        for plane in 0..<planes {
            for top in stride(from: 0, to: height, by: block.height) {
                let rows = min(block.height, height - top)
                for left in stride(from: 0, to: width, by: block.width) {
                    let needed = rowBytes * (isTiled ? block.height : rows)
                    let read = buffer.withUnsafeMutableBytes { buffer in
                        isTiled
                            ? library.readTile(
                                file, library.tile(file, UInt32(left), UInt32(top), 0, UInt16(plane)),
                                buffer.baseAddress, buffer.count)
                            : library.readStrip(
                                file, library.strip(file, UInt32(top), UInt16(plane)), buffer.baseAddress, needed)
                    }
                    guard read >= needed else {
                        throw Self.fault(
                            bytes, in: source,
                            "the pixels from column \(left), row \(top) on cannot be decoded",
                            code: read >= 0 ? .truncated : .corrupt)
                    }
                    let columns = min(block.width, width - left)
                    for row in 0..<rows {
                        unpack(
                            buffer[(row * rowBytes)..<((row + 1) * rowBytes)], of: together, columns,
                            into: &samples, at: ((top + row) * width + left) * channels + plane, channels,
                            isPlanar ? 1 : channels)
                    }
                }
            }
        }
        return samples
    }

    /// Takes `kept` of `together` samples for each of `columns` pixels of a row.
    private func unpack<Sample: FixedWidthInteger & UnsignedInteger>(
        _ row: ArraySlice<UInt8>, of together: Int, _ columns: Int, into samples: inout [Sample], at start: Int,
        _ channels: Int, _ kept: Int
    ) {
        row.withUnsafeBytes { row in
            samples.withUnsafeMutableBufferPointer { samples in
                for column in 0..<columns {
                    for channel in 0..<kept {
                        let index = column * together + channel
                        let sample: UInt16
                        switch bits {
                        case 16: sample = row.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
                        case 8: sample = UInt16(row[index])
                        case 12:
                            // Two samples in three bytes, the upper bits first.
                            let byte = index / 2 * 3
                            sample =
                                index % 2 == 0
                                ? UInt16(row[byte]) << 4 | UInt16(row[byte + 1]) >> 4
                                : UInt16(row[byte + 1] & 0x0F) << 8 | UInt16(row[byte + 2])
                        default:
                            let bit = index * bits
                            sample = UInt16(row[bit / 8] >> (8 - bits - bit % 8)) & ((1 << bits) - 1)
                        }
                        samples[start + column * channels + channel] = Sample(truncatingIfNeeded: sample)
                    }
                }
            }
        }
    }

    private func strip() throws(ImageError) -> (width: Int, height: Int) {
        var rows: UInt32 = 0
        _ = kirie_tiff_get32(library.getFieldOrDefault, file, kirie_tiff_rows_per_strip.rawValue, &rows)
        let height = rows == 0 ? self.height : min(Int(rows), self.height)
        return try checked((width, height), library.stripSize(file))
    }

    private func tile() throws(ImageError) -> (width: Int, height: Int) {
        var (columns, rows) = (UInt32(0), UInt32(0))
        _ = kirie_tiff_get32(library.getField, file, kirie_tiff_tile_width.rawValue, &columns)
        _ = kirie_tiff_get32(library.getField, file, kirie_tiff_tile_height.rawValue, &rows)
        return try checked((Int(columns), Int(rows)), library.tileSize(file))
    }

    /// A strip or tile that is no larger than a picture may be and that libtiff takes to be as large as we do.
    private func checked(_ block: (width: Int, height: Int), _ size: Int) throws(ImageError) -> (
        width: Int, height: Int
    ) {
        try limit.check(width: block.width, height: block.height, in: source, at: "its strips or tiles")
        let row = (block.width * (isPlanar ? 1 : samplesPerPixel) * bits + 7) / 8
        guard size == row * block.height else {
            throw .corrupt(
                in: source, at: "the first directory",
                "strips or tiles of \(block.width) x \(block.height) pixels do not hold \(size) bytes")
        }
        return block
    }

    /// The colours of a palette: the upper byte of 16.
    private func palette() throws(ImageError) -> [UInt8] {
        var (red, green, blue) = (UnsafePointer<UInt16>?.none, UnsafePointer<UInt16>?.none, UnsafePointer<UInt16>?.none)
        guard bits <= 8, kirie_tiff_get_colors(library.getField, file, &red, &green, &blue) != 0, let red, let green,
            let blue
        else {
            throw .corrupt(
                in: source, at: "the first directory", "the picture has a palette, and no colour map holds it")
        }
        return (0..<(1 << bits)).flatMap { [red[$0], green[$0], blue[$0]] }.map { UInt8($0 >> 8) }
    }

    private func unsupported(_ reason: String) -> ImageError {
        .unsupported(in: source, at: "the first directory", reason)
    }

    private static func fault(_ bytes: TIFFBytes, in source: String, _ reason: String, code: ImageError.Code = .corrupt)
        -> ImageError
    {
        let text = bytes.message.map { "\(reason): \($0)" } ?? reason
        return code == .truncated ? .truncated(in: source, at: nil, text) : .corrupt(in: source, at: nil, text)
    }
}
