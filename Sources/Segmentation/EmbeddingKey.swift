/// The name of one image embedding: which image, made by what.
///
/// The text form, `<image's SHA-256>:<model identifier>`, stands in Redis keys and in files.
public struct EmbeddingKey: Sendable, Hashable, CustomStringConvertible {
    /// The image.
    public let image: ImageDigest
    /// What made it.
    public let model: ModelIdentifier

    /// The embedding of an image by a model.
    public init(image: ImageDigest, model: ModelIdentifier) {
        self.image = image
        self.model = model
    }

    /// Reads the text form; nil for anything else.
    public init?(_ text: some StringProtocol) {
        guard let colon = text.firstIndex(of: ":"), let image = ImageDigest(text[..<colon]),
            let model = ModelIdentifier(text[text.index(after: colon)...])
        else { return nil }
        self.init(image: image, model: model)
    }

    /// The text form.
    public var description: String { "\(image.hexadecimal):\(model.text)" }
}
