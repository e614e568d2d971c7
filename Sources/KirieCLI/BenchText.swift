import ArgumentParser
import Benchmarks
import JSON
import Tensors
import Terminals
import TextMatching

extension BenchCommand {
    struct Text: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time a CLIP model: pictures, texts, and a second text on a picture whose candidates are known.",
            discussion: "kirie bench text --model clip-vit-base-patch32 --json")

        @OptionGroup var clip: ClipOptions

        @Option(name: .long, help: "Pictures in one call of the image encoder.")
        var crops = 64

        @Option(name: .long, help: "Candidates that a text is compared with.")
        var candidates = 300

        @Option(name: .long, help: "Runs that count, after two that do not.")
        var runs = 5

        @Flag(name: .long, help: "Print one JSON object on standard output and nothing else.")
        var json = false

        func validate() throws {
            for (name, value) in [("crops", crops), ("candidates", candidates), ("runs", runs)]
            where !(1...10_000).contains(value) {
                throw ValidationError("--\(name) takes a number from 1 to 10000.")
            }
        }

        func run() throws {
            let timing = TextTiming(try clip.open(), precision: clip.precision, pool: clip.makePool())
            let figures = try timing.measure(crops: crops, candidates: candidates, runs: runs)
            if json { return try StandardOutput.print(figures.line) }
            let lines = (figures.members ?? []).map { "\($0.name): \($0.value.string ?? $0.value.text)\n" }
            try StandardOutput.print(Array(lines.joined().utf8))
        }
    }
}

/// Which CLIP model runs, and on how many threads.
struct ClipOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "A folder with a CLIP model (config.json, model.safetensors, tokenizer.json), its file of weights, or a name.",
            valueName: "model"))
    var model: String

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The tokenizer's folder or file, where it is not beside the weights.", valueName: "path"))
    var tokenizer: String?

    @Option(
        name: .customLong("precision"),
        help: "How products are computed: fp32, bf16, int8 (experimental), or auto (bf16 where the processor has it).")
    var choice: PrecisionChoice = .auto

    @Option(name: .long, help: "Threads that share the work. Default: every processor.")
    var threads: Int?

    func validate() throws {
        if let threads, !(1...1024).contains(threads) {
            throw ValidationError("--threads takes a number from 1 to 1024.")
        }
        guard choice.precision?.isSupported ?? true else {
            throw ValidationError("This processor has no \(choice.rawValue) products: use --precision auto or fp32.")
        }
    }

    var precision: Precision { choice.precision ?? .automatic }

    /// Opens the model.
    func open() throws -> CLIPModel {
        try CLIPModel(path: try ModelLocation.path(of: model), tokenizer: tokenizer)
    }

    func makePool() -> ThreadPool { ThreadPool(threadCount: threads ?? ThreadPool.availableProcessors) }
}
