/// Sentences that a text is put into before it is encoded, since CLIP learned from captions and not from words.
///
/// The embeddings of all sentences are averaged, which the paper found better than any one of them (Radford et al., 2021,
/// section 3.1.4). They are few, and begin alike, so that a text costs little more than one sentence does.
struct PromptTemplates: Sendable, Hashable {
    /// What a sentence has in the text's place.
    static let place = "{}"

    /// For crops of photographs.
    static let photographs = PromptTemplates(sentences: [
        "a photo of a {}.", "a photo of the {}.", "a cropped photo of a {}.", "a close-up photo of the {}.",
    ])

    /// What a crop may show that is no answer to a text.
    static let backgrounds = [
        "a photo.", "a photo of something.", "a photo of the background.", "a blurry photo of nothing.",
        "a photo of a texture.", "a photo of a part of an object.",
    ]

    /// Each with one ``place``.
    let sentences: [String]

    /// The sentences with a text in its place.
    func filled(with phrase: String) -> [String] {
        sentences.map { $0.replacing(Self.place, with: phrase) }
    }

    /// What stands before the text.
    var beginnings: [String] {
        sentences.map { sentence in
            sentence.ranges(of: Self.place).first.map { String(sentence[..<$0.lowerBound]) } ?? sentence
        }
    }

    /// The thing that a text names: without white space around it, articles before it and marks after it, so that "a dog",
    /// "The dog." and "dog" ask the same.
    static func phrase(_ text: String) -> String {
        let words = text.split(whereSeparator: \.isWhitespace)
        let articles = words.prefix { ["a", "an", "the", "some"].contains($0.lowercased()) }
        // What is nothing but articles means these.
        let named = articles.count < words.count ? words.dropFirst(articles.count) : words[...]
        let phrase = named.joined(separator: " ")
        let bare = phrase.reversed().drop { ".,;:!?".contains($0) }.reversed()
        return bare.isEmpty ? phrase : String(bare)
    }
}
