public import JSON

/// What is said of the masks of one picture: the object that `--json` prints and the result of a job.
///
/// ```json
/// {"image":{"width":1024,"height":768,"sha256":"…"},"model":"kirie-tiny","precision":"fp32",
///  "timings_ms":{"decode":2.6},
///  "masks":[{"prompt":0,"score":0.93,"stability_score":0.97,"area":40210,"bbox":[380,310,240,225],
///            "segmentation":{"size":[768,1024],"counts":"<COCO RLE>"}}]}
/// ```
/// Where there is something to say of prompts, also `"errors":[{"prompt":1,"error":"…"}]` for those that could not be
/// answered and `"notes":[{"prompt":0,"note":"…"}]` for those that were clipped; the answer of a job begins with what is
/// known of its origin.
public struct Answer: Sendable, Codable {
    /// The picture.
    public struct Picture: Sendable, Codable {
        /// Columns, after EXIF orientation.
        public var width: Int
        /// Rows, after EXIF orientation.
        public var height: Int
        /// Of the file; nil where only an embedding was given.
        public var sha256: String?
        /// What is odd about its file and cost no pixel; nil for nothing.
        public var notes: [String]?

        /// A picture of that size.
        public init(width: Int, height: Int, sha256: String?, notes: [String] = []) {
            self.width = width
            self.height = height
            self.sha256 = sha256
            self.notes = notes.isEmpty ? nil : notes
        }
    }

    /// COCO's run lengths.
    public struct RunLengths: Sendable, Codable {
        /// Height, width.
        public var size: [Int]
        /// COCO's compressed string.
        public var counts: String
    }

    /// Low-resolution logits, as a prompt's `mask` takes them.
    public struct Logits: Sendable, Codable {
        /// Rows and columns.
        public var side: Int
        /// Base64 of side × side little-endian 32-bit floats, rows first.
        public var logits: String
        /// Which of the output tokens that were asked for gave them, counted from 0; nil where an older worker answered.
        public var token: Int?

        /// Logits of that side.
        public init(side: Int, logits: String, token: Int? = nil) {
            self.side = side
            self.logits = logits
            self.token = token
        }
    }

    /// A connected region of a mask.
    public struct Region: Sendable, Codable {
        /// Its outer boundary, clockwise on the screen: x and y in turn.
        public var exterior: [Int]
        /// The boundaries of what is cut out of it, counterclockwise.
        public var holes: [[Int]]

        /// A region of its boundaries.
        public init(exterior: [Int], holes: [[Int]]) {
            self.exterior = exterior
            self.holes = holes
        }
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
        /// Outlines as COCO has them: x and y in turn, one list for each connected region.
        ///
        /// Holes hang on their region's outline by bridges that are walked there and back, so that filling a list gives
        /// the right pixels.
        public var polygons: [[Double]]?
        /// The same regions with their holes told apart.
        public var regions: [Region]?
        /// A PNG file in base64, 255 on the object.
        public var png: String?
        /// What the mask was made of; nil where it was not asked for.
        public var logits: Logits?
        /// In everything mode: the point that was answered so, in a list of its own.
        public var point_coords: [[Double]]?
        /// In everything mode and on tiles: the part of the picture that it was found in, x, y, width, height.
        public var crop_box: [Int]?
        /// How much it looks like the examples, or how well the text fits, that it was asked for by.
        public var similarity: Float?
        /// The text of the vocabulary that fits it best; nil where none was given.
        public var label: String?
        /// The logit of there being an object at all where the prompt is, from SAM 2 and EdgeTAM; nil from models that do
        /// not ask themselves.
        public var object_score: Float?
    }

    /// Why a prompt has no masks.
    public struct Fault: Sendable, Codable {
        /// Which prompt, counted from 0.
        public var prompt: Int
        /// What is wrong with it.
        public var error: String

        /// A prompt that could not be answered.
        public init(prompt: Int, error: String) {
            self.prompt = prompt
            self.error = error
        }
    }

    /// What was changed about a prompt.
    public struct Note: Sendable, Codable {
        /// Which prompt, counted from 0.
        public var prompt: Int
        /// What was changed.
        public var note: String
    }

    /// The prompts that could not be answered; nil where there are none.
    public var errors: [Fault]?
    /// The prompts that were changed before they were answered; nil where there are none.
    public var notes: [Note]?
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
        image: Picture, model: String, precision: String, timings_ms: [String: Double], masks: [Cutout],
        remarks prompts: FittedPrompts? = nil
    ) {
        self.image = image
        self.model = model
        self.precision = precision
        self.timings_ms = timings_ms
        self.masks = masks
        if let prompts, !prompts.faults.isEmpty {
            errors = prompts.faults.map { Fault(prompt: $0.prompt, error: $0.text) }
        }
        if let prompts, !prompts.notes.isEmpty { notes = prompts.notes.map { Note(prompt: $0.prompt, note: $0.text) } }
    }

    /// One line of JSON, without its end.
    ///
    /// It is what `JSONEncoder` writes with sorted keys, in a tenth of the time: a click waits for it. The members of
    /// `first` come before, such as where its job came from.
    ///
    /// - Throws: `EncodingError` where a score is no number.
    public func encoded(first: [(name: String, value: JSONText)] = []) throws -> [UInt8] {
        var line = JSONWriter()
        try line.object {
            for (name, value) in first { $0.member(name) { $0.written(value.bytes) } }
            if let errors {
                $0.member("errors") {
                    $0.array(errors) { fault, line in
                        line.object {
                            $0.member("error") { $0.string(fault.error) }
                            $0.member("prompt") { $0.integer(fault.prompt) }
                        }
                    }
                }
            }
            try $0.member("image") { try $0.object(image.write) }
            try $0.member("masks") { try $0.array(masks) { mask, line in try line.object(mask.write) } }
            $0.member("model") { $0.string(model) }
            if let notes {
                $0.member("notes") {
                    $0.array(notes) { note, line in
                        line.object {
                            $0.member("note") { $0.string(note.note) }
                            $0.member("prompt") { $0.integer(note.prompt) }
                        }
                    }
                }
            }
            $0.member("precision") { $0.string(precision) }
            try $0.member("timings_ms") {
                try $0.object { line in
                    for (name, time) in timings_ms.sorted(by: { $0.key < $1.key }) {
                        try line.member(name) { try $0.number(time) }
                    }
                }
            }
        }
        return line.bytes
    }
}

extension Answer {
    /// One line of JSON, without its end, of masks that were found on the way: `{"provisional":true,…,"masks":[…]}`.
    ///
    /// - Parameters:
    ///   - masks: before all are weighed against each other.
    ///   - first: members that stand before them.
    /// - Returns: the line.
    /// - Throws: `EncodingError` where a score is no number.
    public static func provisional(
        _ masks: [Cutout], first: [(name: String, value: JSONText)] = []
    ) throws -> [UInt8] {
        var line = JSONWriter()
        try line.object {
            $0.member("provisional") { $0.bool(true) }
            for (name, value) in first { $0.member(name) { $0.written(value.bytes) } }
            try $0.member("masks") { try $0.array(masks) { mask, line in try line.object(mask.write) } }
        }
        return line.bytes
    }
}

extension Answer.Picture {
    fileprivate func write(to line: inout JSONWriter) throws {
        line.member("height") { $0.integer(height) }
        if let notes { line.member("notes") { $0.array(notes) { $1.string($0) } } }
        if let sha256 { line.member("sha256") { $0.string(sha256) } }
        line.member("width") { $0.integer(width) }
    }
}

extension Answer.Cutout {
    fileprivate func write(to line: inout JSONWriter) throws {
        line.member("area") { $0.integer(area) }
        line.member("bbox") { $0.array(bbox) { $1.integer($0) } }
        if let crop_box { line.member("crop_box") { $0.array(crop_box) { $1.integer($0) } } }
        if let label { line.member("label") { $0.string(label) } }
        if let logits {
            line.member("logits") {
                $0.object {
                    $0.member("logits") { $0.string(logits.logits) }
                    $0.member("side") { $0.integer(logits.side) }
                    if let token = logits.token { $0.member("token") { $0.integer(token) } }
                }
            }
        }
        if let object_score { try line.member("object_score") { try $0.number(object_score) } }
        if let png { line.member("png") { $0.string(png) } }
        if let point_coords {
            try line.member("point_coords") {
                try $0.array(point_coords) { point, line in try line.array(point) { try $1.number($0) } }
            }
        }
        if let polygons {
            try line.member("polygons") {
                try $0.array(polygons) { ring, line in try line.array(ring) { try $1.number($0) } }
            }
        }
        line.member("prompt") { $0.integer(prompt) }
        if let regions {
            line.member("regions") {
                $0.array(regions) { region, line in
                    line.object {
                        $0.member("exterior") { $0.array(region.exterior) { $1.integer($0) } }
                        $0.member("holes") { $0.array(region.holes) { $1.array($0) { $1.integer($0) } } }
                    }
                }
            }
        }
        try line.member("score") { try $0.number(score) }
        if let segmentation {
            line.member("segmentation") {
                $0.object {
                    $0.member("counts") { $0.string(segmentation.counts) }
                    $0.member("size") { $0.array(segmentation.size) { $1.integer($0) } }
                }
            }
        }
        if let similarity { try line.member("similarity") { try $0.number(similarity) } }
        try line.member("stability_score") { try $0.number(stability_score) }
    }
}

extension Answer.Cutout {
    /// A mask of everything mode as run lengths.
    public init(everything mask: MaskCandidate) {
        self.init(prompt: 0, score: mask.predictedIoU, stability: mask.stabilityScore, mask.encoding)
        point_coords = [[mask.point.x, mask.point.y]]
        similarity = mask.similarity
        label = mask.label
        crop_box = [mask.crop.x0, mask.crop.y0, mask.crop.width, mask.crop.height]
    }

    /// A mask that a text picked, as run lengths.
    public init(prompt: Int, text mask: MaskCandidate) {
        self.init(prompt: prompt, score: mask.predictedIoU, stability: mask.stabilityScore, mask.encoding)
        similarity = mask.similarity
    }

    /// A mask that was found on a tile, as run lengths.
    public init(prompt: Int, tiled mask: MaskCandidate) {
        self.init(prompt: prompt, score: mask.predictedIoU, stability: mask.stabilityScore, mask.encoding)
        object_score = mask.objectScore
        crop_box = [mask.crop.x0, mask.crop.y0, mask.crop.width, mask.crop.height]
    }

    /// A mask as run lengths.
    public init(prompt: Int, score: Float, stability: Float, _ encoding: RunLengthEncoding) {
        self.init(
            prompt: prompt, score: score, stability_score: stability, area: encoding.area, bbox: encoding.boundingBox,
            segmentation: Answer.RunLengths(
                size: [encoding.height, encoding.width], counts: encoding.compressed))
    }
}
