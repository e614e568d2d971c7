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

/// In what arithmetic an image encoder computed.
///
/// The same weights give other numbers in another arithmetic, so it is part of what made an embedding. A decoder has a
/// precision of its own and takes embeddings of each.
public enum EncoderArithmetic: String, Sendable, Hashable, CaseIterable {
    /// 32-bit floating point throughout.
    case fp32
    /// The inputs of products in bf16.
    case bf16
    /// Transformer blocks in int8, the rest in bf16.
    case int8
}

/// What made an embedding: weights, preprocessing, the encoder's arithmetic and the precision it is stored in.
///
/// The text form is `<first 32 hexadecimal digits of the fingerprint>:<preprocessing version>:<arithmetic>:<precision>`,
/// such as `3d84…9a01:2:bf16:fp16`; others may use any text of 1 to 64 of `A-Z a-z 0-9 . _ : -`. New weights have a new
/// identifier, so nothing that old ones made is ever taken for theirs; and what an encoder computed in bf16 is never taken
/// for what one in fp32 did.
///
/// An identifier without the arithmetic, `3d84…9a01:2:fp16`, is the ``family`` of those with one: whatever encoder of these
/// weights. Decoders announce it, since their masks may be of embeddings of each arithmetic; earlier releases knew no
/// other, and jobs that they submitted are done under it.
public struct ModelIdentifier: Sendable, Hashable, CustomStringConvertible {
    /// The version of the code that prepares pictures: longest side, bilinear, normalise, pad.
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

    /// Names a model by the SHA-256 of its weights, with which the preprocessing is hashed where it is not as
    /// published.
    ///
    /// - Parameters:
    ///   - fingerprint: 32 bytes, of which the first 16 are told.
    ///   - preprocessing: the version of the code that resizes and normalizes.
    ///   - arithmetic: of the encoder; nil for the family of all.
    ///   - precision: how the numbers of its embeddings are written.
    /// - Precondition: `fingerprint` has 32 bytes.
    public init(
        fingerprint: [UInt8], preprocessing: UInt8 = ModelIdentifier.currentPreprocessing,
        arithmetic: EncoderArithmetic? = nil, precision: EmbeddingPrecision = .fp16
    ) {
        precondition(fingerprint.count == 32, "a fingerprint has 32 bytes, not \(fingerprint.count)")
        let computed = arithmetic.map { "\($0.rawValue):" } ?? ""
        text =
            "\(Hexadecimal.text(of: fingerprint.prefix(16))):\(preprocessing):\(computed)\(precision.rawValue)"
    }

    /// The text form.
    public var description: String { text }

    /// The encoder's arithmetic; nil where the identifier does not say it.
    public var arithmetic: EncoderArithmetic? { parts?.arithmetic }

    /// The same without the arithmetic; itself where there is none.
    public var family: ModelIdentifier {
        parts.flatMap { ModelIdentifier("\($0.weights):\($0.precision)") } ?? self
    }

    /// The identifiers of each arithmetic; none for a text of another form.
    public var variants: [ModelIdentifier] {
        let family = parts.map { ($0.weights, $0.precision) } ?? Self.family(text)
        guard let family else { return [] }
        return EncoderArithmetic.allCases.compactMap { ModelIdentifier("\(family.0):\($0.rawValue):\(family.1)") }
    }

    /// `<fingerprint>:<preprocessing>`, and what follows, of an identifier that says the arithmetic.
    private var parts: (weights: Substring, arithmetic: EncoderArithmetic, precision: Substring)? {
        let fields = text.split(separator: ":", omittingEmptySubsequences: false)
        guard fields.count == 4, let arithmetic = EncoderArithmetic(rawValue: String(fields[2])),
            EmbeddingPrecision(rawValue: String(fields[3])) != nil
        else { return nil }
        return (text[..<fields[1].endIndex], arithmetic, fields[3])
    }

    private static func family(_ text: String) -> (Substring, Substring)? {
        let fields = text.split(separator: ":", omittingEmptySubsequences: false)
        guard fields.count == 3, fields[0].utf8.count == 32, EmbeddingPrecision(rawValue: String(fields[2])) != nil
        else { return nil }
        return (text[..<fields[1].endIndex], fields[2])
    }

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
