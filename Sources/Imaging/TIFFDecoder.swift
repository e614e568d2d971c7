import CTIFF

/// Decodes TIFF through libtiff, to the pixels of Pillow's `convert("RGB")`.
///
/// - Grey of 1, 2, 4, 8, 12 and 16 bits, black or white at zero; palettes of up to 8 bits; RGB and CMYK of 8 and 16;
///   YCbCr where it is compressed as JPEG. Strips and tiles, one plane or several, every compression that libtiff has.
/// - Samples of more than 8 bits give their upper 8, or what ``Levels`` makes of them.
/// - Further samples are dropped. Colours that an associated alpha was multiplied into are divided by it again.
/// - Of several pages the first is read, and a note says so. Tag 274 or XMP gives the orientation.
package struct TIFFDecoder {
    enum Colors {
        case gray(whiteIsZero: Bool)
        case palette([UInt8])
        case rgb
        case cmyk

        var channels: Int {
            switch self {
            case .gray, .palette: 1
            case .rgb: 3
            case .cmyk: 4
            }
        }
    }

    private let source: String
    private let page: TIFFPage
    private let colors: Colors
    private let orientation: Orientation

    /// Reads the first directory and checks it against the limit; `bytes` begin as a TIFF does.
    package init(
        _ bytes: UnsafeRawBufferPointer, named source: String, limit: PixelLimit, library: TIFFLibrary? = .shared
    ) throws(ImageError) {
        guard let library else {
            throw .missingLibrary("libtiff", package: "libtiff6", for: "TIFF", in: source)
        }
        self.source = source
        page = try TIFFPage(bytes, named: source, limit: limit, library)
        colors = try page.colors()
        orientation = page.orientation
    }

    var imageHeader: ImageHeader {
        let swap = orientation.swapsAxes
        return ImageHeader(
            format: .tiff, width: swap ? page.height : page.width, height: swap ? page.width : page.height,
            isDeep: page.bits > 8)
    }

    func decode(_ levels: Levels) throws(ImageError) -> DecodedImage {
        var notes = page.note.map { [$0] } ?? []
        let alpha = page.isPremultiplied && colors.channels == 3 ? 1 : 0
        let channels = colors.channels + alpha
        var samples: [UInt8]
        if page.bits > 8 {
            let deep = try page.samples(UInt16.self, channels: channels)
            let largest = deep.enumerated().reduce(0 as UInt16) { largest, entry in
                alpha == 1 && entry.offset % 4 == 3 ? largest : max(largest, entry.element)
            }
            let table = LevelTable(levels, largest: largest, bits: page.bits)
            if let note = table.note { notes.append(note) }
            samples = deep.map { table[$0] }
            if alpha == 1 {
                for index in stride(from: 3, to: deep.count, by: 4) { samples[index] = UInt8(deep[index] >> 8) }
            }
        } else {
            samples = try page.samples(UInt8.self, channels: channels)
        }
        let pixels = rgb(samples, isPremultiplied: alpha == 1)
        let image = Image(width: page.width, height: page.height, pixels: pixels)
        return DecodedImage(image: image.oriented(orientation), notes: notes)
    }

    /// The numbers as they stand in the file; of colours the levels.
    func values() throws(ImageError) -> ValueMap {
        func map(_ kind: ValueMap.Kind, _ values: [UInt32]) -> ValueMap {
            ValueMap(width: page.width, height: page.height, kind: kind, values: values).oriented(orientation)
        }
        switch colors {
        case .gray(let whiteIsZero):
            let white = UInt32(1) << UInt32(page.bits) - 1
            let values = try page.samples(UInt16.self, channels: 1).map { min(UInt32($0), white) }
            return map(.gray(white: white), whiteIsZero ? values.map { white - $0 } : values)
        case .palette:
            return map(.palette, try page.samples(UInt8.self, channels: 1).map { UInt32($0) })
        case .rgb, .cmyk:
            return ValueMap(try decode(.full).image)
        }
    }

    private func rgb(_ samples: [UInt8], isPremultiplied: Bool) -> [UInt8] {
        let count = page.width * page.height
        switch colors {
        case .gray(let whiteIsZero):
            let scale: UInt8 = page.bits >= 8 ? 1 : 255 / UInt8((1 << page.bits) - 1)
            return samples.expanded(count) { sample, _ in whiteIsZero ? 255 - sample * scale : sample * scale }
        case .palette(let colors):
            return samples.expanded(count) { sample, channel in colors[3 * Int(sample) + channel] }
        case .rgb where isPremultiplied:
            var pixels = [UInt8](repeating: 0, count: 3 * count)
            for index in 0..<count {
                let alpha = Int(samples[4 * index + 3])
                for channel in 0..<3 where alpha > 0 {
                    pixels[3 * index + channel] = UInt8(clamping: Int(samples[4 * index + channel]) * 255 / alpha)
                }
            }
            return pixels
        case .rgb:
            return samples
        case .cmyk:
            return JPEGDecoder.rgb(fromInvertedCMYK: samples.map { 255 - $0 }, count: count)
        }
    }
}

extension [UInt8] {
    /// Three channels from one: `level` is given the sample and the channel.
    fileprivate func expanded(_ count: Int, _ level: (UInt8, Int) -> UInt8) -> [UInt8] {
        withUnsafeBufferPointer { samples in
            [UInt8](unsafeUninitializedCapacity: 3 * count) { pixels, initialized in
                for index in 0..<count {
                    for channel in 0..<3 { pixels[3 * index + channel] = level(samples[index], channel) }
                }
                initialized = 3 * count
            }
        }
    }
}
