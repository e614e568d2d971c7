import Platform

/// How the numbers of a stored image embedding are written.
public enum EmbeddingPrecision: String, Sendable, Hashable, CaseIterable {
    /// IEEE 754 binary32: exact, 4 MiB for 256 x 64 x 64.
    case fp32
    /// IEEE 754 binary16: the default, 2 MiB.
    case fp16
    /// A signed byte for each number and a scale for each channel: 1 MiB.
    case int8
}

/// What made an embedding: weights, preprocessing and the precision it is stored in.
///
/// The text form is `<first 32 hexadecimal digits of the fingerprint>:<preprocessing version>:<precision>`, such as
/// `3d84…9a01:2:fp16`. Others may use any text of 1 to 64 of `A-Z a-z 0-9 . _ : -`. New weights have a new identifier,
/// so nothing that old ones made is ever taken for theirs.
public struct ModelIdentifier: Sendable, Hashable, CustomStringConvertible {
    /// The version of the preprocessing of Segment Anything as published: longest side, bilinear, normalise, pad.
    ///
    /// 2: tall pictures are resized as Pillow 13 does, and 16-bit samples with empty upper bits are shown by the bits in
    /// use. 1: rows before columns, the upper byte.
    public static let currentPreprocessing: UInt8 = 2

    /// The text form.
    public let text: String

    /// Takes the text form; nil for anything that may not stand in a key.
    public init?(_ text: some StringProtocol) {
        guard (1...64).contains(text.utf8.count), text.utf8.allSatisfy(Self.isAllowed) else { return nil }
        self.text = String(text)
    }

    /// Names a model by the SHA-256 of its weights.
    ///
    /// - Precondition: `fingerprint` has 32 bytes.
    public init(
        fingerprint: [UInt8], preprocessing: UInt8 = ModelIdentifier.currentPreprocessing,
        precision: EmbeddingPrecision = .fp16
    ) {
        precondition(fingerprint.count == 32, "a fingerprint has 32 bytes, not \(fingerprint.count)")
        text = "\(Hexadecimal.text(of: fingerprint.prefix(16))):\(preprocessing):\(precision.rawValue)"
    }

    /// The text form.
    public var description: String { text }

    private static func isAllowed(_ unit: UInt8) -> Bool {
        switch unit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: ":"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }
}
