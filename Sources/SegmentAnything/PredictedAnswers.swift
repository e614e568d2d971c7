package import Imaging
public import Segmentation

extension Answer.Cutout {
    /// A predicted mask as run lengths.
    public init(prompt: Int, _ predicted: PredictedMask) {
        self.init(
            prompt: prompt, score: predicted.predictedIoU, stability: predicted.stabilityScore, predicted.encoding)
        object_score = predicted.objectScore
    }
}

extension Mask {
    /// The mask as the picture room takes it: 1 on the object.
    package var gray: GrayImage { GrayImage(width: width, height: height, pixels: pixels) }
}
