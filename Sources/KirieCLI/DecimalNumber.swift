import ArgumentParser

/// The one reader of numbers on the command line: decimal digits, a point, an exponent, spaces around.
///
/// Swift's own initializer also takes `0x10`, `inf` and `nan`, which nobody means as a coordinate or a time.
enum DecimalNumber {
    /// A coordinate: a number, or `nan` or `inf`, which some program wrote and of which the prompt's error then speaks.
    static func coordinate(_ text: some StringProtocol) -> Double? {
        read(text) ?? (["nan", "inf", "-inf"].contains(text.lowercased()) ? Double(text) : nil)
    }

    /// The number; nil where the text is none.
    static func read(_ text: some StringProtocol) -> Double? {
        let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" }
        let head = text.drop(while: isBlank)
        let word = String(String(head.reversed().drop(while: isBlank)).reversed())
        guard isDecimal(word), let number = Double(word), number.isFinite else { return nil }
        return number
    }

    /// The whole number; nil where the text is none.
    static func readWhole(_ text: some StringProtocol) -> Int? {
        guard let number = read(text), number == number.rounded(), abs(number) < 1e15 else { return nil }
        return Int(number)
    }

    /// For `@Option(transform:)`.
    @Sendable
    static func argument(_ text: String) throws -> Double {
        guard let number = read(text) else { throw ValidationError("a decimal number is expected, such as 2 or 0.5") }
        return number
    }

    /// The coordinates between commas; nil where one is none.
    static func coordinates(_ text: String) -> [Double]? {
        let numbers = text.split(separator: ",", omittingEmptySubsequences: false).map { coordinate($0) }
        return numbers.contains(nil) ? nil : numbers.compactMap(\.self)
    }

    private static func isDecimal(_ word: String) -> Bool {
        var rest = word.utf8[...]
        func digits() -> Int {
            let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            rest = rest.dropFirst(digits.count)
            return digits.count
        }
        func take(_ signs: String) -> Bool {
            guard let first = rest.first, signs.utf8.contains(first) else { return false }
            rest = rest.dropFirst()
            return true
        }
        _ = take("+-")
        var count = digits()
        if take(".") { count += digits() }
        guard count > 0 else { return false }
        if take("eE") {
            _ = take("+-")
            guard digits() > 0 else { return false }
        }
        return rest.isEmpty
    }
}
