/// The part of a large picture around a prompt, which the model then sees at full resolution.
///
/// A model sees a picture no larger than its input, 1,024 pixels for the published ones; of a picture of 50 megapixels a
/// small object is a few pixels then. The tile is a square around what the prompt points at, as large as the model's input,
/// 1,024 pixels or twice what the prompt spans, whichever is most, and where the mask ends at an edge of the tile that is no edge of the picture, the tile
/// is doubled.
public struct PromptTile: Sendable, Hashable {
    /// Where it lies.
    public let box: PixelBox

    /// The first tile of a prompt; nil where the whole picture is seen well enough, or the prompt points at nothing.
    ///
    /// - Parameters:
    ///   - prompt: in pixels of the picture; its mask and text point at nothing.
    ///   - width: columns of the picture.
    ///   - height: its rows.
    ///   - modelSize: S, the longest side that the model sees.
    public init?(around prompt: Prompt, width: Int, height: Int, modelSize: Int) {
        var (x, y) = (prompt.points.map(\.x), prompt.points.map(\.y))
        if let box = prompt.box {
            x += [box.x0, box.x1]
            y += [box.y0, box.y1]
        }
        guard let left = x.min(), let right = x.max(), let top = y.min(), let bottom = y.max() else { return nil }
        let span = Int(max(right - left, bottom - top).rounded(.up))
        self.init(
            side: max(Self.side(modelSize), 2 * span), x: Int((left + right) / 2), y: Int((top + bottom) / 2),
            width: width,
            height: height)
    }

    /// The side of the smallest tile for a model of that input: one that sees less still needs what lies around an object.
    package static func side(_ modelSize: Int) -> Int { max(modelSize, 1024) }

    /// A tile that travelled.
    package init(box: PixelBox) { self.box = box }

    /// The square of that side around a pixel, moved into the picture; nil where it has nearly all of it.
    private init?(side: Int, x: Int, y: Int, width: Int, height: Int) {
        guard side * 4 <= max(width, height) * 3 else { return nil }
        let (columns, rows) = (min(side, width), min(side, height))
        let left = max(0, min(x - columns / 2, width - columns))
        let top = max(0, min(y - rows / 2, height - rows))
        box = PixelBox(x0: left, y0: top, x1: left + columns, y1: top + rows)
    }

    /// The tile of twice the side; nil where the whole picture is next.
    public func larger(width: Int, height: Int) -> PromptTile? {
        PromptTile(
            side: 2 * max(box.width, box.height), x: (box.x0 + box.x1) / 2, y: (box.y0 + box.y1) / 2, width: width,
            height: height)
    }

    /// The prompt in pixels of the tile.
    public func prompt(_ prompt: Prompt) -> Prompt {
        var moved = prompt
        let (x, y) = (Double(box.x0), Double(box.y0))
        for index in moved.points.indices {
            moved.points[index].x -= x
            moved.points[index].y -= y
        }
        moved.box = prompt.box.map { BoundingBox(x0: $0.x0 - x, y0: $0.y0 - y, x1: $0.x1 - x, y1: $0.y1 - y) }
        return moved
    }

    /// Whether a mask of the picture's size ends at an edge of the tile that is no edge of the picture, and so most likely
    /// goes on beyond it.
    public func cutsOff(_ mask: MaskCandidate, width: Int, height: Int) -> Bool {
        guard mask.encoding.area > 0 else { return false }
        return mask.box[0] <= box.x0 && box.x0 > 0 || mask.box[1] <= box.y0 && box.y0 > 0
            || mask.box[2] >= box.x1 - 1 && box.x1 < width || mask.box[3] >= box.y1 - 1 && box.y1 < height
    }
}
