public import Segmentation
public import Tensors

/// Text prompts on a picture whose candidates are there: from words to masks.
public struct TextPrompts: Sendable {
    /// What tells which candidate a text means.
    public let matcher: any TextMatcher

    /// Prompts that a matcher answers.
    public init(_ matcher: any TextMatcher) { self.matcher = matcher }

    /// The masks that one prompt's text picks, the best first; their ``MaskCandidate/similarity`` is the text's score.
    ///
    /// - Parameters:
    ///   - prompt: of its points and its box a candidate has to be in accord.
    ///   - query: its text, by this matcher.
    ///   - candidates: of everything mode.
    ///   - rows: of the same candidates, by this matcher.
    ///   - count: how many.
    /// - Returns: masks with their scores; none where nothing fits.
    public func masks(
        for prompt: Prompt, _ query: TextQuery, among candidates: [MaskCandidate], rows: Tensor,
        count: TextSelection.Count
    ) -> [MaskCandidate] {
        guard !candidates.isEmpty else { return [] }
        var scores = matcher.scores([query], of: rows)[0]
        for (index, candidate) in candidates.enumerated() where !prompt.admits(candidate.encoding) { scores[index] = 0 }
        // Who asks for the one wants the likeliest, and its score says how likely that is; among many the unlikely ones are
        // mistakes for the most part.
        let choices = TextSelection(count: count, minimumScore: count == .best ? 0.1 : 0.3).choices(
            [scores], among: candidates.map(\.encoding), predictedIoU: candidates.map(\.predictedIoU))
        return choices.map { choice in
            var mask = candidates[choice.candidate]
            mask.similarity = choice.score
            return mask
        }
    }

    /// Which of several texts each candidate goes to, the best first.
    ///
    /// - Parameters:
    ///   - queries: the vocabulary, by this matcher.
    ///   - candidates: of everything mode.
    ///   - rows: of the same candidates, by this matcher.
    /// - Returns: the candidates that a text fits, with that text as their ``MaskCandidate/label``.
    public func labels(
        of queries: [TextQuery], among candidates: [MaskCandidate], rows: Tensor
    ) -> [MaskCandidate] {
        guard !candidates.isEmpty else { return [] }
        let choices = TextSelection(count: .all).choices(
            matcher.scores(queries, of: rows), among: candidates.map(\.encoding),
            predictedIoU: candidates.map(\.predictedIoU))
        return choices.map { choice in
            var mask = candidates[choice.candidate]
            mask.similarity = choice.score
            mask.label = queries[choice.text].text
            return mask
        }
    }
}

extension Prompt {
    /// Whether a mask may be meant beside the text: on the points of the object and not on the others, and for the most part
    /// in the box.
    fileprivate func admits(_ mask: RunLengthEncoding) -> Bool {
        for point in points {
            let (x, y) = (min(mask.width - 1, max(0, Int(point.x))), min(mask.height - 1, max(0, Int(point.y))))
            let pixel = PixelBox(x0: x, y0: y, x1: x + 1, y1: y + 1)
            guard (mask.cropped(to: pixel).area == 1) == (point.label == .foreground) else { return false }
        }
        guard let box else { return true }
        let inside = PixelBox(
            x0: max(0, Int(box.x0)), y0: max(0, Int(box.y0)), x1: min(mask.width, Int(box.x1.rounded(.up))),
            y1: min(mask.height, Int(box.y1.rounded(.up))))
        guard inside.width > 0, inside.height > 0 else { return false }
        return 5 * mask.cropped(to: inside).area >= 4 * mask.area
    }
}
