import Checkpoints
import Cluster
import Platform
import SegmentAnything
import Segmentation
import Tensors

/// What `kirie decode --logits` writes: the output tokens of all prompts, in order.
///
/// Prompts keep their places: one that could not be answered has numbers that are none (NaN).
struct LogitsTensors {
    /// By prompt and token; nil where there is no answer.
    private let masks: [[(logits: LowResolutionLogits, predictedIoU: Float)?]]
    private let side: Int

    /// Of prompts that were decoded in this process.
    init(_ answered: [DecodedMasks], of prompts: FittedPrompts, side: Int, multimask: Bool) {
        var masks = Self.none(prompts.usable.count + prompts.faults.count, multimask)
        for (place, answer) in zip(prompts.usable, answered) {
            masks[place.index] = zip(answer.returnedLogits, answer.predictedIoU).map { ($0, $1) }
        }
        self.masks = masks
        self.side = side
    }

    /// Of a worker's answer, whose masks come with their logits, the best first.
    ///
    /// - Throws: ``ForeignAnswerError`` where a mask comes without.
    init(_ answer: Answer, prompts: Int, multimask: Bool) throws {
        var masks = Self.none(prompts, multimask)
        for mask in answer.masks {
            guard let written = mask.logits, let token = written.token,
                let logits = LowResolutionLogits(side: written.side, base64: written.logits),
                masks.indices.contains(mask.prompt), masks[mask.prompt].indices.contains(token)
            else { throw ForeignAnswerError() }
            masks[mask.prompt][token] = (logits, mask.score)
        }
        self.masks = masks
        side = answer.masks.first?.logits?.side ?? PromptOptions.publishedMaskSide
    }

    private static func none(_ prompts: Int, _ multimask: Bool) -> [[(LowResolutionLogits, Float)?]] {
        [[(LowResolutionLogits, Float)?]](repeating: Array(repeating: nil, count: multimask ? 3 : 1), count: prompts)
    }

    /// `logits` (P, M, H, W) at the picture's size, each made of low-resolution ones.
    func fullSize(width: Int, height: Int, _ scaled: (LowResolutionLogits) -> [Float]) -> Tensor {
        Tensor(
            shape: [masks.count, masks.first?.count ?? 0, height, width],
            masks.flatMap { $0.flatMap { $0.map { scaled($0.logits) } ?? Self.noNumbers(width * height) } })
    }

    /// The same of an embedding's picture.
    func fullSize(_ frame: ImageFrame, _ preprocessing: ImagePreprocessing) -> Tensor {
        let scaling = MaskScaling(
            side: side, imageSize: preprocessing.size, frame: frame, resize: preprocessing.resize)
        return fullSize(width: frame.originalWidth, height: frame.originalHeight) { logits in
            logits.values.withUnsafeBufferPointer { $0.baseAddress.map(scaling.fullSize) ?? [] }
        }
    }

    /// Writes `low_res_logits` (P, M, 4g, 4g), `iou` (P, M) and, where it is there, `logits`.
    func write(to path: String, fullSize: Tensor?) throws {
        let count = masks.first?.count ?? 0
        var entries: [SafetensorsWriter.Entry] = [
            .init(
                "low_res_logits",
                Tensor(
                    shape: [masks.count, count, side, side],
                    masks.flatMap { $0.flatMap { $0?.logits.values ?? Self.noNumbers(side * side) } })),
            .init(
                "iou",
                Tensor(shape: [masks.count, count], masks.flatMap { $0.map { $0?.predictedIoU ?? .nan } })),
        ]
        if let fullSize { entries.append(.init("logits", fullSize)) }
        try SafetensorsWriter.write(entries, to: path)
    }

    private static func noNumbers(_ count: Int) -> [Float] { [Float](repeating: .nan, count: count) }
}

/// A worker's masks came without the logits that were asked for.
struct ForeignAnswerError: Error, CustomStringConvertible {
    let description =
        "the worker's answer has no logits by token: it is of an older release than this program; "
        + "restart the cluster's decoders with this one, or leave --redis away"
}
