/// Which points of a crop are asked for one after the other.
///
/// The plain way has one stage: all points. The fast one begins with every fourth point along a side, and halves the
/// distance twice; between points whose answers agree nothing new is expected, so those in between are left out. TinySAM
/// (Shu et al., 2023, section 3.3, <https://arxiv.org/abs/2312.13789>) leaves out whatever lies under a confident mask; that
/// loses the parts of a large object, and what lies on it.
extension MaskGenerationPlan {
    /// The distances of the stages' points, in points of the grid.
    private static let distances = [4, 2, 1]
    /// Masks of two points are the same where their IoU is at least this.
    private static let sameness = 0.9

    /// How many stages a crop has.
    public func stageCount(of crop: Int) -> Int { fastSide(of: crop) == nil ? 1 : Self.distances.count }

    /// The points of a stage, in the order of the grid.
    ///
    /// - Parameters:
    ///   - stage: counted from 0.
    ///   - crop: which.
    ///   - answers: what the points of the stages before were answered with, by their indices.
    /// - Returns: indices of the crop's points.
    public func points(ofStage stage: Int, of crop: Int, after answers: [Int: [MaskCandidate]]) -> [Int] {
        let count = grids[crops[crop].layer].count
        guard let side = fastSide(of: crop) else { return stage == 0 ? Array(0..<count) : [] }
        var expected = answers
        let places = points(of: crop)
        for (level, distance) in Self.distances.prefix(stage + 1).enumerated() {
            var asked: [Int] = []
            for y in Self.lattice(side, distance) {
                for x in Self.lattice(side, distance) where expected[y * side + x] == nil {
                    let index = y * side + x
                    if level > 0,
                        let known = between(
                            x, y, Self.distances[level - 1], side, expected, at: places[index], in: crops[crop].box,
                            isLast: level == Self.distances.count - 1)
                    {
                        expected[index] = known
                    } else {
                        asked.append(index)
                    }
                }
            }
            if level == stage { return asked }
        }
        return []
    }

    /// Rows and columns of points at a distance, those of the larger distances among them.
    private static func lattice(_ side: Int, _ distance: Int) -> [Int] {
        let start = distances[0] / 2
        return (0..<side).filter { ($0 - start) % distance == 0 }
    }

    /// What a point must be answered with, as the points around it were; nil where they do not tell.
    private func between(
        _ x: Int, _ y: Int, _ distance: Int, _ side: Int, _ answers: [Int: [MaskCandidate]], at place: SIMD2<Double>,
        in box: PixelBox, isLast: Bool
    ) -> [MaskCandidate]? {
        func around(_ value: Int) -> [Int] {
            let start = Self.distances[0] / 2
            let rest = ((value - start) % distance + distance) % distance
            return rest == 0 ? [value] : [value - rest, value - rest + distance].filter { $0 >= 0 && $0 < side }
        }
        let neighbours = around(y).flatMap { y in around(x).compactMap { x in answers[y * side + x] } }
        guard neighbours.count > 1 else { return nil }
        let most = neighbours.max { $0.count < $1.count } ?? []
        // Where nothing confident lies at four places, nothing large does.
        if most.isEmpty { return isLast ? [] : nil }
        let position = min(box.x1 - 1, box.x0 + Int(place.x)) * height + min(box.y1 - 1, box.y0 + Int(place.y))
        for masks in neighbours {
            guard !masks.isEmpty else { return nil }
            for mask in masks {
                guard mask.encoding.contains(position), most.contains(where: { isSame($0, mask) }) else { return nil }
            }
        }
        return most
    }

    private func isSame(_ first: MaskCandidate, _ second: MaskCandidate) -> Bool {
        let (a, b) = (first.box, second.box)
        let width = Int(min(a[2], b[2]) - max(a[0], b[0])) + 1
        let height = Int(min(a[3], b[3]) - max(a[1], b[1])) + 1
        guard width > 0, height > 0 else { return false }
        func area(_ box: SIMD4<Int32>) -> Int { Int(box[2] - box[0] + 1) * Int(box[3] - box[1] + 1) }
        // Boxes are compared first: they cost nothing.
        let shared = width * height
        guard Double(shared) >= 0.8 * Double(area(a) + area(b) - shared) else { return false }
        return first.encoding.intersectionOverUnion(second.encoding) >= Self.sameness
    }

    /// Points along a side of the crop's grid in fast mode; nil where the plain way is taken.
    private func fastSide(of crop: Int) -> Int? {
        guard parameters.isFast, parameters.pointGrids == nil else { return nil }
        let count = grids[crops[crop].layer].count
        let side = Int(Double(count).squareRoot().rounded())
        return side * side == count && side > Self.distances[0] ? side : nil
    }
}
