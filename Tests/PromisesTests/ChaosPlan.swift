import Cluster
import ClusterTesting
import Foundation
import Imaging
import KirieTesting
import Segmentation

/// What a run of the chaos test does, drawn from a seed: the pictures, the jobs, and who is killed when.
struct ChaosPlan: Sendable {
    /// How the numbers are chosen; `deploy/chaos` sets the environment variables to those of the full run.
    struct Size: Sendable {
        var seed: UInt64
        var jobs: Int
        var pictures: Int
        var kills: Int
        var serverKills: Int
        /// How often each of ``Trouble`` comes.
        var troubles: Int

        init(environment: [String: String]) {
            func number(_ name: String, _ otherwise: Int) -> Int {
                environment["KIRIE_CHAOS_\(name)"].flatMap { Int($0) } ?? otherwise
            }
            seed = UInt64(number("SEED", Int.random(in: 1...999_999)))
            jobs = number("JOBS", 300)
            pictures = number("PICTURES", 50)
            kills = number("KILLS", 12)
            serverKills = number("SERVER_KILLS", 1)
            troubles = number("TROUBLES", 1)
        }
    }

    /// What a job asks for, and hence how it may end.
    enum Kind: Sendable, Hashable {
        /// Masks; done.
        case masks
        /// The embedding alone; done.
        case embedding
        /// A prompt outside the picture, which only the decoder sees; failed.
        case outside
        /// Masks, and somebody cancels it; done or cancelled.
        case unwanted
        /// Masks, and it expires almost at once; done or expired.
        case fleeting

        var endings: Set<JobState> {
            switch self {
            case .masks, .embedding: [.done]
            case .outside: [.failed]
            case .unwanted: [.done, .cancelled]
            case .fleeting: [.done, .expired]
            }
        }
    }

    struct Job: Sendable {
        let id: String
        let picture: Int
        let kind: Kind
        let multimask: Bool
        let lane: Lane
        let prompts: [Prompt]
    }

    /// Who is killed, or what happens to Redis.
    enum Victim: Sendable, Hashable {
        case encoder, decoder, submitter, server
        case trouble(Trouble)
    }

    /// What Redis goes through, and comes out of again.
    enum Trouble: String, Sendable, Hashable, CaseIterable {
        /// maxmemory is reached.
        case memory
        /// It is made a replica of a primary that is not there.
        case readOnly = "read-only"
        /// The disk of the append-only file is full.
        case disk
    }

    let size: Size
    let jobs: [Job]
    /// After so many ended jobs some pictures' embeddings are evicted, and so long a moment later somebody is killed.
    let kills: [(after: Int, moment: Duration, victim: Victim, evicted: [Int])]

    init(_ size: Size, pictures: [TestPicture]) {
        self.size = size
        var random = SeededGenerator(size.seed)
        var jobs: [Job] = []
        for number in 0..<size.jobs {
            let index = Int.random(in: 0..<pictures.count, using: &random)
            let picture = pictures[index]
            let kind: Kind =
                switch Int.random(in: 0..<100, using: &random) {
                case 0..<3: .embedding
                case 3..<6: .outside
                case 6..<10: .unwanted
                case 10..<13: .fleeting
                default: .masks
                }
            let count = kind == .embedding ? 0 : Int.random(in: 1...5, using: &random)
            let prompts = (0..<count).map { _ in Self.prompt(picture, isOutside: kind == .outside, &random) }
            jobs.append(
                Job(
                    id: "chaos-\(number)", picture: index, kind: kind,
                    multimask: Int.random(in: 0..<4, using: &random) == 0,
                    lane: Int.random(in: 0..<3, using: &random) == 0 ? .interactive : .bulk, prompts: prompts))
        }
        self.jobs = jobs
        var victims = (0..<size.kills).map { _ -> Victim in
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<3: .encoder
            case 3..<7: .decoder
            default: .submitter
            }
        }
        for _ in 0..<size.serverKills {
            victims.insert(.server, at: Int.random(in: 0...victims.count, using: &random))
        }
        for trouble in Trouble.allCases {
            for _ in 0..<size.troubles {
                victims.insert(.trouble(trouble), at: Int.random(in: 0...victims.count, using: &random))
            }
        }
        // The last kills come while there is still work.
        let moments = victims.map { _ in Int.random(in: 0..<max(1, size.jobs * 9 / 10), using: &random) }.sorted()
        kills = zip(victims, moments).map { victim, after in
            let moment = Duration.milliseconds(Int.random(in: 0...40, using: &random))
            let evicted = (0..<8).map { _ in Int.random(in: 0..<pictures.count, using: &random) }
            return (after, moment, victim, evicted)
        }
    }

    private static func prompt(_ picture: TestPicture, isOutside: Bool, _ random: inout SeededGenerator) -> Prompt {
        let (width, height) = (picture.image.width, picture.image.height)
        var points = (0..<Int.random(in: 1...3, using: &random)).map { index in
            LabeledPoint(
                x: Double(Int.random(in: 0..<width, using: &random)),
                y: Double(Int.random(in: 0..<height, using: &random)),
                label: index == 0 || Bool.random(using: &random) ? .foreground : .background)
        }
        if isOutside { points[0].x = Double(width + 1000) }
        guard Int.random(in: 0..<3, using: &random) == 0 else { return Prompt(points: points) }
        let box = BoundingBox(x0: 2, y0: 3, x1: Double(width - 4), y1: Double(height - 5))
        return Prompt(points: isOutside ? points : [], box: box)
    }
}

extension ChaosPlan.Job {
    /// As it stands in a jobs file.
    ///
    /// What the submitter would refuse names its picture by digest, so that the decoder has to refuse it.
    func line(_ picture: TestPicture) -> String {
        let cuts = prompts.map { prompt -> String in
            var parts: [String] = []
            if !prompt.points.isEmpty {
                let points = prompt.points.map { "[\(Int($0.x)),\(Int($0.y))]" }.joined(separator: ",")
                let labels = prompt.points.map { "\($0.label.rawValue)" }.joined(separator: ",")
                parts.append("\"points\":[\(points)],\"labels\":[\(labels)]")
            }
            if let box = prompt.box {
                parts.append("\"box\":[\(Int(box.x0)),\(Int(box.y0)),\(Int(box.x1)),\(Int(box.y1))]")
            }
            return "{\(parts.joined(separator: ","))}"
        }
        let image = kind == .outside ? "{\"sha256\":\"\(picture.digest)\"}" : "\"\(picture.path)\""
        var line = "{\"id\":\"\(id)\",\"image\":\(image),\"lane\":\"\(lane.rawValue)\""
        if !cuts.isEmpty { line += ",\"prompts\":[\(cuts.joined(separator: ","))]" }
        if multimask { line += ",\"multimask\":true" }
        if kind == .fleeting { line += ",\"ttl_ms\":30" }
        return line + "}"
    }
}
