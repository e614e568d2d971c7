/// A metric that somebody else keeps, as it stands when it is asked for.
///
/// What a process counts itself goes through swift-metrics. This is for the rest: counters that Redis or the kernel keeps
/// are read once a scrape and written as they are, so they go on where they were after a restart of whoever writes them.
public struct CollectedMetric: Sendable {
    /// What Prometheus may do with the values.
    public enum Kind: String, Sendable {
        /// Only grows, or begins anew.
        case counter
        /// Goes up and down.
        case gauge
        /// Counts observations by size.
        case histogram
    }

    let name: String
    let help: String
    let kind: Kind
    private(set) var text = ""

    /// A metric without values; it is written all the same, so that its name is known.
    public init(_ kind: Kind, _ name: String, _ help: String) {
        self.kind = kind
        self.name = PrometheusText.name(name)
        self.help = help
    }

    /// A metric of one value.
    public init(_ kind: Kind, _ name: String, _ help: String, value: Double) {
        self.init(kind, name, help)
        add(value)
    }

    /// The value of a set of labels.
    public mutating func add(_ value: Double, labels: [(String, String)] = []) {
        text += PrometheusText.line(
            name, PrometheusText.labels(labels, isHistogram: false), PrometheusText.number(value))
    }

    /// A histogram's values.
    ///
    /// - Parameters:
    ///   - counts: how many observations lie at each bound and below it, by growing bounds; what lies above the last bound
    ///     is told by `total` alone.
    ///   - total: all observations.
    ///   - sum: of all observed values.
    ///   - labels: of the series.
    public mutating func add(
        upTo counts: [(bound: Double, count: Int)], total: Int, sum: Double, labels: [(String, String)] = []
    ) {
        let labels = PrometheusText.labels(labels, isHistogram: true)
        text += PrometheusText.histogram(
            name, labels, counts.map { (PrometheusText.number($0.bound), $0.count) }, total: total,
            sum: sum)
    }
}
