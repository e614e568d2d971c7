import Glibc

/// Moments as text.
package enum Timestamp {
    /// `2026-01-31T22:14:03.123Z` of microseconds since 1970 (RFC 3339).
    package static func text(_ microseconds: Int) -> String {
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
}
