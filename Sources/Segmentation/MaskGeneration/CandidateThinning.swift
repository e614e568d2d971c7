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

    /// Lets the runs of those masks go that lie on better ones.
    ///
    /// - Parameter plan: whose threshold says what lies on each other.
    package mutating func thin(by plan: MaskGenerationPlan) {
        let staying = Set(places(keptBy: plan))
        runBytes = 0
        for (point, candidates) in masks {
            var thinned = candidates
            for index in candidates.indices where !bare.contains(Place(point: point, index: index)) {
                let place = Place(point: point, index: index)
                if staying.contains(place) {
                    runBytes += candidates[index].encoding.byteCount
                } else {
                    let whole = candidates[index].encoding
                    thinned[index].encoding = RunLengthEncoding(emptyHeight: whole.height, width: whole.width)
                    bare.insert(place)
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
    package func bare(of places: [Place]) -> [Int] { Set(places.filter(bare.contains).map(\.point)).sorted() }
}

extension RunLengthEncoding {
    /// Bytes that its runs take.
    package var byteCount: Int { counts.capacity * MemoryLayout<UInt32>.stride }
}
