/// A mask from a file, as people draw them and other programs write them.
///
/// - A picture of two values is a mask, whatever they are: 0 and 1, 0 and 255, two indices of a palette, black and any
///   colour, in 1 to 16 bits. The smaller number (of two colours the darker one) is outside, the other one inside.
/// - A picture of a single value is empty if that is 0, else everything is inside; a note says either.
/// - Grey of more values is a soft mask: 0 is surely outside, white (255, or 65535 of 16 bits) surely inside, half of it
///   undecided. Colours count by their brightness, as in a mask that was saved as JPEG.
/// - A palette of more values names several objects, and is refused: there is no telling which one is meant.
public struct MaskPicture: Sendable, Hashable {
    /// 0 outside, 255 inside, in between for a soft mask; as large as the picture in the file, after its orientation.
    public let levels: GrayImage
    /// Whether there are levels between outside and inside.
    public let isSoft: Bool
    /// That it is empty, or covers everything.
    public let notes: [ImageNote]

    /// Reads the file at `path`.
    public init(file path: String, limit: PixelLimit = .standard) throws(ImageError) {
        try self.init(ImageDecoder(limit: limit).contents(ofFile: path), named: path, limit: limit)
    }

    /// Reads the file in `bytes`; errors speak of it as `name`.
    public init(_ bytes: [UInt8], named name: String = "mask", limit: PixelLimit = .standard) throws(ImageError) {
        let map = try ImageDecoder(limit: limit).values(bytes, named: name)
        if let values = map.distinctValues(atMost: 2) {
            let inside = Self.inside(values, map.kind)
            self.init(map, map.values.map { $0 == inside ? 255 : 0 }, isSoft: false)
            return
        }
        switch map.kind {
        case .palette:
            throw ImageError(
                .unsupported, in: name, "more than two colours of its palette are used, so it names several objects",
                remedy: "Give a mask of one object: two values, one outside and one inside")
        case .gray(let white):
            self.init(
                map, map.values.map { UInt8(truncatingIfNeeded: (min($0, white) * 255 + white / 2) / white) },
                isSoft: true)
        case .color:
            self.init(map, map.values.map(Self.brightness), isSoft: true)
        }
    }

    private init(_ map: ValueMap, _ levels: [UInt8], isSoft: Bool) {
        self.levels = GrayImage(width: map.width, height: map.height, pixels: levels)
        self.isSoft = isSoft
        let (lowest, highest) = levels.reduce((255, 0) as (UInt8, UInt8)) { (min($0.0, $1), max($0.1, $1)) }
        if highest == 0 {
            notes = [ImageNote(.emptyMask, "the mask is empty: every pixel of it is 0")]
        } else if highest < 128 {
            notes = [
                ImageNote(
                    .emptyMask,
                    "the mask is soft and no level of it reaches the middle (the highest is \(highest) of 255): nothing "
                        + "is inside; of labels of several objects give the mask of one")
            ]
        } else if lowest == 255 {
            notes = [ImageNote(.wholeMask, "the mask covers the whole picture: every pixel of it has the same value")]
        } else {
            notes = []
        }
    }

    /// Which of one or two values, ascending, is inside; nil for none.
    private static func inside(_ values: [UInt32], _ kind: ValueMap.Kind) -> UInt32? {
        guard values.count == 2 else { return values.first.flatMap { $0 == 0 ? nil : $0 } }
        guard kind == .color else { return values[1] }
        return brightness(of: values[0]) > brightness(of: values[1]) ? values[0] : values[1]
    }

    /// As Pillow's `convert("L")` has it; see `Image.luminance`.
    private static func brightness(of color: UInt32) -> UInt8 {
        let (red, green, blue) = (color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF)
        return UInt8(truncatingIfNeeded: (red &* 19595 &+ green &* 38470 &+ blue &* 7471 &+ 0x8000) >> 16)
    }
}
