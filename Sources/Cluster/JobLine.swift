public import Platform
public import Segmentation

/// One line of a jobs file: what is to be cut out of which picture.
///
/// ```json
/// {"id":"a1","image":"photos/a.jpg","prompts":[{"points":[[500,375]],"labels":[1]},{"box":[10,20,300,400]}]}
/// ```
/// - `image`: a path, `{"base64":…}` or `{"sha256":…}` of a picture that is in the cluster already. Required.
/// - `prompts`: objects of `points` with `labels` (1 the object, 0 not; all 1 when absent; 2 and 3 the corners of a box and
///   -1 padding, as SAM has them), `box` (XYXY), `text`, and `mask` (`{"side":256,"logits":<base64 of side × side
///   little-endian 32-bit floats, rows first>}`), in pixels of the picture. No prompts and no `everything` asks for the
///   embedding alone. A prompt that is wrong is answered with an error in its place, and the others with masks.
/// - `tile`: `"auto"` for pictures much larger than what the model sees: each prompt of points and a box on the part of the
///   picture around it, at full resolution (`crop_box` in the answer).
/// - `everything`: true, or the parameters of everything mode by segment-anything's names, such as
///   `{"points_per_side":32}`; then there are no prompts.
/// - `instances`: of a text, `"all"` that it means, or a number of masks at most; one where it is left out.
/// - `multimask`: whether three masks are wanted a prompt. `lane`: `interactive` or `bulk`. `output`: `rle`, `polygon` or
///   `png`. `polygon`: how exact outlines are, such as `{"tolerance":1.5,"max_points":200}`; both may be left out.
///   `ttl_ms`: the job expires so many milliseconds after it was submitted. `logits`: whether each mask comes with its
///   low-resolution logits, which a later prompt's `mask` may be.
/// - `tenant`: whose it is, on the command line; over HTTP the key says so.
/// - `meta`: any JSON value of at most 16 KiB; it comes back with the answer as it was written.
///
/// As it travels, the separator 0x1E and a note may stand behind the line: see ``JobOrigin``.
public struct JobLine: Sendable, Hashable {
    /// Where the picture is.
    public enum Source: Sendable, Hashable {
        /// A file of the submitter.
        case path(String)
        /// The file's bytes.
        case bytes([UInt8])
        /// A picture in the cluster.
        case digest(ImageDigest)
    }

    /// How masks are written.
    public enum Output: String, Sendable, Hashable, CaseIterable {
        /// COCO's compressed run lengths.
        case runLengths = "rle"
        /// Outlines.
        case polygons = "polygon"
        /// PNG files in base64.
        case png
    }

    /// How exact outlines are.
    public struct Outlines: Sendable, Hashable {
        /// The points that an outline may be asked to have at most.
        public static let mostPoints = 4...1_000_000
        /// The tolerances that may be asked for, in pixels.
        public static let tolerances = 0.0...10_000

        /// Pixels that a point which was left out may be away from what remains; 0 keeps every corner of every pixel.
        public var tolerance = 0.0
        /// The most points of a mask's outlines together, for which the tolerance grows; nil for any number.
        public var mostPoints: Int?

        /// Outlines of that tolerance and that many points.
        public init(tolerance: Double = 0, mostPoints: Int? = nil) {
            self.tolerance = tolerance
            self.mostPoints = mostPoints
        }
    }

    /// Which part of the picture the model sees.
    public enum Tile: String, Sendable, Hashable, CaseIterable {
        /// For each prompt the part around it, at full resolution (``PromptTile``).
        case auto
    }

    /// Whose it is; nil for whoever submits it.
    public var tenant: Tenant?
    /// The job's id; nil lets the submitter make one.
    public var id: String?
    /// The picture.
    public var image: Source
    /// What is to be cut out; an empty prompt in the place of one that is wrong.
    public var prompts: [Prompt]
    /// What is wrong with prompts, by their index.
    public var faults: [Int: String] = [:]
    /// Settings of everything mode; nil for none.
    public var everything: EverythingParameters?
    /// How many masks a text has at most; nil for the best one.
    public var instances: Int?
    /// Whether three masks are wanted a prompt.
    public var multimask: Bool
    /// Which part of the picture the model sees for points and boxes; nil for the whole.
    public var tile: Tile?
    /// Whose line; nil for the submitter's choice.
    public var lane: Lane?
    /// How masks are written.
    public var output: Output
    /// How exact outlines are, where they are asked for.
    public var outlines: Outlines
    /// Whether each mask comes with its low-resolution logits.
    public var logits: Bool
    /// After which the job expires.
    public var timeToLive: Duration?
    /// Where it comes from, and the user's own value.
    public var origin = JobOrigin()

    /// A line of its parts.
    public init(
        id: String? = nil, image: Source, prompts: [Prompt] = [], everything: EverythingParameters? = nil,
        multimask: Bool = false, instances: Int? = nil, lane: Lane? = nil, output: Output = .runLengths,
        outlines: Outlines = Outlines(),
        logits: Bool = false, timeToLive: Duration? = nil
    ) {
        self.id = id
        self.image = image
        self.prompts = prompts
        self.everything = everything
        self.multimask = multimask
        self.instances = instances
        self.lane = lane
        self.output = output
        self.outlines = outlines
        self.logits = logits
        self.timeToLive = timeToLive
    }

    /// Whether only the embedding is wanted.
    public var asksForEmbeddingOnly: Bool { prompts.isEmpty && everything == nil }
}

/// What is wrong with a line of a jobs file, and where.
public struct JobLineError: ReportableError, Sendable, Hashable {
    /// Counted from 1; nil where the line came alone.
    public var line: Int?
    /// Such as `prompts[0].box`; empty for the line as a whole.
    public var field: String
    /// What is wrong, and what is expected.
    public var reason: String

    /// Line and field, and what is wrong there.
    public var report: ErrorReport {
        let place = [line.map { "line \($0)" }, field.isEmpty ? nil : field].compactMap(\.self)
        return ErrorReport(.input, "bad-job-line", at: place.isEmpty ? nil : place.joined(separator: ": "), reason)
    }

    /// The report in one line.
    public var description: String { report.text }
}
