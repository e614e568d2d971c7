/// Joining what the seams of tiles cut apart.
extension MaskGenerationPlan {
    /// Two masks are of one object where their IoU within what their tiles share is at least this.
    private static let leastAgreement = 0.6

    /// The masks of tiles as those of the picture: what was cut is joined with its other parts, and dropped where one of
    /// them is missing, since then it is a piece of something that is only seen whole in the whole picture.
    func joined(_ candidates: [MaskCandidate]) -> [MaskCandidate] {
        var whole: [MaskCandidate] = []
        var parts: [MaskCandidate] = []
        for candidate in candidates {
            if candidate.isCutOff(width: width, height: height) {
                parts.append(candidate)
            } else {
                whole.append(candidate)
            }
        }
        let masks = whole + sets(of: parts).compactMap { union($0.map { parts[$0] }) }
        // An object where tiles overlap is seen whole by both.
        return NonMaximumSuppression.kept(
            boxes: masks.map { SIMD4<Float>($0.box) }, scores: masks.map(\.predictedIoU),
            threshold: parameters.cropNMSThreshold
        ).map { masks[$0] }
    }

    /// Which parts belong together.
    private func sets(of parts: [MaskCandidate]) -> [[Int]] {
        var sets = DisjointSets(count: parts.count)
        let bounds = parts.map {
            PixelBox(x0: Int($0.box[0]), y0: Int($0.box[1]), x1: Int($0.box[2]) + 1, y1: Int($0.box[3]) + 1)
        }
        for first in parts.indices {
            for second in (first + 1)..<max(first + 1, parts.count) where parts[first].crop != parts[second].crop {
                let shared = parts[first].crop.intersection(parts[second].crop)
                guard shared.width > 0, shared.height > 0 else { continue }
                let (a, b) = (bounds[first].intersection(shared), bounds[second].intersection(shared))
                // Boxes that differ too much hold masks that do.
                let both = a.intersection(b)
                guard both.width > 0, both.height > 0,
                    2 * both.width >= a.hull(b).width, 2 * both.height >= a.hull(b).height
                else { continue }
                let here = a.hull(b)
                let agreement = parts[first].encoding.cropped(to: here)
                    .intersectionOverUnion(parts[second].encoding.cropped(to: here))
                if agreement >= Self.leastAgreement { sets.join(first, second) }
            }
        }
        return Dictionary(grouping: parts.indices) { sets.root($0) }.sorted { $0.key < $1.key }.map(\.value)
    }

    /// The parts of one object as one mask; nil where it goes on beyond a seam and no part tells how.
    private func union(_ parts: [MaskCandidate]) -> MaskCandidate? {
        for part in parts {
            for (index, end) in [part.crop.x0, part.crop.y0, part.crop.x1, part.crop.y1].enumerated()
            where abs(Int(part.box[index]) - end) <= 20 && end != [0, 0, width, height][index] {
                let goesOn = parts.contains { other in
                    let ends = [other.crop.x0, other.crop.y0, other.crop.x1, other.crop.y1]
                    return index < 2 ? ends[index] < end : ends[index] > end
                }
                if !goesOn { return nil }
            }
        }
        guard var joined = parts.max(by: { $0.encoding.area < $1.encoding.area }) else { return nil }
        let area = parts.reduce(0) { $0 + $1.encoding.area }
        func mean(_ value: (MaskCandidate) -> Float) -> Float {
            area == 0
                ? value(joined)
                : parts.reduce(0) { $0 + value($1) * Float($1.encoding.area) } / Float(area)
        }
        let (predictedIoU, stability) = (mean(\.predictedIoU), mean(\.stabilityScore))
        joined = joined.replacing(parts.dropFirst().reduce(parts[0].encoding) { $0.union($1.encoding) })
        joined.predictedIoU = predictedIoU
        joined.stabilityScore = stability
        return joined
    }
}
