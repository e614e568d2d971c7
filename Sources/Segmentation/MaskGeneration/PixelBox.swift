/// A rectangle of whole pixels: columns from `x0` up to and without `x1`, rows from `y0` up to and without `y1`.
public struct PixelBox: Sendable, Hashable {
    /// The first column.
    public let x0: Int
    /// The first row.
    public let y0: Int
    /// The column after the last.
    public let x1: Int
    /// The row after the last.
    public let y1: Int

    /// A rectangle by its corners.
    public init(x0: Int, y0: Int, x1: Int, y1: Int) {
        self.x0 = x0
        self.y0 = y0
        self.x1 = x1
        self.y1 = y1
    }

    /// Columns.
    public var width: Int { x1 - x0 }
    /// Rows.
    public var height: Int { y1 - y0 }
    /// Pixels; 0 for an empty rectangle.
    public var area: Int { max(0, width) * max(0, height) }

    /// What both have; empty where they have nothing in common.
    public func intersection(_ other: PixelBox) -> PixelBox {
        PixelBox(
            x0: max(x0, other.x0), y0: max(y0, other.y0), x1: min(x1, other.x1), y1: min(y1, other.y1))
    }

    /// The smallest rectangle around both.
    public func hull(_ other: PixelBox) -> PixelBox {
        PixelBox(
            x0: min(x0, other.x0), y0: min(y0, other.y0), x1: max(x1, other.x1), y1: max(y1, other.y1))
    }
}
