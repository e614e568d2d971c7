/// A mask that a point of the grid was answered with, before it is weighed against the others.
public struct MaskCandidate: Sendable, Hashable {
    /// The mask at the picture's size.
    public var encoding: RunLengthEncoding
    /// The model's own estimate of its intersection over union with the object.
    public var predictedIoU: Float
    /// How little the mask changes with the threshold.
    public var stabilityScore: Float
    /// The point, in pixels of the picture.
    public var point: SIMD2<Double>
    /// The part of the picture that it was found in.
    public var crop: PixelBox
    /// The first and the last column and row of the mask, `(x0, y0, x1, y1)`; the last ones belong to the box.
    ///
    /// So the published generator counts. Of an empty mask they are the crop's upper left corner twice.
    public var box: SIMD4<Int32>
    /// How much it looks like what was asked for, from -2 to 1; nil where nothing was.
    public var similarity: Float?
    /// The text of a vocabulary that fits it best; nil where none was given.
    public var label: String?
    /// Whether its runs were let go, so that ``encoding`` has no pixel; all else is as it was.
    package var isBare = false
    /// The logit of there being an object at all, of a prompt's mask; nil from a model that does not ask itself.
    package var objectScore: Float?

    /// A mask of all its parts.
    package init(
        encoding: RunLengthEncoding, predictedIoU: Float, stabilityScore: Float, point: SIMD2<Double>, crop: PixelBox,
        box: SIMD4<Int32>
    ) {
        self.encoding = encoding
        self.predictedIoU = predictedIoU
        self.stabilityScore = stabilityScore
        self.point = point
        self.crop = crop
        self.box = box
    }

    /// A mask in a crop.
    ///
    /// - Parameters:
    ///   - encoding: of the crop's size.
    ///   - predictedIoU: by the model.
    ///   - stabilityScore: of the mask.
    ///   - point: in pixels of the crop.
    ///   - crop: where the crop lies.
    ///   - width: columns of the picture.
    ///   - height: its rows.
    public init(
        _ encoding: RunLengthEncoding, predictedIoU: Float, stabilityScore: Float, point: SIMD2<Double>,
        in crop: PixelBox, width: Int, height: Int
    ) {
        self.encoding = encoding.placed(x: crop.x0, y: crop.y0, width: width, height: height)
        self.predictedIoU = predictedIoU
        self.stabilityScore = stabilityScore
        self.point = point + SIMD2(Double(crop.x0), Double(crop.y0))
        self.crop = crop
        let bounds = encoding.boundingBox
        let corner = SIMD4(Int32(crop.x0), Int32(crop.y0), Int32(crop.x0), Int32(crop.y0))
        box =
            bounds[2] == 0
            ? corner
            : SIMD4(
                Int32(bounds[0]), Int32(bounds[1]), Int32(bounds[0] + bounds[2] - 1), Int32(bounds[1] + bounds[3] - 1)
            ) &+ corner
    }

    /// A mask of the picture's size that was found in a crop.
    ///
    /// - Parameters:
    ///   - encoding: of the picture's size.
    ///   - predictedIoU: by the model.
    ///   - stabilityScore: of the mask.
    ///   - point: in pixels of the picture.
    ///   - crop: where it was found.
    public init(
        _ encoding: RunLengthEncoding, predictedIoU: Float, stabilityScore: Float, point: SIMD2<Double>,
        foundIn crop: PixelBox
    ) {
        let corner = SIMD4(Int32(crop.x0), Int32(crop.y0), Int32(crop.x0), Int32(crop.y0))
        let found = MaskCandidate(
            encoding: encoding, predictedIoU: predictedIoU, stabilityScore: stabilityScore, point: point, crop: crop,
            box: corner)
        self = encoding.area == 0 ? found : found.replacing(encoding)
    }

    /// The box as `[x, y, width, height]` as the published generator has it: from the first column to the last.
    public var publishedBox: [Int] {
        [Int(box[0]), Int(box[1]), Int(box[2] - box[0]), Int(box[3] - box[1])]
    }

    /// `is_box_near_crop_edge`: whether the mask ends within 20 pixels of an edge of its crop that is no edge of the
    /// picture, and so is most likely cut off.
    public func isCutOff(width: Int, height: Int) -> Bool {
        let tolerance: Int32 = 20
        let edges = SIMD4(Int32(crop.x0), Int32(crop.y0), Int32(crop.x1), Int32(crop.y1))
        let borders = SIMD4(0, 0, Int32(width), Int32(height))
        return (0..<4).contains { index in
            abs(box[index] - edges[index]) <= tolerance && abs(box[index] - borders[index]) > tolerance
        }
    }
}
