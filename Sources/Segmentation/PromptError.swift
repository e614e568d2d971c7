/// Why a prompt cannot be used on a picture.
public enum PromptError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Neither point, box, mask nor text.
    case empty
    /// A coordinate that is no number.
    case notFinite(part: String)
    /// A coordinate outside the picture of `width` by `height` pixels.
    case outside(part: String, x: Double, y: Double, width: Int, height: Int)
    /// A box whose right or lower edge is not beyond its left or upper edge.
    case emptyBox(BoundingBox)
    /// A mask prompt with another number of rows and columns than the model's.
    case maskSide(found: Int, expected: Int)
    /// A point label that is neither 0 nor 1.
    case label(part: String, found: String)
    /// Words, for a model that only knows places.
    case textUnsupported

    /// What is wrong, where, and what to do about it.
    public var description: String {
        switch self {
        case .empty:
            "the prompt is empty: give at least one point, a box or a mask"
        case .notFinite(let part):
            "\(part) has a coordinate that is not a finite number: give pixels of the picture"
        case .outside(let part, let x, let y, let width, let height):
            "\(part) lies at (\(x), \(y)), outside the picture of \(width) x \(height) pixels: "
                + "give 0 <= x <= \(width) and 0 <= y <= \(height), in pixels of the original picture"
        case .emptyBox(let box):
            "the box \(box.x0),\(box.y0),\(box.x1),\(box.y1) is empty or inverted: give x0,y0,x1,y1 with x0 < x1 and y0 < y1"
        case .maskSide(let found, let expected):
            "the mask prompt is \(found) x \(found), the model takes \(expected) x \(expected) low-resolution logits"
        case .label(let part, let found):
            "\(part) has the label \(found): use 1 for the object and 0 for what is not the object"
        case .textUnsupported:
            "this model takes points, boxes and masks; a text prompt needs a text encoder"
        }
    }
}

extension Prompt {
    /// Checks the prompt against a picture and a model.
    ///
    /// - Parameters:
    ///   - width: columns of the original picture.
    ///   - height: its rows.
    ///   - maskSide: rows of a mask prompt for the model, 4g.
    public func validate(width: Int, height: Int, maskSide: Int) throws(PromptError) {
        if text != nil { throw .textUnsupported }
        if points.isEmpty, box == nil, mask == nil { throw .empty }
        func check(_ part: String, _ x: Double, _ y: Double) throws(PromptError) {
            guard x.isFinite, y.isFinite else { throw .notFinite(part: part) }
            guard x >= 0, y >= 0, x <= Double(width), y <= Double(height) else {
                throw .outside(part: part, x: x, y: y, width: width, height: height)
            }
        }
        for (index, point) in points.enumerated() { try check("point \(index + 1)", point.x, point.y) }
        if let box {
            try check("the box's upper left corner", box.x0, box.y0)
            try check("the box's lower right corner", box.x1, box.y1)
            guard box.x0 < box.x1, box.y0 < box.y1 else { throw .emptyBox(box) }
        }
        if let mask {
            guard mask.side == maskSide else { throw .maskSide(found: mask.side, expected: maskSide) }
            guard mask.values.allSatisfy(\.isFinite) else { throw .notFinite(part: "the mask prompt") }
        }
    }
}
