import ArgumentParser
import Benchmarks
import JSON
import Platform
import Tensors
import Terminals

extension BenchCommand {
    struct Cluster: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cluster",
            abstract: "Measure the cluster on a redis-server and workers of its own.",
            discussion: """
                kirie bench cluster --json
                kirie bench cluster --only click --only decoders

                click      from submit to the mask received, less the decode itself, at 20 % load, and how often a prompt \
                fetched an embedding from Redis
                broker     jobs a second through submit, take, complete and result, with a decoder that does no work
                queue      what submit and take cost with a thousand and with a million jobs waiting, and their memory
                decoders   throughput of two decoders against one, each with one thread

                Everything runs on this machine, over its loopback: Redis and who submits take their share of the cores. \
                Each figure of click, broker and decoders is the median of --rounds measurements, each with a server and \
                workers of its own; queue measures its two lengths in turn, on two servers.
                """)

        enum Part: String, ExpressibleByArgument, CaseIterable { case click, broker, queue, decoders }

        @OptionGroup var model: ModelOptions

        @Option(name: .long, help: "Measure only this part; may be repeated.")
        var only: [Part] = []

        @Option(name: .long, help: "Clicks to measure.")
        var clicks = 1000

        @Option(
            name: .long, help: "The share of their time that decoders are busy with the clicks.",
            transform: DecimalNumber.argument)
        var load = 0.2

        @Option(name: .customLong("queue-length"), help: "Jobs in the long queue.")
        var queueLength = 1_000_000

        @Option(name: .long, help: "How often click, broker and decoders are measured; medians are printed.")
        var rounds = 3

        @Option(name: .long, help: "Seeds arrival times and prompts.")
        var seed: UInt64 = 1

        @Flag(name: .long, help: "Print one JSON object on standard output and nothing else.")
        var json = false

        func validate() throws {
            if !(10...1_000_000).contains(clicks) {
                throw ValidationError("--clicks takes a number from 10 to 1000000.")
            }
            if !(0.001...0.95).contains(load) { throw ValidationError("--load takes a share from 0.001 to 0.95.") }
            if !(1...99).contains(rounds) { throw ValidationError("--rounds takes a number from 1 to 99.") }
            if !(1000...10_000_000).contains(queueLength) {
                throw ValidationError("--queue-length takes a number from 1000 to 10000000.")
            }
        }

        func run() async throws {
            _ = try model.open()
            let parts = only.isEmpty ? Part.allCases : only
            var figures: [JSONValue.Member] = [
                ("processors", .integer(ThreadPool.availableProcessors)),
                ("model", .string(ModelLocation.displayName(model.name))), ("seed", .integer(Int(clamping: seed))),
                ("rounds", .integer(rounds)),
            ]
            for part in parts {
                var measured: [JSONValue] = []
                for round in 1...(part == .queue ? 1 : rounds) {
                    Terminal.complain("kirie bench cluster: \(part.rawValue)\(round > 1 ? ", round \(round)" : "")…")
                    measured.append(try await measure(part))
                }
                let figure = JSONValue.medians(of: measured)
                figures.append((part.rawValue, figure))
                if !json { try StandardOutput.print(Array("\(part.rawValue) \(figure.text)\n".utf8)) }
            }
            if json { try StandardOutput.print(JSONValue.object(figures).line) }
        }

        private func use<Figure>(_ body: (BenchBed) async throws -> Figure) async throws -> Figure {
            try await BenchBed.use(
                program: ChildProcess.ownProgram, workerArguments: model.workerArguments, body)
        }

        /// Measures on a server of its own: nothing of one measurement is in another's memory or append-only file.
        private func measure(_ part: Part) async throws -> JSONValue {
            try await use { bed in
                switch part {
                case .click: try await WarmClicks(bed, clicks: clicks, load: load, seed: seed).measure()
                case .broker: try await BrokerThroughput(bed).measure()
                case .decoders: try await DecoderScaling(bed, seed: seed).measure()
                case .queue:
                    try await use { other in
                        try await LongQueue(short: other, long: bed, length: queueLength).measure()
                    }
                }
            }
        }
    }
}
