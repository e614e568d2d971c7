import ArgumentParser
import Benchmarks
import Dispatch
import FoundationEssentials
import Glibc
import Imaging
import NeuralNetworks
import Platform
import SegmentAnything
import Segmentation
import Synchronization
import Tensors
import Terminals

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measure this machine.",
        discussion: """
            kirie bench encode --random vit_b --json
            kirie bench decode --random vit_b --prompts 64
            kirie bench decode --random vit_b --picture 1800x1200
            kirie bench quality data
            kirie bench cluster --json

            A figure means something only beside another one of the same run on the same machine.
            """,
        subcommands: [Encode.self, Decode.self, Quality.self, Cluster.self, Gateway.self])

    /// What both halves take.
    struct Options: ParsableArguments {
        @OptionGroup var model: ModelOptions

        @Option(name: .long, help: "A published geometry with drawn weights: vit_b, vit_l, vit_h or mobile.")
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
    }

    enum Geometry: String, ExpressibleByArgument, CaseIterable {
        case vit_b, vit_l, vit_h, mobile

        var published: SamGeometry? { SamGeometry(published: rawValue) }
    }

    struct Encode: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Time the image encoder, from the model's input to the embedding.",
            discussion: "kirie bench encode --random vit_b --runs 3 --json")

        @OptionGroup var options: Options

        /// With --random: the model's size instead of 1024.
        private var imageSize: Int? { options.model.imageSize.pixels }

        func validate() throws {
            guard let imageSize, let random = options.random?.published else { return }
            guard imageSize % 64 == 0, random.resized(to: imageSize) != nil
            else { throw ValidationError("with --random, --image-size takes a multiple of 64") }
        }

        func run() throws {
            let (name, encoder, precision) = try load()
            let size = encoder.preprocessing.size
            let input = RandomWeights(seed: 1).tensor("input.image", shape: [3, size, size])
            let pool = options.model.makePool()
            let times = Measurement.times(runs: options.runs, streams: options.streams) {
                _ = encoder.encode(input: input, pool: pool)
            }
            try Measurement(
                part: "encode", model: name, precision: precision.rawValue,
                threads: pool.threadCount, times: times
            ).report(json: options.json)
        }

        private func load() throws -> (String, any ImageEncoding, Precision) {
            if let random = options.random, let published = random.published {
                let geometry = imageSize.flatMap { published.resized(to: $0) } ?? published
                let precision = options.model.precision(for: geometry)
                return (random.rawValue, try SamModel.randomEncoder(geometry, precision: precision), precision)
            }
            let (name, sam) = try options.model.open()
            let precision = options.model.precision(for: sam)
            return (name, try sam.imageEncoder(precision: precision), precision)
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

        func validate() throws {
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
            let drawn = decoder.featureShapes.map {
                FeatureMap($0.name, RandomWeights(seed: 1).tensor("embedding.value", shape: $0.shape))
            }
            let pool = options.model.makePool()
            let side = decoder.preprocessing.size
            let (width, height) = pictureSize ?? (side, side)
            let image: any PreparedImage = try decoder.prepare(
                ImageFeatures(
                    drawn, preprocessing: decoder.preprocessing,
                    frame: decoder.preprocessing.frame(width: width, height: height)),
                pool: pool)
            let clicks = (0..<prompts).map { index in
                Prompt(points: [LabeledPoint(x: Double(17 * index % width), y: Double(31 * index % height))])
            }
            let selection: MaskSelection = picture != nil ? .single : all ? .all : .multiple
            let decoded = try image.decode(clicks, selection: selection, pool: pool)
            let scales = picture != nil
            let times = Measurement.times(runs: options.runs, streams: options.streams) {
                if scales {
                    _ = image.masks(decoded, isRanked: true, pool: pool)
                } else {
                    // The same clicks were decoded above.
                    _ = try? image.decode(clicks, selection: selection, pool: pool)
                }
            }
            try Measurement(
                part: scales ? "scale" : "decode", model: name, precision: decoder.precision.rawValue,
                threads: pool.threadCount, times: times
            ).report(json: options.json)
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

/// The figures of one benchmark.
struct Measurement: Encodable {
    let part: String
    let model: String
    let precision: String
    let threads: Int
    let runs: Int
    /// Where streams were asked for: how many, and the calls a second of all of them together.
    let streams: Int?
    let per_second: Double?
    let median_ms: Double
    let min_ms: Double
    let max_ms: Double
    let peak_rss_mb: Double

    /// The time of each call in milliseconds, and of all calls.
    struct Times {
        let streams: Int?
        let each: [Double]
        let all: Double
    }

    init(part: String, model: String, precision: String, threads: Int, times: Times) {
        let sorted = times.each.sorted()
        func rounded(_ value: Double) -> Double { (value * 1000).rounded() / 1000 }
        self.part = part
        self.model = model
        self.precision = precision
        self.threads = threads
        streams = times.streams
        runs = sorted.count
        per_second = times.streams.map { _ in rounded(times.all > 0 ? Double(sorted.count) / times.all * 1000 : 0) }
        let middle = sorted.count / 2
        median_ms = rounded(
            sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2)
        min_ms = rounded(sorted.first ?? 0)
        max_ms = rounded(sorted.last ?? 0)
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        peak_rss_mb = (Double(usage.ru_maxrss) / 1024 * 10).rounded() / 10
    }

    /// Times `runs` calls of each stream, after two that warm caches and memory.
    static func times(runs: Int, streams: Int?, _ body: @escaping @Sendable () -> Void) -> Times {
        let clock = ContinuousClock()
        for _ in 0..<2 { body() }
        let start = clock.now
        let each = Streams.run(streams ?? 1) {
            (0..<runs).map { _ in
                let start = clock.now
                body()
                return (clock.now - start) / .microseconds(1) / 1000
            }
        }
        return Times(streams: streams, each: each.flatMap(\.self), all: (clock.now - start) / .microseconds(1) / 1000)
    }

    func report(json: Bool) throws {
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys]
            try StandardOutput.print(Array(try encoder.encode(self)) + [UInt8(ascii: "\n")])
        } else {
            let together = streams.map { ", \($0) streams: \(per_second ?? 0) a second" } ?? ""
            let line =
                "\(part) \(model) \(precision), \(threads) threads\(together): median \(median_ms) ms, min \(min_ms), "
                + "max \(max_ms), \(runs) runs, peak \(peak_rss_mb) MB\n"
            try StandardOutput.print(Array(line.utf8))
        }
    }
}

/// Threads that do the same at the same time.
private enum Streams {
    /// What waits for the threads and what they answered.
    private final class Gathering<Answer: Sendable>: Sendable {
        /// Guards the answers.
        let answers = Mutex<[Answer]>([])
        let done = DispatchSemaphore(value: 0)
    }

    /// Runs `body` on `count` threads, of which the calling one is the first, and returns what each of them answered.
    static func run<Answer: Sendable>(_ count: Int, _ body: @escaping @Sendable () -> Answer) -> [Answer] {
        let gathering = Gathering<Answer>()
        let others = (1..<count).filter { _ in
            BackgroundThread.start {
                let answer = body()
                gathering.answers.withLock { $0.append(answer) }
                gathering.done.signal()
            }
        }
        let first = body()
        for _ in others { gathering.done.wait() }
        return [first] + gathering.answers.withLock { $0 }
    }
}
