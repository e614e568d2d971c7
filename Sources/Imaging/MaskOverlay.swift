/// A picture with masks and prompts drawn over it, for people to look at.
///
/// Each mask tints its pixels and is edged with a smooth line of its colour between two white ones. Boxes are frames,
/// points discs with a white ring: green on the object, red beside it. Widths grow with the picture.
public struct MaskOverlay: Sendable {
    /// What the user pointed at, in pixels of the picture; `(x, y)` is the middle of the pixel in column x, row y.
    public enum Marker: Sendable, Hashable {
        /// A click on the object.
        case foregroundPoint(x: Double, y: Double)
        /// A click on what is not the object.
        case backgroundPoint(x: Double, y: Double)
        /// A box by its corners (XYXY).
        case box(x0: Double, y0: Double, x1: Double, y1: Double)
    }

    /// A colour of the overlay, 8-bit sRGB.
    public struct Color: Sendable, Hashable {
        /// The red channel.
        public var red: UInt8
        /// The green channel.
        public var green: UInt8
        /// The blue channel.
        public var blue: UInt8

        /// A colour by its channels.
        public init(red: UInt8, green: UInt8, blue: UInt8) {
            self.red = red
            self.green = green
            self.blue = blue
        }

        /// Twelve colours that stay apart on photographs and for most colour-blind eyes; they repeat from there on.
        public static let palette: [Color] = [
            Color(red: 30, green: 136, blue: 255), Color(red: 255, green: 140, blue: 26),
            Color(red: 233, green: 64, blue: 160), Color(red: 38, green: 190, blue: 130),
            Color(red: 250, green: 208, blue: 44), Color(red: 142, green: 92, blue: 246),
            Color(red: 20, green: 196, blue: 222), Color(red: 240, green: 80, blue: 72),
            Color(red: 164, green: 214, blue: 58), Color(red: 92, green: 110, blue: 250),
            Color(red: 214, green: 130, blue: 250), Color(red: 196, green: 138, blue: 84),
        ]
        static let white = Color(red: 255, green: 255, blue: 255)
        static let shadow = Color(red: 0, green: 0, blue: 0)
        static let foreground = Color(red: 22, green: 182, blue: 84)
        static let background = Color(red: 228, green: 48, blue: 56)
    }

    /// How much of a mask's colour its pixels take, 0…1.
    public var tint = 0.45
    /// How much darker the picture is where no mask is, 0…1.
    public var dimming = 0.0
    /// The colours of the masks, in turn; not empty.
    public var colors = Color.palette
    /// The masks; every pixel that is not 0 is on the object.
    public var masks: [GrayImage]
    /// The prompts.
    public var markers: [Marker]

    /// An overlay of masks in the palette's order, and the prompts they answer.
    public init(masks: [GrayImage], markers: [Marker] = []) {
        self.masks = masks
        self.markers = markers
    }

    /// The picture with the overlay on it.
    ///
    /// Where masks overlap, the smaller one is seen.
    ///
    /// - Precondition: the masks are as large as the picture, and `colors` is not empty.
    public func drawn(on image: Image) -> Image {
        for mask in masks {
            precondition(mask.width == image.width && mask.height == image.height, "a mask of another size")
        }
        return drawn(
            on: image,
            masks: masks.map { mask in
                Layer(x: 0, y: 0, area: mask.pixels.reduce(0) { $0 + ($1 == 0 ? 0 : 1) }) { mask }
            })
    }

    /// A mask that is made when it is drawn, so that hundreds of them never lie in memory together.
    public struct Layer: Sendable {
        let x: Int
        let y: Int
        let area: Int
        let mask: @Sendable () -> GrayImage

        /// A mask of a part of the picture.
        ///
        /// - Parameters:
        ///   - x: the column of the picture where the part begins.
        ///   - y: the row where it begins.
        ///   - area: pixels on the object.
        ///   - mask: makes it.
        public init(x: Int, y: Int, area: Int, mask: @escaping @Sendable () -> GrayImage) {
            self.x = x
            self.y = y
            self.area = area
            self.mask = mask
        }
    }

    /// The picture with those masks, in place of ``masks``, and the markers on it.
    public func drawn(on image: Image, masks: [Layer]) -> Image {
        precondition(!colors.isEmpty, "an overlay without colours")
        var canvas = Canvas(image)
        let unit = max(1, Double(max(image.width, image.height)) / 1000)
        let order = masks.indices.filter { masks[$0].area > 0 }.sorted {
            (masks[$0].area, $1) > (masks[$1].area, $0)
        }
        canvas.tint(
            order.map { (masks[$0], colors[$0 % colors.count]) }, amount: tint, dimming: masks.isEmpty ? 0 : dimming)
        for index in order {
            let layer = masks[index]
            let outlines = ObjectGrid(layer.mask())?.smoothOutlines() ?? []
            canvas.stroke(
                outlines.map { $0.map { OutlinePoint(x: $0.x + Double(layer.x), y: $0.y + Double(layer.y)) } },
                [(2.2 * unit, .white, 0.9), (1.2 * unit, colors[index % colors.count].deepened, 1)])
        }
        for marker in markers {
            if case .box(let x0, let y0, let x1, let y1) = marker {
                let corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)].map { x, y in
                    OutlinePoint(x: x + 0.5, y: y + 0.5)
                }
                canvas.stroke([corners], [(2.6 * unit, .shadow, 0.35), (1.5 * unit, .white, 1)])
            }
        }
        for marker in markers {
            switch marker {
            case .foregroundPoint(let x, let y): canvas.point(x, y, .foreground, unit)
            case .backgroundPoint(let x, let y): canvas.point(x, y, .background, unit)
            case .box: break
            }
        }
        return canvas.image
    }
}

extension MaskOverlay.Color {
    /// The colour a little darker, for lines.
    fileprivate var deepened: MaskOverlay.Color {
        func darker(_ value: UInt8) -> UInt8 { UInt8(Double(value) * 0.88) }
        return MaskOverlay.Color(red: darker(red), green: darker(green), blue: darker(blue))
    }
}
