package import Cluster
import Embeddings
import Platform
package import Segmentation
import Synchronization

/// Where jobs come from.
package enum JobSource: Sendable {
    /// Lines, and what their file is called.
    case file(JobLineReader, name: String)
    /// Pictures that were named by hand.
    case images([String])
}

/// What happens in the course of a ``SubmissionRun``.
package enum SubmissionEvent: Sendable {
    /// A line or picture that makes no job.
    case unusable(UnusableJob)
    /// A prompt of a job that will be answered with an error in its place.
    case faultyPrompt(JobPlace, FittedPrompts.Remark)
    /// The cluster has the job; it is not waited for.
    case submitted(JobReference, JobState, isNew: Bool, JobRequest)
    /// The cluster has the job, and its end will be told.
    case followed(JobRequest)
    /// The cluster has no room for the job.
    case refused(JobRequest, reason: String, sentence: String, retryAfter: Duration)
    /// A job ended; `origin` is what its submitter knows of it.
    case ended(JobEnding, JobAnswer?, origin: JobOrigin, files: [String]?, fileError: String?)
    /// So much of the source has been read.
    case read(part: Double)
    /// The cluster is full, and the run waits.
    case waiting(reason: String, Duration)
}

/// Submits jobs, some hundreds at a time, with their pictures, follows them to their ends, and tells of each.
///
/// In memory are the jobs of one batch, and with ``Settings/waits`` the names of those that have not ended, of which
/// there are at most ``openLimit``.
package final class SubmissionRun: Sendable {
    /// What is done.
    package struct Settings: Sendable {
        /// What lines may leave out.
        package let defaults: JobIntake.Defaults
        /// Whether the jobs are followed to their ends.
        package let waits: Bool
        /// What is done when the cluster is full.
        package let whenFull: JobSubmitter.Fullness
        /// Whether lines may name files of this machine.
        package let readsPaths: Bool

        /// Settings of all their parts.
        package init(
            defaults: JobIntake.Defaults, waits: Bool, whenFull: JobSubmitter.Fullness, readsPaths: Bool = true
        ) {
            self.defaults = defaults
            self.waits = waits
            self.whenFull = whenFull
            self.readsPaths = readsPaths
        }
    }

    /// Is given what happened, in its order; the next batch waits until it returns.
    package typealias Tell = @Sendable ([SubmissionEvent]) async throws -> Void

    /// More jobs than this are not submitted ahead of the answers.
    package static let openLimit = 16_384
    /// So many ids are looked at for one that comes twice.
    private static let idMemory = 65_536

    /// What is known of a job that is waited for.
    private struct Open: Sendable {
        let origin: JobOrigin
        let name: MaskName?
    }

    private let settings: Settings
    private let masks: MaskFiles?
    private let names: MaskNames
    private let files: PictureFiles
    private let intake: JobIntake
    private let submitter: JobSubmitter
    private let follower: JobFollower
    private let tell: Tell
    /// Guards what is known of the jobs that are waited for.
    private let open = Mutex<[JobReference: Open]>([:])
    /// Guards the ids that came, and on which lines.
    private let ids = Mutex(LeastRecentlyUsed<String, Int>(limit: SubmissionRun.idMemory))

    /// A run that begins with ``run(_:prompts:)``.
    ///
    /// - Parameters:
    ///   - broker: the cluster; the caller's to close.
    ///   - settings: whether the run waits for the jobs' ends, among others.
    ///   - masks: writes masks as files; nil for none.
    ///   - images: the pictures that were named by hand, all of them: their masks' names depend on each other.
    ///   - files: reads pictures.
    ///   - tell: is given what happens; the next batch waits until it returns.
    package init(
        _ broker: Broker, settings: Settings, masks: MaskFiles?, images: [String], files: PictureFiles,
        tell: @escaping Tell
    ) {
        self.settings = settings
        self.masks = masks
        names = MaskNames(of: images)
        self.files = files
        self.tell = tell
        intake = JobIntake(settings.defaults, files: files, readsPaths: settings.readsPaths)
        submitter = JobSubmitter(broker, whenFull: settings.whenFull) { reason, time in
            try? await tell([.waiting(reason: reason, time)])
        }
        follower = JobFollower(broker)
    }

    /// Jobs that were submitted and not seen to end, and what is known of each.
    package var openJobs: [(reference: JobReference, origin: JobOrigin)] {
        guard settings.waits else { return [] }
        let references = follower.open.sorted { $0.id < $1.id }
        return open.withLock { open in references.map { ($0, open[$0]?.origin ?? JobOrigin()) } }
    }

    /// Submits everything; returns when all is submitted, and with ``Settings/waits`` when all has ended.
    ///
    /// `prompts` makes the job line of a picture that was named by hand.
    ///
    /// - Throws: what `tell` throws; `JobFileError` and ``ClusterError`` where the lines cannot be read or Redis stays
    ///   away.
    package func run(_ source: JobSource, prompts: @escaping JobIntake.Prompts) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            if settings.waits {
                group.addTask { try await self.follower.run { try await self.tellOf($0) } }
            }
            group.addTask {
                try await self.sendAll(source, prompts)
                self.follower.close()
            }
            // Whichever fails ends the others; `waitForAll` would wait for them first.
            while try await group.next() != nil {}
        }
    }

    // MARK: Reading

    private func sendAll(_ source: JobSource, _ prompts: JobIntake.Prompts) async throws {
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
                var requests: [JobRequest] = []
                for path in paths[start..<min(start + 64, paths.count)] {
                    do throws(UnusableJob) { requests.append(try await intake.request(path: path, prompts)) } catch {
                        try await tell([.unusable(error)])
                    }
                }
                try await tell([.read(part: Double(start) / Double(paths.count))])
                try await send(requests)
            }
        }
    }

    private func read(_ reader: JobLineReader, _ name: String) async throws -> [JobRequest]? {
        guard let entries = try await reader.next() else { return nil }
        // Lines are read one after the other, so that of two with one id it is the later that is refused; several pictures
        // are hashed at a time, and the requests stay in the order of the lines.
        let results = try await withThrowingTaskGroup(of: (Int, JobRequest?).self) { group in
            var results: [JobRequest?] = Array(repeating: nil, count: entries.count)
            var waiting = 0
            for (index, entry) in entries.enumerated() {
                if waiting >= 8, let (done, request) = try await group.next() {
                    results[done] = request
                    waiting -= 1
                }
                let (place, line): (JobPlace, JobLine)
                do throws(UnusableJob) { (place, line) = try parsed(entry, name) } catch {
                    try await tell([.unusable(error)])
                    continue
                }
                waiting += 1
                group.addTask {
                    do throws(UnusableJob) { return (index, try await self.intake.request(place, line)) } catch {
                        try await self.tell([.unusable(error)])
                        return (index, nil)
                    }
                }
            }
            for try await (done, request) in group { results[done] = request }
            return results
        }
        if let total = reader.byteCount, total > 0 {
            try await tell([.read(part: Double(await reader.bytesRead) / Double(total))])
        }
        return results.compactMap(\.self)
    }

    /// A line that is whole and whose id did not come before.
    private func parsed(
        _ entry: JobLineReader.Entry, _ name: String
    ) throws(UnusableJob) -> (place: JobPlace, line: JobLine) {
        switch entry {
        case .tooLong(let number, let bytes):
            throw UnusableJob(
                place: .line(number, file: name), origin: JobOrigin(line: number), field: "",
                reason: "a line of \(bytes) bytes; at most \(JobLineReader.longestLine) are read")
        case .line(let number, let text):
            let place = JobPlace.line(number, file: name)
            var line: JobLine
            do throws(JobLineError) { line = try JobLine(parsing: text, number: number) } catch {
                let (id, origin) = JobLine.labels(of: text)
                throw UnusableJob(
                    id: id, place: place, origin: JobOrigin(line: number).or(origin), field: error.field,
                    reason: error.reason)
            }
            let path: String? = if case .path(let path) = line.image { path } else { nil }
            line.origin = JobOrigin(path: path, line: number, meta: line.origin.meta)
            if let id = line.id, let earlier = remember("\(line.tenant?.name ?? "")~\(id)", number) {
                throw UnusableJob(
                    id: id, place: place, origin: line.origin, field: "id",
                    reason: "the id \(id) is that of line \(earlier) too")
            }
            return (place, line)
        }
    }

    /// Notes an id; returns the line on which it was before.
    private func remember(_ id: String, _ number: Int) -> Int? {
        ids.withLock { ids in
            if let earlier = ids.value(for: id) { return earlier }
            ids.insert(number, for: id, cost: 1)
            return nil
        }
    }

    // MARK: Sending

    private func send(_ requests: [JobRequest]) async throws {
        if requests.isEmpty { return }
        if settings.waits {
            await follower.waitUntilOpen(isBelow: max(1, Self.openLimit - requests.count))
        }
        if Task.isCancelled { return }
        var events = requests.flatMap { request in
            request.faults.map { SubmissionEvent.faultyPrompt(request.place, $0) }
        }
        let pictures = Dictionary(
            requests.compactMap { request in request.picture.map { ($0.digest, $0) } }, uniquingKeysWith: { $1 })
        let outcomes = try await submitter.submit(requests.map(\.job)) { digest in
            guard let picture = pictures[digest] else { return nil }
            return try await self.files.bytes(of: picture)
        }
        var followed: [JobReference] = []
        for (request, outcome) in zip(requests, outcomes) {
            switch outcome {
            case .accepted(let reference, let state), .known(let reference, let state):
                if settings.waits {
                    let known = Open(origin: request.line.origin, name: maskName(of: request))
                    open.withLock { $0[reference] = known }
                    followed.append(reference)
                    events.append(.followed(request))
                } else {
                    let isNew = if case .accepted = outcome { true } else { false }
                    events.append(.submitted(reference, state, isNew: isNew, request))
                }
            case .refused(_, let error):
                if let (reason, sentence, time) = error.comeBack {
                    events.append(.refused(request, reason: reason, sentence: sentence, retryAfter: time))
                    continue
                }
                events.append(
                    .unusable(
                        UnusableJob(
                            id: request.line.id, place: request.place, origin: request.line.origin,
                            field: error.jobField, reason: error.jobReason)))
            }
        }
        // A job must be known to have been submitted before its end is told.
        try await tell(events)
        follower.add(followed)
    }

    /// In a jobs file the line's number tells masks of equal names apart.
    private func maskName(of request: JobRequest) -> MaskName? {
        guard masks != nil else { return nil }
        let each = request.line.multimask ? 3 : 1
        switch request.place {
        case .line(let number, _):
            let stem = MaskName.stem(of: request.line.image, digest: request.job.image)
            let prefix = "\(TemporaryName.cut(stem, before: "-\(number)-999999.png"))-\(number)"
            return MaskName(prefix: prefix, each: each)
        case .image(let path): return MaskName(prefix: names.prefix(of: path), each: each)
        case .request:
            return MaskName(prefix: MaskName.stem(of: request.line.image, digest: request.job.image), each: each)
        }
    }

    // MARK: Ends

    private func tellOf(_ endings: [JobEnding]) async throws {
        var events: [SubmissionEvent] = []
        for ending in endings {
            let known = open.withLock { $0.removeValue(forKey: ending.reference) }
            var files: [String]?
            var fault: String?
            if let masks, let name = known?.name, let result = ending.result {
                do { files = try await masks.write(result, as: name) } catch { fault = "\(error)" }
            }
            events.append(
                .ended(
                    ending, ending.result.map { JobAnswer($0) }, origin: known?.origin ?? JobOrigin(), files: files,
                    fileError: fault))
        }
        try await tell(events)
    }
}

extension ClusterError {
    /// Which part of a job line the cluster complains of.
    package var jobField: String? {
        switch self {
        case .noImage: "image"
        case .conflict: "id"
        default: nil
        }
    }

    /// What the cluster says of a job that it did not take.
    package var jobReason: String {
        switch self {
        case .noImage(let reason), .badJob(let reason), .conflict(let reason): reason
        default: "\(self)"
        }
    }
}
