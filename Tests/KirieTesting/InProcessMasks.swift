import Checkpoints
package import Embeddings
import Foundation
package import SegmentAnything
package import Segmentation
import Tensors
import Workers

/// The masks that the library gives in this process, by way of the same half-precision record that workers keep.
package struct InProcessMasks: Sendable {
    /// What workers call the model.
    package let model: ModelIdentifier
    private let fingerprint: [UInt8]
    private let encoder: SamEncoder
    private let decoder: SamDecoder

    package init() throws {
        let sam = try SamModel(path: KirieProcess.nano)
        fingerprint = try sam.fingerprint().bytes
        encoder = try sam.encoder()
        model = ModelIdentifier(fingerprint: fingerprint, arithmetic: encoder.arithmetic, precision: .fp16)
        decoder = try sam.decoder()
    }

    /// The bytes of a picture's record.
    package func record(_ picture: TestPicture) throws -> EmbeddingRecord {
        try EmbeddingRecord(
            encoder.encode(picture.image, pool: .inline), fingerprint: fingerprint, image: picture.digest,
            precision: .fp16, arithmetic: model.arithmetic, encodeTime: .zero)
    }

    /// A picture made ready for prompts.
    package func prepare(_ picture: TestPicture) throws -> SamDecoder.PreparedImage {
        let bytes = try record(picture).withUnsafeBytes { Array($0) }
        return try decoder.prepare(try EmbeddingRecord(copying: bytes).features(), pool: .inline)
    }

    /// The masks as a line of text that is the same when all numbers and all pixels are.
    package func masks(_ prompts: [Prompt], multimask: Bool = false, on image: SamDecoder.PreparedImage) throws
        -> String
    {
        let masks = try decoder.predict(prompts, on: image, multimask: multimask, pool: .inline)
        return try Self.text(
            masks.enumerated().flatMap { index, masks in masks.map { Answer.Cutout(prompt: index, $0) } })
    }

    /// The same text of masks that came from elsewhere.
    package static func text(_ masks: [Answer.Cutout]) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return String(decoding: try encoder.encode(masks), as: UTF8.self)
    }

    /// The same text of a result in Redis.
    package static func text(ofResult json: String) throws -> String {
        try text(try JSONDecoder().decode(Answer.self, from: Data(json.utf8)).masks)
    }
}
