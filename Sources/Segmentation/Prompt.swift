/// What the user points at in a picture: clicks, a box, an earlier mask, words, or any mix of them; one object.
///
/// Coordinates are pixels of the original picture, x to the right, y down, the origin at its upper left corner.
/// Kirillov et al., "Segment Anything", 2023, section 3, <https://arxiv.org/abs/2304.02643>.
public struct Prompt: Sendable, Hashable {
    /// Clicks on the object or on what is not the object.
    public var points: [LabeledPoint]
    /// A box around the object.
    public var box: BoundingBox?
    /// The logits of an earlier answer, to be refined.
    public var mask: LowResolutionLogits?
    /// Words that name the object.
    public var text: String?
    /// What CLIP makes of words, of length 1, for a model that takes it as a token; section 4 of the paper.
    ///
    /// It is no part of a job: whoever decodes makes it of ``text``.
    public var textEmbedding: [Float]?

    /// A prompt of any mix of parts.
    public init(
        points: [LabeledPoint] = [], box: BoundingBox? = nil, mask: LowResolutionLogits? = nil, text: String? = nil,
        textEmbedding: [Float]? = nil
    ) {
        self.points = points
        self.box = box
        self.mask = mask
        self.text = text
        self.textEmbedding = textEmbedding
    }
}

/// A click and what it says.
public struct LabeledPoint: Sendable, Hashable {
    /// Pixels from the left edge.
    public var x: Double
    /// Pixels from the upper edge.
    public var y: Double
    /// Whether the click is on the object.
    public var label: PointLabel

    /// A click at `(x, y)`.
    public init(x: Double, y: Double, label: PointLabel = .foreground) {
        self.x = x
        self.y = y
        self.label = label
    }
}

/// What a click says about the pixel below it; the raw values are those of the published predictor.
public enum PointLabel: Int, Sendable, Hashable, CaseIterable {
    /// Not the object.
    case background = 0
    /// The object.
    case foreground = 1
}

/// A rectangle by two corners (XYXY), in pixels of the original picture.
public struct BoundingBox: Sendable, Hashable {
    /// The left edge.
    public var x0: Double
    /// The upper edge.
    public var y0: Double
    /// The right edge.
    public var x1: Double
    /// The lower edge.
    public var y1: Double

    /// A box from its upper left to its lower right corner.
    public init(x0: Double, y0: Double, x1: Double, y1: Double) {
        self.x0 = x0
        self.y0 = y0
        self.x1 = x1
        self.y1 = y1
    }
}

extension BoundingBox: CustomStringConvertible {
    /// `x0,y0,x1,y1`, whole numbers without a point.
    public var description: String {
        [x0, y0, x1, y1].map { number in
            let text = "\(number)"
            return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
        }.joined(separator: ",")
    }
}

/// A mask as the decoder writes it, before it is scaled to the picture and thresholded at 0.
public struct LowResolutionLogits: Sendable, Hashable {
    /// Rows and columns: four times the embedding's grid (256 for the published models).
    public let side: Int
    /// `side * side` logits, row-major.
    public let values: [Float]

    /// Logits of a square of `side` rows and columns.
    ///
    /// - Precondition: `values` holds `side * side` numbers.
    public init(side: Int, values: [Float]) {
        precondition(values.count == side * side, "\(values.count) logits do not fill a square of \(side)")
        self.side = side
        self.values = values
    }

    /// The same, none further from 0 than a bound; nil for no bound.
    package func clamped(to bound: Float?) -> LowResolutionLogits {
        guard let bound, values.contains(where: { abs($0) > bound }) else { return self }
        return LowResolutionLogits(side: side, values: values.map { min(max($0, -bound), bound) })
    }
}
