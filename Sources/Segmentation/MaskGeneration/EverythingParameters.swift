/// How every object of a picture is looked for: the parameters of the published `SamAutomaticMaskGenerator`, by its names and
/// with its defaults, and some of Kirie's own.
///
/// Kirillov et al., "Segment Anything", 2023, appendix B;
/// <https://github.com/facebookresearch/segment-anything>, `automatic_mask_generator.py`.
public struct EverythingParameters: Sendable, Hashable {
    /// Points along each side of the grid; nil where ``pointGrids`` are given.
    public var pointsPerSide: Int? = 32
    /// Points that are decoded together: a batch, and in a cluster the piece of work that one worker takes.
    public var pointsPerBatch = 64
    /// Masks whose predicted IoU is not above this are dropped; 0 keeps all.
    ///
    /// Nil for the model's own value: 0.88 for published models.
    public var predictedIoUThreshold: Float?
    /// Masks whose stability score is below this are dropped; 0 keeps all.
    ///
    /// Nil for the model's own value: 0.95 for published models.
    public var stabilityScoreThreshold: Float?
    /// How far the threshold of the logits is moved both ways to find the stability score.
    public var stabilityScoreOffset: Float = 1
    /// Of two masks of one crop whose boxes have a higher IoU the one with the lower predicted IoU is dropped.
    public var boxNMSThreshold: Float = 0.7
    /// Layers of crops below the whole picture: layer i has 2ⁱ × 2ⁱ of them.
    public var cropLayers = 0
    /// Of two masks of different crops whose boxes have a higher IoU the one of the larger crop is dropped.
    public var cropNMSThreshold: Float = 0.7
    /// How far crops of the first layer overlap, in shorter sides of the picture; half of it in each layer further down.
    public var cropOverlapRatio = 512.0 / 1500
    /// Points along a side in layer n are those of the whole picture, divided by this to the nth power.
    public var cropPointsDownscaleFactor = 1
    /// Own grids, one for each layer, of points from 0 to 1 in both directions, in place of ``pointsPerSide``.
    public var pointGrids: [[SIMD2<Double>]]?
    /// Holes and islands of fewer pixels are filled and removed; 0 leaves all.
    ///
    /// Nil for the model's own value: 0 for published models.
    public var minimumRegionArea: Int?
    /// A coarse grid first, and the points of the full one only where they may find a better mask of what is found there.
    ///
    /// After Shu et al., "TinySAM", 2023, section 3.3, <https://arxiv.org/abs/2312.13789>.
    public var isFast = false
    /// Only what looks like one of these is wanted, the most similar first; empty for everything.
    public var like: [Exemplar] = []
    /// And not what looks more like one of these.
    public var unlike: [Exemplar] = []
    /// How similar it must be, from -1 to 1: the cosine of pooled image features, less their mean over the picture.
    public var likeThreshold: Float = 0.5
    /// A vocabulary: each mask goes to the text that fits it best, and one that none fits is left out; empty for masks
    /// without labels.
    public var labels: [String] = []
    /// Tiles at the picture's full resolution, instead of layers of crops; masks are joined across their seams.
    public var tiles = TileChoice.off

    /// The published defaults.
    public init() {}

    /// Which tiles a large picture is cut into.
    public enum TileChoice: Sendable, Hashable, CustomStringConvertible {
        /// None.
        case off
        /// Tiles of the model's own size, or of 1,024 pixels where that is larger, of a picture that is more than half as
        /// large again.
        case automatic
        /// Tiles with sides of so many pixels.
        case pixels(Int)

        /// `off`, `auto` or a number of pixels; nil for anything else.
        public init?(_ text: some StringProtocol) {
            switch text {
            case "off": self = .off
            case "auto": self = .automatic
            default:
                guard let pixels = Int(text), Self.range.contains(pixels) else { return nil }
                self = .pixels(pixels)
            }
        }

        /// Sides that tiles may have.
        public static let range = 64...1 << 20

        /// `off`, `auto` or a number of pixels.
        public var description: String {
            switch self {
            case .off: "off"
            case .automatic: "auto"
            case .pixels(let pixels): "\(pixels)"
            }
        }
    }
}

/// What everything mode asks of masks where nobody says it: how sure a model is, and how stable its masks are, differs
/// between models.
public struct EverythingDefaults: Sendable, Hashable {
    /// See ``EverythingParameters/predictedIoUThreshold``.
    public var predictedIoUThreshold: Float
    /// See ``EverythingParameters/stabilityScoreThreshold``.
    public var stabilityScoreThreshold: Float
    /// See ``EverythingParameters/minimumRegionArea``.
    public var minimumRegionArea: Int

    /// Those of the published generator.
    public static let published = EverythingDefaults(
        predictedIoUThreshold: 0.88, stabilityScoreThreshold: 0.95, minimumRegionArea: 0)
}

extension EverythingParameters {
    /// The parameters with nothing left to the model.
    public func resolved(by defaults: EverythingDefaults) -> EverythingParameters {
        var resolved = self
        resolved.predictedIoUThreshold = predictedIoUThreshold ?? defaults.predictedIoUThreshold
        resolved.stabilityScoreThreshold = stabilityScoreThreshold ?? defaults.stabilityScoreThreshold
        resolved.minimumRegionArea = minimumRegionArea ?? defaults.minimumRegionArea
        return resolved
    }

    /// Most points that one picture may be asked for, over all crops.
    public static let mostPoints = 1 << 18
    /// Most layers of crops: the last has 4,096.
    public static let mostLayers = 6
    /// Most texts that a vocabulary may have.
    public static let mostLabels = 1000

    /// What is wrong with them; nil for nothing.
    ///
    /// Numbers that would make memory or time unbounded, and those that the published generator stumbles over.
    public var fault: EverythingFault? {
        func outside(_ name: String, _ value: some Comparable, _ range: String) -> EverythingFault {
            EverythingFault(parameter: name, reason: "\(value) is not \(range)")
        }
        if let pointsPerSide {
            guard pointGrids == nil else {
                return EverythingFault(
                    parameter: "point_grids", reason: "points_per_side is given as well: give one of the two")
            }
            guard (1...512).contains(pointsPerSide) else {
                return outside("points_per_side", pointsPerSide, "from 1 to 512")
            }
        }
        guard (1...4096).contains(pointsPerBatch) else {
            return outside("points_per_batch", pointsPerBatch, "from 1 to 4096")
        }
        let thresholds: [(String, Float)] = [
            ("pred_iou_thresh", predictedIoUThreshold ?? 0), ("stability_score_thresh", stabilityScoreThreshold ?? 0),
            ("box_nms_thresh", boxNMSThreshold), ("crop_nms_thresh", cropNMSThreshold),
        ]
        for (name, value) in thresholds where !(0...1 as ClosedRange<Float>).contains(value) {
            return outside(name, value, "from 0 to 1")
        }
        guard stabilityScoreOffset.isFinite, stabilityScoreOffset >= 0, stabilityScoreOffset <= 1e6 else {
            return outside("stability_score_offset", stabilityScoreOffset, "from 0 to 1000000")
        }
        guard (0...Self.mostLayers).contains(cropLayers) else {
            return outside("crop_n_layers", cropLayers, "from 0 to \(Self.mostLayers)")
        }
        guard cropOverlapRatio.isFinite, cropOverlapRatio >= 0, cropOverlapRatio < 1 else {
            return outside("crop_overlap_ratio", cropOverlapRatio, "from 0 to less than 1")
        }
        guard (1...512).contains(cropPointsDownscaleFactor) else {
            return outside("crop_n_points_downscale_factor", cropPointsDownscaleFactor, "from 1 to 512")
        }
        if let minimumRegionArea, minimumRegionArea < 0 {
            return outside("min_mask_region_area", minimumRegionArea, "0 or more")
        }
        guard (-1...1 as ClosedRange<Float>).contains(likeThreshold) else {
            return outside("like_thresh", likeThreshold, "from -1 to 1")
        }
        if like.isEmpty, !unlike.isEmpty {
            return EverythingFault(parameter: "unlike", reason: "goes with like: say what is meant, too")
        }
        guard like.count + unlike.count <= 256 else {
            return outside("like", like.count + unlike.count, "at most 256 examples")
        }
        if let labelFault { return labelFault }
        if tiles != .off, cropLayers > 0 {
            return EverythingFault(
                parameter: "tile", reason: "layers of crops are asked for as well: tiles take their place")
        }
        return gridFault
    }

    private var labelFault: EverythingFault? {
        guard labels.count <= Self.mostLabels else {
            return EverythingFault(
                parameter: "labels", reason: "\(labels.count) texts are more than the \(Self.mostLabels) that are taken"
            )
        }
        var places: [String: Int] = [:]
        for (index, label) in labels.enumerated() {
            guard label.contains(where: { !$0.isWhitespace }) else {
                return EverythingFault(parameter: "labels[\(index)]", reason: "the text is empty")
            }
            if let first = places.updateValue(index, forKey: label) {
                return EverythingFault(
                    parameter: "labels[\(index)]", reason: "it is the text of labels[\(first)] once more")
            }
        }
        guard labels.isEmpty || like.isEmpty else {
            return EverythingFault(parameter: "labels", reason: "like is given as well: give one of the two")
        }
        return nil
    }

    private var gridFault: EverythingFault? {
        guard let pointGrids else {
            guard pointsPerSide != nil else {
                return EverythingFault(parameter: "points_per_side", reason: "neither it nor point_grids is given")
            }
            return nil
        }
        let layers = tiles == .off ? cropLayers + 1 : 2
        guard pointGrids.count >= layers else {
            return EverythingFault(
                parameter: "point_grids",
                reason: "there are \(pointGrids.count) grids for \(layers) layers: give each its own")
        }
        var count = 0
        for (layer, grid) in pointGrids.enumerated() {
            count += grid.count
            guard !grid.isEmpty || layer >= layers else {
                return EverythingFault(parameter: "point_grids[\(layer)]", reason: "there is no point in it")
            }
            for (index, point) in grid.enumerated()
            where !(0...1 as ClosedRange<Double>).contains(point.x) || !(0...1 as ClosedRange<Double>).contains(point.y)
            {
                return EverythingFault(
                    parameter: "point_grids[\(layer)][\(index)]",
                    reason: "(\(point.x), \(point.y)) is outside: points go from 0 to 1 in both directions")
            }
        }
        guard count <= Self.mostPoints else {
            return EverythingFault(
                parameter: "point_grids", reason: "\(count) points are more than the \(Self.mostPoints) that are taken")
        }
        return nil
    }
}
