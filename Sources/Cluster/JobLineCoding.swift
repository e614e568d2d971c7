import FoundationEssentials
public import Segmentation

/// Reading and writing job lines as JSON.
extension JobLine {
    /// Reads a line.
    ///
    /// - Parameters:
    ///   - text: one JSON object in UTF-8.
    ///   - number: the line's number in its file, for errors.
    /// - Throws: what is wrong and in which field; a name that is no field is an error too.
    public init(parsing text: some Collection<UInt8>, number: Int? = nil) throws(JobLineError) {
        if let line = JobLineScanner.line(Array(text)) {
            self = line
        } else {
            try self.init(decoding: text, number: number)
        }
    }

    /// Reads a line with `JSONDecoder`, whatever is in it.
    package init(decoding text: some Collection<UInt8>, number: Int?) throws(JobLineError) {
        do {
            self = try JSONDecoder().decode(DecodedLine.self, from: Data(text)).line
        } catch var error as JobLineError {
            error.line = number
            throw error
        } catch let error as DecodingError {
            throw JobLineError(line: number, error)
        } catch {
            throw JobLineError(line: number, field: "", reason: "cannot be read as JSON")
        }
    }

    /// The line as it travels: the picture by its digest alone.
    public func encoded(for image: ImageDigest) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Nothing in it can fail to be encoded: its numbers were read from JSON or checked to be finite.
        guard let data = try? encoder.encode(EncodedLine(self, image)) else { return [] }
        return Array(data)
    }
}

extension JobLineError {
    fileprivate init(line: Int?, _ error: DecodingError) {
        let (path, reason): ([any CodingKey], String) =
            switch error {
            case .typeMismatch(let type, let context): (context.codingPath, "\(Self.name(of: type)) is expected")
            case .valueNotFound(let type, let context):
                (context.codingPath, "\(Self.name(of: type)) is expected, not null")
            case .keyNotFound(let key, let context): (context.codingPath + [key], "is missing")
            case .dataCorrupted(let context):
                (context.codingPath, context.codingPath.isEmpty ? "this is not JSON" : "\(context.debugDescription)")
            @unknown default: ([], "cannot be read")
            }
        self.init(line: line, field: Self.field(path), reason: reason)
    }

    fileprivate static func field(_ path: [any CodingKey]) -> String {
        path.reduce(into: "") { text, key in
            if let index = key.intValue {
                text += "[\(index)]"
            } else {
                text += text.isEmpty ? key.stringValue : ".\(key.stringValue)"
            }
        }
    }

    private static func name(of type: Any.Type) -> String {
        switch type {
        case is String.Type: "a string"
        case is Bool.Type: "true or false"
        case is Double.Type: "a number"
        case is Int.Type: "a whole number"
        default: "\(type)".hasPrefix("Array") ? "an array" : "an object"
        }
    }
}

/// A member name that is not known beforehand, so that unknown ones are seen.
private struct MemberName: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
}

extension KeyedDecodingContainer<MemberName> {
    fileprivate func onlyHolds(_ names: Set<String>) throws {
        if let stranger = allKeys.map(\.stringValue).filter({ !names.contains($0) }).min() {
            let known = names.sorted().joined(separator: ", ")
            throw fault(stranger, "there is no such field; there are \(known)")
        }
    }

    fileprivate func fault(_ name: String, _ reason: String) -> JobLineError {
        JobLineError(line: nil, field: JobLineError.field(codingPath + [MemberName(stringValue: name)]), reason: reason)
    }

    fileprivate func optional<Value: Decodable>(_ type: Value.Type, _ name: String) throws -> Value? {
        try decodeIfPresent(type, forKey: MemberName(stringValue: name))
    }

    fileprivate func word<Word: RawRepresentable & CaseIterable>(
        _ type: Word.Type, _ name: String
    ) throws -> Word? where Word.RawValue == String {
        guard let text = try optional(String.self, name) else { return nil }
        guard let word = Word(rawValue: text) else {
            let words = Word.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
            throw fault(name, "one of \(words) is expected")
        }
        return word
    }
}

private struct DecodedLine: Decodable {
    static let names: Set<String> = [
        "id", "image", "prompts", "everything", "multimask", "lane", "output", "ttl_ms",
    ]
    let line: JobLine

    init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: MemberName.self)
        try members.onlyHolds(Self.names)
        guard let image = try members.optional(DecodedSource.self, "image") else {
            throw members.fault("image", "is missing: give a path, {\"base64\":…} or {\"sha256\":…}")
        }
        var line = JobLine(image: image.source)
        line.id = try members.optional(String.self, "id")
        if let id = line.id, !Self.isIdentifier(id) {
            throw members.fault("id", "1 to 128 of A-Z a-z 0-9 . _ : @ / + - are expected")
        }
        line.prompts = try members.optional([DecodedPrompt].self, "prompts")?.map(\.prompt) ?? []
        line.everything = try members.optional(DecodedSettings.self, "everything")?.settings
        line.multimask = try members.optional(Bool.self, "multimask") ?? false
        line.lane = try members.word(Lane.self, "lane")
        line.output = try members.word(JobLine.Output.self, "output") ?? .runLengths
        if let milliseconds = try members.optional(Int.self, "ttl_ms") {
            guard (1...1_000_000_000_000).contains(milliseconds) else {
                throw members.fault("ttl_ms", "a number of milliseconds from 1 to 10^12 is expected")
            }
            line.timeToLive = .milliseconds(milliseconds)
        }
        self.line = line
    }

    private static func isIdentifier(_ text: String) -> Bool {
        return (1...128).contains(text.utf8.count)
            && text.utf8.allSatisfy { unit in
                switch unit {
                case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"):
                    true
                default: "._:@/+-".utf8.contains(unit)
                }
            }
    }
}

private struct DecodedSource: Decodable {
    static let names: Set<String> = ["base64", "sha256"]
    let source: JobLine.Source

    init(from decoder: any Decoder) throws {
        // An object first: that is what a worker reads, and an attempt that fails takes longer than all the rest.
        guard let members = try? decoder.container(keyedBy: MemberName.self) else {
            guard let path = try? decoder.singleValueContainer().decode(String.self) else {
                throw Self.fault(decoder, "a path, {\"base64\":…} or {\"sha256\":…} is expected")
            }
            guard !path.isEmpty else { throw Self.fault(decoder, "the path is empty") }
            source = .path(path)
            return
        }
        try members.onlyHolds(Self.names)
        let texts = (try members.optional(String.self, "base64"), try members.optional(String.self, "sha256"))
        switch texts {
        case (let text?, nil):
            guard let data = Data(base64Encoded: text), !data.isEmpty else {
                throw members.fault("base64", "this is not base64")
            }
            source = .bytes(Array(data))
        case (nil, let text?):
            guard let digest = ImageDigest(text) else {
                throw members.fault("sha256", "64 hexadecimal digits are expected")
            }
            source = .digest(digest)
        default: throw Self.fault(decoder, "one of base64 and sha256 is expected")
        }
    }

    private static func fault(_ decoder: any Decoder, _ reason: String) -> JobLineError {
        JobLineError(line: nil, field: JobLineError.field(decoder.codingPath), reason: reason)
    }
}

/// The settings of everything mode: numbers by the names of segment-anything's `SamAutomaticMaskGenerator`.
private struct DecodedSettings: Decodable {
    static let names: Set<String> = [
        "points_per_side", "points_per_batch", "pred_iou_thresh", "stability_score_thresh", "stability_score_offset",
        "box_nms_thresh", "crop_n_layers", "crop_nms_thresh", "crop_overlap_ratio", "crop_n_points_downscale_factor",
        "min_mask_region_area",
    ]
    let settings: [String: Double]

    init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: MemberName.self)
        try members.onlyHolds(Self.names)
        var settings: [String: Double] = [:]
        for name in members.allKeys { settings[name.stringValue] = try members.decode(Double.self, forKey: name) }
        self.settings = settings
    }
}

private struct DecodedPrompt: Decodable {
    static let names: Set<String> = ["points", "labels", "box", "mask", "text"]
    let prompt: Prompt

    init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: MemberName.self)
        try members.onlyHolds(Self.names)
        var prompt = Prompt()
        let points = try members.optional([[Double]].self, "points") ?? []
        let labels = try members.optional([Int].self, "labels")
        if let labels, labels.count != points.count {
            throw members.fault("labels", "\(labels.count) labels for \(points.count) points: give one for each")
        }
        for (index, point) in points.enumerated() {
            guard point.count == 2 else { throw members.fault("points[\(index)]", "x and y are expected") }
            guard let label = PointLabel(rawValue: labels?[index] ?? 1) else {
                throw members.fault("labels[\(index)]", "1 (the object) or 0 (what is not the object) is expected")
            }
            prompt.points.append(LabeledPoint(x: point[0], y: point[1], label: label))
        }
        if let box = try members.optional([Double].self, "box") {
            guard box.count == 4, box[0] < box[2], box[1] < box[3] else {
                throw members.fault("box", "x0, y0, x1, y1 with x0 < x1 and y0 < y1 are expected")
            }
            prompt.box = BoundingBox(x0: box[0], y0: box[1], x1: box[2], y1: box[3])
        }
        prompt.mask = try members.optional(DecodedMask.self, "mask")?.logits
        prompt.text = try members.optional(String.self, "text")
        if prompt.points.isEmpty, prompt.box == nil, prompt.mask == nil, prompt.text == nil {
            throw JobLineError(
                line: nil, field: JobLineError.field(decoder.codingPath),
                reason: "the prompt is empty: give points or a box")
        }
        self.prompt = prompt
    }
}

private struct DecodedMask: Decodable {
    static let names: Set<String> = ["side", "logits"]
    let logits: LowResolutionLogits

    init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: MemberName.self)
        try members.onlyHolds(Self.names)
        let side = try members.optional(Int.self, "side") ?? 256
        guard (1...1024).contains(side) else { throw members.fault("side", "1 to 1024 is expected") }
        guard let text = try members.optional(String.self, "logits"), let data = Data(base64Encoded: text),
            data.count == side * side * 4
        else {
            throw members.fault("logits", "base64 of \(side) x \(side) little-endian 32-bit floats is expected")
        }
        let bytes = Array(data)
        let values = (0..<side * side).map { index in
            Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[index * 4 + $1]) << (8 * UInt32($1)) })
        }
        guard values.allSatisfy(\.isFinite) else { throw members.fault("logits", "holds what is no number") }
        logits = LowResolutionLogits(side: side, values: values)
    }
}

/// The line as it travels.
private struct EncodedLine: Encodable {
    struct Source: Encodable { let sha256: String }
    struct Mask: Encodable {
        let side: Int
        let logits: String
    }
    struct Cut: Encodable {
        var points: [[Double]]?
        var labels: [Int]?
        var box: [Double]?
        var mask: Mask?
        var text: String?
    }

    let id: String?
    let image: Source
    let prompts: [Cut]
    let everything: [String: Double]?
    let multimask: Bool?
    let output: String

    init(_ line: JobLine, _ image: ImageDigest) {
        id = line.id
        self.image = Source(sha256: image.hexadecimal)
        prompts = line.prompts.map { prompt in
            var cut = Cut(text: prompt.text)
            if !prompt.points.isEmpty {
                cut.points = prompt.points.map { [$0.x, $0.y] }
                cut.labels = prompt.points.map(\.label.rawValue)
            }
            cut.box = prompt.box.map { [$0.x0, $0.y0, $0.x1, $0.y1] }
            cut.mask = prompt.mask.map { mask in
                let bytes = mask.values.flatMap { value in
                    (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * UInt32($0))) }
                }
                return Mask(side: mask.side, logits: Data(bytes).base64EncodedString())
            }
            return cut
        }
        everything = line.everything
        multimask = line.multimask ? true : nil
        output = line.output.rawValue
    }
}
