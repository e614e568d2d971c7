import JSON

/// A part of a job of everything mode: some points of a part of the picture, answered by whichever worker takes it.
public struct EverythingPart: Sendable, Hashable {
    /// What the job asks for, with nothing left to the model.
    public var parameters: EverythingParameters
    /// Columns of the whole picture.
    public var width: Int
    /// Rows of the whole picture.
    public var height: Int
    /// Which part of the picture, by the plan.
    public var crop: Int
    /// Its points, by their indices in the crop's grid.
    public var points: [Int]
    /// Whether boxes and scores are enough.
    public var areDrafts: Bool
    /// Whether masks that lie on better ones of the part may come without their runs, where there are very many of these.
    public var mayThin: Bool

    /// A part of its members.
    public init(
        parameters: EverythingParameters, width: Int, height: Int, crop: Int, points: [Int], areDrafts: Bool = false,
        mayThin: Bool = false
    ) {
        self.parameters = parameters
        self.width = width
        self.height = height
        self.crop = crop
        self.points = points
        self.areDrafts = areDrafts
        self.mayThin = mayThin
    }

    /// The part as a job's line.
    public var line: [UInt8] {
        JSONValue.object([
            (
                "part",
                .object([
                    ("crop", .integer(crop)), ("width", .integer(width)), ("height", .integer(height)),
                    ("points", .array(points.map { .integer($0) })), ("drafts", .bool(areDrafts)),
                    ("thin", .bool(mayThin)),
                ])
            ), ("everything", parameters.value),
        ]).bytes
    }

    /// Reads the line of a part; nil for any other line.
    public init?(line: [UInt8]) {
        guard line.starts(with: #"{"part":"#.utf8), let value = try? JSONValue(parsing: line), let part = value["part"],
            let crop = part["crop"]?.integer, let width = part["width"]?.integer, let height = part["height"]?.integer,
            let points = part["points"]?.elements?.compactMap(\.integer), crop >= 0, width > 0, height > 0,
            let parameters = try? EverythingParameters(value["everything"] ?? .null)
        else { return nil }
        self.init(parameters: parameters, width: width, height: height, crop: crop, points: points)
        if case .bool(let wanted) = part["drafts"] { areDrafts = wanted }
        // Who asked before there was such a thing cannot read them.
        if case .bool(let wanted) = part["thin"] { mayThin = wanted }
    }

    /// The masks that a part's result has, before all of the job's are weighed against each other.
    ///
    /// - Parameter result: the part's line, and below it its masks.
    /// - Returns: those that have runs; none for a part that only looked, and for anything else.
    public static func masks(ofResult result: [UInt8]) -> [MaskCandidate] {
        guard let end = result.firstIndex(of: 0x0A), let part = EverythingPart(line: Array(result[..<end])),
            !part.areDrafts
        else { return [] }
        let masks = CandidateText.read(Array(result[(end + 1)...]), width: part.width, height: part.height)
        return masks?.map(\.mask).filter { !$0.isBare } ?? []
    }
}
