import Platform

/// The SHA-256 of an image file's bytes: the image's name everywhere.
///
/// Two files with the same bytes are one image, whoever sent them and under whatever name.
public struct ImageDigest: Sendable, Hashable, CustomStringConvertible {
    /// 64 lower-case hexadecimal digits.
    public let hexadecimal: String

    /// Takes 64 hexadecimal digits in either case; nil for anything else.
    public init?(_ text: some StringProtocol) {
        guard text.utf8.count == 64, text.utf8.allSatisfy({ Hexadecimal.value(of: $0) != nil }) else { return nil }
        hexadecimal = text.lowercased()
    }

    /// Takes the 32 bytes of a digest.
    ///
    /// - Precondition: there are 32 of them.
    public init(bytes: some Sequence<UInt8>) {
        hexadecimal = Hexadecimal.text(of: bytes)
        precondition(hexadecimal.utf8.count == 64, "a SHA-256 has 32 bytes, not \(hexadecimal.utf8.count / 2)")
    }

    /// The 32 bytes.
    public var bytes: [UInt8] { Hexadecimal.bytes(of: hexadecimal) ?? [] }

    /// Which of `count` partitions the image belongs to: its first four bytes, the most significant first, modulo `count`.
    ///
    /// - Precondition: `count` is positive.
    public func partition(among count: Int) -> Int {
        precondition(count > 0, "there is at least one partition, not \(count)")
        return bytes.prefix(4).reduce(0) { $0 << 8 | Int($1) } % count
    }

    /// The digits.
    public var description: String { hexadecimal }
}
