import FoundationEssentials
import JSON
import Segmentation

/// Reading job lines.
extension JobLine {
    /// Reads a line.
    ///
    /// - Parameters:
    ///   - text: one JSON object in UTF-8.
    ///   - number: the line's number in its file, for errors.
    /// - Throws: what is wrong and in which field; a name that is no field is an error too.
    public init(parsing text: some Collection<UInt8>, number: Int? = nil) throws(JobLineError) {
        let parts = text.split(
            separator: JobOrigin.separator, maxSplits: 1, omittingEmptySubsequences: false)
        let line = Array(parts[0])
        if let scanned = JobLineScanner.line(line) {
            self = scanned
        } else {
            try self.init(decoding: line, number: number)
        }
        if parts.count > 1 { origin = JobOrigin(note: parts[1]).or(origin) }
    }

    /// Reads a line with `JSONDecoder`, whatever is in it.
    package init(decoding text: some Collection<UInt8>, number: Int?) throws(JobLineError) {
        do {
            let decoded = try JSONDecoder().decode(DecodedLine.self, from: Data(text))
            self = decoded.line
            if decoded.hasMeta { origin.meta = try Self.meta(of: text) }
        } catch var error as JobLineError {
            error.line = number
            throw error
        } catch let error as DecodingError {
            throw JobLineError(line: number, error)
        } catch {
            throw JobLineError(line: number, field: "", reason: "cannot be read as JSON")
        }
    }

    /// Of a line that is no job: what of it tells its answer from others, where that can be made out.
    public static func labels(of text: some Collection<UInt8>) -> (id: String?, origin: JobOrigin) {
        let members = JSONText.members(of: text) ?? []
        var origin = JobOrigin()
        var id: String?
        for (name, value) in members {
            switch name {
            case "id": id = value.string
            case "image": origin.path = value.string
            case "meta" where value.bytes.count <= JobOrigin.largestMeta: origin.meta = value
            default: break
            }
        }
        return (id, origin)
    }

    /// The user's own value as it was written.
    private static func meta(of text: some Collection<UInt8>) throws(JobLineError) -> JSONText {
        // Checked once more: JSONDecoder does not look into what nobody asks it for.
        guard let member = JSONText.members(of: text)?.first(where: { $0.name == "meta" }),
            let meta = JSONText(member.value.bytes)
        else { throw JobLineError(line: nil, field: "meta", reason: "this is not JSON") }
        guard meta.bytes.count <= JobOrigin.largestMeta else {
            throw JobLineError(
                line: nil, field: "meta",
                reason:
                    "it has \(meta.bytes.count) bytes; at most \(JobOrigin.largestMeta) (16 KiB) come back with the "
                    + "answer: keep the rest yourself, under a name that stands here")
        }
        return meta
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

private struct DecodedOutlines: Decodable {
    let outlines: JobLine.Outlines

    init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: MemberName.self)
        try members.onlyHolds(["tolerance", "max_points"])
        let (tolerances, points) = (JobLine.Outlines.tolerances, JobLine.Outlines.mostPoints)
        let tolerance = try members.optional(Double.self, "tolerance") ?? 0
        guard tolerances.contains(tolerance) else {
            throw members.fault("tolerance", "a number of pixels from 0 to \(Int(tolerances.upperBound)) is expected")
        }
        let number = try members.optional(Double.self, "max_points")
        let most = number.flatMap { Int(exactly: $0) }
        guard number == nil || most.map(points.contains) ?? false else {
            throw members.fault(
                "max_points", "a whole number from \(points.lowerBound) to \(points.upperBound) is expected")
        }
        outlines = JobLine.Outlines(tolerance: tolerance, mostPoints: most)
    }
}

private struct DecodedLine: Decodable {
    static let names: Set<String> = [
        "id", "image", "prompts", "everything", "instances", "multimask", "lane", "output", "polygon", "logits",
        "ttl_ms", "meta", "tile", "tenant",
    ]
    let line: JobLine
    let hasMeta: Bool

    init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: MemberName.self)
        try members.onlyHolds(Self.names)
        guard let image = try members.optional(DecodedSource.self, "image") else {
            throw members.fault("image", "is missing: give a path, {\"base64\":…} or {\"sha256\":…}")
        }
        var line = JobLine(image: image.source)
        hasMeta = members.contains(MemberName(stringValue: "meta"))
        line.id = try members.optional(String.self, "id")
        if let id = line.id, let reason = JobIdentifier.fault(in: id) { throw members.fault("id", reason) }
        if let name = try members.optional(String.self, "tenant") {
            if let reason = Tenant.fault(in: name) { throw members.fault("tenant", reason) }
            line.tenant = Tenant(name)
        }
        let attempts = try members.optional([AttemptedPrompt].self, "prompts") ?? []
        line.prompts = attempts.map(\.prompt)
        for (index, attempt) in attempts.enumerated() {
            guard let fault = attempt.fault else { continue }
            line.faults[index] = fault.description(below: "prompts[\(index)]")
        }
        line.everything = try members.optional(DecodedSettings.self, "everything")?.parameters
        guard line.everything == nil || line.prompts.isEmpty else {
            throw members.fault("everything", "takes no prompts beside it: give one or the other")
        }
        line.multimask = try members.optional(Bool.self, "multimask") ?? false
        if members.contains(MemberName(stringValue: "instances")) {
            if (try? members.decode(String.self, forKey: MemberName(stringValue: "instances"))) == "all" {
                line.instances = .max
            } else if let number = try? members.decode(Int.self, forKey: MemberName(stringValue: "instances")),
                (1...10_000).contains(number)
            {
                line.instances = number == 1 ? nil : number
            } else {
                throw members.fault("instances", "\"all\" or a number from 1 to 10000 is expected")
            }
        }
        line.lane = try members.word(Lane.self, "lane")
        line.output = try members.word(JobLine.Output.self, "output") ?? .runLengths
        line.outlines = try members.optional(DecodedOutlines.self, "polygon")?.outlines ?? JobLine.Outlines()
        line.logits = try members.optional(Bool.self, "logits") ?? false
        line.tile = try members.word(JobLine.Tile.self, "tile")
        if line.tile != nil {
            guard line.everything == nil, line.prompts.allSatisfy({ $0.mask == nil && $0.text == nil }) else {
                throw members.fault("tile", "goes with prompts of points and boxes alone")
            }
            guard !line.logits else {
                throw members.fault("tile", "goes without logits, which are of the whole picture")
            }
        }
        if let milliseconds = try members.optional(Int.self, "ttl_ms") {
            guard (1...1_000_000_000_000).contains(milliseconds) else {
                throw members.fault("ttl_ms", "a number of milliseconds from 1 to 10^12 is expected")
            }
            line.timeToLive = .milliseconds(milliseconds)
        }
        // Where no prompt is right there is nothing to be done, and the first fault says it most precisely.
        if line.faults.count == line.prompts.count, line.everything == nil, let fault = attempts.first?.fault {
            throw fault
        }
        self.line = line
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
            let bytes: [UInt8]
            do throws(Base64Text.Fault) { bytes = try Base64Text.decode(text) } catch {
                throw members.fault("base64", "this is not base64: \(error.reason)")
            }
            guard !bytes.isEmpty else { throw members.fault("base64", "there are no bytes in it") }
            source = .bytes(bytes)
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

/// The parameters of everything mode by the names of segment-anything's `SamAutomaticMaskGenerator`; nil for `false`.
private struct DecodedSettings: Decodable {
    let parameters: EverythingParameters?

    init(from decoder: any Decoder) throws {
        if let isWanted = try? decoder.singleValueContainer().decode(Bool.self) {
            parameters = isWanted ? EverythingParameters() : nil
            return
        }
        let members = try decoder.container(keyedBy: MemberName.self)
        var values: [JSONValue.Member] = []
        for name in members.allKeys.sorted(by: { $0.stringValue < $1.stringValue }) {
            let value: JSONValue =
                if try members.decodeNil(forKey: name) {
                    .null
                } else if let isTrue = try? members.decode(Bool.self, forKey: name) {
                    .bool(isTrue)
                } else if let number = try? members.decode(Int.self, forKey: name) {
                    .integer(number)
                } else if let number = try? members.decode(Double.self, forKey: name) {
                    .number(number)
                } else if let text = try? members.decode(String.self, forKey: name) {
                    .string(text)
                } else if let texts = try? members.decode([String].self, forKey: name) {
                    .array(texts.map { .string($0) })
                } else if let lists = try? members.decode([[Double]].self, forKey: name) {
                    .array(lists.map { .array($0.map { .number($0) }) })
                } else if let grids = try? members.decode([[[Double]]].self, forKey: name) {
                    .array(grids.map { .array($0.map { .array($0.map { .number($0) }) }) })
                } else {
                    .object([])
                }
            values.append((name.stringValue, value))
        }
        do throws(EverythingFault) { parameters = try EverythingParameters(.object(values)) } catch {
            throw members.fault(error.parameter, error.reason)
        }
    }
}

/// A prompt, or what is wrong with it, which is no fault of the line's other prompts.
private struct AttemptedPrompt: Decodable {
    var prompt = Prompt()
    var fault: JobLineError?

    init(from decoder: any Decoder) throws {
        do {
            prompt = try DecodedPrompt(from: decoder).prompt
        } catch let error as JobLineError {
            fault = error
        } catch let error as DecodingError {
            fault = JobLineError(line: nil, error)
        }
    }
}

extension JobLineError {
    /// The fault of a part, with its place in that part.
    fileprivate func description(below place: String) -> String {
        let rest = field.hasPrefix(place) ? field.dropFirst(place.count).drop { $0 == "." } : field[...]
        return rest.isEmpty ? reason : "\(rest): \(reason)"
    }
}

private struct DecodedPrompt: Decodable {
    static let names: Set<String> = ["points", "labels", "box", "mask", "text"]
    let prompt: Prompt

    init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: MemberName.self)
        func fault(_ reason: String) -> JobLineError {
            JobLineError(line: nil, field: JobLineError.field(decoder.codingPath), reason: reason)
        }
        // A prompt that its submitter found wrong travels as that.
        if let reason = try members.optional(String.self, "error") { throw fault(reason) }
        try members.onlyHolds(Self.names)
        let points = try members.optional([[Double]].self, "points") ?? []
        let labels = try members.optional([Int].self, "labels")
        if let labels, labels.count != points.count {
            throw members.fault("labels", "\(labels.count) labels for \(points.count) points: give one for each")
        }
        for (index, point) in points.enumerated() where point.count != 2 {
            throw members.fault("points[\(index)]", "x and y are expected")
        }
        var box: BoundingBox?
        if let corners = try members.optional([Double].self, "box") {
            guard corners.count == 4, corners[0] < corners[2], corners[1] < corners[3] else {
                throw members.fault("box", "x0, y0, x1, y1 with x0 < x1 and y0 < y1 are expected")
            }
            box = BoundingBox(x0: corners[0], y0: corners[1], x1: corners[2], y1: corners[3])
        }
        let mask = try members.optional(DecodedMask.self, "mask")?.logits
        let text = try members.optional(String.self, "text")
        do throws(PromptError) {
            prompt = try Prompt(
                labelled: points.enumerated().map { ($1[0], $1[1], labels?[$0] ?? 1) }, box: box, mask: mask, text: text
            )
        } catch {
            let isNoClick: (Int) -> Bool = {
                if case .label = error { !(-1...3).contains($0) } else { $0 == 2 || $0 == 3 }
            }
            throw members.fault(labels?.firstIndex(where: isNoClick).map { "labels[\($0)]" } ?? "labels", "\(error)")
        }
        if prompt == Prompt() { throw fault("\(PromptError.empty)") }
        if let box = prompt.box, !(box.x0 < box.x1 && box.y0 < box.y1) { throw fault("\(PromptError.emptyBox(box))") }
    }
}

private struct DecodedMask: Decodable {
    /// An answer's `logits` may be handed back as they are: which token gave them is no matter then.
    static let names: Set<String> = ["side", "logits", "token"]
    let logits: LowResolutionLogits

    init(from decoder: any Decoder) throws {
        let members = try decoder.container(keyedBy: MemberName.self)
        try members.onlyHolds(Self.names)
        let side = try members.optional(Int.self, "side") ?? 256
        guard (1...1024).contains(side) else { throw members.fault("side", "1 to 1024 is expected") }
        let expected = "base64 of \(side) x \(side) little-endian 32-bit floats is expected"
        guard let text = try members.optional(String.self, "logits") else { throw members.fault("logits", expected) }
        let bytes: [UInt8]
        do throws(Base64Text.Fault) { bytes = try Base64Text.decode(text) } catch {
            throw members.fault("logits", "\(expected): \(error.reason)")
        }
        guard bytes.count == side * side * 4 else {
            throw members.fault("logits", "\(expected), not of \(bytes.count) bytes")
        }
        logits = LowResolutionLogits(side: side, littleEndian: bytes)
        guard logits.values.allSatisfy(\.isFinite) else { throw members.fault("logits", "holds what is no number") }
    }
}
