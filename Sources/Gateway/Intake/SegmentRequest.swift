package import Cluster
import HTTPTypes
package import JSON
import Platform
package import Segmentation

/// What `/v1/segment` is asked: a job line, and what only the gateway understands.
///
/// Beside the members of ``JobLine`` there are `model` (a name), `slot` (a newer request of the same slot takes the place of
/// this one), `refine` (the answer may be named by a later prompt's `mask`), and in prompts
/// `"mask":{"job":"ID","index":0}`: the mask of an earlier answer.
package struct SegmentRequest: Sendable {
    /// The mask of an earlier answer.
    package struct EarlierMask: Sendable, Hashable {
        /// Whose.
        package let job: String
        /// Which of the answer's masks, from 0.
        package let index: Int

        /// A mask of a job.
        package init(job: String, index: Int) {
            self.job = job
            self.index = index
        }
    }

    /// How people call the model; nil for the usual one.
    package var model: String?
    /// The slot.
    package var slot: String?
    /// Whether the low-resolution logits are kept with the result.
    package var refines = false
    /// Where the picture is fetched from; nil where it comes in another way.
    package var address: String?
    /// By prompt.
    package var earlierMasks: [Int: EarlierMask] = [:]
    /// The job line's members, to the byte; prompts' masks that name earlier answers are not in it.
    var members: [(name: String, value: JSONText)] = []

    /// Reads a body.
    ///
    /// - Throws: ``Problem`` that names the field: no JSON, a name twice, too deep, or a member of the wrong type.
    package init(parsing text: [UInt8]) throws(Problem) {
        let value: JSONValue
        do throws(JSONValue.Fault) { value = try JSONValue(parsing: text) } catch {
            throw Problem(.badRequest, "bad-json", "the body is not JSON: \(error.reason) (byte \(error.offset))")
        }
        guard value.members != nil, let members = JSONText.members(of: text) else {
            throw Problem(.badRequest, "bad-job-line", "a JSON object is expected: a job line")
        }
        for (name, text) in members {
            switch name {
            case "tenant":
                throw Self.fault(name, "the API key says whose a job is: leave it out")
            case "model": model = try Self.text(value[name], name)
            case "slot":
                let slot = try Self.text(value[name], name)
                guard let slot, (1...64).contains(slot.utf8.count), slot.utf8.allSatisfy(Self.isWord) else {
                    throw Self.fault(name, "1 to 64 of A-Z a-z 0-9 _ - are expected")
                }
                self.slot = slot
            case "refine":
                guard case .bool(let flag)? = value[name] else { throw Self.fault(name, "true or false is expected") }
                refines = flag
            case "image" where value[name]?["url"] != nil:
                guard let address = value[name]?["url"]?.string, value[name]?.members?.count == 1 else {
                    throw Self.fault("image.url", "an address alone is expected")
                }
                self.address = address
            case "prompts": self.members.append((name, try prompts(value[name], text)))
            default: self.members.append((name, text))
            }
        }
    }

    /// A request of a job line's own members.
    init(members: [(name: String, value: JSONText)], model: String? = nil) {
        self.members = members
        self.model = model
    }

    /// The job line, where the picture is in the cluster.
    ///
    /// - Parameters:
    ///   - image: the picture, where it came beside the line.
    ///   - masks: the masks of earlier answers, by prompt, as prompts have them.
    /// - Returns: the line, as a jobs file would have it.
    /// - Throws: `JobLineError`.
    package func line(image: ImageDigest?, masks: [Int: JSONText]) throws -> JobLine {
        var writer = JSONWriter()
        writer.object { writer in
            var names: Set<String> = []
            for (name, value) in members {
                names.insert(name)
                writer.member(name) { writer in
                    writer.written(
                        name == "prompts" && !masks.isEmpty ? Self.inserting(masks, into: value) : value.bytes)
                }
            }
            if let image, !names.contains("image") {
                writer.member("image") { writer in
                    writer.object { $0.member("sha256") { $0.string(image.hexadecimal) } }
                }
            }
            if refines, !names.contains("logits") { writer.member("logits") { $0.bool(true) } }
        }
        return try JobLine(parsing: writer.bytes)
    }

    /// Takes masks of earlier answers out of the prompts.
    private mutating func prompts(_ value: JSONValue?, _ text: JSONText) throws(Problem) -> JSONText {
        guard let prompts = value?.elements else { return text }
        for (index, prompt) in prompts.enumerated() {
            guard let mask = prompt["mask"], let name = mask["job"] else { continue }
            guard let job = name.string, JobIdentifier.fault(in: job) == nil else {
                throw Self.fault("prompts[\(index)].mask.job", "the id of a job is expected")
            }
            guard let rank = (mask["index"] ?? .integer(0)).integer, rank >= 0 else {
                throw Self.fault("prompts[\(index)].mask.index", "the number of a mask from 0 is expected")
            }
            if let stranger = mask.members?.first(where: { $0.name != "job" && $0.name != "index" }) {
                throw Self.fault(
                    "prompts[\(index)].mask", "there is no field \(Quotation.of(stranger.name)) beside job and index")
            }
            earlierMasks[index] = EarlierMask(job: job, index: rank)
        }
        if earlierMasks.isEmpty { return text }
        let kept = prompts.enumerated().map { index, prompt in
            earlierMasks[index] == nil ? prompt : .object(prompt.members?.filter { $0.name != "mask" } ?? [])
        }
        return JSONText(JSONValue.array(kept).bytes) ?? text
    }

    private static func inserting(_ masks: [Int: JSONText], into prompts: JSONText) -> [UInt8] {
        guard let value = try? JSONValue(parsing: prompts.bytes), let elements = value.elements else {
            return prompts.bytes
        }
        return JSONValue.array(
            elements.enumerated().map { index, prompt in
                guard let mask = masks[index], let members = prompt.members else { return prompt }
                return .object(members + [("mask", .verbatim(mask.bytes))])
            }
        ).bytes
    }

    private static func text(_ value: JSONValue?, _ name: String) throws(Problem) -> String? {
        guard let text = value?.string else { throw fault(name, "a string is expected") }
        return text
    }

    private static func isWord(_ unit: UInt8) -> Bool {
        switch unit {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    private static func fault(_ field: String, _ reason: String) -> Problem {
        Problem(.badRequest, "bad-job-line", "\(field): \(reason)", field: field)
    }
}
