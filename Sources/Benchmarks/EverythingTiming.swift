package import Imaging
package import SegmentAnything
package import Segmentation
package import Tensors

/// What everything mode takes on one picture, and what its fast way loses.
package struct EverythingTiming {
    /// The figures of a run.
    package struct Figures: Encodable, Sendable {
        /// How people call the model.
        package let model: String
        /// Of its products.
        package let precision: String
        /// Threads that shared the work.
        package let threads: Int
        /// Columns of the picture.
        package let width: Int
        /// Rows of the picture.
        package let height: Int
        /// Points that were asked for.
        package let points: Int
        /// Masks that were found.
        package let masks: Int
        /// Of the runs, without the encode of the whole picture where there are no crops.
        package let median_s: Double
        /// Every run.
        package let runs_s: [Double]
        /// What the process took at its peak so far.
        package let peak_rss_mb: Double
        /// The same by the fast way; nil where that was not asked for.
        package let fast: Fast?
    }

    /// The fast way beside the plain one.
    package struct Fast: Encodable, Sendable {
        /// Masks that were found.
        package let masks: Int
        /// Of the runs.
        package let median_s: Double
        /// Every run.
        package let runs_s: [Double]
        /// How many times faster than the plain way.
        package let times: Double
        /// Of the plain way's masks, by area, how much has a counterpart of IoU 0.9 or more.
        package let area_found: Double
        /// The same, every mask counting alike.
        package let masks_found: Double
    }

    private let encoder: any ImageEncoding
    private let decoder: any PromptDecoding
    private let model: String
    private let parameters: EverythingParameters
    private let pool: ThreadPool

    /// What is measured: a model's halves, and what is asked of them.
    package init(
        encoder: any ImageEncoding, decoder: any PromptDecoding, model: String, parameters: EverythingParameters,
        pool: ThreadPool
    ) {
        self.encoder = encoder
        self.decoder = decoder
        self.model = model
        self.parameters = parameters
        self.pool = pool
    }

    /// Runs both ways in turn, so that what the machine does beside it meets both.
    ///
    /// - Parameters:
    ///   - image: the picture.
    ///   - runs: that count.
    ///   - measuresFast: whether the fast way is measured as well.
    /// - Returns: the figures.
    /// - Throws: ``EverythingFault`` for parameters that cannot be used on the picture.
    package func measure(_ image: Image, runs: Int, measuresFast: Bool) throws -> Figures {
        var plain = parameters
        plain.isFast = false
        var fast = plain
        fast.isFast = true
        let features = encoder.encode(image, pool: pool)
        let plan = try MaskGenerationPlan(
            width: image.width, height: image.height, parameters: plain, modelSize: encoder.preprocessing.size)
        var (plainTimes, fastTimes): ([Double], [Double]) = ([], [])
        var (masks, fastMasks): ([MaskCandidate], [MaskCandidate]) = ([], [])
        for _ in 0..<max(1, runs) {
            (masks, plainTimes) = try run(image, features, plain, plainTimes)
            if measuresFast { (fastMasks, fastTimes) = try run(image, features, fast, fastTimes) }
        }
        return Figures(
            model: model, precision: decoder.precision.rawValue, threads: pool.threadCount, width: image.width,
            height: image.height, points: plan.pointCount, masks: masks.count, median_s: Self.median(plainTimes),
            runs_s: plainTimes, peak_rss_mb: PeakMemory.megabytes,
            fast: measuresFast
                ? Fast(
                    masks: fastMasks.count, median_s: Self.median(fastTimes), runs_s: fastTimes,
                    times: (Self.median(plainTimes) / Self.median(fastTimes) * 100).rounded() / 100,
                    area_found: Self.found(masks, in: fastMasks) { Double($0.area) },
                    masks_found: Self.found(masks, in: fastMasks) { _ in 1 }) : nil)
    }

    private func run(
        _ image: Image, _ features: ImageFeatures, _ parameters: EverythingParameters, _ times: [Double]
    ) throws -> ([MaskCandidate], [Double]) {
        let generator = AutomaticMaskGenerator(encoder: encoder, decoder: decoder, parameters: parameters)
        let start = ContinuousClock.now
        let masks = try generator.generate(image, features: features, pool: pool)
        let seconds = (ContinuousClock.now - start) / .milliseconds(1) / 1000
        return (masks, times + [(seconds * 1e4).rounded() / 1e4])
    }

    private static func median(_ times: [Double]) -> Double { times.sorted()[times.count / 2] }

    /// The share of masks that have a counterpart of IoU 0.9 or more.
    private static func found(
        _ masks: [MaskCandidate], in others: [MaskCandidate], weight: (RunLengthEncoding) -> Double
    ) -> Double {
        var (sum, all) = (0.0, 0.0)
        for mask in masks {
            let share = weight(mask.encoding)
            all += share
            if others.contains(where: { $0.encoding.intersectionOverUnion(mask.encoding) >= 0.9 }) { sum += share }
        }
        return all == 0 ? 1 : (sum / all * 1e4).rounded() / 1e4
    }
}
