import ArgumentParser
import Benchmarks
import JSON
import Platform
import Tensors
import Terminals

extension BenchCommand {
    struct Gateway: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "gateway",
            abstract: "Measure the gateway on a redis-server and workers of its own.",
            discussion: """
                kirie bench gateway --json
                kirie bench gateway --connections 1000 --connections 10000

                click    own_ms: from a request's first byte to its answer's last, less what the answer's Server-Timing says was \
                the cluster's; over connections that are kept open, the clicks of many people at --rate a second
                upload   a picture of 20 MiB: memory at its peak beyond what the gateway had before
                idle_N   what N connections cost that were used once and are kept open

                Everything runs on this machine, over its loopback, with one encoder and one decoder.
                """)

        @OptionGroup var model: ModelOptions

        @Option(name: .long, help: "Clicks to measure.")
        var clicks = 2000

        @Option(name: .long, help: "Clicks a second.", transform: DecimalNumber.argument)
        var rate = 100.0

        @Option(name: .long, help: "Idle connections to hold; may be given several times.")
        var connections: [Int] = [1000]

        @Option(name: .long, help: "How often all of it is measured; medians are printed.")
        var rounds = 3

        @Option(name: .long, help: "Seeds arrival times and prompts.")
        var seed: UInt64 = 1

        @Flag(name: .long, help: "Print one JSON object on standard output and nothing else.")
        var json = false

        func validate() throws {
            if !(10...1_000_000).contains(clicks) {
                throw ValidationError("--clicks takes a number from 10 to 1000000.")
            }
            if !(0.1...100_000).contains(rate) { throw ValidationError("--rate takes clicks a second, 0.1 to 100000.") }
            if !(1...99).contains(rounds) { throw ValidationError("--rounds takes a number from 1 to 99.") }
            if !connections.allSatisfy((1...20_000).contains) {
                throw ValidationError("--connections takes a number from 1 to 20000.")
            }
        }

        func run() async throws {
            _ = try model.open()
            var measured: [JSONValue] = []
            for round in 1...rounds {
                Terminal.complain("kirie bench gateway\(round > 1 ? ": round \(round)" : "")…")
                measured.append(
                    try await BenchBed.use(
                        program: ChildProcess.ownProgram, workerArguments: model.workerArguments
                    ) { bed in
                        try await GatewayLoad(
                            bed, program: ChildProcess.ownProgram, clicks: clicks, rate: rate, connections: connections,
                            seed: seed
                        ).measure()
                    })
            }
            let figures = JSONValue.medians(of: measured)
            if json {
                let heading: [JSONValue.Member] = [
                    ("processors", .integer(ThreadPool.availableProcessors)),
                    ("model", .string(ModelLocation.displayName(model.name))), ("seed", .integer(Int(clamping: seed))),
                    ("rounds", .integer(rounds)),
                ]
                try StandardOutput.print(JSONValue.object(heading + (figures.members ?? [])).line)
            } else {
                for (name, figure) in figures.members ?? [] {
                    try StandardOutput.print(Array("\(name) \(figure.text)\n".utf8))
                }
            }
        }
    }
}
