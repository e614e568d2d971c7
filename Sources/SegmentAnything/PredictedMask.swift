public import Segmentation

/// One mask of an answer.
public struct PredictedMask: Sendable {
    /// The cut-out at the original picture's size, as runs.
    public let encoding: RunLengthEncoding
    /// The cut-out at the original picture's size, a byte for each pixel, made from the runs at each call.
    public var mask: Mask { encoding.mask }
    /// The model's own estimate of the intersection over union with the object.
    public let predictedIoU: Float
    /// How little the mask changes when the threshold moves by ±1: the area above +1 over the area above −1.
    public let stabilityScore: Float
    /// What the mask was made of, in SAM 2 none further from 0 than 32; can be handed back as a mask prompt.
    public var lowResolutionLogits: LowResolutionLogits { logits.clamped(to: logitBound) }
    private let logits: LowResolutionLogits
    private let logitBound: Float?
    /// The logit of there being an object at all where the prompt is; nil from a model that does not ask itself.
    public let objectScore: Float?
    /// Which of the output tokens that were asked for gave it, counted from 0.
    public let token: Int

    package init(
        encoding: RunLengthEncoding, predictedIoU: Float, stabilityScore: Float,
        lowResolutionLogits: LowResolutionLogits, logitBound: Float? = nil, objectScore: Float? = nil,
        token: Int = 0
    ) {
        self.encoding = encoding
        self.predictedIoU = predictedIoU
        self.stabilityScore = stabilityScore
        logits = lowResolutionLogits
        self.logitBound = logitBound
        self.objectScore = objectScore
        self.token = token
    }
}
