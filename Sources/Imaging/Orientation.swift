/// How the stored rows and columns of a picture stand to what the eye should see: EXIF tag 0x0112.
///
/// CIPA DC-008, "Exchangeable image file format for digital still cameras: Exif", section 4.6.4, tag Orientation.
enum Orientation: UInt16, CaseIterable {
    case upright = 1
    case mirrored
    case upsideDown
    case flipped
    case transposed
    case quarterTurnClockwise
    case transverse
    case quarterTurnCounterclockwise

    /// Whether the picture's width is the stored height.
    var swapsAxes: Bool { rawValue >= 5 }

    /// The number in the tag of the first directory of a TIFF structure, in either byte order, which `Exif\0\0` may
    /// precede once or twice.
    ///
    /// Nil where there is no such tag, or the structure is broken.
    static func number(inTIFF bytes: UnsafeRawBufferPointer) -> Int? {
        var tiff = bytes
        for _ in 0..<2 where tiff.starts(with: Array("Exif\0\0".utf8)) {
            tiff = UnsafeRawBufferPointer(rebasing: tiff.dropFirst(6))
        }
        let little: Bool
        if tiff.starts(with: [0x49, 0x49, 0x2A, 0x00]) {
            little = true
        } else if tiff.starts(with: [0x4D, 0x4D, 0x00, 0x2A]) {
            little = false
        } else {
            return nil
        }
        func number(_ offset: Int, _ length: Int) -> Int? {
            guard offset >= 0, tiff.count - offset >= length else { return nil }
            let bytes = tiff[offset..<(offset + length)]
            return (little ? Array(bytes.reversed()) : Array(bytes)).reduce(0) { $0 << 8 | Int($1) }
        }
        guard let directory = number(4, 4), let entries = number(directory, 2) else { return nil }
        for entry in 0..<entries {
            let offset = directory + 2 + 12 * entry
            guard let tag = number(offset, 2), let type = number(offset + 2, 2) else { return nil }
            guard tag == 0x0112 else { continue }
            // SHORT, LONG and the types with a sign; the value stands left-justified in its four bytes. In any other type
            // the tag is there and says nothing, as in Pillow.
            guard let length = [3: 2, 4: 4, 6: 1, 8: 2, 9: 4][type] else { return 0 }
            return number(offset + 8, length)
        }
        return nil
    }
}

extension Orientation {
    /// How a stored picture is walked through to be seen as it should be.
    ///
    /// Pixel (x, y) of the result, which is `width` x `height`, is stored at origin + x * right + y * down, in pixels.
    func walk(width: Int, height: Int) -> (width: Int, height: Int, origin: Int, right: Int, down: Int) {
        let (last, bottom) = (width - 1, (height - 1) * width)
        let (origin, right, down) =
            switch self {
            case .upright: (0, 1, width)
            case .mirrored: (last, -1, width)
            case .upsideDown: (bottom + last, -1, -width)
            case .flipped: (bottom, 1, -width)
            case .transposed: (0, width, 1)
            case .quarterTurnClockwise: (bottom, -width, 1)
            case .transverse: (bottom + last, -width, -1)
            case .quarterTurnCounterclockwise: (last, width, -1)
            }
        return swapsAxes ? (height, width, origin, right, down) : (width, height, origin, right, down)
    }
}

extension Image {
    /// The picture turned as its orientation asks.
    func oriented(_ orientation: Orientation) -> Image {
        guard orientation != .upright else { return self }
        let (newWidth, newHeight, origin, right, down) = orientation.walk(width: width, height: height)
        let turned = pixels.withUnsafeBufferPointer { from in
            [UInt8](unsafeUninitializedCapacity: from.count) { to, initialized in
                // Squares of 32 pixels keep both sides of a turn in the cache.
                for top in stride(from: 0, to: newHeight, by: 32) {
                    for left in stride(from: 0, to: newWidth, by: 32) {
                        for y in top..<min(top + 32, newHeight) {
                            var source = 3 * (origin + left * right + y * down)
                            var target = 3 * (y * newWidth + left)
                            for _ in left..<min(left + 32, newWidth) {
                                to[target] = from[source]
                                to[target &+ 1] = from[source &+ 1]
                                to[target &+ 2] = from[source &+ 2]
                                source &+= 3 &* right
                                target &+= 3
                            }
                        }
                    }
                }
                initialized = from.count
            }
        }
        return Image(width: newWidth, height: newHeight, pixels: turned)
    }
}
