/// The upper bounds of a histogram's buckets, by the unit in which its name ends.
///
/// Base units, as Prometheus wants them: <https://prometheus.io/docs/practices/naming/>.
enum HistogramBuckets {
    /// From a quarter of a millisecond, a click's scale, to two minutes, that of the largest encoder.
    static let seconds: [Double] = [
        0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120,
    ]
    /// 1 KiB to 4 GiB.
    static let bytes = (5...16).map { Double(1 << (2 * $0)) }
    /// Parts of one.
    static let ratios = (1...10).map { Double($0) / 10 }
    /// Things that are counted, from one of them to as many as a call of a function may name.
    static let counts = (0...10).map { Double(1 << $0) }

    /// The bounds for a name.
    static func of(_ name: String) -> [Double] {
        switch name.split(whereSeparator: { "_.".contains($0) }).last {
        case "seconds": seconds
        case "bytes": bytes
        case "ratio": ratios
        default: counts
        }
    }
}

/// How things are written in the text format.
enum PrometheusText {
    /// A name of a metric or label: letters, digits and `_`, no digit first.
    static func name(_ text: String) -> String {
        let kept = String(text.unicodeScalars.map { isOfName($0) ? Character($0) : "_" })
        return kept.first.map { $0.isNumber } ?? true ? "_\(kept)" : kept
    }

    /// `name="value",…`, ordered by name, each name once: the same labels in another order are the same series.
    static func labels(_ dimensions: [(String, String)], isHistogram: Bool) -> String {
        var values: [String: String] = [:]
        for (label, value) in dimensions {
            let name = name(label)
            // `le` is the bound of a bucket.
            values[isHistogram && name == "le" ? "_le" : name] = value
        }
        return values.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(escaped($0.value, quotes: true))\"" }
            .joined(separator: ",")
    }

    /// What stands before the values of a name.
    static func head(_ name: String, _ meaning: String, _ kind: String) -> String {
        "# HELP \(name) \(help(meaning))\n# TYPE \(name) \(kind)\n"
    }

    /// One value.
    static func line(_ name: String, _ labels: String, _ value: some CustomStringConvertible) -> String {
        labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n"
    }

    /// The values of a histogram, from the counts at each bound and below it.
    static func histogram(
        _ name: String, _ labels: String, _ counts: [(bound: String, count: Int)], total: Int, sum: Double
    ) -> String {
        let prefix = labels.isEmpty ? "" : "\(labels),"
        let buckets = (counts + [("+Inf", total)]).map { line("\(name)_bucket", "\(prefix)le=\"\($0)\"", $1) }
        return buckets.joined() + line("\(name)_sum", labels, number(sum)) + line("\(name)_count", labels, total)
    }

    /// What a metric means, on one line.
    static func help(_ text: String) -> String { escaped(text, quotes: false) }

    /// A number as Go reads it.
    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return "\(value)"
    }

    private static func isOfName(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "a"..."z", "A"..."Z", "0"..."9", "_": true
        default: false
        }
    }

    /// By scalars: a carriage return and a line feed are one character in Swift.
    private static func escaped(_ text: String, quotes: Bool) -> String {
        var escaped = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": escaped.append(contentsOf: "\\\\".unicodeScalars)
            case "\n": escaped.append(contentsOf: "\\n".unicodeScalars)
            case "\"" where quotes: escaped.append(contentsOf: "\\\"".unicodeScalars)
            default: escaped.append(scalar)
            }
        }
        return String(escaped)
    }
}
