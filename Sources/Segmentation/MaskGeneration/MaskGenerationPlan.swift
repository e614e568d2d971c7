/// Which parts of a picture are looked at in everything mode, and at which points.
///
/// It depends on the picture's size and on the parameters alone, so that every worker of a cluster makes the same one.
public struct MaskGenerationPlan: Sendable, Hashable {
    /// A part of the picture that is encoded for itself.
    public struct Crop: Sendable, Hashable {
        /// Where it lies.
        public let box: PixelBox
        /// 0 for the whole picture, then the layers of crops, or 1 for tiles.
        public let layer: Int
    }

    /// The picture.
    public let width: Int
    /// Rows of the picture.
    public let height: Int
    /// What it was made of.
    public let parameters: EverythingParameters
    /// The whole picture, and then its crops or tiles.
    public let crops: [Crop]
    /// By layer: points from 0 to 1 in both directions.
    public let grids: [[SIMD2<Double>]]

    /// Plans for a picture of that size.
    ///
    /// - Parameters:
    ///   - width: columns of the picture.
    ///   - height: its rows.
    ///   - parameters: what is asked for.
    ///   - modelSize: S, the side of what the model sees, on which automatic tiles depend.
    /// - Throws: ``EverythingFault`` where the parameters make no sense, or ask for more points than are taken.
    public init(width: Int, height: Int, parameters: EverythingParameters, modelSize: Int) throws(EverythingFault) {
        if let fault = parameters.fault { throw fault }
        self.width = width
        self.height = height
        self.parameters = parameters
        let whole = Crop(box: PixelBox(x0: 0, y0: 0, x1: width, y1: height), layer: 0)
        let tile: Int? =
            switch parameters.tiles {
            case .off: nil
            case .pixels(let pixels): max(width, height) > pixels ? pixels : nil
            case .automatic: max(width, height) * 2 > 3 * PromptTile.side(modelSize) ? PromptTile.side(modelSize) : nil
            }
        if let tile {
            crops = [whole] + Self.tiles(width, height, side: tile)
        } else {
            crops = [whole] + Self.crops(width, height, parameters)
        }
        let layers = 1 + (crops.map(\.layer).max() ?? 0)
        if let grids = parameters.pointGrids {
            self.grids = Array(grids.prefix(layers))
        } else {
            let side = parameters.pointsPerSide ?? 1
            var scale = 1.0
            var grids: [[SIMD2<Double>]] = []
            for layer in 0..<layers {
                // A tile is a part of the picture for itself: half of the points along a side find what is in it.
                let count = tile != nil && layer > 0 ? max(1, side / 2) : Int(Double(side) / scale)
                guard count > 0 else {
                    throw EverythingFault(
                        parameter: "crop_n_points_downscale_factor",
                        reason: "no point is left of \(side) along a side in layer \(layer)")
                }
                grids.append(Self.grid(count))
                scale *= Double(parameters.cropPointsDownscaleFactor)
            }
            self.grids = grids
        }
        let points = crops.reduce(0) { $0 + grids[$1.layer].count }
        guard points <= EverythingParameters.mostPoints else {
            throw EverythingFault(
                parameter: tile != nil ? "tile" : crops.count > 1 ? "crop_n_layers" : "points_per_side",
                reason: "\(crops.count) parts of the picture with \(points) points in all are more than the "
                    + "\(EverythingParameters.mostPoints) points that are taken")
        }
    }

    /// Whether layer 1 are tiles.
    public var isTiled: Bool { parameters.tiles != .off && crops.count > 1 }

    /// `build_point_grid`: n × n points in the middles of as many equal parts, row by row.
    static func grid(_ count: Int) -> [SIMD2<Double>] {
        let offset = 1 / Double(2 * count)
        let side: [Double] =
            count == 1
            ? [offset]
            : (0..<count).map { index in
                // numpy.linspace: the step times the index, and the end itself.
                index == count - 1
                    ? 1 - offset : Double(index) * ((1 - offset - offset) / Double(count - 1)) + offset
            }
        return side.flatMap { y in side.map { x in SIMD2(x, y) } }
    }

    /// `generate_crop_boxes`, without the whole picture.
    private static func crops(_ width: Int, _ height: Int, _ parameters: EverythingParameters) -> [Crop] {
        let shorter = Double(min(width, height))
        var crops: [Crop] = []
        for layer in 0..<parameters.cropLayers {
            let count = 1 << (layer + 1)
            let overlap = Int(parameters.cropOverlapRatio * shorter * (2 / Double(count)))
            func length(_ whole: Int) -> Int {
                let sum = overlap * (count - 1) + whole
                return sum / count + (sum % count == 0 ? 0 : 1)
            }
            let (cropWidth, cropHeight) = (length(width), length(height))
            for column in 0..<count {
                for row in 0..<count {
                    let (x0, y0) = ((cropWidth - overlap) * column, (cropHeight - overlap) * row)
                    let box = PixelBox(
                        x0: x0, y0: y0, x1: min(x0 + cropWidth, width), y1: min(y0 + cropHeight, height))
                    // Of a picture of a few pixels some crops hold none.
                    if box.width > 0, box.height > 0 { crops.append(Crop(box: box, layer: layer + 1)) }
                }
            }
        }
        return crops
    }

    /// Tiles of that side that cover the picture, all of one size where the picture is large enough, and overlap by a
    /// quarter or more.
    private static func tiles(_ width: Int, _ height: Int, side: Int) -> [Crop] {
        func starts(_ whole: Int) -> [Int] {
            guard whole > side else { return [0] }
            let step = side - side / 4
            let count = (whole - side + step - 1) / step + 1
            return (0..<count).map { ($0 * (whole - side) + (count - 1) / 2) / max(1, count - 1) }
        }
        return starts(height).flatMap { y in
            starts(width).map { x in
                Crop(
                    box: PixelBox(x0: x, y0: y, x1: min(x + side, width), y1: min(y + side, height)), layer: 1)
            }
        }
    }

    /// The points of a crop, in pixels of that crop.
    public func points(of crop: Int) -> [SIMD2<Double>] {
        let box = crops[crop].box
        let scale = SIMD2(Double(box.width), Double(box.height))
        return grids[crops[crop].layer].map { $0 * scale }
    }

    /// How many points there are in all crops.
    public var pointCount: Int { crops.reduce(0) { $0 + grids[$1.layer].count } }
}
