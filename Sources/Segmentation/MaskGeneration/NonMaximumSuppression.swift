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

    /// What two boxes have in common of what they cover together; not a number where both are empty.
    ///
    /// - Parameters:
    ///   - one: x0, y0, x1, y1.
    ///   - other: x0, y0, x1, y1.
    /// - Returns: 0 to 1.
    static func intersectionOverUnion(_ one: SIMD4<Float>, _ other: SIMD4<Float>) -> Float {
        func area(_ box: SIMD4<Float>) -> Float { (box[2] - box[0]) * (box[3] - box[1]) }
        let width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
        let height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
        let shared = width * height
        return shared / (area(one) + area(other) - shared)
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
        var isDropped = [Bool](repeating: false, count: boxes.count)
        var groups: [[Int]] = []
        for (index, box) in sorted.enumerated() where !isDropped[index] {
            var group = [order[index]]
            for other in (index + 1)..<max(index + 1, sorted.count) where !isDropped[other] {
                if intersectionOverUnion(box, sorted[other]) > threshold {
                    isDropped[other] = true
                    group.append(order[other])
                }
            }
            groups.append(group)
        }
        return groups
    }
}
