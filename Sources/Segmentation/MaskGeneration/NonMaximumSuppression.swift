/// Dropping boxes that lie on better ones.
package enum NonMaximumSuppression {
    /// The boxes that stay, the highest score first; of equal scores the one that came first.
    ///
    /// The arithmetic is that of torchvision's `nms`, in 32-bit floats: a box stays unless its IoU with one that stays and
    /// has a higher score is above the threshold.
    ///
    /// - Parameters:
    ///   - boxes: x0, y0, x1, y1.
    ///   - scores: one for each box.
    ///   - threshold: of the IoU.
    /// - Returns: indices of boxes.
    package static func kept(boxes: [SIMD4<Float>], scores: [Float], threshold: Float) -> [Int] {
        groups(boxes: boxes, scores: scores, threshold: threshold).compactMap(\.first)
    }

    /// The boxes that stay, as ``kept(boxes:scores:threshold:)`` has them, each with those that were dropped for it.
    ///
    /// - Parameters:
    ///   - boxes: x0, y0, x1, y1.
    ///   - scores: one for each box.
    ///   - threshold: of the IoU.
    /// - Returns: indices of boxes by group, the highest score first.
    package static func groups(boxes: [SIMD4<Float>], scores: [Float], threshold: Float) -> [[Int]] {
        precondition(boxes.count == scores.count, "\(scores.count) scores for \(boxes.count) boxes")
        let order = boxes.indices.sorted { (scores[$0], $1) > (scores[$1], $0) }
        let sorted = order.map { boxes[$0] }
        let areas = sorted.map { ($0[2] - $0[0]) * ($0[3] - $0[1]) }
        var isDropped = [Bool](repeating: false, count: boxes.count)
        var groups: [[Int]] = []
        for (index, box) in sorted.enumerated() where !isDropped[index] {
            var group = [order[index]]
            for other in (index + 1)..<max(index + 1, sorted.count) where !isDropped[other] {
                let width = max(0, min(box[2], sorted[other][2]) - max(box[0], sorted[other][0]))
                let height = max(0, min(box[3], sorted[other][3]) - max(box[1], sorted[other][1]))
                let shared = width * height
                if shared / (areas[index] + areas[other] - shared) > threshold {
                    isDropped[other] = true
                    group.append(order[other])
                }
            }
            groups.append(group)
        }
        return groups
    }
}
