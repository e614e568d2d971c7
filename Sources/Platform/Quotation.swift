/// Names out of files, fit to be printed.
package enum Quotation {
    /// The name between quotation marks: no control characters, and no longer than 120 characters.
    package static func of(_ name: String) -> String {
        let printable = name.unicodeScalars.prefix(120).map { scalar in
            scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) ? "\u{fffd}" : scalar
        }
        var text = String(String.UnicodeScalarView(printable))
        if name.unicodeScalars.count > 120 { text += "…" }
        return "\u{2018}\(text)\u{2019}"
    }
}
