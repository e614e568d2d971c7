import ArgumentParser
import Clients
import Cluster
import JSON
import Terminals

/// Ids of jobs, on the command line or one a line on standard input.
struct JobArguments: ParsableArguments {
    @Argument(help: ArgumentHelp("Ids of jobs; - reads them from standard input, one a line.", valueName: "job"))
    var jobs: [String]

    func validate() throws {
        guard !jobs.isEmpty else { throw ValidationError("Give the id of a job, or - for standard input.") }
    }

    /// The ids, each once, in their order.
    func identifiers() async throws -> [String] {
        var ids: [String] = []
        for word in jobs {
            guard word == "-" else {
                ids.append(word)
                continue
            }
            let reader = try JobLineReader("-", limit: 4096)
            while let entries = try await reader.next() {
                for case .line(_, let text) in entries {
                    let words = String(decoding: text, as: UTF8.self).split(whereSeparator: \.isWhitespace)
                    ids += words.map(String.init)
                }
            }
        }
        var seen: Set<String> = []
        return ids.filter { seen.insert($0).inserted }
    }
}

/// A command that says one thing of each job.
protocol JobCommand: AsyncParsableCommand {}

extension JobCommand {
    /// Looks the jobs up, a stretch at a time, and has a line written for each; an id of several jobs has several lines.
    ///
    /// - Returns: whether all ids were known.
    fileprivate func forEach(
        _ ids: [String], _ broker: Broker, _ line: ([JobStatus]) async throws -> [JSONValue]
    ) async throws -> Bool {
        let output = StandardOutput()
        var areKnown = true
        for start in stride(from: 0, to: ids.count, by: 64) {
            let chunk = Array(ids[start..<min(start + 64, ids.count)])
            let found = try await broker.find(chunk)
            var lines: [JSONValue] = []
            for id in chunk {
                if let statuses = found[id] {
                    lines += try await line(statuses)
                } else {
                    areKnown = false
                    lines.append(JobReports.unknown(id))
                }
            }
            try await output.write(lines)
        }
        return areKnown
    }
}

struct StatusCommand: JobCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Say where jobs stand, one JSON line a job.",
        discussion: """
            kirie status a1 a2
            Exit status: 0 all ids are known, 1 some are not.
            """)

    @OptionGroup var jobs: JobArguments
    @OptionGroup var tenant: TenantOption
    @OptionGroup var redis: RedisOptions

    func run() async throws {
        let broker = try await redis.watcher(for: tenant)
        let areKnown = try await forEach(try await jobs.identifiers(), broker) { $0.map(JobReports.status) }
        if !areKnown { throw ExitCode(1) }
    }
}

struct CancelCommand: JobCommand {
    static let configuration = CommandConfiguration(
        commandName: "cancel",
        abstract: "Cancel jobs that have not ended; one JSON line a job with the state that it has then.",
        discussion: """
            kirie cancel a1 a2
            Exit status: 0 all ids are known, 1 some are not.
            """)

    @OptionGroup var jobs: JobArguments
    @OptionGroup var tenant: TenantOption
    @OptionGroup var redis: RedisOptions

    func run() async throws {
        let broker = try await redis.watcher(for: tenant)
        let areKnown = try await forEach(try await jobs.identifiers(), broker) { statuses in
            let references = statuses.map(\.reference)
            return zip(references, try await broker.cancel(references)).map { reference, state in
                guard let state else { return JobReports.unknown(reference.id) }
                return .object([
                    ("id", .string(reference.id)), ("state", .string(state.rawValue)),
                    ("partition", .integer(reference.partition.index)),
                ])
            }
        }
        if !areKnown { throw ExitCode(1) }
    }
}

struct WaitCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wait",
        abstract: "Wait for jobs; one JSON line a job as it ends, with its answer.",
        discussion: """
            kirie wait a1 a2 --timeout 60
            kirie submit --jobs jobs.jsonl | jq -r .id | kirie wait -
            Exit status: 0 all are done, 1 some failed or have prompts with errors, are unknown, or did not end in time.
            """)

    @OptionGroup var jobs: JobArguments

    @Option(
        name: .long, help: ArgumentHelp("Give up after so many seconds.", valueName: "seconds"),
        transform: DecimalNumber.argument)
    var timeout: Double?

    @OptionGroup var tenant: TenantOption
    @OptionGroup var redis: RedisOptions

    func validate() throws {
        if let timeout, !(timeout >= 0 && timeout <= 1e9) {
            throw ValidationError("--timeout takes seconds, 0 to 1e9.")
        }
    }

    func run() async throws {
        let broker = try await redis.watcher(for: tenant)
        let ids = try await jobs.identifiers()
        let output = StandardOutput()
        let tally = WaitTally()
        let follower = JobFollower(broker)
        for start in stride(from: 0, to: ids.count, by: 64) {
            let chunk = Array(ids[start..<min(start + 64, ids.count)])
            let found = try await broker.find(chunk)
            for id in chunk where found[id] == nil {
                await tally.note(isGood: false)
                try await output.write(JobReports.unknown(id))
            }
            follower.add(chunk.flatMap { (found[$0] ?? []).map(\.reference) })
        }
        follower.close()
        let limit = timeout
        do {
            try await Interruption.handling {
                try await Self.bounded(by: limit) {
                    try await follower.run { endings in
                        var lines: [JSONValue] = []
                        for ending in endings {
                            let answer = ending.result.map { JobAnswer($0) }
                            await tally.note(isGood: ending.state == .done && answer?.hasErrors != true)
                            lines.append(JobReports.ended(ending, answer))
                        }
                        try await output.write(lines)
                    }
                }
            }
        } catch let interruption as Interruption {
            try await output.write(follower.open.map { JobReports.open($0) })
            Terminal.complain("kirie: interrupted; the jobs whose lines say \"open\" go on without you")
            throw ExitCode(interruption.exitCode)
        } catch is TimeIsOver {
            let open = follower.open
            try await output.write(open.map { JobReports.open($0) })
            let time = Figures.duration(limit.map { .seconds($0) })
            Terminal.complain("kirie: \(Figures.count(open.count)) jobs did not end within \(time)")
            throw ExitCode(1)
        }
        if await !tally.isGood { throw ExitCode(1) }
    }

    private struct TimeIsOver: Error {}

    private static func bounded(by seconds: Double?, _ body: @escaping @Sendable () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { try await body() }
            if let seconds {
                group.addTask {
                    try await Task.sleep(for: .seconds(seconds))
                    throw TimeIsOver()
                }
            }
            try await group.next()
        }
    }
}

/// Whether all went well so far.
private actor WaitTally {
    private(set) var isGood = true
    func note(isGood: Bool) { if !isGood { self.isGood = false } }
}
