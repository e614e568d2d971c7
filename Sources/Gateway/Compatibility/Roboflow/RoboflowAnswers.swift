import Cluster
import Embeddings
import HTTPTypes
import Imaging
import JSON
import Segmentation
import Tensors

/// Masks and embeddings as Roboflow's inference server writes them.
enum RoboflowAnswers {
    /// Numbers in arrays at most, over all arrays of an answer.
    private static let mostElements = 1 << 30

    /// `.npz` of `masks` and `low_res_masks`.
    ///
    /// - Parameters:
    ///   - cutouts: the mask of each prompt, with its logits.
    ///   - type: `bool` holds true on the object; `int8` holds the sign of the logits, 1 on the object and -1 elsewhere,
    ///     so that who compares with 0 finds the mask.
    /// - Returns: the file.
    /// - Throws: ``Problem`` where the masks are too large for one file, or came without what is asked for.
    static func archive(of cutouts: [Answer.Cutout], _ type: NumPyType) throws -> [UInt8] {
        let sizes = Set(cutouts.map { $0.segmentation?.size ?? [] })
        guard let size = sizes.first, sizes.count == 1, size.count == 2 else {
            throw Problem(.internalServerError, "no-masks", "the masks of one answer differ in size")
        }
        guard size[0] * size[1] <= mostElements / max(cutouts.count, 1) else {
            throw Problem(
                .contentTooLarge, "too-large", "\(cutouts.count) masks of \(size[1]) x \(size[0]): ask for rle")
        }
        var archive = NumPyArchive()
        try archive.add("masks", type, shape: [cutouts.count] + size) { write in
            for cutout in cutouts {
                var pixels = try cutout.levels().pixels
                if type == .int8 { for index in pixels.indices where pixels[index] == 0 { pixels[index] = 0xFF } }
                try pixels.withUnsafeBytes { try write($0) }
            }
        }
        let logits = try cutouts.map { try Self.logits(of: $0) }
        let side = logits.first?.side ?? 0
        try archive.add("low_res_masks", .float32, shape: [logits.count, side, side]) { write in
            for logits in logits { try logits.values.withUnsafeBytes { try write($0) } }
        }
        return archive.finish()
    }

    /// The logits that a mask came with.
    static func logits(of cutout: Answer.Cutout) throws -> LowResolutionLogits {
        guard let logits = cutout.logits.flatMap({ LowResolutionLogits(side: $0.side, base64: $0.logits) }) else {
            throw Problem(.internalServerError, "no-logits", "the answer came without its logits")
        }
        return logits
    }

    /// What is above 0 of logits, as a mask.
    static func mask(of logits: LowResolutionLogits) -> GrayImage {
        GrayImage(width: logits.side, height: logits.side, pixels: logits.values.map { $0 > 0 ? 1 : 0 })
    }

    /// `[[x, y], …]` of numbers with a point, as that server has them.
    static func outline(_ ring: [PixelVertex]) -> [UInt8] {
        var text: [UInt8] = [UInt8(ascii: "[")]
        text.reserveCapacity(ring.count * 16)
        for (index, vertex) in ring.enumerated() {
            if index > 0 { text.append(UInt8(ascii: ",")) }
            text.append(contentsOf: "[\(vertex.x).0,\(vertex.y).0]".utf8)
        }
        text.append(UInt8(ascii: "]"))
        return text
    }

    /// All outlines of a mask.
    static func outlines(_ mask: GrayImage) -> JSONValue {
        .array(OuterContours.of(mask).map { .verbatim(outline($0)) })
    }

    /// The outline with the most corners, which is all that SAM's routes tell of a mask.
    static func longestOutline(_ mask: GrayImage) -> JSONValue {
        .verbatim(outline(OuterContours.of(mask).max { $0.count < $1.count } ?? []))
    }

    /// A mask as COCO's run lengths.
    static func runLengths(_ cutout: Answer.Cutout) throws -> JSONValue {
        guard let run = cutout.segmentation else {
            throw Problem(.internalServerError, "no-masks", "the answer has no run lengths")
        }
        return .object([("size", .array(run.size.map { .integer($0) })), ("counts", .string(run.counts))])
    }
}

/// The numbers of an embedding as (1, C, H, W).
struct EmbeddingArray: Sendable {
    /// 1, channels, rows, columns.
    let shape: [Int]
    /// Rows first.
    let numbers: [Float]

    /// The map that prompts are decoded on: SAM's one, of several the coarsest.
    init(_ record: EmbeddingRecord) throws(Problem) {
        let maps = record.maps()
        guard
            let map = maps.first(where: { $0.name == FeatureMap.imageEmbedding })
                ?? maps.min(by: { $0.height * $0.width < $1.height * $1.width })
        else { throw Problem(.internalServerError, "no-maps", "the embedding has no feature maps") }
        let (channels, area) = (map.channels, map.height * map.width)
        shape = [1, channels, map.height, map.width]
        let elements = map.tensor.elements
        if map.layout == .channelsFirst {
            numbers = elements
        } else {
            numbers = [Float](unsafeUninitializedCapacity: channels * area) { turned, count in
                for channel in 0..<channels {
                    for place in 0..<area { turned[channel * area + place] = elements[place * channels + channel] }
                }
                count = channels * area
            }
        }
    }

    /// The file `numpy.save` writes.
    var file: [UInt8] { NumPyFile.head(.float32, shape: shape) + NumPyFile.bytes(numbers) }

    /// One channel as nested lists.
    func text(channel: Int) -> [UInt8] {
        let (rows, columns) = (shape[2], shape[3])
        var text: [UInt8] = []
        text.reserveCapacity(rows * columns * 14)
        text.append(UInt8(ascii: "["))
        for row in 0..<rows {
            text.append(contentsOf: row == 0 ? "[".utf8 : ",[".utf8)
            for column in 0..<columns {
                if column > 0 { text.append(UInt8(ascii: ",")) }
                text.append(contentsOf: "\(numbers[(channel * rows + row) * columns + column])".utf8)
            }
            text.append(UInt8(ascii: "]"))
        }
        text.append(UInt8(ascii: "]"))
        return text
    }
}
