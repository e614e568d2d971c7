import Glibc

/// Numbers as people read them.
package enum Figures {
    /// What stands where there is nothing to say.
    package static let nothing = "–"

    /// `1,234,567`.
    package static func count(_ number: Int) -> String {
        let digits = String(number.magnitude)
        var text = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index) % 3 == 0 { text += "," }
            text.append(digit)
        }
        return number < 0 ? "-\(text)" : text
    }

    /// `0.42 ms`, `12 ms`, `1.2 s`, `3 min`, `5 h`: two digits that count, or the whole number.
    package static func duration(_ duration: Duration?) -> String {
        guard let duration else { return nothing }
        let seconds = duration / .seconds(1)
        switch seconds {
        case ..<0.000_000_5: return "0 ms"
        case ..<0.999_5: return "\(twoDigits(seconds * 1000)) ms"
        case ..<99.5: return "\(twoDigits(seconds)) s"
        case ..<5970: return "\(twoDigits(seconds / 60)) min"
        case ..<356_400: return "\(twoDigits(seconds / 3600)) h"
        default: return "\(count(Int(seconds / 86_400))) d"
        }
    }

    /// `1 s`, `0.5 s`.
    package static func interval(_ seconds: Double) -> String {
        Int(exactly: seconds).map { "\($0) s" } ?? duration(.seconds(seconds))
    }

    /// `0.4`, `12.3`, `1,234`, a second.
    package static func rate(_ perSecond: Double?) -> String {
        guard let perSecond, perSecond.isFinite else { return nothing }
        return perSecond < 99.95 ? fixed(perSecond, 1) : count(Int(perSecond.rounded()))
    }

    /// `812 B`, `12 KB`, `3.4 MB`, `120 GB`; K is 1000.
    package static func bytes(_ bytes: Int) -> String {
        var amount = Double(bytes)
        for unit in ["B", "KB", "MB", "GB"] {
            if amount < 999.5 { return unit == "B" ? "\(bytes) B" : "\(twoDigits(amount)) \(unit)" }
            amount /= 1000
        }
        return "\(count(Int(amount.rounded()))) TB"
    }

    /// `98.7 %`.
    package static func percent(_ part: Double?) -> String {
        part.map { "\(fixed($0 * 100, 1)) %" } ?? nothing
    }

    /// `22:14:03`, by the clock on the wall.
    package static var timeOfDay: String {
        var now = time(nil)
        var parts = tm()
        localtime_r(&now, &parts)
        return [parts.tm_hour, parts.tm_min, parts.tm_sec].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
    }

    private static func twoDigits(_ number: Double) -> String {
        if number >= 9.95 { return count(Int(number.rounded())) }
        return fixed(number, number >= 0.995 ? 1 : 2)
    }

    private static func fixed(_ number: Double, _ digits: Int) -> String {
        let scale = digits == 1 ? 10.0 : 100.0
        let scaled = Int((number * scale).rounded())
        let rest = String(scaled % Int(scale))
        return "\(count(scaled / Int(scale))).\(String(repeating: "0", count: digits - rest.count))\(rest)"
    }
}
