public import CoreMetrics
import Synchronization

/// The metrics of this process, written as Prometheus reads them.
///
/// It is the backend of swift-metrics: rooms make a `Counter`, `Gauge` or `Timer` by name and labels, and ``exposition()``
/// writes them all. A timer becomes a histogram in seconds; the buckets of other distributions go by the unit in which a name
/// ends, see ``HistogramBuckets``. Names follow Prometheus's rules: `kirie_jobs_total`, `kirie_decode_seconds`; a character
/// that these do not know, such as the dots of other libraries, becomes `_`.
///
/// Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>, text format 0.0.4.
public final class PrometheusRegistry: MetricsFactory, Sendable {
    private enum Kind: String { case counter, gauge, histogram }

    /// The metrics of one name: their kind and, by labels, the values.
    private struct Family {
        let kind: Kind
        var series: [String: any PrometheusSeries] = [:]
    }

    /// Guards the names and labels; values guard themselves.
    private let families = Mutex<[String: Family]>([:])
    private let help: [String: String]

    /// A registry without metrics.
    ///
    /// - Parameter help: what a name means, for the `HELP` lines.
    public init(help: [String: String] = [:]) { self.help = help }

    /// All metrics as text, ordered by name and labels.
    ///
    /// - Parameter collected: metrics that others keep; one of a name that is in use here, or twice, is left out.
    /// - Returns: the lines.
    public func exposition(including collected: [CollectedMetric] = []) -> String {
        var blocks: [String: String] = [:]
        for (name, family) in families.withLock({ $0 }) {
            var text = PrometheusText.head(name, help[name] ?? "(undocumented)", family.kind.rawValue)
            for (labels, series) in family.series.sorted(by: { $0.key < $1.key }) {
                series.write(name: name, labels: labels, to: &text)
            }
            blocks[name] = text
        }
        for metric in collected where blocks[metric.name] == nil {
            blocks[metric.name] = PrometheusText.head(metric.name, metric.help, metric.kind.rawValue) + metric.text
        }
        return blocks.sorted { $0.key < $1.key }.map(\.value).joined()
    }

    /// A number that only grows.
    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        series(.counter, label, dimensions) { PrometheusCounter() }
    }

    /// A number that goes up and down; with `aggregate`, the distribution of what was recorded.
    public func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler {
        aggregate
            ? series(.histogram, label, dimensions) { PrometheusHistogram(HistogramBuckets.of(label)) }
            : series(.gauge, label, dimensions) { PrometheusGauge() }
    }

    /// A number that goes up and down.
    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        series(.gauge, label, dimensions) { PrometheusGauge() }
    }

    /// A distribution of durations.
    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        series(.histogram, label, dimensions) { PrometheusHistogram(HistogramBuckets.seconds) }
    }

    // What was counted stays until the process ends: a counter that vanishes and comes back is a reset to Prometheus.

    /// Does nothing.
    public func destroyCounter(_ handler: any CounterHandler) {}
    /// Does nothing.
    public func destroyRecorder(_ handler: any RecorderHandler) {}
    /// Does nothing.
    public func destroyMeter(_ handler: any MeterHandler) {}
    /// Does nothing.
    public func destroyTimer(_ handler: any TimerHandler) {}

    /// The value of a name and labels, made where it is new.
    ///
    /// A name that is in use for another kind gets a value of its own that nobody sees: its maker can be told nothing here.
    private func series<Series: PrometheusSeries>(
        _ kind: Kind, _ name: String, _ dimensions: [(String, String)], _ make: () -> Series
    ) -> Series {
        let name = PrometheusText.name(name)
        let labels = PrometheusText.labels(dimensions, isHistogram: kind == .histogram)
        return families.withLock { families in
            var family = families[name] ?? Family(kind: kind)
            if let known = family.series[labels] as? Series { return known }
            let new = make()
            guard family.kind == kind else { return new }
            family.series[labels] = new
            families[name] = family
            return new
        }
    }
}

/// One name and set of labels.
protocol PrometheusSeries: Sendable {
    func write(name: String, labels: String, to text: inout String)
}

private final class PrometheusCounter: CounterHandler, PrometheusSeries {
    private let value = Atomic<Int64>(0)

    func increment(by amount: Int64) { value.wrappingAdd(max(0, amount), ordering: .relaxed) }
    func reset() { value.store(0, ordering: .relaxed) }

    func write(name: String, labels: String, to text: inout String) {
        text += PrometheusText.line(name, labels, value.load(ordering: .relaxed))
    }
}

private final class PrometheusGauge: RecorderHandler, MeterHandler, PrometheusSeries {
    /// Guards the value, which any thread may set.
    private let value = Mutex(0.0)

    func record(_ value: Int64) { set(Double(value)) }
    func record(_ value: Double) { set(value) }
    func set(_ value: Int64) { set(Double(value)) }
    func set(_ value: Double) { self.value.withLock { $0 = value } }
    func increment(by amount: Double) { value.withLock { $0 += amount } }
    func decrement(by amount: Double) { value.withLock { $0 -= amount } }

    func write(name: String, labels: String, to text: inout String) {
        text += PrometheusText.line(name, labels, PrometheusText.number(value.withLock { $0 }))
    }
}

private final class PrometheusHistogram: TimerHandler, RecorderHandler, PrometheusSeries {
    private struct State {
        var counts: [Int]
        var sum = 0.0
    }

    private let bounds: [Double]
    /// Guards counts and sum, so that a reading agrees with itself.
    private let state: Mutex<State>

    init(_ bounds: [Double]) {
        self.bounds = bounds
        state = Mutex(State(counts: Array(repeating: 0, count: bounds.count + 1)))
    }

    func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }
    func record(_ value: Int64) { record(Double(value)) }

    func record(_ value: Double) {
        let bucket = bounds.firstIndex { value <= $0 } ?? bounds.count
        state.withLock { state in
            state.counts[bucket] += 1
            state.sum += value
        }
    }

    func write(name: String, labels: String, to text: inout String) {
        let (counts, sum) = state.withLock { ($0.counts, $0.sum) }
        var total = 0
        let cumulative = zip(bounds, counts).map { bound, count in
            total += count
            return (PrometheusText.number(bound), total)
        }
        text += PrometheusText.histogram(name, labels, cumulative, total: counts.reduce(0, +), sum: sum)
    }
}
