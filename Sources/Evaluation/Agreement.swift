package import Imaging
package import SegmentAnything
import Segmentation
import Synchronization
package import Tensors

/// How near one precision's masks come to those of another, prompt by prompt.
///
/// The exact side plays the user of ``ClickSession`` on every object: a box, a click with its three masks, and clicks
/// that correct; the other side gets the same prompts and its masks are compared, each with its counterpart.
package struct Agreement: Sendable {
    /// One precision of a model.
    package typealias Side = (encoder: any ImageEncoding, decoder: any PromptDecoding)

    private let exact: Side
    private let other: Side
    private let corrections: Int
    private let pictures: ImageDecoder
    private let pool: ThreadPool

    package init(
        exact: Side, other: Side, corrections: Int, pictures: ImageDecoder = ImageDecoder(), pool: ThreadPool
    ) {
        self.exact = exact
        self.other = other
        self.corrections = corrections
        self.pictures = pictures
        self.pool = pool
    }

    /// The mean IoU over the masks of a set, and how many there were.
    ///
    /// - Parameters:
    ///   - set: pictures, each with its label map.
    ///   - notes: called with what is to be said of a picture, and its file.
    ///   - progress: called after each picture with how many are done.
    /// - Returns: the mean, 0 to 1, and how many pairs of masks were compared.
    /// - Throws: where a picture or a label map cannot be read, or a prompt cannot be used.
    package func measure(
        _ set: DataSet, notes: ([ImageNote], String) -> Void = { _, _ in }, progress: (Int) -> Void
    ) throws -> (mean: Double, masks: Int) {
        var all: [Double] = []
        for (index, picture) in set.pictures.enumerated() {
            let instances = Instance.all(in: try LabelMap(file: picture.labels, limit: pictures.limit))
            let read = try pictures.read(pictures.contents(ofFile: picture.image), named: picture.image)
            notes(read.notes, picture.image)
            let image = read.image
            let mine = try exact.decoder.prepare(exact.encoder.encode(image, pool: pool), pool: pool)
            let theirs = try other.decoder.prepare(other.encoder.encode(image, pool: pool), pool: pool)
            let found = Mutex<[Int: Result<[Double], any Error>]>([:])
            pool.parallel(instances.count) { index in
                let result = Result { try compare(instances[index], mine, theirs) }
                found.withLock { $0[index] = result }
            }
            for (_, result) in found.withLock({ $0 }).sorted(by: { $0.key < $1.key }) { all += try result.get() }
            progress(index + 1)
        }
        return (all.reduce(0, +) / Double(max(1, all.count)), all.count)
    }

    private func compare(
        _ instance: Instance, _ mine: any PreparedImage, _ theirs: any PreparedImage
    ) throws -> [Double] {
        var answers: [Double] = []
        func predict(_ prompt: Prompt, multimask: Bool) throws -> PredictedMask? {
            let selection: MaskSelection = multimask ? .multiple : .single
            func masks(_ image: any PreparedImage) throws -> [PredictedMask] {
                image.masks(
                    try image.decode([prompt], selection: selection, pool: .inline), isRanked: false, pool: .inline)[0]
            }
            let masks = (try masks(mine), try masks(theirs))
            for (a, b) in zip(masks.0, masks.1) {
                let union = zip(a.mask.pixels, b.mask.pixels).count { $0 | $1 == 1 }
                let both = zip(a.mask.pixels, b.mask.pixels).count { $0 & $1 == 1 }
                answers.append(union == 0 ? 1 : Double(both) / Double(union))
            }
            return masks.0.max { $0.predictedIoU < $1.predictedIoU }
        }
        _ = try predict(Prompt(box: instance.box), multimask: false)
        var points = [LabeledPoint(x: Double(instance.centre.x), y: Double(instance.centre.y))]
        var current = try predict(Prompt(points: points), multimask: true)
        for _ in 0..<corrections {
            guard let mask = current, let click = ClickSession.correction(of: mask.mask, towards: instance.mask)
            else { break }
            points.append(click)
            current = try predict(Prompt(points: points, mask: mask.lowResolutionLogits), multimask: false)
        }
        return answers
    }
}
