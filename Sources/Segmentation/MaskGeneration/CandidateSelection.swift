/// Weighing the candidates against each other: what the published generator does after the model.
extension MaskGenerationPlan {
    /// The masks of the picture.
    ///
    /// - Parameter candidates: by crop, what ``kept(ofCrop:)`` left.
    /// - Returns: those that stay; of different crops the smaller one is trusted.
    public func selected(_ candidates: [[MaskCandidate]]) -> [MaskCandidate] {
        precondition(candidates.count == crops.count, "\(candidates.count) crops of \(crops.count)")
        var masks: [MaskCandidate]
        if isTiled {
            masks = candidates[0] + joined(candidates.dropFirst().flatMap { $0 })
        } else {
            masks = candidates.flatMap { $0 }
        }
        if crops.count > 1 {
            masks = NonMaximumSuppression.kept(
                boxes: masks.map { SIMD4<Float>($0.box) }, scores: masks.map { 1 / Float($0.crop.area) },
                threshold: parameters.cropNMSThreshold
            ).map { masks[$0] }
        }
        let area = parameters.minimumRegionArea ?? 0
        return area > 0 ? cleaned(masks, below: area) : masks
    }

    /// `postprocess_small_regions`: small holes filled, small islands removed, and what lies on another mask then is
    /// dropped, an unchanged one being preferred.
    private func cleaned(_ masks: [MaskCandidate], below area: Int) -> [MaskCandidate] {
        var cleaned: [MaskCandidate] = []
        var scores: [Float] = []
        for var mask in masks {
            let filled = mask.encoding.fillingHoles(below: area)
            let whole = (filled ?? mask.encoding).removingIslands(below: area)
            if let changed = whole ?? filled {
                mask = mask.replacing(changed)
                scores.append(0)
            } else {
                scores.append(1)
            }
            cleaned.append(mask)
        }
        return NonMaximumSuppression.kept(
            boxes: cleaned.map { SIMD4<Float>($0.box) }, scores: scores,
            threshold: max(parameters.boxNMSThreshold, parameters.cropNMSThreshold)
        ).map { cleaned[$0] }
    }
}

extension MaskCandidate {
    /// The candidate with another mask of the picture's size.
    func replacing(_ encoding: RunLengthEncoding) -> MaskCandidate {
        var changed = self
        changed.encoding = encoding
        let bounds = encoding.boundingBox
        changed.box =
            bounds[2] == 0
            ? .zero
            : SIMD4(
                Int32(bounds[0]), Int32(bounds[1]), Int32(bounds[0] + bounds[2] - 1), Int32(bounds[1] + bounds[3] - 1))
        return changed
    }
}
