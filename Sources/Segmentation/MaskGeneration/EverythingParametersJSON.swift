public import JSON

extension EverythingParameters {
    /// The parameters as one line of JSON, by their published names, those that are the defaults, or left to the model, left out.
    public var json: String { value.text }

    /// The parameters as an object, by their published names, those of the defaults left out.
    public var value: JSONValue {
        var members: [JSONValue.Member] = []
        let defaults = EverythingParameters()
        func add(_ name: String, _ value: JSONValue, where isGiven: Bool) {
            if isGiven { members.append((name, value)) }
        }
        func number(_ value: Float) -> JSONValue { .number(Double("\(value)") ?? Double(value)) }
        add(
            "points_per_side", pointsPerSide.map { .integer($0) } ?? .null,
            where: pointsPerSide != defaults.pointsPerSide)
        add("points_per_batch", .integer(pointsPerBatch), where: pointsPerBatch != defaults.pointsPerBatch)
        if let predictedIoUThreshold { add("pred_iou_thresh", number(predictedIoUThreshold), where: true) }
        if let stabilityScoreThreshold { add("stability_score_thresh", number(stabilityScoreThreshold), where: true) }
        add(
            "stability_score_offset", number(stabilityScoreOffset),
            where: stabilityScoreOffset != defaults.stabilityScoreOffset)
        add("box_nms_thresh", number(boxNMSThreshold), where: boxNMSThreshold != defaults.boxNMSThreshold)
        add("crop_n_layers", .integer(cropLayers), where: cropLayers != defaults.cropLayers)
        add("crop_nms_thresh", number(cropNMSThreshold), where: cropNMSThreshold != defaults.cropNMSThreshold)
        add("crop_overlap_ratio", .number(cropOverlapRatio), where: cropOverlapRatio != defaults.cropOverlapRatio)
        add(
            "crop_n_points_downscale_factor", .integer(cropPointsDownscaleFactor),
            where: cropPointsDownscaleFactor != defaults.cropPointsDownscaleFactor)
        add(
            "point_grids",
            .array((pointGrids ?? []).map { .array($0.map { .array([.number($0.x), .number($0.y)]) }) }),
            where: pointGrids != nil)
        if let minimumRegionArea { add("min_mask_region_area", .integer(minimumRegionArea), where: true) }
        add("fast", .bool(isFast), where: isFast)
        func list(_ exemplars: [Exemplar]) -> JSONValue {
            .array(exemplars.map { .array($0.numbers.map { .number($0) }) })
        }
        add("like", list(like), where: !like.isEmpty)
        add("unlike", list(unlike), where: !unlike.isEmpty)
        add("like_thresh", number(likeThreshold), where: likeThreshold != defaults.likeThreshold)
        add("labels", .array(labels.map { .string($0) }), where: !labels.isEmpty)
        add("tile", .string(tiles.description), where: tiles != .off)
        return .object(members)
    }

    /// Reads an object of parameters by their published names.
    ///
    /// - Parameter json: an object, or `true` for the defaults.
    /// - Throws: ``EverythingFault`` for a name that there is none of, and for a value that makes no sense.
    public init(_ json: JSONValue) throws(EverythingFault) {
        self.init()
        if case .bool(true) = json { return }
        guard let members = json.members else {
            throw EverythingFault(parameter: "everything", reason: "true or an object of parameters is expected")
        }
        for (name, value) in members { try set(name, value) }
        if let fault { throw fault }
    }

    private mutating func set(_ name: String, _ value: JSONValue) throws(EverythingFault) {
        func fault(_ expected: String) -> EverythingFault {
            EverythingFault(parameter: name, reason: "\(expected) is expected")
        }
        func whole() throws(EverythingFault) -> Int {
            guard let number = value.integer else { throw fault("a whole number") }
            return number
        }
        func number() throws(EverythingFault) -> Double {
            guard let number = value.double else { throw fault("a number") }
            return number
        }
        switch name {
        case "points_per_side": if case .null = value { pointsPerSide = nil } else { pointsPerSide = try whole() }
        case "points_per_batch": pointsPerBatch = try whole()
        case "pred_iou_thresh": predictedIoUThreshold = Float(try number())
        case "stability_score_thresh": stabilityScoreThreshold = Float(try number())
        case "stability_score_offset": stabilityScoreOffset = Float(try number())
        case "box_nms_thresh": boxNMSThreshold = Float(try number())
        case "crop_n_layers": cropLayers = try whole()
        case "crop_nms_thresh": cropNMSThreshold = Float(try number())
        case "crop_overlap_ratio": cropOverlapRatio = try number()
        case "crop_n_points_downscale_factor": cropPointsDownscaleFactor = try whole()
        case "min_mask_region_area": minimumRegionArea = try whole()
        case "point_grids":
            if case .null = value { return }
            guard let layers = value.elements else { throw fault("a list of grids of [x, y]") }
            var grids: [[SIMD2<Double>]] = []
            for layer in layers {
                guard let points = layer.elements else { throw fault("a list of grids of [x, y]") }
                var grid: [SIMD2<Double>] = []
                for point in points {
                    guard let pair = point.elements, pair.count == 2, let x = pair[0].double, let y = pair[1].double
                    else { throw fault("a list of grids of [x, y]") }
                    grid.append(SIMD2(x, y))
                }
                grids.append(grid)
            }
            pointGrids = grids
            // The published generator takes one of the two; here the default is no word of the user's.
            if pointsPerSide == EverythingParameters().pointsPerSide { pointsPerSide = nil }
        case "like", "unlike":
            guard let list = value.elements else { throw fault("a list of points [x, y] and boxes [x0, y0, x1, y1]") }
            var exemplars: [Exemplar] = []
            for element in list {
                guard let numbers = element.elements, let exemplar = Exemplar(numbers.compactMap(\.double)),
                    exemplar.numbers.count == numbers.count
                else { throw fault("a list of points [x, y] and boxes [x0, y0, x1, y1]") }
                exemplars.append(exemplar)
            }
            if name == "like" { like = exemplars } else { unlike = exemplars }
        case "like_thresh": likeThreshold = Float(try number())
        case "labels":
            guard let texts = value.elements?.map(\.string), !texts.contains(nil) else {
                throw fault("a list of texts")
            }
            labels = texts.compactMap(\.self)
        case "fast":
            guard case .bool(let isFast) = value else { throw fault("true or false") }
            self.isFast = isFast
        case "tile":
            guard
                let choice = value.string.flatMap({ TileChoice($0) }) ?? value.integer.flatMap({ TileChoice("\($0)") })
            else { throw fault("\"off\", \"auto\" or a number of pixels from 64") }
            tiles = choice
        default:
            throw EverythingFault(
                parameter: name,
                reason:
                    "there is no such parameter: those of SamAutomaticMaskGenerator, fast, tile, labels, like, unlike and "
                    + "like_thresh are"
            )
        }
    }
}
