/// Numbers as people read them.
package enum Figure {
    /// Three digits that count: 0.123, 12.3, 1230.
    package static func number(_ value: Double) -> String {
        guard value.isFinite else { return "∞" }
        if value == 0 { return "0" }
        let size = abs(value)
        let places = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3
        return fixed(value, places)
    }

    /// So many places behind the point, those at the end that are 0 left out.
    package static func fixed(_ value: Double, _ places: Int) -> String {
        var factor = 1
        for _ in 0..<places { factor *= 10 }
        guard abs(value) < 1e15 else { return "\(value)" }
        let scaled = Int((abs(value) * Double(factor)).rounded())
        let sign = value < 0 && scaled > 0 ? "-" : ""
        var digits = String(scaled % factor)
        digits = String(repeating: "0", count: max(0, places - digits.count)) + digits
        while digits.last == "0" { digits.removeLast() }
        return sign + grouped(scaled / factor) + (places == 0 || digits.isEmpty ? "" : ".\(digits)")
    }

    private static func grouped(_ number: Int) -> String {
        var text = ""
        for (index, digit) in String(number).reversed().enumerated() {
            if index > 0, index % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return String(text.reversed())
    }

    package static func milliseconds(_ value: Double) -> String {
        value >= 10_000 ? "\(number(value / 1000)) s" : "\(number(value)) ms"
    }

    package static func percent(_ part: Double) -> String { "\(fixed(100 * part, part < 0.1 ? 1 : 0)) %" }

    package static func bytes(_ value: Double) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
        var (value, unit) = (value, 0)
        while value >= 1024, unit + 1 < units.count { (value, unit) = (value / 1024, unit + 1) }
        return "\(number(value)) \(units[unit])"
    }
}

extension Counts {
    /// In words, with the models' names where there are several.
    package func text(_ plan: Plan) -> String {
        func list(_ counts: [Int], _ noun: String) -> String {
            if plan.models.count == 1 { return "\(counts[0]) \(noun)\(counts[0] == 1 ? "" : "s")" }
            let each = zip(counts, plan.models).map { "\($0) \($1.name)" }.joined(separator: " + ")
            return "\(noun)s \(each)"
        }
        var parts = [list(encoders, "encoder"), list(decoders, "decoder")]
        parts.append(plan.isShared ? "a Redis" : "\(shards) Redis shard\(shards == 1 ? "" : "s")")
        if gateways > 0 { parts.append("\(gateways) gateway\(gateways == 1 ? "" : "s")") }
        return parts.joined(separator: ", ")
    }
}
