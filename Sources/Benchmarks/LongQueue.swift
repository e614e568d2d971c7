import Cluster
package import JSON
import LocalCluster
import Platform
import Redis
import Segmentation
import Terminals

/// What a long queue costs against a short one: the calls, the memory, and looking at it.
package struct LongQueue {
    private let beds: (short: BenchBed, long: BenchBed)
    private let length: Int
    private let short = 1000
    private let rounds = 20
    private let calls = 200

    /// Measures a queue of 1000 jobs on one server against one of `length` on another.
    package init(short: BenchBed, long: BenchBed, length: Int) {
        beds = (short, long)
        self.length = length
    }

    package func measure() async throws -> JSONValue {
        let (few, many) = (beds.short.broker, beds.long.broker)
        for broker in [few, many] { try await broker.set(["jobs:bulk": 10_000_000, "bytes:bulk": 64 << 30]) }
        let images = try await BenchModel.embed(4096, in: few)
        _ = try await BenchModel.embed(4096, in: many)
        try await fill(few, short, images)
        let empty = try await usedMemory(many)
        try await fill(many, length, images)
        let bytes = Double(try await usedMemory(many) - empty) / Double(length)
        var (fewCosts, manyCosts) = (Costs(), Costs())
        // In turn, so that a machine that slows down slows both.
        for _ in 0..<rounds {
            try await add(to: &fewCosts, few, images)
            try await add(to: &manyCosts, many, images)
        }
        let (fewTimes, manyTimes) = (fewCosts.medians, manyCosts.medians)
        let looks = try await milliseconds(20) { _ in _ = try await many.statistics() }
        let command = try await Self.timeOfCommand(beds.long)
        return .object([
            ("jobs", .array([.integer(short), .integer(length)])),
            ("submit_us", .array([Self.micros(fewTimes.submit), Self.micros(manyTimes.submit)])),
            ("take_us", .array([Self.micros(fewTimes.take), Self.micros(manyTimes.take)])),
            ("submit_ratio", Self.ratio(manyTimes.submit, fewTimes.submit)),
            ("take_ratio", Self.ratio(manyTimes.take, fewTimes.take)),
            ("bytes_a_job", .integer(Int(bytes.rounded()))),
            ("statistics_ms", .number((Times(looks).quantile(0.5) * 1000).rounded() / 1000)),
            ("kirie_queues_ms", .number((command * 10).rounded() / 10)),
        ])
    }

    /// Milliseconds of single calls, one after the other.
    private struct Costs {
        var submits: [Double] = []
        var takes: [Double] = []

        var medians: (submit: Double, take: Double) { (Times(submits).quantile(0.5), Times(takes).quantile(0.5)) }
    }

    private func add(to costs: inout Costs, _ broker: Broker, _ images: [ImageDigest]) async throws {
        costs.submits += try await milliseconds(calls) { index in
            _ = try await broker.submit([BenchModel.job(images[index % images.count], lane: .bulk)])
        }
        // So that the queue is as long again: as many are taken as were submitted.
        costs.takes += try await milliseconds(calls) { index in
            let partition = Partition(index % broker.partitionCount)
            _ = try await broker.takePrompts(
                in: partition, worker: "bench", model: BenchModel.identifier, count: 1, lease: .seconds(3600))
        }
    }

    private func fill(_ broker: Broker, _ count: Int, _ images: [ImageDigest]) async throws {
        var bar = ProgressBar("filling the queue", total: count)
        var next = 0
        while next < count {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 where next < count {
                    let chunk = next..<min(next + 1024, count)
                    next = chunk.upperBound
                    group.addTask {
                        let jobs = chunk.map { BenchModel.job(images[$0 % images.count], lane: .bulk) }
                        _ = try await broker.submit(jobs)
                    }
                }
                try await group.waitForAll()
            }
            if count > 10_000 { bar.show(next) }
        }
    }

    private func usedMemory(_ broker: Broker) async throws -> Int {
        try await broker.redis.info("memory").reduce(0) { $0 + (Int($1["used_memory"] ?? "") ?? 0) }
    }

    private func milliseconds(_ count: Int, _ body: (Int) async throws -> Void) async throws -> [Double] {
        let clock = ContinuousClock()
        var times: [Double] = []
        for index in 0..<count {
            let start = clock.now
            try await body(index)
            times.append((clock.now - start) / .microseconds(1) / 1000)
        }
        return times
    }

    /// The whole command, from the start of its process to its end.
    private static func timeOfCommand(_ bed: BenchBed) async throws -> Double {
        let clock = ContinuousClock()
        var times: [Double] = []
        for _ in 0..<5 {
            let start = clock.now
            let child = try ChildProcess.start(
                ChildProcess.ownProgram, ["queues", "--json", "--redis", "\(bed.url)"],
                .init(output: .file(bed.folder.log("queues"))))
            await child.waitForExit()
            times.append((clock.now - start) / .microseconds(1) / 1000)
        }
        return Times(times).quantile(0.5)
    }

    private static func micros(_ milliseconds: Double) -> JSONValue { .number((milliseconds * 10_000).rounded() / 10) }

    private static func ratio(_ many: Double, _ few: Double) -> JSONValue {
        .number((many / max(few, 1e-9) * 100).rounded() / 100)
    }
}
