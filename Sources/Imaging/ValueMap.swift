/// The numbers of a picture as they stand in its file, one for each pixel: what masks and label maps are read from.
///
/// Nothing is stretched to 8 bits and no palette is looked up: 1 of a 1-bit picture is 1, and index 3 of a palette is 3.
struct ValueMap {
    /// What the numbers mean.
    enum Kind: Equatable {
        /// Brightness, from 0 to `white`.
        case gray(white: UInt32)
        /// Indices into a palette.
        case palette
        /// Colours, red × 65536 + green × 256 + blue; not all of them grey.
        case color
    }

    let width: Int
    let height: Int
    let kind: Kind
    /// `height * width` numbers, row-major.
    let values: [UInt32]

    init(width: Int, height: Int, kind: Kind, values: [UInt32]) {
        precondition(values.count == width * height, "\(values.count) numbers do not fill \(width) x \(height)")
        self.width = width
        self.height = height
        self.kind = kind
        self.values = values
    }

    /// The numbers of a picture of 8-bit colours; a picture without colour is one of greys.
    init(_ image: Image) {
        let count = image.width * image.height
        var isGray = true
        let values = image.pixels.withUnsafeBufferPointer { pixels in
            (0..<count).map { index in
                let (red, green, blue) = (pixels[3 * index], pixels[3 * index + 1], pixels[3 * index + 2])
                if red != green || green != blue { isGray = false }
                return UInt32(red) << 16 | UInt32(green) << 8 | UInt32(blue)
            }
        }
        self.init(
            width: image.width, height: image.height, kind: isGray ? .gray(white: 255) : .color,
            values: isGray ? values.map { $0 & 0xFF } : values)
    }

    /// The numbers turned as their picture's orientation asks.
    func oriented(_ orientation: Orientation) -> ValueMap {
        guard orientation != .upright else { return self }
        let walk = orientation.walk(width: width, height: height)
        let turned = (0..<walk.height).flatMap { y in
            (0..<walk.width).map { x in values[walk.origin + x * walk.right + y * walk.down] }
        }
        return ValueMap(width: walk.width, height: walk.height, kind: kind, values: turned)
    }

    /// The numbers that occur, ascending, as long as there are no more than `limit`; nil for more.
    func distinctValues(atMost limit: Int) -> [UInt32]? {
        var found: Set<UInt32> = []
        var last: UInt32?
        for value in values where value != last {
            last = value
            guard found.insert(value).inserted else { continue }
            if found.count > limit { return nil }
        }
        return found.sorted()
    }
}
