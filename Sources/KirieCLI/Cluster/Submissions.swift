import Cluster
import Files
import Imaging
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
        /// Jobs some of whose prompts could not be answered.
        var partial = 0
        var unusable = 0
        var refused = 0
        var files = 0
        var part: Double?
        var open: [JobReference: Open] = [:]
        var ids: [String: Int] = [:]
        var idOrder: [String] = []
    }

    /// What is known of a job that is waited for.
    private struct Open: Sendable {
        let origin: JobOrigin
        let name: MaskName?
    }

    /// A job of the batch at hand.
    private struct Request: Sendable {
        let place: JobPlace
        let line: JobLine
        let picture: Picture?
        let job: Job
        /// What is wrong with some of its prompts.
        let faults: [FittedPrompts.Remark]
    }

    private let broker: Broker
    private let settings: Settings
    private let masks: MaskFiles?
    private let names: MaskNames
    private let files: PictureFiles
    private let submitter: JobSubmitter
    private let follower: JobFollower
    private let status: StatusLine
    private let output: StandardOutput
    /// Guards the counts and the names of mask files.
    private let tally = Mutex(Tally())

    /// - Parameters:
    ///   - images: the pictures that were named by hand.
    ///   - pictures: looks at pictures.
    init(_ broker: Broker, settings: Settings, masks: MaskFiles?, images: [String], pictures: ImageDecoder) {
        let status = StatusLine()
        self.broker = broker
        self.settings = settings
        self.masks = masks
        names = MaskNames(of: images)
        files = PictureFiles(decoder: pictures)
        self.status = status
        output = StandardOutput(status: status)
        submitter = JobSubmitter(broker, whenFull: settings.whenFull) { reason, time in
            status.say("kirie: the cluster is full: \(reason); going on in \(Figures.duration(time))")
        }
        follower = JobFollower(broker)
    }

    /// 0 all is well, 1 something failed, 75 jobs were refused because the cluster is full.
    var exitCode: Int32 {
        tally.withLock { $0.refused > 0 ? 75 : $0.failed + $0.unusable + $0.partial > 0 ? 1 : 0 }
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
            try await complain(nil, .line(number, file: name), JobOrigin(line: number), field: "", reason)
            return nil
        case .line(let number, let text):
            let place = JobPlace.line(number, file: name)
            var line: JobLine
            do throws(JobLineError) { line = try JobLine(parsing: text, number: number) } catch {
                let (id, origin) = JobLine.labels(of: text)
                try await complain(
                    id, place, JobOrigin(line: number).or(origin), field: error.field, error.reason)
                return nil
            }
            let path: String? = if case .path(let path) = line.image { path } else { nil }
            line.origin = JobOrigin(path: path, line: number, meta: line.origin.meta)
            if let id = line.id, let earlier = remember(id, number) {
                try await complain(
                    id, place, line.origin, field: "id", "the id \(id) is that of line \(earlier) too")
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
            try await complain(line.id, place, line.origin, field: "image", "\(error)")
            return nil
        }
        return try await request(place, line, picture)
    }

    private func request(_ path: String, _ prompts: Prompts) async throws -> Request? {
        let place = JobPlace.image(path)
        let (line, picture): (JobLine, Picture)
        do {
            picture = try await files.picture(at: path)
            line = try prompts(path, picture.width, picture.height)
        } catch {
            try await complain(nil, place, JobOrigin(path: path), field: nil, "\(error)")
            return nil
        }
        return try await request(place, line, picture)
    }

    /// A job, unless nothing can be done for any of its prompts; what is wrong with some of them is told.
    private func request(_ place: JobPlace, _ line: JobLine, _ picture: Picture?) async throws -> Request? {
        var faults = line.faults.sorted { $0.key < $1.key }.map { FittedPrompts.Remark(prompt: $0.key, text: $0.value) }
        if let picture {
            // The mask's size and words are the model's business, and the model is where the workers are.
            let fitted = FittedPrompts(
                line.prompts, known: line.faults, width: picture.width, height: picture.height, maskSide: nil,
                takesText: true)
            if fitted.isHopeless, line.everything == nil, let first = fitted.faults.first {
                try await complain(line.id, place, line.origin, field: "prompts[\(first.prompt)]", first.text)
                return nil
            }
            faults = fitted.faults
        }
        for fault in faults { status.say("kirie: \(place.prefix)prompts[\(fault.prompt)]: \(fault.text)") }
        guard let digest = picture?.digest ?? line.digest else { return nil }
        let job = Job(
            id: line.id ?? Job.makeIdentifier(), lane: line.lane ?? settings.lane, image: digest, model: settings.model,
            timeToLive: line.timeToLive ?? settings.timeToLive,
            line: RedisBytes(line.encoded(for: digest)))
        return Request(place: place, line: line, picture: picture, job: job, faults: faults)
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
        var partial = 0
        for (request, outcome) in zip(requests, outcomes) {
            switch outcome {
            case .accepted(let reference, let state), .known(let reference, let state):
                let isNew = if case .accepted = outcome { true } else { false }
                if settings.waits {
                    remember(request, reference)
                    followed.append(reference)
                } else {
                    if !request.faults.isEmpty { partial += 1 }
                    lines.append(
                        JobReports.submitted(
                            reference, state, isNew: isNew, request.line.origin, faults: request.faults))
                }
            case .refused(_, .backpressure(let reason, let time)):
                refuse(request, reason, time)
                lines.append(
                    JobReports.refused(
                        request.job.id, request.place, request.line.origin, reason, retryAfter: time))
            case .refused(_, let error):
                try await complain(
                    request.line.id, request.place, request.line.origin, field: Self.field(error),
                    Self.reason(error))
            }
        }
        let partly = partial
        tally.withLock { tally in
            tally.submitted += followed.count + lines.count
            tally.partial += partly
        }
        follower.add(followed)
        if !lines.isEmpty { try await output.write(lines) }
        draw()
    }

    private static func field(_ error: ClusterError) -> String? {
        switch error {
        case .noImage: "image"
        case .conflict: "id"
        default: nil
        }
    }

    private static func reason(_ error: ClusterError) -> String {
        switch error {
        case .noImage(let reason), .badJob(let reason), .conflict(let reason): reason
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

    private func complain(
        _ id: String?, _ place: JobPlace, _ origin: JobOrigin, field: String?, _ reason: String
    ) async throws {
        tally.withLock { $0.unusable += 1 }
        let where_ = (field ?? "").isEmpty ? "" : "\(field ?? ""): "
        status.say("kirie: \(place.prefix)\(where_)\(reason)")
        try await output.write(JobReports.unusable(id, place, origin, field: field, reason))
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

    /// Notes what an answer is told by.
    ///
    /// In a jobs file the line's number tells masks of equal names apart.
    private func remember(_ request: Request, _ reference: JobReference) {
        var name: MaskName?
        if masks != nil {
            let prefix: String
            switch request.place {
            case .line(let number, _):
                let stem = MaskName.stem(of: request.line.image, digest: request.job.image)
                prefix = "\(TemporaryName.cut(stem, before: "-\(number)-999999.png"))-\(number)"
            case .image(let path): prefix = names.prefix(of: path)
            }
            name = MaskName(prefix: prefix, each: request.line.multimask ? 3 : 1)
        }
        let open = Open(origin: request.line.origin, name: name)
        tally.withLock { $0.open[reference] = open }
    }

    // MARK: Telling

    private func tell(_ endings: [JobEnding]) async throws {
        var lines: [JSONLine] = []
        for ending in endings {
            let known = tally.withLock { $0.open.removeValue(forKey: ending.reference) }
            let origin = known?.origin ?? JobOrigin()
            var written: [String]?
            var fault: String?
            if let masks, let name = known?.name, let result = ending.result {
                do { written = try await masks.write(result, as: name) } catch {
                    fault = "\(error)"
                    status.say("kirie: \(ending.reference.id): \(error)")
                }
            }
            let isGood = ending.state == .done && fault == nil
            let count = written?.count ?? 0
            let answer = ending.result.map { JobAnswer($0) }
            let isPartial = isGood && answer?.hasErrors == true
            if origin.line == nil { for file in written ?? [] { status.say("wrote \(file)") } }
            tally.withLock { tally in
                tally.ended += 1
                tally.files += count
                if !isGood { tally.failed += 1 }
                if isPartial { tally.partial += 1 }
            }
            lines.append(JobReports.ended(ending, answer, origin: origin, files: written, fileError: fault))
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
        if sum.partial > 0 { parts.append("\(Figures.count(sum.partial)) with prompts that have errors") }
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
        let origins = tally.withLock { tally in open.map { tally.open[$0]?.origin ?? JobOrigin() } }
        try await output.write(zip(open, origins).map { JobReports.open($0, $1) })
    }
}

extension JobLine {
    /// The digest of a picture that is in the cluster.
    fileprivate var digest: ImageDigest? { if case .digest(let digest) = image { digest } else { nil } }
}
