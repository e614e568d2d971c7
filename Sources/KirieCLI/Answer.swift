import FoundationEssentials
import Imaging
import SegmentAnything
import Segmentation

/// What a command prints with `--json`, and writes to `-o OUT.json`.
struct Answer: Encodable {
    struct Picture: Encodable {
        let width: Int
        let height: Int
        let sha256: String?
    }

    struct Cutout: Encodable {
        /// Which prompt it answers, counted from 0.
        let prompt: Int
        let score: Float
        let stability_score: Float
        let area: Int
        /// x, y, width, height.
        let bbox: [Int]
        let segmentation: Segmentation

        struct Segmentation: Encodable {
            /// Height, width.
            let size: [Int]
            /// COCO's compressed string.
            let counts: String
        }

        init(prompt: Int, _ predicted: PredictedMask) {
            let encoding = RunLengthEncoding(predicted.mask)
            self.prompt = prompt
            score = predicted.predictedIoU
            stability_score = predicted.stabilityScore
            area = encoding.area
            bbox = encoding.boundingBox
            segmentation = Segmentation(size: [encoding.height, encoding.width], counts: encoding.compressed)
        }
    }

    let image: Picture
    let model: String
    let precision: String
    let timings_ms: [String: Double]
    let masks: [Cutout]

    var json: [UInt8] {
        get throws {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return Array(try encoder.encode(self)) + [UInt8(ascii: "\n")]
        }
    }
}

/// Times the parts of a command.
struct Stopwatch {
    private(set) var milliseconds: [String: Double] = [:]
    private let clock = ContinuousClock()

    mutating func time<Result>(_ part: String, _ body: () throws -> Result) rethrows -> Result {
        let start = clock.now
        defer {
            let passed = (clock.now - start) / .microseconds(1)
            milliseconds[part, default: 0] += (passed).rounded() / 1000
        }
        return try body()
    }
}
