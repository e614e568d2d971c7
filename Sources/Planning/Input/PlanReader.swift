import Glibc
import JSON
import Platform

/// Reads a plan's file, and the files of figures that it names, beside it.
package struct PlanReader {
    private let read: (String) throws -> [UInt8]

    /// - Parameter read: the bytes of a file, by its path.
    package init(_ read: @escaping (String) throws -> [UInt8]) { self.read = read }

    /// Reads files of the disk.
    package init() { read = { path in try Self.contents(path) } }

    private static let byteLimit = 16 << 20

    private static func contents(_ path: String) throws -> [UInt8] {
        let descriptor = try InputFile.open(path)
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = part.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw FileFault(path: path, reason: .system(errno)) }
            if count == 0 { return bytes }
            bytes += part.prefix(count)
            guard bytes.count <= byteLimit else {
                throw PlanError(
                    .unreadable, at: path, "has more than \(byteLimit) bytes",
                    remedy: "give a plan, or what kirie bench prints")
            }
        }
    }

    /// A plan.
    ///
    /// - Parameter path: the plan's file.
    /// - Returns: the plan.
    /// - Throws: ``PlanError``, which says where and what to do; what `read` throws for a file that is not there.
    package func plan(_ path: String) throws -> Plan {
        var fields = try PlanFields(try value(path), at: "\(path):")
        let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        let (models, embedding) = (try fields.elements("models"), try fields.fields("embedding"))
        guard let models, !models.isEmpty else {
            throw fields.missing("models", "a list with an object for each model: {\"bench\": [\"encode.json\", …]}")
        }
        var plan = Plan(
            models: [], lanes: [nil, nil], pictures: [], bytesOfValue: 2, embeddingName: "fp16", timeToLive: 86_400,
            embeddingBytes: nil, cacheBytes: 1 << 30, batch: 16, encoderConcurrency: 1, partitions: 16,
            machines: .shared(Plan.Machine(cores: 1, memory: 1, pricePerHour: 0, speed: 1)), targets: [],
            currency: "EUR", pricePerGibibyte: 0, gigabits: 10, hop: 0.1, client: 0, resultBytes: 1500,
            redisFactor: 1, failuresPerDay: 0, restart: 10_000)
        for (index, model) in models.enumerated() {
            plan.models.append(try self.model(try PlanFields(model, at: "\(path): models[\(index)]"), folder))
        }
        let sum = plan.models.reduce(0) { $0 + $1.share }
        guard sum > 0 else {
            throw PlanError(
                .wrongPlan, at: "\(path): models", "no model has a share of the pictures",
                remedy: "give at least one a \"share\" above 0")
        }
        for index in plan.models.indices { plan.models[index].share /= sum }
        if let embedding { try readEmbedding(embedding, into: &plan) }
        try readLoad(&fields, into: &plan)
        try readWorkers(&fields, into: &plan)
        plan.machines = try machines(&fields)
        try readNetwork(&fields, into: &plan)
        plan.targets = try targets(&fields)
        plan.currency = try fields.text("currency") ?? "EUR"
        try fields.finish()
        return plan
    }

    private func value(_ path: String) throws -> JSONValue {
        let bytes = try read(path)
        do {
            return try JSONValue(parsing: bytes)
        } catch {
            throw PlanError(
                .unreadable, at: path, "is no JSON: byte \(error.offset) \(error.reason)",
                remedy: "mend it there; deploy/plans/annotators.json is a plan that works")
        }
    }

    // MARK: Models

    private func model(_ fields: PlanFields, _ folder: String) throws -> Plan.Model {
        var fields = fields
        guard let bench = try fields.elements("bench"), !bench.isEmpty else {
            throw fields.missing("bench", "the files of kirie bench encode --json and kirie bench decode --json")
        }
        var figures = BenchFigures()
        for file in bench {
            guard let name = file.string, !name.isEmpty else {
                throw PlanError(
                    .wrongPlan, at: fields.path("bench"), "holds \(PlanFields.shown(file))",
                    remedy: "name files, by paths from the plan's folder")
            }
            let path = name.hasPrefix("/") || folder.isEmpty ? name : "\(folder)/\(name)"
            try figures.add(try value(path), at: path)
        }
        for (part, isThere) in [("encode", figures.encode != nil), ("decode", figures.decode[1] != nil)]
        where !isThere {
            throw PlanError(
                .wrongFigures, at: fields.path("bench"), "no file has the figures of kirie bench \(part)",
                remedy: "add what kirie bench \(part) --json prints, of one prompt")
        }
        let model = Plan.Model(
            name: try fields.text("name") ?? figures.model, figures: figures,
            share: try fields.number("share", in: 0...1e6, "a share of the pictures") ?? 1,
            embeddingValues: try fields.whole("embedding_values", in: 1...1 << 32, "the numbers of an embedding")
                ?? 256 * 64 * 64,
            preparedBytes: try fields.whole("prepared_bytes", in: 1...1 << 40, "what a picture takes in a decoder"),
            concurrency: try fields.whole("decoder_concurrency", in: 1...256, "batches at a time, as --concurrency")
                ?? 1)
        try fields.finish()
        return model
    }

    private func readEmbedding(_ fields: PlanFields, into plan: inout Plan) throws(PlanError) {
        var fields = fields
        plan.embeddingName = try fields.text("dtype", among: ["fp16", "fp32", "int8"]) ?? "fp16"
        plan.bytesOfValue = ["fp16": 2, "fp32": 4, "int8": 1][plan.embeddingName] ?? 2
        plan.timeToLive = try fields.number("ttl_s", in: 1...1e9, "seconds") ?? 86_400
        plan.embeddingBytes = try fields.number("memory_gib", in: 0.001...1e7, "memory for embeddings in GiB")
            .map { Int($0 * 1_073_741_824) }
        try fields.finish()
    }

    // MARK: Load

    private func readLoad(_ fields: inout PlanFields, into plan: inout Plan) throws(PlanError) {
        guard var load = try fields.fields("load") else {
            throw fields.missing("load", "{\"interactive\": {\"pictures_per_day\": 10000}} or \"bulk\" alike")
        }
        for lane in PlanLane.allCases {
            guard let fields = try load.fields(lane.name) else { continue }
            plan.lanes[lane.rawValue] = try self.lane(fields)
        }
        try load.finish()
        guard plan.lanes.contains(where: { ($0?.picturesPerDay ?? 0) > 0 }) else {
            throw PlanError(
                .wrongPlan, at: load.place, "nothing comes: every rate is zero or missing",
                remedy: "give a lane \"pictures_per_day\" above 0")
        }
        guard let pictures = try fields.elements("pictures"), !pictures.isEmpty else {
            throw fields.missing("pictures", "[{\"bytes\": 400000, \"megapixels\": 2.1}]")
        }
        for (index, picture) in pictures.enumerated() {
            var kind = try PlanFields(picture, at: "\(fields.path("pictures"))[\(index)]")
            guard let bytes = try kind.whole("bytes", in: 1...1 << 30, "the bytes of a file"),
                let megapixels = try kind.number("megapixels", in: 0.0001...1000, "millions of pixels")
            else { throw kind.missing("bytes\" or \"megapixels", "both, of the files as they are sent") }
            plan.pictures.append(
                Plan.PictureKind(
                    bytes: bytes, megapixels: megapixels,
                    share: try kind.number("share", in: 0...1e6, "a share of the pictures") ?? 1))
            try kind.finish()
        }
        guard plan.pictures.contains(where: { $0.share > 0 }) else {
            throw PlanError(
                .wrongPlan, at: fields.path("pictures"), "every share is zero", remedy: "give one a share above 0")
        }
    }

    private func lane(_ given: PlanFields) throws(PlanError) -> Plan.Lane {
        var fields = given
        guard let rate = try fields.number("pictures_per_day", in: 0...1e10, "pictures a day") else {
            throw fields.missing("pictures_per_day", "how many pictures are asked about in a day")
        }
        var hours = Array(repeating: 1.0 / 24, count: 24)
        if let weights = try fields.elements("by_hour") {
            let numbers = weights.compactMap(\.double)
            let sum = numbers.reduce(0, +)
            guard weights.count == 24, numbers.count == 24, numbers.allSatisfy({ $0 >= 0 && $0 < 1e12 }), sum > 0 else {
                throw PlanError(
                    .wrongPlan, at: fields.path("by_hour"),
                    "holds \(numbers.count) numbers\(numbers.contains { $0 < 0 } ? ", some below zero" : "")",
                    remedy: "give 24 numbers of 0 or more, one for each hour from midnight on, not all 0")
            }
            hours = numbers.map { $0 / sum }
        }
        let jobs: Plan.JobCount
        if case .object = fields.value("jobs_a_picture") {
            guard var around = try fields.fields("jobs_a_picture"),
                let mean = try around.number("mean", in: 1...10_000, "jobs on a picture")
            else { throw fields.missing("jobs_a_picture.mean", "{\"mean\": 8}") }
            try around.finish()
            jobs = .around(mean)
        } else {
            jobs = .exactly(try fields.whole("jobs_a_picture", in: 1...10_000, "jobs on a picture") ?? 1)
        }
        var kinds = [1.0, 0, 0, 0]
        if var shares = try fields.fields("kinds") {
            for kind in JobKind.allCases {
                kinds[kind.rawValue] = try shares.number(kind.name, in: 0...1e6, "a share of the jobs") ?? 0
            }
            try shares.finish()
            let sum = kinds.reduce(0, +)
            guard sum > 0 else {
                throw PlanError(
                    .wrongPlan, at: shares.place, "every share is zero", remedy: "give one a share above 0")
            }
            kinds = kinds.map { $0 / sum }
        }
        let lane = Plan.Lane(
            picturesPerDay: rate, hours: hours,
            new: try fields.number("new", in: 0...1, "the share of pictures that were never seen") ?? 1,
            seenAmong: try fields.number("seen_among", in: 1...1e9, "among how many of the last a seen one is") ?? 1000,
            jobs: jobs, promptsOfJob: try fields.whole("prompts_a_job", in: 1...256, "prompts in a job") ?? 1,
            pause: 1000
                * (try fields.number("seconds_between_jobs", in: 0...86_400, "seconds between jobs on a picture") ?? 0),
            warms: try fields.bool("warms") ?? false, kinds: kinds)
        try fields.finish()
        return lane
    }

    // MARK: What runs where

    private func readWorkers(_ fields: inout PlanFields, into plan: inout Plan) throws(PlanError) {
        guard var workers = try fields.fields("workers") else { return }
        plan.cacheBytes =
            try workers.whole("decoder_cache_bytes", in: 0...1 << 45, "bytes, as --cache-bytes") ?? 1 << 30
        plan.batch = try workers.whole("batch", in: 1...256, "jobs, as --batch") ?? 16
        plan.encoderConcurrency =
            try workers.whole("encoder_concurrency", in: 1...256, "pictures at a time, as --concurrency") ?? 1
        plan.partitions = try workers.whole("partitions", in: 1...16_384, "partitions, as --partitions") ?? 16
        plan.client = try workers.number("client_ms", in: 0...1000, "milliseconds of a core") ?? 0
        plan.resultBytes = try workers.whole("result_bytes", in: 1...1 << 26, "the bytes of a result") ?? 1500
        plan.failuresPerDay = try workers.number("failures_per_day", in: 0...10_000, "how often a worker ends") ?? 0
        plan.restart = 1000 * (try workers.number("restart_s", in: 0...86_400, "seconds to a new start") ?? 10)
        try workers.finish()
    }

    private func machines(_ fields: inout PlanFields) throws(PlanError) -> Plan.Machines {
        guard var machines = try fields.fields("machines") else {
            throw fields.missing("machines", "\"all\" of them, or \"encoder\", \"decoder\" and \"redis\"")
        }
        let all = try machines.fields("all").map { fields throws(PlanError) in try machine(fields) }
        let gateway = try machines.fields("gateway").map { fields throws(PlanError) in try machine(fields) }
        let encoder = try machines.fields("encoder").map { fields throws(PlanError) in try machine(fields) }
        let decoder = try machines.fields("decoder").map { fields throws(PlanError) in try machine(fields) }
        let redis = try machines.fields("redis").map { fields throws(PlanError) in try machine(fields) }
        try machines.finish()
        if let all {
            guard encoder == nil, decoder == nil, redis == nil, gateway == nil else {
                throw PlanError(
                    .wrongPlan, at: machines.place, "has \"all\" and machines of single roles",
                    remedy: "give one machine for all, or one kind for each role")
            }
            return .shared(all)
        }
        guard let encoder, let decoder, let redis else {
            throw machines.missing(
                encoder == nil ? "encoder" : decoder == nil ? "decoder" : "redis",
                "{\"cores\": 8, \"memory_gib\": 32, \"price_per_hour\": 0.4}")
        }
        return .own(encoder: encoder, decoder: decoder, redis: redis, gateway: gateway)
    }

    private func machine(_ given: PlanFields) throws(PlanError) -> Plan.Machine {
        var fields = given
        guard let cores = try fields.whole("cores", in: 1...4096, "the machine's cores") else {
            throw fields.missing("cores", "the machine's cores")
        }
        let machine = Plan.Machine(
            cores: cores, memory: try fields.number("memory_gib", in: 0.1...65_536, "GiB of memory") ?? 1e9,
            pricePerHour: try fields.number("price_per_hour", in: 0...1e6, "a price") ?? 0,
            speed: try fields.number("speed", in: 0.01...100, "how fast a core is beside the measured one") ?? 1,
            workers: try fields.whole("workers", in: 1...4096, "processes on each machine"))
        try fields.finish()
        return machine
    }

    private func readNetwork(_ fields: inout PlanFields, into plan: inout Plan) throws(PlanError) {
        if var network = try fields.fields("network") {
            plan.gigabits = try network.number("gigabits", in: 0.001...10_000, "gigabits a second") ?? 10
            plan.hop = (try network.number("round_trip_ms", in: 0...10_000, "milliseconds there and back") ?? 0.2) / 2
            plan.pricePerGibibyte = try network.number("price_per_gib", in: 0...1e6, "a price") ?? 0
            try network.finish()
        }
        if var redis = try fields.fields("redis") {
            plan.redisFactor = 1 / (try redis.number("speed", in: 0.01...100, "how fast its core is") ?? 1)
            try redis.finish()
        }
    }

    private func targets(_ fields: inout PlanFields) throws(PlanError) -> [Plan.Target] {
        var targets: [Plan.Target] = []
        for (index, value) in (try fields.elements("targets") ?? []).enumerated() {
            var target = try PlanFields(value, at: "\(fields.path("targets"))[\(index)]")
            guard let name = try target.text("lane", among: PlanLane.allCases.map(\.name)),
                let lane = PlanLane.allCases.first(where: { $0.name == name }),
                let percentile = try target.number("percentile", in: 1...99.9, "a percentile"),
                let time = try target.number("ms", in: 0.001...1e9, "milliseconds")
            else { throw target.missing("lane\", \"percentile\" or \"ms", "all three") }
            let jobs = try target.text("pictures", among: Plan.Target.Jobs.allCases.map(\.rawValue)) ?? "all"
            targets.append(
                Plan.Target(
                    lane: lane, percentile: percentile, milliseconds: time,
                    jobs: Plan.Target.Jobs(rawValue: jobs) ?? .all))
            try target.finish()
        }
        return targets
    }
}
