public import Platform

/// Why a prompt cannot be used on a picture.
public enum PromptError: ReportableError, Sendable, Hashable {
    /// Neither point, box, mask nor text.
    case empty
    /// A coordinate that is no number.
    case notFinite(part: String)
    /// A coordinate a pixel or more outside the picture of `width` by `height` pixels.
    case outside(part: String, x: Double, y: Double, width: Int, height: Int)
    /// A box that touches no pixel of the picture of `width` by `height` pixels.
    case outsideBox(BoundingBox, width: Int, height: Int)
    /// A box whose right or lower edge is not beyond its left or upper edge.
    case emptyBox(BoundingBox)
    /// A mask prompt with another number of rows and columns than the model's.
    case maskSide(found: Int, expected: Int)
    /// A point label that is none of SAM's.
    case label(part: String, found: String)
    /// Corners of a box, labelled 2 and 3, that make no box.
    case corners(reason: String)
    /// Words, for a model that only knows places.
    case textUnsupported
    /// The embedding of a text with other numbers than the model's text projection takes.
    case textWidth(found: Int, expected: Int)

    /// What is wrong, where, and what to do about it.
    public var report: ErrorReport {
        let (code, reason, remedy) = parts
        return ErrorReport(.input, code, reason, remedy: remedy)
    }

    private var parts: (code: String, reason: String, remedy: String) {
        switch self {
        case .empty:
            (
                "empty-prompt", "the prompt is empty",
                "give at least one point, a box or a mask (points with the label -1 are padding)"
            )
        case .notFinite(let part):
            ("prompt-not-finite", "\(part) has a coordinate that is not a finite number", "give pixels of the picture")
        case .outside(let part, let x, let y, let width, let height):
            (
                "prompt-outside", "\(part) lies at (\(x), \(y)), outside the picture of \(width) x \(height) pixels",
                "give 0 <= x <= \(width) and 0 <= y <= \(height), in pixels of the original picture"
            )
        case .outsideBox(let box, let width, let height):
            (
                "prompt-outside", "the box \(box) lies wholly outside the picture of \(width) x \(height) pixels",
                "give x0,y0,x1,y1 in pixels of the original picture"
            )
        case .emptyBox(let box):
            ("empty-box", "the box \(box) is empty or inverted", "give x0,y0,x1,y1 with x0 < x1 and y0 < y1")
        case .maskSide(let found, let expected):
            (
                "mask-side", "the mask prompt is \(found) x \(found)",
                "the model takes \(expected) x \(expected) low-resolution logits"
            )
        case .label(let part, let found):
            (
                "point-label", "\(part) has the label \(found)",
                "1 (the object) or 0 (what is not the object) is expected; "
                    + "2 and 3 are the upper left and lower right corner of a box, -1 is padding"
            )
        case .corners(let reason):
            (
                "box-corners", reason,
                "the labels 2 and 3 are the upper left and the lower right corner of one box and go together; "
                    + "a click has the label 1 (the object) or 0 (what is not the object)"
            )
        case .textWidth(let found, let expected):
            (
                "text-width", "the text's embedding has \(found) numbers",
                "the model's text projection takes \(expected): name a CLIP of that width"
            )
        case .textUnsupported:
            (
                "text-unsupported", "this model takes points, boxes and masks", "a text prompt needs a text encoder"
            )
        }
    }

    /// The report in one line.
    public var description: String { report.text }
}
