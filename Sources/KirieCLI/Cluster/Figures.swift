import Glibc

/// Numbers as people read them.
enum Figures {
    /// What stands where there is nothing to say.
    static let nothing = "–"

    /// `1,234,567`.
    static func count(_ number: Int) -> String {
        let digits = String(number.magnitude)
        var text = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index) % 3 == 0 { text += "," }
            text.append(digit)
        }
        return number < 0 ? "-\(text)" : text
    }

    /// `0.42 ms`, `12 ms`, `1.2 s`, `3 min`, `5 h`: two digits that count, or the whole number.
    static func duration(_ duration: Duration?) -> String {
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
    static func interval(_ seconds: Double) -> String {
        Int(exactly: seconds).map { "\($0) s" } ?? duration(.seconds(seconds))
    }

    /// `0.4`, `12.3`, `1,234`, a second.
    static func rate(_ perSecond: Double?) -> String {
        guard let perSecond, perSecond.isFinite else { return nothing }
        return perSecond < 99.95 ? fixed(perSecond, 1) : count(Int(perSecond.rounded()))
    }

    /// `812 B`, `12 KB`, `3.4 MB`, `120 GB`; K is 1000.
    static func bytes(_ bytes: Int) -> String {
        var amount = Double(bytes)
        for unit in ["B", "KB", "MB", "GB"] {
            if amount < 999.5 { return unit == "B" ? "\(bytes) B" : "\(twoDigits(amount)) \(unit)" }
            amount /= 1000
        }
        return "\(count(Int(amount.rounded()))) TB"
    }

    /// `98.7 %`.
    static func percent(_ part: Double?) -> String {
        part.map { "\(fixed($0 * 100, 1)) %" } ?? nothing
    }

    /// `22:14:03`, by the clock on the wall.
    static var timeOfDay: String {
        var now = time(nil)
        var parts = tm()
        localtime_r(&now, &parts)
        return [parts.tm_hour, parts.tm_min, parts.tm_sec].map { $0 < 10 ? "0\($0)" : "\($0)" }.joined(separator: ":")
    }

    /// `2026-01-31T22:14:03.123Z` of microseconds since 1970.
    static func timestamp(_ microseconds: Int) -> String {
        var seconds = time_t(microseconds / 1_000_000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func digits(_ number: Int, _ width: Int) -> String {
            let text = String(number)
            return String(repeating: "0", count: max(0, width - text.count)) + text
        }
        let day = [(Int(parts.tm_year) + 1900, 4), (Int(parts.tm_mon) + 1, 2), (Int(parts.tm_mday), 2)]
        let clock = [parts.tm_hour, parts.tm_min, parts.tm_sec].map { digits(Int($0), 2) }.joined(separator: ":")
        return day.map { digits($0.0, $0.1) }.joined(separator: "-")
            + "T\(clock).\(digits(microseconds / 1000 % 1000, 3))Z"
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
