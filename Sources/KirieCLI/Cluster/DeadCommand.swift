import ArgumentParser
import Cluster
import JSON
import Platform
import Terminals

struct DeadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dead",
        abstract: "Jobs that were given up after too many attempts: list them, bring them back, remove them.",
        discussion: """
            kirie dead list
            kirie dead show a1
            kirie dead retry --all
            """,
        subcommands: [ListCommand.self, ShowCommand.self, RetryCommand.self, PurgeCommand.self])
}

/// Which dead letters: by the id of the entry or of the job.
struct DeadSelection: ParsableArguments {
    @Argument(
        help: ArgumentHelp("Ids of jobs or of entries, as `kirie dead list` shows them.", valueName: "job|entry"))
    var names: [String] = []

    @Flag(name: .long, help: "All of them.")
    var all = false

    func validate() throws {
        guard all != !names.isEmpty else { throw ValidationError("Give ids, or --all.") }
    }

    /// The letters that are meant; complains of names that are none's.
    func letters(_ broker: Broker) async throws -> (letters: [DeadLetter], areKnown: Bool) {
        let letters = try await broker.deadLetters(limit: DeadLetters.limit)
        if all { return (letters, true) }
        let wanted = Set(names)
        let found = letters.filter { letter in
            wanted.contains(letter.entry) || letter.job.map { wanted.contains($0) } == true
        }
        let known = Set(found.map(\.entry)).union(found.compactMap(\.job))
        let strangers = names.filter { !known.contains($0) }
        for name in strangers { Terminal.complain("kirie: no dead letter is called \(name)") }
        return (found, strangers.isEmpty)
    }
}

/// Dead letters as people and scripts read them.
enum DeadLetters {
    /// More than any partition keeps unless somebody raised its setting a hundredfold.
    static let limit = 100_000

    static func json(_ letter: DeadLetter) -> JSONValue {
        let numbers: Set<String> = ["attempts"]
        var members: [JSONValue.Member] = [
            ("entry", .string(letter.entry)), ("partition", .integer(letter.partition.index)),
            ("job", JSONValue(letter.job)),
        ]
        if let tenant = letter.reference?.tenant, !tenant.isStandard {
            members.append(("tenant", .string(tenant.name)))
        }
        if let at = letter.fields["at"].flatMap({ Int($0) }) { members.append(("at", .string(Timestamp.text(at)))) }
        for (name, value) in letter.fields.sorted(by: { $0.key < $1.key }) where name != "at" && name != "job" {
            // An entry written by hand has an entry id of its own: that of its stream.
            let shown = name == "entry" ? "stream_entry" : name
            members.append((shown, numbers.contains(name) ? JSONValue(Int(value)) : .string(value)))
        }
        return .object(members)
    }

    static func table(_ letters: [DeadLetter]) -> [TintedLine] {
        var table = TextTable([
            ("JOB", .left, 0), ("ENTRY", .left, 0), ("WHEN", .left, 0), ("STAGE", .left, 0), ("LANE", .left, 0),
            ("TRIES", .right, 0), ("REASON", .left, 0),
        ])
        for letter in letters {
            let at = letter.fields["at"].flatMap { Int($0) }.map { String(Timestamp.text($0).prefix(19)) }
            table.add([
                TextTable.Cell(letter.job ?? Figures.nothing), TextTable.Cell(letter.entry, .quiet),
                TextTable.Cell(at ?? Figures.nothing), TextTable.Cell(letter.fields["source"] ?? Figures.nothing),
                TextTable.Cell(letter.fields["lane"] ?? Figures.nothing),
                TextTable.Cell(letter.fields["attempts"] ?? Figures.nothing), TextTable.Cell(letter.reason, .bad),
            ])
        }
        return table.lines
    }
}

extension DeadCommand {
    struct ListCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List the dead letters, the oldest first.",
            discussion: "kirie dead list --json")

        @Flag(name: .long, help: "One JSON line a letter.")
        var json = false

        @OptionGroup var redis: RedisOptions

        func run() async throws {
            let letters = try await redis.watcher().deadLetters(limit: DeadLetters.limit)
            let output = StandardOutput()
            if json {
                try await output.write(letters.map(DeadLetters.json))
            } else if letters.isEmpty {
                Terminal.complain("there are no dead letters")
            } else {
                try await output.write(DeadLetters.table(letters))
            }
        }
    }

    struct ShowCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Show all that is known of dead letters.",
            discussion: "kirie dead show a1")

        @OptionGroup var selection: DeadSelection

        @Flag(name: .long, help: "One JSON line a letter.")
        var json = false

        @OptionGroup var redis: RedisOptions

        func run() async throws {
            let (letters, areKnown) = try await selection.letters(try await redis.watcher())
            let output = StandardOutput()
            if json {
                try await output.write(letters.map(DeadLetters.json))
            } else {
                var lines: [TintedLine] = []
                for letter in letters {
                    guard case .object(let members) = DeadLetters.json(letter) else { continue }
                    if !lines.isEmpty { lines.append(TintedLine()) }
                    for (name, value) in members {
                        var line = TintedLine(name + String(repeating: " ", count: max(0, 13 - name.count)), .quiet)
                        if case .string(let text) = value { line.add(text) } else { line.add(value.text) }
                        lines.append(line)
                    }
                }
                try await output.write(lines)
            }
            if !areKnown { throw ExitCode(1) }
        }
    }

    struct RetryCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "retry", abstract: "Bring dead jobs back, with all their attempts before them.",
            discussion: """
                kirie dead retry a1 a2
                kirie dead retry --all
                """)

        @OptionGroup var selection: DeadSelection
        @OptionGroup var redis: RedisOptions

        func run() async throws {
            let broker = try await redis.watcher()
            let (letters, areKnown) = try await selection.letters(broker)
            var isGood = areKnown
            var lines: [JSONValue] = []
            for (letter, state) in zip(letters, try await broker.retry(letters)) {
                var members: [JSONValue.Member] = [
                    ("id", JSONValue(letter.job)), ("entry", .string(letter.entry)),
                    ("state", JSONValue(state?.rawValue)),
                ]
                if state == nil {
                    isGood = false
                    members.append(
                        ("error", "it cannot come back: it is no job, or its picture is gone; submit it again"))
                }
                lines.append(.object(members))
            }
            try await StandardOutput().write(lines)
            if !isGood { throw ExitCode(1) }
        }
    }

    struct PurgeCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "purge", abstract: "Remove dead letters with what is left of their jobs.",
            discussion: """
                kirie dead purge a1
                kirie dead purge --all
                """)

        @OptionGroup var selection: DeadSelection
        @OptionGroup var redis: RedisOptions

        func run() async throws {
            let broker = try await redis.watcher()
            let (letters, areKnown) = try await selection.letters(broker)
            let removed = try await broker.purge(letters)
            try await StandardOutput().write(.object([("removed", .integer(removed))]))
            if !areKnown { throw ExitCode(1) }
        }
    }
}
