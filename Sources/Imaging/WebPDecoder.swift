/// Decodes WebP through libwebp, to the pixels of Pillow's `convert("RGB")`.
///
/// Lossy and lossless. Alpha is dropped: the colour below full transparency shows, as in Pillow. Of an animation the
/// first frame is read, black where it does not cover its canvas, and a note says so. An orientation in EXIF or XMP is
/// applied.
package struct WebPDecoder {
    /// libwebp's functions.
    package struct Library: Sendable {
        /// `WebPDecodeRGBInto(data, size, output, output size, stride)`: the output, or nil.
        typealias DecodeInto =
            @convention(c) @Sendable (
                UnsafePointer<UInt8>?, Int, UnsafeMutablePointer<UInt8>?, Int, Int32
            ) -> UnsafeMutablePointer<UInt8>?

        let decodeInto: DecodeInto

        package init?(named name: String = "libwebp.so.7") {
            guard let library = DynamicLibrary(name), let decode: DecodeInto = library.function("WebPDecodeRGBInto")
            else { return nil }
            decodeInto = decode
        }

        /// Opened by the first WebP picture.
        package static let shared = Library()
    }

    private let bytes: UnsafeRawBufferPointer
    private let source: String
    private let container: WebPContainer

    /// Reads the header and checks it against the limit; `bytes` begin with `RIFF….WEBP`.
    package init(_ bytes: UnsafeRawBufferPointer, named source: String, limit: PixelLimit) throws(ImageError) {
        self.bytes = bytes
        self.source = source
        container = try WebPContainer(bytes, named: source, limit: limit)
    }

    var imageHeader: ImageHeader {
        let swap = container.orientation.swapsAxes
        return ImageHeader(
            format: .webp, width: swap ? container.height : container.width,
            height: swap ? container.width : container.height)
    }

    package func decode(with library: Library? = .shared) throws(ImageError) -> DecodedImage {
        guard let library else {
            throw .missingLibrary("libwebp", package: "libwebp7", for: "WebP", in: source)
        }
        var pixels: [UInt8]
        var notes: [ImageNote] = []
        if let frame = container.frame {
            let part = try frame.file.withUnsafeBufferPointer { (file) throws(ImageError) in
                try colors(of: UnsafeRawBufferPointer(file), width: frame.width, height: frame.height, library)
            }
            pixels = [UInt8](repeating: 0, count: 3 * container.width * container.height)
            for row in 0..<frame.height {
                let start = 3 * ((frame.top + row) * container.width + frame.left)
                pixels.replaceSubrange(
                    start..<(start + 3 * frame.width),
                    with: part[(3 * row * frame.width)..<(3 * (row + 1) * frame.width)])
            }
            if container.isAnimated {
                notes.append(ImageNote(.firstOfSeveral, "it is an animation; its first frame is the picture"))
            }
        } else {
            pixels = try colors(of: bytes, width: container.width, height: container.height, library)
        }
        let image = Image(width: container.width, height: container.height, pixels: pixels)
        return DecodedImage(image: image.oriented(container.orientation), notes: notes)
    }

    private func colors(of file: UnsafeRawBufferPointer, width: Int, height: Int, _ library: Library)
        throws(ImageError) -> [UInt8]
    {
        // A WebP has at most 16383 columns and rows, so nothing here overflows.
        let count = 3 * width * height
        let pixels = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            let result = library.decodeInto(
                file.bindMemory(to: UInt8.self).baseAddress, file.count, buffer.baseAddress, count, Int32(3 * width))
            if result != nil { initialized = count }
        }
        guard pixels.count == count else {
            throw .corrupt(in: source, at: container.place, "libwebp cannot decode the pixels")
        }
        return pixels
    }
}
