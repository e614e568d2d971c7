import ArgumentParser
import Clients
import Cluster
import Embeddings
import Glibc
import Imaging
import JSON
import Platform
import Redis
import Segmentation
import Synchronization
import Terminals
import Workers

extension CacheCommand {
    struct WarmCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "warm",
            abstract: "Compute the embeddings of a data set before anybody asks for them.",
            discussion: """
                kirie cache warm photos
                kirie cache warm 'photos/2026-*.jpg'
                kirie cache warm pictures.txt
                kirie cache warm photos --model kirie-tiny --model sam2.1_tiny
                kirie cache warm photos --export embeddings
                kirie cache warm --import embeddings

                A folder is searched for pictures by how their files end, those below it too, each once whatever links lead
                to it; a text file names a picture a line. What the cache has already is left alone, so a run that was
                stopped goes on where it was. For several models each picture is read and sent once. The work is done by the
                cluster's encoders in the bulk lane. --export writes the pictures' embeddings as files, those of `kirie encode`,
                and --import puts such files into a cluster, for as long as that keeps embeddings; the folder is left as it is.
                Exit status: 0 every embedding is in the cache, and in the folder of --export; 1 some are not.
                """)

        @Argument(
            help: ArgumentHelp(
                "A folder, a pattern in quotes, a picture, or a text file.", valueName: "dir|glob|file.txt"))
        var sources: [String] = []

        @Option(
            name: .customLong("import"),
            help: ArgumentHelp(
                "Embeddings of --export or of --cache-dir, put into the cluster first.", valueName: "dir"))
        var imported: String?

        @Option(
            name: .customLong("export"),
            help: ArgumentHelp(
                "A folder that gets the pictures' embeddings as files when they are there.", valueName: "dir"))
        var exported: String?

        @OptionGroup var model: ModelsChoice

        @Flag(
            name: .long,
            help: "Print one JSON object at the end; what was there, encoded, failed or left open are embeddings.")
        var json = false

        @Option(
            name: .long,
            help: ArgumentHelp("Embeddings that are on their way at a time.", valueName: "n"))
        var inFlight = 64

        @OptionGroup var pictures: PictureOptions

        @OptionGroup var tenant: TenantOption

        @OptionGroup var options: CacheOptions

        func validate() throws {
            guard !sources.isEmpty || imported != nil else {
                throw ValidationError("Give a folder, a pattern or a text file, or --import DIR.")
            }
            guard !sources.isEmpty || exported == nil else {
                throw ValidationError("--export writes the embeddings of pictures: name them.")
            }
            guard (1...10_000).contains(inFlight) else { throw ValidationError("--in-flight takes 1 to 10000.") }
        }

        func run() async throws {
            let list = try await PictureList(sources)
            let broker = try await options.redis.submitter(for: tenant)
            let other = try await options.otherRedis()
            let transfer = EmbeddingTransfer(EmbeddingStore(broker, elsewhere: other))
            var isWhole = true
            if let imported { isWhole = try await transfer.bring(from: imported) }
            if sources.isEmpty {
                if !isWhole { throw ExitCode(1) }
                return
            }
            let models = try await model.resolve(broker)
            let warming = Warming(
                ClusterCache(broker, other: other), models: models, inFlight: inFlight,
                pictures: pictures.decoder)
            do {
                try await Interruption.handling { try await warming.run(list.paths) }
            } catch let interruption as Interruption {
                try await warming.finish(json: json)
                Terminal.complain("kirie: interrupted; run the same command again to go on from here")
                throw ExitCode(interruption.exitCode)
            }
            try await warming.finish(json: json)
            if let exported, !(try await transfer.take(warming.keys, to: exported)) { isWhole = false }
            if warming.hasFailures || list.hasProblems || !isWhole { throw ExitCode(1) }
        }
    }
}

/// All pictures of a run, each once.
private struct PictureList {
    private(set) var paths: [String] = []
    private(set) var hasProblems = false

    init(_ sources: [String]) async throws {
        let search = PictureSearch()
        for source in sources {
            if source == "-" || source.lowercased().hasSuffix(".txt") {
                let names = try await Self.names(in: source)
                if names.isEmpty { complain("\(source) names no pictures") }
                paths += await search.named(names)
                continue
            }
            let found = await search.pictures(of: source)
            for note in found.notes { Terminal.complain("kirie: \(note)") }
            for fault in found.faults { complain(fault) }
            if found.isEmpty {
                complain("\(source): there are no pictures: files that end in \(PictureFinder.kinds) were looked for")
            }
            paths += found.paths
        }
    }

    private mutating func complain(_ text: String) {
        Terminal.complain("kirie: \(text)")
        hasProblems = true
    }

    private static func names(in file: String) async throws -> [String] {
        let reader = try JobLineReader(file, limit: 64 << 10)
        var names: [String] = []
        while let entries = try await reader.next() {
            for entry in entries {
                guard case .line(_, let text) = entry else { continue }
                var name = FileName.text(of: text)
                while let last = name.last, last.isWhitespace { name.removeLast() }
                if !name.isEmpty { names.append(name) }
            }
        }
        return names
    }
}

/// One run of `kirie cache warm`.
private final class Warming: Sendable {
    /// How many embeddings: one for each picture and model.
    private struct Tally: Sendable {
        var pictures = 0
        var total = 0
        var there = 0
        var encoded = 0
        var failed = 0
        var keys: Set<EmbeddingKey> = []
        /// By job, until it ends; pictures of the same content share one.
        var paths: [JobReference: String] = [:]
    }

    private let cache: ClusterCache
    private let models: [(name: String, identifier: ModelIdentifier)]
    private let inFlight: Int
    private let files: PictureFiles
    private let submitter: JobSubmitter
    private let follower: JobFollower
    private let status: StatusLine
    /// Guards the counts.
    private let tally = Mutex(Tally())
    private let start = ContinuousClock.now

    init(
        _ cache: ClusterCache, models: [(name: String, identifier: ModelIdentifier)], inFlight: Int,
        pictures: ImageDecoder
    ) {
        let status = StatusLine()
        self.cache = cache
        self.models = models
        self.inFlight = inFlight
        files = PictureFiles(decoder: pictures)
        self.status = status
        submitter = JobSubmitter(cache.broker, whenFull: .wait)
        follower = JobFollower(cache.broker)
    }

    var hasFailures: Bool { tally.withLock { $0.failed > 0 } }
    /// Of all pictures that could be read.
    var keys: [EmbeddingKey] { tally.withLock { Array($0.keys) } }

    func run(_ paths: [String]) async throws {
        tally.withLock { ($0.pictures, $0.total) = (paths.count, paths.count * models.count) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { try await self.follower.run { self.ended($0) } }
            group.addTask {
                let size = max(1, min(32, self.inFlight / self.models.count))
                for start in stride(from: 0, to: paths.count, by: size) {
                    if Task.isCancelled { break }
                    try await self.send(Array(paths[start..<min(start + size, paths.count)]))
                }
                self.follower.close()
            }
            // Whichever fails ends the others; `waitForAll` would wait for them first.
            while try await group.next() != nil {}
        }
    }

    /// What reading a file brought.
    private enum Reading: Sendable {
        case picture(Picture)
        case fault(String)
    }

    private func read(_ path: String) async -> Reading {
        do { return .picture(try await files.picture(at: path)) } catch { return .fault("\(error)") }
    }

    private func send(_ paths: [String]) async throws {
        var pictures: [ImageDigest: (Picture, String)] = [:]
        let read = try await withThrowingTaskGroup(of: (Int, Reading).self) { group in
            for (index, path) in paths.enumerated() { group.addTask { (index, await self.read(path)) } }
            var read: [Reading?] = Array(repeating: nil, count: paths.count)
            while let (index, reading) = try await group.next() { read[index] = reading }
            return read
        }
        for (path, reading) in zip(paths, read) {
            switch reading {
            case .picture(let picture):
                if pictures.updateValue((picture, path), forKey: picture.digest) != nil {
                    tally.withLock { $0.there += models.count }
                }
            case .fault(let reason): fail(path, reason, namesPath: true, count: models.count)
            case nil: fail(path, "was not read", namesPath: false, count: models.count)
            }
        }
        // The embeddings of one picture stand together, so that it is sent for all of them at once.
        let keys = pictures.keys.flatMap { digest in
            models.map { EmbeddingKey(image: digest, model: $0.identifier) }
        }
        tally.withLock { $0.keys.formUnion(keys) }
        let there = try await cache.contains(keys)
        // What another tenant has had encoded is sent all the same: only who has sent a picture may name it later.
        let digests = Array(pictures.keys)
        let presence = try await cache.broker.presence(of: digests)
        let unsent = Set(zip(digests, presence).filter { $0.1 == .unknown }.map(\.0))
        let missing = zip(keys, there).filter { !$0.1 || unsent.contains($0.0.image) }.map(\.0)
        tally.withLock { $0.there += keys.count - missing.count }
        draw()
        if missing.isEmpty { return }
        await follower.waitUntilOpen(isBelow: max(1, inFlight - missing.count + 1))
        if Task.isCancelled { return }
        let jobs = missing.map {
            Job(id: Job.makeIdentifier(), lane: .bulk, image: $0.image, model: $0.model, line: RedisBytes([]))
        }
        let known = pictures
        let outcomes = try await submitter.submit(jobs) { digest in
            guard let picture = known[digest]?.0 else { return nil }
            return try await self.files.bytes(of: picture)
        }
        var references: [JobReference] = []
        for (job, outcome) in zip(jobs, outcomes) {
            let path = name(of: known[job.image]?.1 ?? "\(job.image)", for: job.model)
            switch outcome {
            case .accepted(let reference, _), .known(let reference, _):
                references.append(reference)
                tally.withLock { $0.paths[reference] = path }
            // Only a run that is being stopped does not wait for room.
            case .refused(_, let error) where error.comeBack != nil: break
            case .refused(_, let error): fail(path, "\(error)", namesPath: false)
            }
        }
        follower.add(references)
    }

    /// How a picture is called in what is said of it; of several models the one that is meant, too.
    private func name(of path: String, for model: ModelIdentifier) -> String {
        guard models.count > 1, let model = models.first(where: { $0.identifier == model }) else { return path }
        return "\(path), \(model.name)"
    }

    private func ended(_ endings: [JobEnding]) {
        for ending in endings {
            let path = tally.withLock { $0.paths.removeValue(forKey: ending.reference) } ?? ending.reference.id
            if ending.state == .done {
                tally.withLock { $0.encoded += 1 }
            } else {
                fail(path, ending.error ?? ending.state?.rawValue ?? "the job is gone", namesPath: false)
            }
        }
        draw()
    }

    /// Counts embeddings that failed and says why; where the reason `namesPath` the picture's own is not put before it.
    private func fail(_ path: String, _ reason: String, namesPath: Bool, count: Int = 1) {
        tally.withLock { $0.failed += count }
        status.say("kirie: \(namesPath && reason.contains(path) ? "" : "\(path): ")\(reason)")
    }

    private func draw() {
        guard Terminal.isInteractive else { return }
        let now = tally.withLock { $0 }
        let settled = now.there + now.encoded + now.failed
        let part = Double(settled) / Double(max(1, now.total))
        var text = "\(StatusLine.bar(part)) \(Int(part * 100)) %"
        text += "  \(Figures.count(settled)) of \(Figures.count(now.total))"
        text += "  \(Figures.count(now.there)) were there  \(Figures.count(now.encoded)) encoded"
        if now.failed > 0 { text += "  \(Figures.count(now.failed)) failed" }
        if now.encoded > 0 {
            let spent = (ContinuousClock.now - start) / .seconds(1)
            let left = Double(now.total - settled) * spent / Double(now.encoded)
            text += "  about \(Figures.duration(.seconds(left))) left"
        }
        status.show(text)
    }

    /// Says what came of the run.
    func finish(json: Bool) async throws {
        status.hide()
        let sum = tally.withLock { $0 }
        let open = sum.total - sum.there - sum.encoded - sum.failed
        if json {
            try await StandardOutput().write(
                .object([
                    ("pictures", .integer(sum.pictures)),
                    ("models", .array(models.map { .string($0.identifier.text) })), ("there", .integer(sum.there)),
                    ("encoded", .integer(sum.encoded)),
                    ("failed", .integer(sum.failed)), ("open", .integer(open)),
                    ("seconds", .number(((ContinuousClock.now - start) / .milliseconds(1)).rounded() / 1000)),
                ]))
            return
        }
        var text =
            "\(Figures.count(sum.pictures)) pictures\(models.count > 1 ? " for \(models.count) models" : ""): \(Figures.count(sum.there)) were there, "
            + "\(Figures.count(sum.encoded)) encoded"
        if sum.failed > 0 { text += ", \(Figures.count(sum.failed)) failed" }
        if open > 0 { text += ", \(Figures.count(open)) not yet" }
        Terminal.complain("\(text) in \(Figures.duration(ContinuousClock.now - start))")
    }
}
