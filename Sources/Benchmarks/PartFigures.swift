import Tensors

/// The figures of one part of a model.
package struct PartFigures: Encodable, Sendable {
    /// What was timed: `encode` or `picture`; `decode`, `scale` or `prepare`.
    package let part: String
    package let model: String
    package let precision: String
    package let threads: Int
    package let runs: Int
    /// Where streams were asked for: how many, and the calls a second of all of them together.
    package let streams: Int?
    package let per_second: Double?
    /// The prompts of a call, where there are several.
    package let prompts: Int?
    /// The picture's size, where it matters.
    package let megapixels: Double?
    package let median_ms: Double
    package let min_ms: Double
    package let max_ms: Double
    package let peak_rss_mb: Double

    init(
        part: String, model: String, precision: Precision, threads: Int, times: CallTimes, prompts: Int = 1,
        megapixels: Double? = nil
    ) {
        let sorted = times.each.sorted()
        func rounded(_ value: Double) -> Double { (value * 1000).rounded() / 1000 }
        self.part = part
        self.model = model
        self.precision = precision.rawValue
        self.threads = threads
        streams = times.streams
        runs = sorted.count
        self.prompts = prompts > 1 ? prompts : nil
        self.megapixels = megapixels.map(rounded)
        per_second = times.streams.map { _ in rounded(times.all > 0 ? Double(sorted.count) / times.all * 1000 : 0) }
        let middle = sorted.count / 2
        median_ms = rounded(
            sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2)
        min_ms = rounded(sorted.first ?? 0)
        max_ms = rounded(sorted.last ?? 0)
        peak_rss_mb = PeakMemory.megabytes
    }
}
