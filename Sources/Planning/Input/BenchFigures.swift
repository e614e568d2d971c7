package import JSON
import Platform

/// What was measured of one model, read off what `kirie bench … --json` printed.
package struct BenchFigures: Sendable {
    /// The figures of a part of a model: those of `bench encode` and `bench decode`.
    package struct Part: Sendable {
        package var model: String
        package var precision: String
        package var threads: Int
        package var times: Quantiles
        package var median: Double
        package var prompts: Int
        package var megapixels: Double?
        package var peakBytes: Int
    }

    /// A click in a cluster: of `bench cluster`.
    package struct Click: Sendable {
        package var decode: Quantiles
        /// Whether those that nothing else slowed down were measured; older files have the median and what is above it.
        package var tellsQuick: Bool
        /// From submit to take by Redis's clock, and from take to complete without the decode, of clicks that hardly waited
        /// for a core: what a simulation has them wait comes to it.
        package var wait: Double
        package var handling: Double
    }

    package var model = ""
    package var encode: Part?
    /// A picture from its file to its record.
    package var picture: Part?
    /// By prompts.
    package var decode: [Int: Part] = [:]
    package var scale: Part?
    package var prepare: Part?
    package var processors: Int?
    package var clickOfOne: Click?
    package var clickOfTwo: Click?
    package var brokerJobs: Double?
    package var gateway: Quantiles?
    package var everythingSeconds: Double?
    package var everythingPoints = 1024
    package var everythingThreads = 1
    package var textMilliseconds: Double?

    /// Whether one prompt alone takes as long with all threads as with one: a small model, whose decoders use one for it.
    ///
    /// By the quickest decodes. Two decoders, their Redis and who clicks take each other's time on a machine of few cores: by
    /// medians the same model is small in one run and not in the next.
    package var isSmall: Bool {
        guard let one = clickOfOne, let two = clickOfTwo else { return false }
        if one.tellsQuick, two.tellsQuick { return two.decode.value(0.05) < 1.25 * one.decode.value(0.05) }
        return two.decode.value(0.5) < 1.3 * one.decode.value(0.5)
    }

    /// No figures yet.
    package init() {}

    /// Takes in what one run printed.
    ///
    /// - Parameters:
    ///   - value: the object.
    ///   - place: the file that it is from.
    /// - Throws: where it is no such object, or of another model than those before it.
    package mutating func add(_ value: JSONValue, at place: String) throws(PlanError) {
        func refuse(_ reason: String) -> PlanError {
            PlanError(
                .wrongFigures, at: place, reason,
                remedy: "give what kirie bench encode, decode, cluster, gateway, everything or text prints with --json")
        }
        guard value.members != nil else { throw refuse("is no object") }
        let part = value["part"]?.string
        if part == "text" {
            guard let time = value["second_text_processor_ms"]?.double ?? value["text_ms"]?.double, time >= 0 else {
                throw refuse("has no time of a text")
            }
            textMilliseconds = time
            return
        }
        guard let name = value["model"]?.string else { throw refuse("names no model") }
        if model.isEmpty { model = name }
        guard model == name else {
            throw PlanError(
                .wrongFigures, at: place, "is of the model \(name), and the files before it are of \(model)",
                remedy: "give each model an entry of its own in \"models\"")
        }
        if let part {
            try add(part: part, try Self.part(value, refuse), refuse)
        } else if value["points"] != nil, let seconds = value["median_s"]?.double, seconds > 0 {
            everythingSeconds = seconds
            everythingPoints = value["points"]?.integer ?? 1024
            everythingThreads = value["threads"]?.integer ?? 1
        } else if let click = value["click"], click["own_ms"] != nil {
            gateway = try Self.quantiles(click["own_ms"], refuse)
        } else if value["click"] != nil || value["broker"] != nil {
            processors = value["processors"]?.integer
            if let click = value["click"] {
                clickOfOne = try Self.click(click["one_decoder"], refuse)
                clickOfTwo = try Self.click(click["two_decoders"], refuse)
            }
            if let jobs = value["broker"]?["jobs_per_second"]?.double {
                guard jobs > 0 else { throw refuse("has a broker of no jobs a second") }
                brokerJobs = jobs
            }
        } else {
            throw refuse("holds no figures that a plan can use")
        }
    }

    private mutating func add(
        part: String, _ figures: Part, _ refuse: (String) -> PlanError
    ) throws(PlanError) {
        switch part {
        case "encode": encode = figures
        case "picture": picture = figures
        case "decode": decode[figures.prompts] = figures
        case "scale": scale = figures
        case "prepare": prepare = figures
        default: throw refuse("is of the part \(Quotation.of(part)), which is unknown")
        }
    }

    private static func part(_ value: JSONValue, _ refuse: (String) -> PlanError) throws(PlanError) -> Part {
        guard let least = value["min_ms"]?.double, let median = value["median_ms"]?.double,
            let most = value["max_ms"]?.double, let threads = value["threads"]?.integer, threads >= 1
        else { throw refuse("lacks min_ms, median_ms, max_ms or threads") }
        guard least > 0, least <= median, median <= most, most < 1e8 else {
            throw refuse("has times that cannot be: min \(least), median \(median), max \(most) ms")
        }
        if (value["streams"]?.integer ?? 1) > 1 {
            throw refuse("is of several --streams, whose times hold those of the others")
        }
        return Part(
            model: value["model"]?.string ?? "", precision: value["precision"]?.string ?? "", threads: threads,
            times: .measured([.init(0, least), .init(0.5, median), .init(1, most)]), median: median,
            prompts: value["prompts"]?.integer ?? 1, megapixels: value["megapixels"]?.double,
            peakBytes: Int((value["peak_rss_mb"]?.double ?? 100) * 1_048_576))
    }

    private static func quantiles(
        _ value: JSONValue?, _ refuse: (String) -> PlanError
    ) throws(PlanError) -> Quantiles {
        guard let middle = value?["p50"]?.double, let high = value?["p95"]?.double ?? value?["p99"]?.double,
            let top = value?["p99"]?.double, middle > 0, middle <= high, high <= top
        else { throw refuse("lacks quantiles p50, p95 and p99 that rise") }
        var points: [Quantiles.Point] = [.init(0, 0.9 * middle), .init(0.5, middle)]
        if let least = value?["p5"]?.double, let low = value?["p25"]?.double, let upper = value?["p75"]?.double,
            least > 0, least <= low, low <= middle, middle <= upper, upper <= high
        {
            points = [.init(0, least), .init(0.05, least), .init(0.25, low), .init(0.5, middle), .init(0.75, upper)]
        }
        return .measured(points + [.init(0.95, high), .init(0.99, top), .init(1, top)])
    }

    private static let middleOfBucket = 0.917

    private static func click(_ value: JSONValue?, _ refuse: (String) -> PlanError) throws(PlanError) -> Click {
        guard let middle = value?["decode_ms"]?["p50"]?.double, let wait = value?["wait_ms"]?["p50"]?.double,
            let service = value?["service_ms"]?["p50"]?.double, wait >= 0, service >= 0
        else { throw refuse("lacks decode_ms, wait_ms or service_ms of a click") }
        // Older files have the upper ends of the buckets of Redis's histograms, a quarter of an octave wide.
        var (quick, taken, handled, tellsQuick) = (middle, middleOfBucket * wait, middleOfBucket * service, false)
        if let decode = value?["decode_ms"]?["p25"]?.double, let wait = value?["wait_ms"]?["p25"]?.double,
            let service = value?["service_ms"]?["p25"]?.double, decode >= 0, wait >= 0, service >= 0
        {
            (quick, taken, handled, tellsQuick) = (decode, wait, service, true)
        }
        return Click(
            decode: try quantiles(value?["decode_ms"], refuse), tellsQuick: tellsQuick, wait: taken,
            handling: max(0, handled - quick))
    }
}
