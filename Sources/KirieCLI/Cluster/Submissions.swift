import Cluster
import Redis
import Segmentation
import Synchronization
import Workers

/// Where jobs come from.
enum JobSource: Sendable {
    case file(JobLineReader, name: String)
    case images([String])
}

/// One run of `kirie submit`: reads jobs some hundreds at a time, sends them with their pictures, tells of each.
///
/// In memory are the jobs of one batch, and with ``Settings/waits`` the names of those that have not ended, of which
/// there are at most ``openLimit``.
final class Submissions: Sendable {
    struct Settings: Sendable {
        let model: ModelIdentifier
        let lane: Lane
        let timeToLive: Duration?
        let waits: Bool
        let whenFull: JobSubmitter.Fullness
    }

    /// The job line of a picture that was named by hand: its path, columns, rows.
    typealias Prompts = @Sendable (String, Int, Int) throws -> JobLine

    /// More jobs than this are not submitted ahead of the answers.
    static let openLimit = 16_384
    /// So many ids are looked at for one that comes twice.
    private static let idMemory = 65_536

    private struct Tally: Sendable {
        var submitted = 0
        var ended = 0
        var failed = 0
        var unusable = 0
        var refused = 0
        var files = 0
        var part: Double?
        var names: [JobReference: MaskName] = [:]
        var stems: [String: Int] = [:]
        var ids: [String: Int] = [:]
        var idOrder: [String] = []
    }

    /// A job of the batch at hand.
    private struct Request: Sendable {
        let place: JobPlace
        let line: JobLine
        let picture: Picture?
        let job: Job
    }

    private let broker: Broker
    private let settings: Settings
    private let masks: MaskFiles?
    private let files = PictureFiles()
    private let submitter: JobSubmitter
    private let follower: JobFollower
    private let status: StatusLine
    private let output: StandardOutput
    /// Guards the counts and the names of mask files.
    private let tally = Mutex(Tally())

    init(_ broker: Broker, settings: Settings, masks: MaskFiles?) {
        let status = StatusLine()
        self.broker = broker
        self.settings = settings
        self.masks = masks
        self.status = status
        output = StandardOutput(status: status)
        submitter = JobSubmitter(broker, whenFull: settings.whenFull) { reason, time in
            status.say("kirie: the cluster is full: \(reason); going on in \(Figures.duration(time))")
        }
        follower = JobFollower(broker)
    }

    /// 0 all is well, 1 something failed, 75 jobs were refused because the cluster is full.
    var exitCode: Int32 {
        tally.withLock { $0.refused > 0 ? 75 : $0.failed + $0.unusable > 0 ? 1 : 0 }
    }

    func run(_ source: JobSource, prompts: @escaping Prompts) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            if settings.waits {
                group.addTask { try await self.follower.run { try await self.tell($0) } }
            }
            group.addTask {
                try await self.sendAll(source, prompts)
                self.follower.close()
            }
            // Whichever fails ends the others; `waitForAll` would wait for them first.
            while try await group.next() != nil {}
        }
        status.hide()
        summarize(source)
    }

    // MARK: Sending

    private func sendAll(_ source: JobSource, _ prompts: Prompts) async throws {
        switch source {
        case .file(let reader, let name):
            // While one batch is on its way to Redis the next is read and its pictures are hashed.
            var next = try await read(reader, name)
            while let requests = next {
                async let following = read(reader, name)
                try await send(requests)
                next = try await following
            }
        case .images(let paths):
            for start in stride(from: 0, to: paths.count, by: 64) {
                var requests: [Request] = []
                for path in paths[start..<min(start + 64, paths.count)] {
                    if let request = try await request(path, prompts) { requests.append(request) }
                }
                note(part: Double(start) / Double(paths.count))
                try await send(requests)
            }
        }
    }

    private func read(_ reader: JobLineReader, _ name: String) async throws -> [Request]? {
        guard let entries = try await reader.next() else { return nil }
        // Lines are read one after the other, so that of two with one id it is the later that is refused; several pictures
        // are hashed at a time, and the requests stay in the order of the lines.
        let results = try await withThrowingTaskGroup(of: (Int, Request?).self) { group in
            var results: [Request?] = Array(repeating: nil, count: entries.count)
            var waiting = 0
            for (index, entry) in entries.enumerated() {
                if waiting >= 8, let (done, request) = try await group.next() {
                    results[done] = request
                    waiting -= 1
                }
                guard let (place, line) = try await parsed(entry, name) else { continue }
                waiting += 1
                group.addTask { (index, try await self.request(place, line)) }
            }
            for try await (done, request) in group { results[done] = request }
            return results
        }
        if let total = reader.byteCount, total > 0 {
            note(part: Double(await reader.bytesRead) / Double(total))
        }
        return results.compactMap(\.self)
    }

    /// A line that is whole and whose id did not come before; what is wrong with any other is told.
    private func parsed(
        _ entry: JobLineReader.Entry, _ name: String
    ) async throws -> (place: JobPlace, line: JobLine)? {
        switch entry {
        case .tooLong(let number, let bytes):
            let reason = "a line of \(bytes) bytes; at most \(JobLineReader.longestLine) are read"
            try await complain(.line(number, file: name), field: "", reason)
            return nil
        case .line(let number, let text):
            let place = JobPlace.line(number, file: name)
            let line: JobLine
            do throws(JobLineError) { line = try JobLine(parsing: text, number: number) } catch {
                try await complain(place, field: error.field, error.reason)
                return nil
            }
            if let id = line.id, let earlier = remember(id, number) {
                try await complain(place, field: "id", "the id \(id) is that of line \(earlier) too")
                return nil
            }
            return (place, line)
        }
    }

    /// A line of a jobs file with its picture.
    private func request(_ place: JobPlace, _ line: JobLine) async throws -> Request? {
        let picture: Picture?
        do {
            switch line.image {
            case .path(let path): picture = try await files.picture(at: path)
            case .bytes(let bytes): picture = try await files.picture(in: bytes, named: "the picture")
            case .digest: picture = nil
            }
        } catch {
            try await complain(place, field: "image", "\(error)")
            return nil
        }
        if let picture {
            for (index, prompt) in line.prompts.enumerated() where prompt.text == nil {
                do throws(PromptError) {
                    // The mask's size is the model's business, and the model is where the workers are.
                    try prompt.validate(
                        width: picture.width, height: picture.height, maskSide: prompt.mask?.side ?? 1)
                } catch {
                    try await complain(place, field: "prompts[\(index)]", "\(error)")
                    return nil
                }
            }
        }
        return request(place, line, picture)
    }

    private func request(_ path: String, _ prompts: Prompts) async throws -> Request? {
        do {
            let picture = try await files.picture(at: path)
            return request(.image(path), try prompts(path, picture.width, picture.height), picture)
        } catch {
            try await complain(.image(path), field: nil, "\(error)")
            return nil
        }
    }

    private func request(_ place: JobPlace, _ line: JobLine, _ picture: Picture?) -> Request? {
        guard let digest = picture?.digest ?? line.digest else { return nil }
        let job = Job(
            id: line.id ?? Job.makeIdentifier(), lane: line.lane ?? settings.lane, image: digest, model: settings.model,
            timeToLive: line.timeToLive ?? settings.timeToLive,
            line: line.asksForEmbeddingOnly ? RedisBytes([]) : RedisBytes(line.encoded(for: digest)))
        return Request(place: place, line: line, picture: picture, job: job)
    }

    private func send(_ requests: [Request]) async throws {
        if requests.isEmpty { return }
        if settings.waits {
            await follower.waitUntilOpen(isBelow: max(1, Self.openLimit - requests.count))
        }
        if Task.isCancelled { return }
        let pictures = Dictionary(
            requests.compactMap { request in request.picture.map { ($0.digest, $0) } }, uniquingKeysWith: { $1 })
        let outcomes = try await submitter.submit(requests.map(\.job)) { digest in
            guard let picture = pictures[digest] else { return nil }
            return try await self.files.bytes(of: picture)
        }
        var lines: [JSONLine] = []
        var followed: [JobReference] = []
        for (request, outcome) in zip(requests, outcomes) {
            switch outcome {
            case .accepted(let reference, let state), .known(let reference, let state):
                let isNew = if case .accepted = outcome { true } else { false }
                if masks != nil { name(request, reference) }
                if settings.waits {
                    followed.append(reference)
                } else {
                    lines.append(JobReports.submitted(reference, state, isNew: isNew))
                }
            case .refused(_, .backpressure(let reason, let time)):
                refuse(request, reason, time)
                lines.append(JobReports.refused(request.job.id, request.place, reason, retryAfter: time))
            case .refused(_, let error):
                try await complain(request.place, field: Self.field(error), Self.reason(error))
            }
        }
        tally.withLock { $0.submitted += followed.count + lines.count }
        follower.add(followed)
        if !lines.isEmpty { try await output.write(lines) }
        draw()
    }

    private static func field(_ error: ClusterError) -> String? {
        if case .noImage = error { "image" } else { nil }
    }

    private static func reason(_ error: ClusterError) -> String {
        switch error {
        case .noImage(let reason), .badJob(let reason): reason
        default: "\(error)"
        }
    }

    private func refuse(_ request: Request, _ reason: String, _ time: Duration) {
        let isFirst = tally.withLock { tally in
            tally.refused += 1
            tally.submitted -= 1
            return tally.refused == 1
        }
        if isFirst {
            status.say(
                "kirie: the cluster is full: \(reason). Submit the refused jobs again in \(Figures.duration(time)), or use "
                    + "--when-full wait")
        }
    }

    private func complain(_ place: JobPlace, field: String?, _ reason: String) async throws {
        tally.withLock { $0.unusable += 1 }
        let where_ = (field ?? "").isEmpty ? "" : "\(field ?? ""): "
        status.say("kirie: \(place.prefix)\(where_)\(reason)")
        try await output.write(JobReports.unusable(place, field: field, reason))
    }

    /// Notes an id; returns the line on which it was before.
    private func remember(_ id: String, _ number: Int) -> Int? {
        tally.withLock { tally in
            if let earlier = tally.ids[id] { return earlier }
            tally.ids[id] = number
            tally.idOrder.append(id)
            if tally.idOrder.count > 2 * Self.idMemory {
                for old in tally.idOrder.prefix(Self.idMemory) { tally.ids[old] = nil }
                tally.idOrder.removeFirst(Self.idMemory)
            }
            return nil
        }
    }

    /// By hand the masks of all pictures of a name are numbered through; in a jobs file the line's number stands between.
    private func name(_ request: Request, _ reference: JobReference) {
        let stem = MaskName.stem(of: request.line.image, digest: request.job.image)
        tally.withLock { tally in
            switch request.place {
            case .line(let number, _):
                tally.names[reference] = MaskName(prefix: "\(stem)-\(number)", first: 1)
            case .image:
                let first = tally.stems[stem] ?? 1
                tally.stems[stem] = first + request.line.prompts.count * (request.line.multimask ? 3 : 1)
                tally.names[reference] = MaskName(prefix: stem, first: first)
            }
        }
    }

    // MARK: Telling

    private func tell(_ endings: [JobEnding]) async throws {
        var lines: [JSONLine] = []
        for ending in endings {
            let (name, isByHand) = tally.withLock { tally in
                (tally.names.removeValue(forKey: ending.reference), !tally.stems.isEmpty)
            }
            var written: [String]?
            var fault: String?
            if let masks, let name, let result = ending.result {
                do { written = try await masks.write(result, as: name) } catch {
                    fault = "\(error)"
                    status.say("kirie: \(ending.reference.id): \(error)")
                }
            }
            let isGood = ending.state == .done && fault == nil
            let count = written?.count ?? 0
            if isByHand { for file in written ?? [] { status.say("wrote \(file)") } }
            tally.withLock { tally in
                tally.ended += 1
                tally.files += count
                if !isGood { tally.failed += 1 }
            }
            lines.append(JobReports.ended(ending, files: written, fileError: fault))
        }
        try await output.write(lines)
        draw()
    }

    private func note(part: Double) {
        tally.withLock { $0.part = part }
        draw()
    }

    private func draw() {
        guard Terminal.isInteractive else { return }
        let now = tally.withLock { $0 }
        var text = "\(Figures.count(now.submitted)) submitted"
        var part = now.part
        if settings.waits {
            text += "  \(Figures.count(now.ended - now.failed)) done"
            part = part.map { $0 * Double(now.ended) / Double(max(1, now.submitted)) }
        }
        let bad = now.failed + now.unusable + now.refused
        if bad > 0 { text += "  \(Figures.count(bad)) failed" }
        status.show(part.map { "\(StatusLine.bar($0)) \(Int($0 * 100)) %  \(text)" } ?? text)
    }

    private func summarize(_ source: JobSource) {
        let sum = tally.withLock { $0 }
        if case .images(let paths) = source, paths.count == 1 {
            return
        }
        if case .file(_, let name) = source, sum.submitted + sum.unusable + sum.refused == 0 {
            status.say("kirie: \(name) holds no jobs")
            return
        }
        var parts = ["\(Figures.count(sum.submitted)) submitted"]
        if settings.waits { parts.append("\(Figures.count(sum.ended - sum.failed)) done") }
        if sum.failed > 0 { parts.append("\(Figures.count(sum.failed)) failed") }
        if sum.unusable > 0 { parts.append("\(Figures.count(sum.unusable)) not usable") }
        if sum.refused > 0 { parts.append("\(Figures.count(sum.refused)) refused") }
        if sum.files > 0 { parts.append("\(Figures.count(sum.files)) mask files") }
        status.say(parts.joined(separator: ", "))
    }

    /// After Ctrl-C or an error: which jobs are still on their way, and how to wait for them.
    func sayHowToGoOn(_ what: String) async throws {
        status.hide()
        let open = settings.waits ? follower.open.sorted { $0.id < $1.id } : []
        guard !open.isEmpty else {
            let submitted = tally.withLock { $0.submitted }
            status.say("kirie: \(what) after \(Figures.count(submitted)) jobs were submitted")
            return
        }
        if open.count <= 20 {
            let ids = open.map(\.id).joined(separator: " ")
            status.say("kirie: \(what); the jobs go on without you. Wait for them with: kirie wait \(ids)")
        } else {
            status.say(
                "kirie: \(what); \(Figures.count(open.count)) jobs go on without you: their lines say \"open\". "
                    + "Give their ids to: kirie wait -   (or run the same command again, if the jobs have ids)")
        }
        try await output.write(open.map(JobReports.open))
    }
}

extension JobLine {
    /// The digest of a picture that is in the cluster.
    fileprivate var digest: ImageDigest? { if case .digest(let digest) = image { digest } else { nil } }
}
