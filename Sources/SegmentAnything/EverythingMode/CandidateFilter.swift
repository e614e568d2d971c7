public import Segmentation

/// Which of the masks of everything mode's points are kept at all.
public struct CandidateFilter: Sendable, Hashable {
    /// Masks whose predicted IoU is not above this are dropped; 0 keeps all.
    public var predictedIoUThreshold: Float
    /// Masks whose stability score is below this are dropped; 0 keeps all.
    public var stabilityScoreThreshold: Float
    /// How far the threshold of the logits is moved both ways to find the stability score.
    public var stabilityScoreOffset: Float

    /// The filter of some parameters; what they leave to the model is that of published ones.
    public init(_ parameters: EverythingParameters) {
        let parameters = parameters.resolved(by: .published)
        predictedIoUThreshold = parameters.predictedIoUThreshold ?? 0
        stabilityScoreThreshold = parameters.stabilityScoreThreshold ?? 0
        stabilityScoreOffset = parameters.stabilityScoreOffset
    }

    /// Whether a mask of that predicted IoU is kept.
    func takes(predictedIoU: Float) -> Bool { predictedIoUThreshold <= 0 || predictedIoU > predictedIoUThreshold }

    /// The stability of a draft may be so far from that of its mask.
    private static let draftTolerance: Float = 0.01

    /// Whether a mask whose draft has that stability may be kept.
    func mayTake(stability: Float, isEmpty: Bool) -> Bool {
        takes(stability: stability + Self.draftTolerance, isEmpty: isEmpty)
    }

    /// Whether a mask of that stability is kept; the one of nothing at all is none, and no threshold lets it pass.
    func takes(stability: Float, isEmpty: Bool) -> Bool {
        stabilityScoreThreshold <= 0 || !isEmpty && stability >= stabilityScoreThreshold
    }
}

/// A mask and its scores.
public struct ScoredMask: Sendable, Hashable {
    /// The mask at the picture's size.
    public let encoding: RunLengthEncoding
    /// The model's own estimate of the intersection over union with the object.
    public let predictedIoU: Float
    /// How little the mask changes with the threshold.
    public let stabilityScore: Float

    /// A mask of its parts.
    package init(encoding: RunLengthEncoding, predictedIoU: Float, stabilityScore: Float) {
        self.encoding = encoding
        self.predictedIoU = predictedIoU
        self.stabilityScore = stabilityScore
    }
}

/// What is known of a mask before it is made.
public struct MaskDraft: Sendable, Hashable {
    /// The first and the last column and row, `(x0, y0, x1, y1)`, in pixels of the picture.
    public let box: SIMD4<Int32>
    /// The model's own estimate of the intersection over union with the object.
    public let predictedIoU: Float
    /// How little the mask changes with the threshold, about.
    public let stabilityScore: Float

    /// A draft of its parts.
    package init(box: SIMD4<Int32>, predictedIoU: Float, stabilityScore: Float) {
        self.box = box
        self.predictedIoU = predictedIoU
        self.stabilityScore = stabilityScore
    }

    /// What is known of a mask that is there.
    init(_ mask: ScoredMask) {
        let bounds = mask.encoding.boundingBox
        self.init(
            box: SIMD4(
                Int32(bounds[0]), Int32(bounds[1]), Int32(bounds[0] + max(1, bounds[2]) - 1),
                Int32(bounds[1] + max(1, bounds[3]) - 1)),
            predictedIoU: mask.predictedIoU, stabilityScore: mask.stabilityScore)
    }
}
