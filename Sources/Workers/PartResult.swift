import Redis
import Segmentation

/// The result of a part of a job: the part's line as it was written, and below it masks, each with a number.
enum PartResult {
    /// Writes what was found.
    static func write(_ line: RedisBytes, _ masks: [(number: Int, mask: MaskCandidate)]) -> RedisBytes {
        RedisBytes(line.array + [0x0A] + CandidateText.write(masks))
    }

    /// Reads what ``write(_:_:)`` wrote, of a picture of that size; `part` reads the line.
    static func read<Part>(
        _ result: RedisBytes, width: Int, height: Int, _ part: ([UInt8]) -> Part?
    ) throws(PromptRefusal) -> (part: Part, masks: [(number: Int, mask: MaskCandidate)]) {
        let bytes = result.array
        guard let end = bytes.firstIndex(of: 0x0A), let part = part(Array(bytes[..<end])),
            let masks = CandidateText.read(Array(bytes[(end + 1)...]), width: width, height: height)
        else { throw PromptRefusal(reason: "the result of a part cannot be read") }
        return (part, masks)
    }
}
