/// Which points of a crop are asked for one after the other.
///
/// The plain way asks for all points at once. The fast one begins with every second point of every second row. What stays of
/// a crop's masks is, of those that lie on each other, the one with the highest predicted IoU; so the other points are only
/// asked for where they may find a higher one: around the best few of each group of masks, or around its best alone where
/// these are one and the same mask already, again and again until nothing new is there to ask for. For all that drafts are enough, which tell boxes and scores; only the best of each group becomes
/// a mask. TinySAM (Shu et al., 2023, section 3.3, <https://arxiv.org/abs/2312.13789>) leaves out whatever
/// lies under a confident mask; that loses the parts of a large object, and what lies on it.
extension MaskGenerationPlan {
    /// The distance of the points that are asked for first, in points of the grid.
    private static let distance = 2
    /// Of a group of masks on each other, around so many is searched.
    private static let searchedOfGroup = 6
    /// So much of their boxes the best of a group have in common that are one and the same mask, whichever of them is kept.
    private static let overlapOfSame: Float = 0.9

    /// What the points of a crop were answered with, by their indices.
    public struct CropAnswers: Sendable {
        /// The masks of points.
        public var masks: [Int: [MaskCandidate]] = [:]
        /// Of points that were only looked at: candidates without a pixel, whose boxes and scores tell what was found.
        public var drafts: [Int: [MaskCandidate]] = [:]
        /// Bytes of the runs that were added since they were counted last, and of those that were there then.
        package var runBytes = 0

        /// None yet.
        public init() {}
    }

    /// What is asked for next.
    public struct PointRequest: Sendable, Hashable {
        /// Indices of the crop's points, in the order of the grid.
        public var points: [Int]
        /// Whether boxes and scores are enough.
        public var wantsDrafts: Bool

        /// Some points.
        package init(points: [Int], wantsDrafts: Bool) {
            self.points = points
            self.wantsDrafts = wantsDrafts
        }
    }

    /// The points that are asked for next.
    ///
    /// - Parameters:
    ///   - crop: which.
    ///   - answers: what all points that were asked for were answered with.
    /// - Returns: the points; nil where nothing is left to ask for.
    public func nextPoints(of crop: Int, after answers: CropAnswers) -> PointRequest? {
        guard let side = fastSide(of: crop) else {
            let open = grids[crops[crop].layer].indices.filter { answers.masks[$0] == nil }
            return open.isEmpty ? nil : PointRequest(points: open, wantsDrafts: false)
        }
        func places(_ start: Int) -> StrideTo<Int> { stride(from: start, to: side, by: Self.distance) }
        let first = Self.distance / 2
        let lattice = places(first).flatMap { y in places(first).map { y * side + $0 } }
            .filter { answers.drafts[$0] == nil }
        if !lattice.isEmpty { return PointRequest(points: lattice, wantsDrafts: true) }
        // A draft's stability is that of low-resolution logits. Where there turns out to be no mask, the next of its group is
        // made.
        let groups = groups(of: answers.drafts.merging(answers.masks) { _, masks in masks })
        var next: Set<Int> = []
        for point in Set(groups.flatMap(Self.searched)) {
            let (x, y) = (point % side, point / side)
            for (column, row) in [(x, y - 1), (x - 1, y), (x + 1, y), (x, y + 1)]
            where row >= 0 && row < side && column >= 0 && column < side && answers.drafts[row * side + column] == nil {
                next.insert(row * side + column)
            }
        }
        if !next.isEmpty { return PointRequest(points: next.sorted(), wantsDrafts: true) }
        let finalists = Set(groups.compactMap(\.first?.point)).filter { answers.masks[$0] == nil }
        return finalists.isEmpty ? nil : PointRequest(points: finalists.sorted(), wantsDrafts: false)
    }

    /// The masks of a crop that stay.
    ///
    /// - Parameter answers: of all points that there were to ask for.
    /// - Returns: those that stay, the highest predicted IoU first.
    public func kept(ofCrop answers: CropAnswers) -> [MaskCandidate] {
        answers.places(keptBy: self).compactMap { answers.masks[$0.point]?[$0.index] }
    }

    /// A draft, and the point that was answered with it.
    private struct Draft {
        let point: Int
        let box: SIMD4<Float>
        let predictedIoU: Float
    }

    /// Drafts by groups of those that lie on each other, the highest predicted IoU first.
    private func groups(of drafts: [Int: [MaskCandidate]]) -> [[Draft]] {
        let all = drafts.sorted { $0.key < $1.key }.flatMap { point, drafts in
            drafts.map { Draft(point: point, box: SIMD4<Float>($0.box), predictedIoU: $0.predictedIoU) }
        }
        return NonMaximumSuppression.groups(
            boxes: all.map(\.box), scores: all.map(\.predictedIoU), threshold: parameters.boxNMSThreshold
        ).map { $0.map { all[$0] } }
    }

    /// The points of a group around which is searched.
    private static func searched(_ group: [Draft]) -> [Int] {
        let best = group.prefix(searchedOfGroup)
        let isSettled =
            best.count == searchedOfGroup
            && best.allSatisfy {
                NonMaximumSuppression.intersectionOverUnion(best[best.startIndex].box, $0.box) >= overlapOfSame
            }
        return best.prefix(isSettled ? 1 : searchedOfGroup).map(\.point)
    }

    /// Points along a side of the crop's grid in fast mode; nil where the plain way is taken.
    private func fastSide(of crop: Int) -> Int? {
        guard parameters.isFast, parameters.pointGrids == nil else { return nil }
        let count = grids[crops[crop].layer].count
        let side = Int(Double(count).squareRoot().rounded())
        return side * side == count && side >= 2 * Self.distance ? side : nil
    }
}
