package import SegmentAnything
package import Segmentation
import Tensors

/// What a model makes of one object: one click, a box, and clicks that correct.
package struct InstanceScores: Sendable {
    /// IoU of the mask with the highest predicted IoU after the centre click.
    package var click = 0.0
    /// IoU of the best of the three masks after the centre click.
    package var best = 0.0
    /// IoU of the single mask for the tight box.
    package var box = 0.0
    /// IoU after each click, the centre click first.
    package var history: [Double] = []

    /// The first click after which the IoU is at least 0.9, counted from 1; the number of clicks where none is.
    package var clicksTo90: Int { (history.firstIndex { $0 >= 0.9 } ?? history.count - 1) + 1 }
}

/// Plays a user who knows the object and clicks where the mask is wrong.
///
/// The usual protocol of interactive segmentation (Sofiiuk, Petrov and Konushin, "Reviving Iterative Training with Mask
/// Guidance for Interactive Segmentation", 2021, <https://arxiv.org/abs/2102.06583>), as `weights/README.md` spells out.
package struct ClickSession: Sendable {
    private let image: any PreparedImage

    package init(image: any PreparedImage) {
        self.image = image
    }

    /// Plays one object on the calling thread, with at least one click.
    ///
    /// A mask without an error gets no further click and counts as 1 from there on.
    package func play(_ instance: Instance, clicks: Int) throws(PromptError) -> InstanceScores {
        var scores = InstanceScores()
        func predict(_ prompt: Prompt, multimask: Bool) throws(PromptError) -> [PredictedMask] {
            try image.predict([prompt], multimask: multimask, pool: .inline)[0]
        }
        if let mask = try predict(Prompt(box: instance.box), multimask: false).first {
            scores.box = mask.mask.intersectionOverUnion(instance.mask)
        }
        var points = [LabeledPoint(x: Double(instance.centre.x), y: Double(instance.centre.y))]
        let readings = try predict(Prompt(points: points), multimask: true)
        scores.best = readings.map { $0.mask.intersectionOverUnion(instance.mask) }.max() ?? 0
        guard var current = readings.first else { return scores }
        scores.click = current.mask.intersectionOverUnion(instance.mask)
        scores.history = [scores.click]
        while scores.history.count < clicks {
            // A mask without an error needs no further click.
            guard let click = Self.correction(of: current.mask, towards: instance.mask) else {
                scores.history.append(1)
                continue
            }
            points.append(click)
            let prompt = Prompt(points: points, mask: current.lowResolutionLogits)
            guard let next = try predict(prompt, multimask: false).first else { break }
            current = next
            scores.history.append(current.mask.intersectionOverUnion(instance.mask))
        }
        return scores
    }

    /// The next click: the innermost pixel of the largest region that is missing or too much; nil where none is.
    package static func correction(of mask: Mask, towards wanted: Mask) -> LabeledPoint? {
        let missed = Region.largest(width: mask.width, height: mask.height) {
            wanted.pixels[$0] == 1 && mask.pixels[$0] == 0
        }
        let surplus = Region.largest(width: mask.width, height: mask.height) {
            wanted.pixels[$0] == 0 && mask.pixels[$0] == 1
        }
        let missedArea = missed?.area ?? 0
        let label: PointLabel = missedArea >= surplus?.area ?? 0 ? .foreground : .background
        guard let region = label == .foreground ? missed?.region : surplus?.region else { return nil }
        let place = region.farthestInterior
        return LabeledPoint(x: Double(place.x), y: Double(place.y), label: label)
    }
}
