/// Masks of many runs, of which not all are held at a time.
///
/// What stays of a crop's masks is told by boxes and scores alone, so the runs of a mask that lies on a better one may be
/// let go. It comes back where the better one lies on a still better one that does not touch it; then its point is answered
/// once more, which gives the same masks to the bit.
extension MaskGenerationPlan.CropAnswers {
    /// A mask by its point, and which of the point's masks it is.
    package struct Place: Sendable, Hashable {
        package let point: Int
        package let index: Int

        package init(point: Int, index: Int) {
            self.point = point
            self.index = index
        }
    }

    /// Adds the masks of points, and where runs take more than `limit` bytes lets those of masks go that lie on better
    /// ones.
    ///
    /// - Parameters:
    ///   - found: by point, its masks.
    ///   - points: their indices.
    ///   - plan: of the crop.
    ///   - limit: bytes of runs.
    package mutating func add(_ found: [[MaskCandidate]], of points: [Int], by plan: MaskGenerationPlan, limit: Int) {
        for (point, candidates) in zip(points, found) {
            runBytes += candidates.runBytes - (masks[point]?.runBytes ?? 0)
            masks[point] = candidates
        }
        if runBytes > limit { thin(by: plan) }
    }

    /// Lets the runs of those masks go that lie on better ones.
    ///
    /// - Parameter plan: whose threshold says what lies on each other.
    package mutating func thin(by plan: MaskGenerationPlan) {
        let staying = Set(places(keptBy: plan))
        runBytes = 0
        for (point, candidates) in masks {
            var thinned = candidates
            for index in candidates.indices where !candidates[index].isBare {
                let whole = candidates[index].encoding
                if staying.contains(Place(point: point, index: index)) {
                    runBytes += whole.byteCount
                } else {
                    thinned[index].encoding = RunLengthEncoding(emptyHeight: whole.height, width: whole.width)
                    thinned[index].isBare = true
                }
            }
            masks[point] = thinned
        }
    }

    /// The masks that stay, the highest predicted IoU first: of two on each other the one with the higher.
    package func places(keptBy plan: MaskGenerationPlan) -> [Place] {
        let all = masks.sorted { $0.key < $1.key }.flatMap { point, candidates in
            candidates.enumerated().map { (place: Place(point: point, index: $0.offset), candidate: $0.element) }
        }
        return NonMaximumSuppression.kept(
            boxes: all.map { SIMD4<Float>($0.candidate.box) }, scores: all.map(\.candidate.predictedIoU),
            threshold: plan.parameters.boxNMSThreshold
        ).map { all[$0].place }
    }

    /// Points that must be answered once more before masks at those places are whole, in order.
    package func bare(of places: [Place]) -> [Int] {
        Set(places.filter { masks[$0.point]?[$0.index].isBare == true }.map(\.point)).sorted()
    }
}

extension [MaskCandidate] {
    /// Bytes that their runs take.
    package var runBytes: Int { reduce(0) { $0 + $1.encoding.byteCount } }
}

extension RunLengthEncoding {
    /// Bytes that its runs take.
    package var byteCount: Int { counts.capacity * MemoryLayout<UInt32>.stride }
}
