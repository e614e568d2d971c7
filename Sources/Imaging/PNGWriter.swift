import CPNG

/// Writes PNG through libpng's simplified API.
///
/// A file is written beside its place and renamed into it: it is there whole or not at all. Rows are not filtered and
/// compressed at zlib's level 3: masks are smallest so, and a photograph takes a quarter of the time for a quarter more
/// bytes.
public enum PNGWriter {
    /// Writes a colour picture to the file at `path`.
    public static func write(_ image: Image, to path: String) throws(ImageError) {
        try EncodedFile.write(encode(image, named: path), to: path)
    }

    /// Writes a grey picture, its levels unchanged, to the file at `path`.
    public static func write(_ image: GrayImage, to path: String) throws(ImageError) {
        try EncodedFile.write(encode(image, named: path), to: path)
    }

    /// Writes a mask to the file at `path`: 255 on the object, where `mask` is not 0, and 0 elsewhere.
    public static func write(mask: GrayImage, to path: String) throws(ImageError) {
        try EncodedFile.write(encode(mask: mask, named: path), to: path)
    }

    /// The bytes of a colour picture's PNG file; errors speak of it as `name`.
    public static func encode(_ image: Image, named name: String = "picture") throws(ImageError) -> [UInt8] {
        try encode(
            image.pixels, width: image.width, height: image.height, format: UInt32(PNG_FORMAT_FLAG_COLOR), named: name)
    }

    /// The bytes of a grey picture's PNG file; errors speak of it as `name`.
    public static func encode(_ image: GrayImage, named name: String = "picture") throws(ImageError) -> [UInt8] {
        try encode(image.pixels, width: image.width, height: image.height, format: 0, named: name)
    }

    /// The bytes of a mask's PNG file, 255 on the object and 0 elsewhere; errors speak of it as `name`.
    public static func encode(mask: GrayImage, named name: String = "mask") throws(ImageError) -> [UInt8] {
        let levels = mask.pixels.map { $0 == 0 ? UInt8(0) : 255 }
        return try encode(levels, width: mask.width, height: mask.height, format: 0, named: name)
    }

    /// The bytes of a PNG file of colour and opacity: red, green, blue and alpha of each pixel, not premultiplied, rows first.
    public static func encode(
        rgba pixels: [UInt8], width: Int, height: Int, named name: String = "picture"
    ) throws(ImageError) -> [UInt8] {
        try encode(
            pixels, width: width, height: height, format: UInt32(PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA),
            named: name)
    }

    /// The bytes of a label map's PNG file: grey of 16 bits whose levels are the labels; errors speak of it as `name`.
    public static func encode(_ map: LabelMap, named name: String = "label map") throws(ImageError) -> [UInt8] {
        // libpng takes 16-bit samples in the machine's order.
        let samples = map.labels.withUnsafeBytes { Array($0) }
        return try encode(
            samples, width: map.width, height: map.height, format: UInt32(PNG_FORMAT_FLAG_LINEAR), named: name)
    }

    private static func encode(
        _ pixels: [UInt8], width: Int, height: Int, format: UInt32, named name: String
    ) throws(ImageError) -> [UInt8] {
        let channels =
            (format & UInt32(PNG_FORMAT_FLAG_COLOR) == 0 ? 1 : 3)
            + (format & UInt32(PNG_FORMAT_FLAG_ALPHA) == 0 ? 0 : 1)
        let depth = format & UInt32(PNG_FORMAT_FLAG_LINEAR) == 0 ? 1 : 2
        guard (1...1_000_000).contains(width), (1...1_000_000).contains(height) else {
            throw ImageError(
                .unsupported, in: name, "a PNG cannot hold \(width) x \(height) pixels",
                remedy: "Both sides must be between 1 and 1000000 pixels")
        }
        guard pixels.count == width * height * channels * depth else {
            throw ImageError(
                .unsupported, in: name, "\(pixels.count) bytes are no \(width) x \(height) pixels",
                remedy: "Give \(channels * depth) bytes for each pixel")
        }
        // Incompressible data grows by what deflate's stored blocks and the chunk heads take.
        let raw = pixels.count + height
        let capacity = raw + raw / 64 + 4096
        var failure: String?
        let file = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, initialized in
            var image = png_image()
            image.version = UInt32(PNG_IMAGE_VERSION)
            image.width = UInt32(width)
            image.height = UInt32(height)
            image.format = format
            image.flags = UInt32(PNG_IMAGE_FLAG_FAST)
            defer { png_image_free(&image) }
            var size = png_alloc_size_t(capacity)
            let status = png_image_write_to_memory(
                &image, buffer.baseAddress, &size, 0, pixels, Int32(width * channels), nil)
            if status == 0 {
                failure = withUnsafeBytes(of: image.message) { message in
                    String(decoding: message.prefix { $0 != 0 }, as: UTF8.self)
                }
            } else {
                initialized = Int(size)
            }
        }
        if let failure {
            throw ImageError(
                .unwritable, in: name, "libpng cannot encode it: \(failure)", remedy: "Free some memory and try again")
        }
        return file
    }
}
