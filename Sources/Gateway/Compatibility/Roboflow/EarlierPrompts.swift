import Cluster
import Hashing
import JSON
import Redis
import Segmentation

/// The prompts that a client asked on a picture before, and in which jobs their masks stand with their logits.
///
/// A later prompt that has the same box and all of an earlier one's points, and more, is a refinement of it and takes its
/// mask. The jobs hold the logits for as long as results are kept; here stands only where to find them.
///
/// ```text
/// kirie:prompted:<SHA-256 of the client's key name, a zero byte, the picture, the model>     list, the newest first
/// ```
struct EarlierPrompts: Sendable {
    /// So many are remembered for a picture.
    private static let most = 64
    private static let timeToLive: Duration = .seconds(24 * 3600)

    /// A prompt, and its mask.
    struct Entry: Sendable, Hashable {
        let prompt: ClientQuestion.Prompt
        let mask: SegmentRequest.EarlierMask

        fileprivate var json: JSONValue {
            .object([
                (
                    "points",
                    .array(prompt.points.map { .array([.number($0.x), .number($0.y), .integer($0.label)]) })
                ), ("box", prompt.box.map { .array($0.map { .number($0) }) } ?? .null), ("job", .string(mask.job)),
                ("index", .integer(mask.index)),
            ])
        }

        fileprivate init?(_ bytes: RedisBytes) {
            guard let value = try? JSONValue(parsing: bytes.array), let job = value["job"]?.string,
                let index = value["index"]?.integer, let points = value["points"]?.elements
            else { return nil }
            var prompt = ClientQuestion.Prompt()
            for point in points {
                guard let parts = point.elements, parts.count == 3, let x = parts[0].double, let y = parts[1].double,
                    let label = parts[2].integer
                else { return nil }
                prompt.points.append(.init(x: x, y: y, label: label))
            }
            prompt.box = value["box"]?.elements?.compactMap(\.double)
            self.init(prompt: prompt, mask: .init(job: job, index: index))
        }

        init(prompt: ClientQuestion.Prompt, mask: SegmentRequest.EarlierMask) {
            self.prompt = prompt
            self.mask = mask
        }
    }

    let redis: RedisClient
    let namespace: String

    /// What is remembered, the newest first.
    func entries(tenant: String, image: ImageDigest, model: ModelIdentifier) async throws -> [Entry] {
        try await redis.list(key(tenant, image, model)).compactMap(Entry.init)
    }

    /// Remembers prompts.
    func remember(_ entries: [Entry], tenant: String, image: ImageDigest, model: ModelIdentifier) async throws {
        let key = key(tenant, image, model)
        let values = entries.suffix(Self.most).map { RedisArgument.bytes(RedisBytes($0.json.bytes)) }
        guard !values.isEmpty else { return }
        let replies = try await redis.pipeline([
            RedisCommand("LPUSH", [.string(key)] + values),
            RedisCommand("LTRIM", .string(key), 0, .integer(Self.most - 1)),
            RedisCommand("EXPIRE", .string(key), .integer(Int(Self.timeToLive / .seconds(1)))),
        ])
        for reply in replies { if let error = reply.error { throw RedisError.server(error, command: "LPUSH") } }
    }

    /// The mask that a prompt refines: of those whose points are fewer, the one that lacks a single point, else the one
    /// that lacks the fewest.
    static func mask(for prompt: ClientQuestion.Prompt, among entries: [Entry]) -> SegmentRequest.EarlierMask? {
        let wanted = counted(prompt.points)
        let fitting = entries.filter { entry in
            entry.prompt.box == prompt.box && entry.prompt.points.count < prompt.points.count
                && counted(entry.prompt.points).allSatisfy { wanted[$0.key, default: 0] >= $0.value }
        }
        // The first of equals is the newest.
        return fitting.max { $0.prompt.points.count < $1.prompt.points.count }?.mask
    }

    private static func counted(_ points: [ClientQuestion.Prompt.Point]) -> [ClientQuestion.Prompt.Point: Int] {
        points.reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }

    private func key(_ tenant: String, _ image: ImageDigest, _ model: ModelIdentifier) -> String {
        let name = "\(tenant)\u{0}\(image.hexadecimal)\u{0}\(model.family.text)"
        return "\(namespace):prompted:\(ImageDigest(bytes: SHA256.hash(name.utf8).bytes))"
    }
}
