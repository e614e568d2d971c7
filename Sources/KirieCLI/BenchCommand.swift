import ArgumentParser
import Benchmarks
import Imaging
import SegmentAnything
import Tensors
import Terminals

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure this machine.",
        discussion: """
            kirie bench encode --random vit_b --json
            kirie bench decode --random vit_b --prompts 64
            kirie bench decode --random vit_b --picture 1800x1200
            kirie bench encode --random vit_b --picture photo.jpg --json
            kirie bench text --model clip-vit-base-patch32
            kirie bench quality data
            kirie bench cluster --json

            A figure means something only beside another one of the same run on the same machine.
            """,
        subcommands: [
            Encode.self, Decode.self, Text.self, Everything.self, Quality.self, Cluster.self, Gateway.self,
        ])

    /// What both halves take.
    struct Options: ParsableArguments {
        @OptionGroup var model: ModelOptions

        @Option(
            name: .long,
            help: ArgumentHelp(
                "A published geometry with drawn weights: \(Geometry.allValueStrings.joined(separator: ", ")).",
                valueName: "geometry"))
        var random: Geometry?

        @Option(name: .long, help: "Runs that count, after two that do not.")
        var runs = 5

        @Option(
            name: .long,
            help: "Callers at a time, each for all runs, that share the threads as in a worker with that --concurrency."
        )
        var streams: Int?

        @Flag(name: .long, help: "Print one JSON object on standard output and nothing else.")
        var json = false

        func validate() throws {
            if !(1...1_000_000).contains(runs) { throw ValidationError("--runs takes a number from 1 to 1000000.") }
            if let streams, !(1...256).contains(streams) {
                throw ValidationError("--streams takes a number from 1 to 256.")
            }
            if random != nil, model.model != nil {
                throw ValidationError("Give --model or --random, not both.")
            }
        }

        func report(_ figures: PartFigures) throws {
            if json {
                try StandardOutput.print(json: figures)
            } else {
                let together = figures.streams.map { ", \($0) streams: \(figures.per_second ?? 0) a second" } ?? ""
                let line =
                    "\(figures.part) \(figures.model) \(figures.precision), \(figures.threads) threads\(together): "
                    + "median \(figures.median_ms) ms, min \(figures.min_ms), max \(figures.max_ms), "
                    + "\(figures.runs) runs, peak \(figures.peak_rss_mb) MB\n"
                try StandardOutput.print(Array(line.utf8))
            }
        }
    }

    enum Geometry: String, ExpressibleByArgument, CaseIterable {
        case vit_b, vit_l, vit_h, mobile, hq_vit_b, edgetam
        case sam2_tiny = "sam2.1_tiny"
        case sam2_small = "sam2.1_small"
        case sam2_base_plus = "sam2.1_base_plus"
        case sam2_large = "sam2.1_large"

        var published: SamGeometry? { SamGeometry(published: rawValue) }
    }

    struct Encode: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time the image encoder, from the model's input to the embedding.",
            discussion: "kirie bench encode --random vit_b --runs 3 --json")

        @OptionGroup var options: Options
        @OptionGroup var pictures: PictureOptions

        @Option(
            name: .long,
            help: ArgumentHelp(
                "Time all that an encoder worker does with this picture instead: reading it, the encode, the record.",
                valueName: "file"))
        var picture: String?

        /// With --random: the model's size instead of 1024.
        private var imageSize: Int? { options.model.imageSize.pixels }

        func validate() throws {
            guard let imageSize, let random = options.random?.published else { return }
            guard imageSize % 64 == 0, random.resized(to: imageSize) != nil
            else { throw ValidationError("with --random, --image-size takes a multiple of 64") }
        }

        func run() throws {
            let (name, encoder) = try load()
            let timing = EncoderTiming(encoder, model: name, pool: options.model.makePool())
            guard let picture else {
                return try options.report(timing.measure(runs: options.runs, streams: options.streams))
            }
            try options.report(
                timing.measure(
                    picture: try pictures.decoder.contents(ofFile: picture), named: picture, by: pictures.decoder,
                    runs: options.runs, streams: options.streams))
        }

        private func load() throws -> (String, any ImageEncoding) {
            if let random = options.random, let published = random.published {
                let geometry = imageSize.flatMap { published.resized(to: $0) } ?? published
                return (
                    random.rawValue,
                    try SamModel.randomEncoder(geometry, precision: options.model.precision(for: geometry))
                )
            }
            let (name, sam) = try options.model.open()
            return (name, try sam.imageEncoder(precision: options.model.precision(for: sam)))
        }
    }

    struct Decode: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time the mask decoder on a prepared image: one point, to the low-resolution logits.",
            discussion: "kirie bench decode --random vit_b --prompts 64 --json")

        @OptionGroup var options: Options

        @Option(name: .long, help: "Prompts in one batched call; the time is that of the whole batch.")
        var prompts = 1

        @Flag(name: .long, help: "Four masks, as the published ONNX export makes them, instead of three.")
        var all = false

        @Option(
            name: .long,
            help: ArgumentHelp(
                "Time what comes after instead: one mask of a picture of that size, scaled, cut and run-length encoded.",
                valueName: "WxH"))
        var picture: String?

        @Flag(name: .long, help: "Time what is done once for a picture instead: making it ready for prompts.")
        var prepare = false

        func validate() throws {
            if prepare, picture != nil || prompts != 1 || all {
                throw ValidationError("--prepare is of the picture alone: leave --picture, --prompts and --all out.")
            }
            if !(1...100_000).contains(prompts) { throw ValidationError("--prompts takes a number from 1 to 100000.") }
            if picture != nil, pictureSize == nil { throw ValidationError("--picture takes a size such as 1800x1200.") }
        }

        private var pictureSize: (width: Int, height: Int)? {
            let numbers = (picture ?? "").split(separator: "x", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
            guard numbers.count == 2, numbers.allSatisfy({ (1...20_000).contains($0) }) else { return nil }
            return (numbers[0], numbers[1])
        }

        func run() throws {
            let (name, decoder) = try load()
            let timing = DecoderTiming(decoder, model: name, pool: options.model.makePool())
            try options.report(
                timing.measure(
                    prepare
                        ? .prepare
                        : pictureSize.map { .scale(width: $0.width, height: $0.height) } ?? .decode(all: all),
                    prompts: prompts, runs: options.runs, streams: options.streams))
        }

        private func load() throws -> (String, any PromptDecoding) {
            if let random = options.random, let geometry = random.published {
                return (
                    random.rawValue,
                    try SamModel.randomDecoder(geometry, precision: options.model.precision(for: geometry))
                )
            }
            let (name, sam) = try options.model.open()
            return (name, try sam.promptDecoder(precision: options.model.precision(for: sam)))
        }
    }
}
