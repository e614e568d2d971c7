import Tensors

/// The sizes of a CLIP model: everything about it that is not a weight.
///
/// Read off a checkpoint's tensors, and where these cannot say it off its `config.json`; never looked up in a table.
/// Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021, table 20.
public struct CLIPGeometry: Sendable, Hashable, CustomStringConvertible {
    /// One of the two transformers.
    public struct Tower: Sendable, Hashable {
        /// Numbers per token.
        public var width: Int
        /// Blocks.
        public var depth: Int
        /// Heads of attention in each.
        public var headCount: Int
        /// Numbers between the two layers of a block's perceptron.
        public var mlpWidth: Int
        /// Whether GELU is the quick one, x σ(1.702 x), which OpenAI trained with, or the exact one.
        public var usesQuickGELU = true
        /// What is added to a variance.
        public var epsilon: Float = 1e-5

        /// Numbers of a head.
        var headSize: Int { width / headCount }
        var activation: Activation { usesQuickGELU ? .quickGELU : .gelu }

        /// Sizes; the rest as OpenAI trained.
        public init(width: Int, depth: Int, headCount: Int, mlpWidth: Int) {
            self.width = width
            self.depth = depth
            self.headCount = headCount
            self.mlpWidth = mlpWidth
        }
    }

    /// At which token a text is read off.
    public enum EndRule: Sendable, Hashable {
        /// At the first of the largest tokens, which the end of a text is in OpenAI's vocabulary; `transformers` does so where
        /// `eos_token_id` is 2, as the published configurations have it by mistake.
        case largest
        /// At the first of this token, or at the first token of all where it is missing.
        case token(Int32)
    }

    /// The text encoder.
    public var text: Tower
    /// Tokens that there are.
    public var vocabularySize: Int
    /// Tokens that a text has at most, with start and end.
    public var contextLength: Int
    /// Where a text is read off.
    public var endRule: EndRule
    /// The image encoder.
    public var image: Tower
    /// Rows and columns of a patch.
    public var patchSize: Int
    /// Rows and columns of the pictures.
    public var imageSize: Int
    /// Numbers that texts and pictures are compared by.
    public var width: Int

    /// Rows and columns of patches.
    var grid: Int { imageSize / patchSize }
    /// Tokens of a picture: one for all of it and one for each patch.
    var imageTokens: Int { grid * grid + 1 }

    /// Sizes of a model.
    public init(
        text: Tower, vocabularySize: Int = 49408, contextLength: Int = 77, endRule: EndRule = .largest, image: Tower,
        patchSize: Int, imageSize: Int, width: Int
    ) {
        self.text = text
        self.vocabularySize = vocabularySize
        self.contextLength = contextLength
        self.endRule = endRule
        self.image = image
        self.patchSize = patchSize
        self.imageSize = imageSize
        self.width = width
    }

    /// The published ViT-B/32, for models with drawn weights.
    public static let vitB32 = CLIPGeometry(
        text: Tower(width: 512, depth: 12, headCount: 8, mlpWidth: 2048),
        image: Tower(width: 768, depth: 12, headCount: 12, mlpWidth: 3072), patchSize: 32, imageSize: 224, width: 512)

    /// One line for each part.
    public var description: String {
        func line(_ tower: Tower) -> String {
            "width \(tower.width), \(tower.depth) blocks, \(tower.headCount) heads, MLP \(tower.mlpWidth), "
                + (tower.usesQuickGELU ? "quick GELU" : "GELU")
        }
        return "text encoder: \(line(text)), \(vocabularySize) tokens, \(contextLength) at most\n"
            + "image encoder: ViT, image \(imageSize), patch \(patchSize), \(line(image))\n"
            + "joint width: \(width)"
    }

    /// What weights do not say of a model, for its fingerprint.
    var unspoken: String {
        "\(text.headCount) \(image.headCount) \(text.usesQuickGELU) \(image.usesQuickGELU) \(text.epsilon) "
            + "\(image.epsilon) \(endRule)"
    }
}
