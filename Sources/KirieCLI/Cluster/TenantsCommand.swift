import ArgumentParser
import Cluster
import JSON
import Terminals

struct TenantsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tenants",
        abstract: "Those who share the cluster: what each may have and has, and what its turns weigh.",
        discussion: """
            kirie tenants list
            kirie tenants set lab --weight 3 --jobs 20000 --bytes 4000000000 --rate 500
            kirie tenants drop lab

            A tenant is whom --tenant, a job line's "tenant" or an API key names; nobody has to set one up. Under overload
            each gets a share of the workers by its weight, in each lane. Quotas hold for the whole cluster: beyond them its
            jobs are refused with the reason and a time to come back (exit status 75, HTTP 429). It takes an operator's rights
            to set and drop.
            """,
        subcommands: [ListCommand.self, SetCommand.self, DropCommand.self], defaultSubcommand: ListCommand.self)
}

/// The name of a tenant, as an argument.
struct TenantArgument: ParsableArguments {
    @Argument(help: ArgumentHelp("The tenant; default for whoever names none.", valueName: "tenant"))
    var name: String

    func validate() throws {
        if let fault = Tenant.fault(in: name) { throw ValidationError("the tenant's name: \(fault).") }
    }

    var tenant: Tenant { Tenant(name) ?? .standard }
}

extension TenantsCommand {
    struct ListCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "Tenants with what was set for them and what they have now.",
            discussion: """
                kirie tenants list --json

                Of those for whom nothing was set the 20 with most are named, and the rest as (others).
                """)

        @Flag(name: .long, help: "Print one JSON object.")
        var json = false

        @OptionGroup var redis: RedisOptions

        func run() async throws {
            let broker = try await redis.watcher()
            let terms = try await broker.terms()
            let statistics = try await broker.statistics().tenants()
            let rows = TenantRows(terms, statistics)
            if json {
                try await StandardOutput().write(.object([("tenants", .array(rows.json))]))
            } else {
                for line in rows.table { try StandardOutput.print(Array("\(line.text(colour: false))\n".utf8)) }
            }
        }
    }

    struct SetCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "set", abstract: "Say what a tenant may have; what is not named stays as it was.",
            discussion: """
                kirie tenants set lab --weight 3
                kirie tenants set visitors --jobs 100 --rate 5
                kirie tenants set lab --no-quotas
                """)

        @OptionGroup var tenant: TenantArgument

        @Option(name: .long, help: ArgumentHelp("Its share beside the others' weights, 1 to 100.", valueName: "n"))
        var weight: Int?

        @Option(name: .long, help: ArgumentHelp("Unfinished jobs that it may have.", valueName: "n"))
        var jobs: Int?

        @Option(
            name: .long,
            help: ArgumentHelp(
                "Bytes that it may hold: job lines, pictures that its jobs need, what is kept of ended jobs.",
                valueName: "n"))
        var bytes: Int?

        @Option(
            name: .long,
            help: ArgumentHelp("Jobs a second, of which a second's may come at once.", valueName: "n"),
            transform: DecimalNumber.argument)
        var rate: Double?

        @Flag(name: .customLong("no-quotas"), help: "Forget the quotas that it has, before those that are named.")
        var clears = false

        @OptionGroup var redis: RedisOptions

        func validate() throws {
            func check<Number: Comparable>(_ name: String, _ value: Number?, _ bounds: ClosedRange<Number>) throws {
                guard let value, !bounds.contains(value) else { return }
                throw ValidationError(
                    "--\(name) takes \(bounds.lowerBound) to \(bounds.upperBound), not \(value); without a quota it is as "
                        + "much as the cluster has: --no-quotas.")
            }
            try check("weight", weight, TenantTerms.weights)
            try check("jobs", jobs, TenantTerms.jobBounds)
            try check("bytes", bytes, TenantTerms.byteBounds)
            try check("rate", rate, TenantTerms.rates)
            guard weight != nil || jobs != nil || bytes != nil || rate != nil || clears else {
                throw ValidationError("Give --weight, --jobs, --bytes, --rate or --no-quotas.")
            }
            if tenant.tenant.isStandard, jobs != nil || bytes != nil || rate != nil {
                throw ValidationError(
                    "The default tenant has a weight and no quotas: who names no tenant is held by the cluster's own limits."
                )
            }
        }

        func run() async throws {
            let broker = try await redis.watcher().serving(tenant.tenant)
            var terms = try await broker.terms(of: tenant.tenant) ?? TenantTerms()
            if clears { terms = TenantTerms(weight: terms.weight) }
            terms.weight = weight ?? terms.weight
            terms.jobs = jobs ?? terms.jobs
            terms.bytes = bytes ?? terms.bytes
            terms.jobsPerSecond = rate ?? terms.jobsPerSecond
            try await broker.set(terms, for: tenant.tenant)
        }
    }

    struct DropCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "drop", abstract: "Forget what was set for a tenant; its jobs and pictures stay.",
            discussion: """
                kirie tenants drop lab
                Exit status: 0 it is forgotten, 1 nothing was set for it.
                """)

        @OptionGroup var tenant: TenantArgument
        @OptionGroup var redis: RedisOptions

        func run() async throws {
            let broker = try await redis.watcher()
            guard try await broker.terms(of: tenant.tenant) != nil else {
                Terminal.complain("kirie: nothing is set for the tenant \(tenant.tenant)")
                throw ExitCode(1)
            }
            try await broker.forget(tenant.tenant)
        }
    }
}

/// Tenants as people and scripts read them.
struct TenantRows {
    private let rows: [(name: String, terms: TenantTerms?, figures: TenantStatistics?)]

    init(_ terms: [Tenant: TenantTerms], _ statistics: [TenantStatistics]) {
        let seen = Dictionary(statistics.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        let others = statistics.map(\.name).filter { name in Tenant(name).map { terms[$0] == nil } ?? true }
        rows =
            terms.sorted { $0.key < $1.key }.map { ($0.key.name, $0.value, seen[$0.key.name]) }
            + others.map { ($0, nil, seen[$0]) }
    }

    var table: [TintedLine] {
        var table = TextTable([
            ("TENANT", .left, 8), ("WEIGHT", .right, 6), ("JOBS", .right, 6), ("OF", .right, 6), ("BYTES", .right, 8),
            ("OF", .right, 8), ("PER SECOND", .right, 10), ("REFUSED", .right, 7),
        ])
        for row in rows {
            table.add([
                TextTable.Cell(row.name), TextTable.Cell("\(row.terms?.weight ?? 1)"), .count(row.figures?.jobs ?? 0),
                .count(row.terms?.jobs), TextTable.Cell(Figures.bytes(row.figures?.bytes ?? 0)),
                TextTable.Cell(row.terms?.bytes.map { Figures.bytes($0) } ?? Figures.nothing),
                TextTable.Cell(row.terms?.jobsPerSecond.map { Figures.rate($0) } ?? Figures.nothing),
                .count(row.figures?.refused ?? 0, .warning),
            ])
        }
        return table.lines
    }

    var json: [JSONValue] {
        rows.map { row in
            .object(
                [
                    ("tenant", .string(row.name)), ("weight", .integer(row.terms?.weight ?? 1)),
                    (
                        "quotas",
                        .object([
                            ("jobs", JSONValue(row.terms?.jobs)), ("bytes", JSONValue(row.terms?.bytes)),
                            ("rate", row.terms?.jobsPerSecond.map { .number($0) } ?? .null),
                        ])
                    ),
                ] + (row.figures?.members ?? []))
        }
    }
}

extension TenantStatistics {
    /// As `kirie queues --json` has them.
    var members: [JSONValue.Member] {
        [
            ("jobs", .integer(jobs)), ("bytes", .integer(bytes)), ("submitted", .integer(submitted)),
            ("ended", .integer(ended)), ("refused", .integer(refused)), ("encodes", .integer(encodes)),
        ]
    }
}
