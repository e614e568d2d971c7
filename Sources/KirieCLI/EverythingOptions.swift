import ArgumentParser
import Cluster
import Imaging
import JSON
import Platform
import Segmentation

/// How every object of a picture is looked for: the flags of segment-anything's `scripts/amg.py`.
struct EverythingOptions: ParsableArguments {
    @Option(name: .long, help: "Points along each side of the grid. Default: 32.")
    var pointsPerSide: Int?

    @Option(name: .long, help: "Points that are decoded together. Default: 64.")
    var pointsPerBatch: Int?

    @Option(
        name: .long,
        help: "Drop masks whose predicted IoU is not above this. Default: the model's, 0.88 for published ones.",
        transform: DecimalNumber.argument)
    var predIouThresh: Double?

    @Option(
        name: .long,
        help: "Drop masks whose stability score is below this. Default: the model's, 0.95 for published ones.",
        transform: DecimalNumber.argument)
    var stabilityScoreThresh: Double?

    @Option(
        name: .long, help: "How far the threshold is moved to find the stability score. Default: 1.",
        transform: DecimalNumber.argument)
    var stabilityScoreOffset: Double?

    @Option(
        name: .long, help: "Of two masks whose boxes have a higher IoU drop the less sure one. Default: 0.7.",
        transform: DecimalNumber.argument)
    var boxNmsThresh: Double?

    @Option(name: .long, help: "Layers of crops that are looked at as well. Default: 0.")
    var cropNLayers: Int?

    @Option(
        name: .long, help: "The same between masks of different crops. Default: 0.7.", transform: DecimalNumber.argument
    )
    var cropNmsThresh: Double?

    @Option(
        name: .long, help: "How far crops overlap, in shorter sides of the picture. Default: 512/1500.",
        transform: DecimalNumber.argument)
    var cropOverlapRatio: Double?

    @Option(name: .long, help: "Points along a side are divided by this in each layer of crops. Default: 1.")
    var cropNPointsDownscaleFactor: Int?

    @Option(
        name: .long, help: "Fill holes and remove islands of fewer pixels. Default: the model's, 0 for published ones.")
    var minMaskRegionArea: Int?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Own points in place of --points-per-side: a grid for each layer of crops, each a list of [x, y] from 0 to 1.",
            valueName: "grids.json"))
    var pointGrids: String?

    @Flag(name: .long, help: "A coarse grid first, and more points only between those whose masks differ.")
    var fast = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Look at tiles of a large picture at full resolution and join masks across their seams; for prompts of points and "
                + "boxes, auto looks at the part of the picture around each.",
            valueName: "off|auto|pixels"),
        transform: { text in
            guard let choice = EverythingParameters.TileChoice(text) else {
                throw ValidationError("off, auto or a number of pixels from 64 is expected.")
            }
            return choice
        })
    var tile: EverythingParameters.TileChoice = .off

    @Option(
        name: .long, parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "Only what looks like this, the most similar first: a place on an example, or a box around it. Repeat for more.",
            valueName: "x,y|x0,y0,x1,y1"), transform: Self.exemplar)
    var like: [Exemplar] = []

    @Option(
        name: .long, parsing: .unconditionalSingleValue,
        help: ArgumentHelp("And not what looks more like this.", valueName: "x,y|x0,y0,x1,y1"),
        transform: Self.exemplar)
    var unlike: [Exemplar] = []

    @Option(
        name: .long, parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "Only what a text means, with that text as its label: one of a vocabulary. Repeat for more.",
            valueName: "text"))
    var label: [String] = []

    @Option(
        name: .customLong("labels"),
        help: ArgumentHelp("A vocabulary from a file, a text on each line.", valueName: "vocabulary.txt"))
    var labelFile: String?

    @Option(
        name: .long, parsing: .unconditional, help: "How similar it must be, from -1 to 1. Default: 0.5.",
        transform: DecimalNumber.argument)
    var likeThresh: Double?

    private static func exemplar(_ text: String) throws -> Exemplar {
        let numbers = text.split(separator: ",", omittingEmptySubsequences: false).map { DecimalNumber.coordinate($0) }
        guard let exemplar = Exemplar(numbers.compactMap(\.self)), exemplar.numbers.count == numbers.count else {
            throw ValidationError("x,y or x0,y0,x1,y1 in decimal numbers is expected")
        }
        return exemplar
    }

    func validate() throws {
        // A grid is read when it is needed; everything else is known now.
        if let fault = parameters(grids: pointGrids == nil ? nil : [[SIMD2(0.5, 0.5)]]).fault,
            pointGrids == nil || fault.parameter != "point_grids"
        {
            throw ValidationError("\(Self.flag(fault.parameter)): \(fault.reason).")
        }
        if labelFile != nil, !label.isEmpty {
            throw ValidationError("--labels takes the place of --label: give one of the two.")
        }
        if labelFile != nil, !like.isEmpty {
            throw ValidationError("--labels takes the place of --like: give one of the two.")
        }
        if pointGrids != nil, pointsPerSide != nil {
            throw ValidationError("--point-grids takes the place of --points-per-side: give one of the two.")
        }
    }

    /// Whether any of the flags was given.
    var isAny: Bool {
        [pointsPerSide, pointsPerBatch, cropNLayers, cropNPointsDownscaleFactor, minMaskRegionArea].contains {
            $0 != nil
        }
            || [
                predIouThresh, stabilityScoreThresh, stabilityScoreOffset, boxNmsThresh, cropNmsThresh,
                cropOverlapRatio,
            ].contains { $0 != nil } || pointGrids != nil || fast || !like.isEmpty || !unlike.isEmpty
            || likeThresh != nil || isLabeled
    }

    /// Whether masks get labels.
    var isLabeled: Bool { !label.isEmpty || labelFile != nil }

    /// Which part of the picture the model sees for prompts, which have `--tile` in common with everything mode.
    func tile(for prompt: PromptOptions) throws -> JobLine.Tile? {
        switch tile {
        case .off: return nil
        case .automatic:
            guard prompt.mask == nil, prompt.text == nil else {
                throw ValidationError("--tile goes with --point and --box alone, or with --everything.")
            }
            return .auto
        default: throw ValidationError("For prompts --tile is off or auto; a number of pixels goes with --everything.")
        }
    }

    /// The parameters that were asked for.
    ///
    /// - Throws: ``EverythingFault`` where the grids cannot be read, or something makes no sense.
    func parameters() throws -> EverythingParameters {
        var parameters = parameters(grids: try pointGrids.map(Self.grids))
        if let labelFile { parameters.labels = try Self.vocabulary(labelFile) }
        if let fault = parameters.fault { throw fault }
        return parameters
    }

    private func parameters(grids: [[SIMD2<Double>]]?) -> EverythingParameters {
        var parameters = EverythingParameters()
        if let grids {
            parameters.pointGrids = grids
            parameters.pointsPerSide = nil
        }
        if let pointsPerSide { parameters.pointsPerSide = pointsPerSide }
        if let pointsPerBatch { parameters.pointsPerBatch = pointsPerBatch }
        if let predIouThresh { parameters.predictedIoUThreshold = Float(predIouThresh) }
        if let stabilityScoreThresh { parameters.stabilityScoreThreshold = Float(stabilityScoreThresh) }
        if let stabilityScoreOffset { parameters.stabilityScoreOffset = Float(stabilityScoreOffset) }
        if let boxNmsThresh { parameters.boxNMSThreshold = Float(boxNmsThresh) }
        if let cropNLayers { parameters.cropLayers = cropNLayers }
        if let cropNmsThresh { parameters.cropNMSThreshold = Float(cropNmsThresh) }
        if let cropOverlapRatio { parameters.cropOverlapRatio = cropOverlapRatio }
        if let cropNPointsDownscaleFactor { parameters.cropPointsDownscaleFactor = cropNPointsDownscaleFactor }
        if let minMaskRegionArea { parameters.minimumRegionArea = minMaskRegionArea }
        parameters.isFast = fast
        parameters.like = like
        parameters.unlike = unlike
        if let likeThresh { parameters.likeThreshold = Float(likeThresh) }
        parameters.labels = label
        parameters.tiles = tile
        return parameters
    }

    /// `--pred-iou-thresh` for `pred_iou_thresh`.
    private static func flag(_ parameter: String) -> String { "--" + parameter.replacing("_", with: "-") }

    /// The lines that are not empty.
    private static func vocabulary(_ path: String) throws -> [String] {
        guard let text = String(validating: try EncodedFile.read(path, atMost: 1 << 20), as: UTF8.self) else {
            throw EverythingFault(parameter: path, reason: "it is not UTF-8: a text on each line is expected")
        }
        let lines = text.split(whereSeparator: \.isNewline).map(String.init)
        let texts = lines.filter { $0.contains { !$0.isWhitespace } }
        guard !texts.isEmpty else {
            throw EverythingFault(parameter: path, reason: "there is no text in it: one on each line is expected")
        }
        return texts
    }

    /// `[[[x, y], …], …]`.
    private static func grids(_ path: String) throws -> [[SIMD2<Double>]] {
        let fault = EverythingFault(
            parameter: path, reason: "a list of grids is expected, each a list of [x, y] from 0 to 1")
        let text = try EncodedFile.read(path, atMost: 64 << 20)
        guard let value = try? JSONValue(parsing: text), let layers = value.elements else { throw fault }
        return try layers.map { layer in
            guard let points = layer.elements else { throw fault }
            return try points.map { point in
                guard let pair = point.elements, pair.count == 2, let x = pair[0].double, let y = pair[1].double else {
                    throw fault
                }
                return SIMD2(x, y)
            }
        }
    }
}
