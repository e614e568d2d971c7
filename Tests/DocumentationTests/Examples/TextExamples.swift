import Checkpoints
import Imaging
import SegmentAnything
import Segmentation
import Tensors
import TextMatching

// The examples of documentation comments on everything mode and texts, word for word; around them is what they speak of.

func everything(
    _ photo: Image, _ encoder: any ImageEncoding, _ decoder: any PromptDecoding, _ pool: ThreadPool
) throws -> [MaskCandidate] {
    let generator = AutomaticMaskGenerator(encoder: encoder, decoder: decoder)
    let masks = try generator.generate(photo, pool: pool)
    return masks
}

func scoredByWords(_ masks: [RunLengthEncoding], _ image: Image, _ pool: ThreadPool) throws -> [[Float]] {
    let words = try WordsMatcher(checkpoint: Checkpoint(path: "weights/kirie-words.safetensors"))
    let rows = words.rows(of: masks, in: image, pool: pool)
    let scores = words.scores([try words.query("a dog")], of: rows)
    return scores
}

func scoredByCLIP(_ masks: [RunLengthEncoding], _ photo: Image, _ pool: ThreadPool) throws -> [[Float]] {
    let model = try CLIPModel(path: "clip-vit-base-patch32")
    let matcher = try model.matcher(pool: pool)
    let rows = matcher.rows(of: masks, in: photo, pool: pool)
    let scores = matcher.scores([try matcher.query("a dog")], of: rows)
    return scores
}

func chosen(
    _ matcher: any TextMatcher, _ query: TextQuery, _ rows: Tensor, _ masks: [RunLengthEncoding], _ ious: [Float]
) -> [TextSelection.Choice] {
    let scores = matcher.scores([query], of: rows)
    let chosen = TextSelection(count: .all).choices(scores, among: masks, predictedIoU: ious)
    return chosen
}
