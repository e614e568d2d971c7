import ArgumentParser
import JSON
import Planning
import Platform
import Terminals

struct PlanCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "How many workers for a load: simulated from measured figures.",
        discussion: """
            kirie plan deploy/plans/clinic.json
            kirie plan deploy/plans/clinic.json --target interactive:p95=300 --json
            kirie plan deploy/plans/clinic.json --encoders 2 --decoders 3 --load 0.5 --seconds 20 --svg waits.svg

            A plan is a JSON file: what was measured (files of kirie bench … --json), what comes and when, how long people may \
            wait, and what machines cost. deploy/PLAN.md says what may stand in it. The cluster is simulated with the rules by \
            which workers take work, from a seed; the least money that meets the targets is searched for, unless --encoders \
            and --decoders say how many there are.
            """)

    @Argument(help: ArgumentHelp("The plan.", valueName: "plan.json"))
    var plan: String

    @Option(
        name: .long, help: ArgumentHelp("Encoders, of each model in the plan's order: no search.", valueName: "n,…"))
    var encoders: String?

    @Option(
        name: .long, help: ArgumentHelp("Decoders, of each model in the plan's order: no search.", valueName: "n,…"))
    var decoders: String?

    @Option(name: .long, help: ArgumentHelp("With --encoders and --decoders: Redis servers.", valueName: "n"))
    var shards = 1

    @Option(
        name: .long,
        help: ArgumentHelp(
            "In place of the plan's targets; may be repeated.", valueName: "lane:pN=ms"))
    var target: [String] = []

    @Option(name: .long, help: "The plan's arrivals times this.", transform: DecimalNumber.argument)
    var load = 1.0

    @Option(name: .long, help: ArgumentHelp("The hour of the day, 0 to 23. Default: the busiest.", valueName: "h"))
    var hour: Int?

    @Option(
        name: .long, help: ArgumentHelp("What --cache-bytes of decoders is, in place of the plan's.", valueName: "n"))
    var cacheBytes: Int?

    @Option(name: .long, help: "Seeds arrivals and times.")
    var seed: UInt64 = 1

    @Option(name: .long, help: "Simulations of each trial.")
    var replications = 5

    @Option(
        name: .long,
        help: ArgumentHelp("The time that each simulates. Default: until enough jobs came.", valueName: "seconds"),
        transform: DecimalNumber.argument)
    var seconds: Double?

    @Option(name: .long, help: ArgumentHelp("Draw waits against load into this file.", valueName: "file.svg"))
    var svg: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Write the arrivals of the first simulation, a JSON line each, to put them to a real cluster.",
            valueName: "file.jsonl"))
    var arrivals: String?

    @Flag(name: .long, help: "Print one JSON object on standard output and nothing else.")
    var json = false

    func validate() throws {
        if (encoders == nil) != (decoders == nil) {
            throw ValidationError("--encoders and --decoders go together: give both, or none to search.")
        }
        if !(1...4096).contains(shards) { throw ValidationError("--shards takes a number from 1 to 4096.") }
        if shards != 1, encoders == nil { throw ValidationError("--shards goes with --encoders and --decoders.") }
        if !(0.0001...10_000).contains(load) { throw ValidationError("--load takes a factor from 0.0001 to 10000.") }
        if let hour, !(0...23).contains(hour) { throw ValidationError("--hour takes a number from 0 to 23.") }
        if hour != nil, encoders == nil {
            throw ValidationError("--hour goes with --encoders and --decoders: a search looks at the busiest hours.")
        }
        if !(1...1000).contains(replications) { throw ValidationError("--replications takes a number from 1 to 1000.") }
        if let seconds, !(0.1...86_400).contains(seconds) {
            throw ValidationError("--seconds takes seconds from 0.1 to 86400.")
        }
        if let cacheBytes, cacheBytes < 0 { throw ValidationError("--cache-bytes takes a number of bytes.") }
        _ = try target.map(Self.target)
    }

    func run() async throws {
        var plan = try PlanReader().plan(self.plan).loaded(by: load)
        if !target.isEmpty { plan.targets = try target.map(Self.target) }
        if let cacheBytes { plan.cacheBytes = cacheBytes }
        let forecaster = Forecaster(
            plan, seed: seed, replications: replications, time: seconds.map { $0 * 1000 })
        let forecast: Forecast
        if let encoders, let decoders {
            let counts = Counts(
                encoders: try Self.counts(encoders, "--encoders", plan),
                decoders: try Self.counts(decoders, "--decoders", plan), shards: shards, gateways: plan.gateways)
            forecast = forecaster.forecast(counts, hour: hour ?? plan.busiestHours.first ?? 0)
        } else {
            var sizing = Sizing(forecaster) { Terminal.complain("kirie plan: \($0)") }
            forecast = try sizing.cheapest()
        }
        if let arrivals {
            let workload = forecaster.workload(forecast.counts, hour: forecast.hour, replication: 0)
            try AtomicFile.write(workload.lines(plan).flatMap(\.line), to: arrivals)
        }
        if let svg {
            let points = LatencyPlot.loads.filter { $0 != 1 }.map {
                forecaster.forecast(forecast.counts, hour: forecast.hour, load: $0)
            }
            let plot = LatencyPlot(plan, planned: forecast, points: points)
            try AtomicFile.write(Array(plot.svg.utf8), to: svg)
        }
        let report = PlanReport(forecaster, forecast)
        if json {
            try StandardOutput.print(report.json.line)
        } else {
            try StandardOutput.print(Array((report.lines.joined(separator: "\n") + "\n").utf8))
        }
        if !forecast.holds { throw ExitCode(1) }
    }

    private static func counts(_ text: String, _ flag: String, _ plan: Plan) throws -> [Int] {
        let numbers = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        guard numbers.allSatisfy({ (1...4096).contains($0) }) else {
            throw PlanError(.usage, at: flag, "'\(text)' is no list of numbers", remedy: "give numbers from 1 to 4096")
        }
        guard numbers.count == plan.models.count else {
            throw PlanError(
                .usage, at: flag, "has \(numbers.count) numbers, and the plan \(plan.models.count) models",
                remedy: "give one for each model, in the plan's order, with commas between")
        }
        return numbers
    }

    /// `interactive:p95=200`.
    private static func target(_ text: String) throws -> Plan.Target {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        let bound = (parts.last ?? "").split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, bound.count == 2, bound[0].first == "p",
            let lane = PlanLane.allCases.first(where: { $0.name == parts[0] }),
            let percentile = DecimalNumber.read(bound[0].dropFirst()), (1...99.9).contains(percentile),
            let time = DecimalNumber.read(bound[1]), (0.001...1e9).contains(time)
        else { throw ValidationError("--target takes such as interactive:p95=200, not '\(text)'.") }
        return Plan.Target(lane: lane, percentile: percentile, milliseconds: time)
    }
}
