import FoundationEssentials
public import SegmentAnything
import Segmentation

/// What is said of the masks of one picture: the object that `--json` prints and the result of a job.
///
/// ```json
/// {"image":{"width":1024,"height":768,"sha256":"…"},"model":"kirie-tiny","precision":"fp32",
///  "timings_ms":{"decode":2.6},
///  "masks":[{"prompt":0,"score":0.93,"stability_score":0.97,"area":40210,"bbox":[380,310,240,225],
///            "segmentation":{"size":[768,1024],"counts":"<COCO RLE>"}}]}
/// ```
public struct Answer: Sendable, Codable {
    /// The picture.
    public struct Picture: Sendable, Codable {
        /// Columns, after EXIF orientation.
        public var width: Int
        /// Rows, after EXIF orientation.
        public var height: Int
        /// Of the file; nil where only an embedding was given.
        public var sha256: String?

        /// A picture of that size.
        public init(width: Int, height: Int, sha256: String?) {
            self.width = width
            self.height = height
            self.sha256 = sha256
        }
    }

    /// COCO's run lengths.
    public struct RunLengths: Sendable, Codable {
        /// Height, width.
        public var size: [Int]
        /// COCO's compressed string.
        public var counts: String
    }

    /// One mask.
    public struct Cutout: Sendable, Codable {
        /// Which prompt it answers, counted from 0.
        public var prompt: Int
        /// The model's own estimate of its intersection over union.
        public var score: Float
        /// How little it changes with the threshold.
        public var stability_score: Float
        /// Pixels on the object.
        public var area: Int
        /// x, y, width, height.
        public var bbox: [Int]
        /// As run lengths; where outlines or a PNG file were asked for, nil.
        public var segmentation: RunLengths?
        /// Outlines as COCO has them: x and y in turn, one list a ring.
        public var polygons: [[Double]]?
        /// A PNG file in base64, 255 on the object.
        public var png: String?
    }

    /// The picture.
    public var image: Picture
    /// How people call the model.
    public var model: String
    /// Of the encoder's products.
    public var precision: String
    /// Milliseconds by part of the work.
    public var timings_ms: [String: Double]
    /// The masks, prompt by prompt, the highest score first.
    public var masks: [Cutout]

    /// An answer of its parts.
    public init(
        image: Picture, model: String, precision: String, timings_ms: [String: Double], masks: [Cutout]
    ) {
        self.image = image
        self.model = model
        self.precision = precision
        self.timings_ms = timings_ms
        self.masks = masks
    }

    /// One line of JSON, without its end.
    public func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(self))
    }
}

extension Answer.Cutout {
    /// A mask as run lengths.
    public init(prompt: Int, _ predicted: PredictedMask) {
        let encoding = predicted.encoding
        self.init(
            prompt: prompt, score: predicted.predictedIoU, stability_score: predicted.stabilityScore,
            area: encoding.area, bbox: encoding.boundingBox,
            segmentation: Answer.RunLengths(
                size: [encoding.height, encoding.width], counts: encoding.compressed))
    }
}

/// Times the parts of a piece of work.
public struct Stopwatch: Sendable {
    /// What was timed.
    public private(set) var milliseconds: [String: Double] = [:]
    private let clock = ContinuousClock()

    /// A watch that has timed nothing.
    public init() {}

    /// Adds the time that `body` takes to a part.
    public mutating func time<Result>(_ part: String, _ body: () throws -> Result) rethrows -> Result {
        let start = clock.now
        defer {
            let passed = (clock.now - start) / .microseconds(1)
            milliseconds[part, default: 0] += passed.rounded() / 1000
        }
        return try body()
    }
}
