import Cluster
import Processes
import Redis
import Segmentation

/// What a long queue costs: the calls, the memory, and looking at it.
struct LongQueue {
    private let bed: BenchBed
    private let length: Int
    private let short = 1000
    private let calls = 2000

    init(_ bed: BenchBed, length: Int) {
        self.bed = bed
        self.length = length
    }

    func measure() async throws -> JSONLine {
        let broker = bed.broker
        try await broker.set(["jobs:bulk": 10_000_000, "bytes:bulk": 64 << 30])
        let images = try await BenchModel.embed(4096, in: broker)
        try await fill(short, images)
        let few = try await costs(images)
        let empty = try await usedMemory()
        try await fill(length - short, images)
        let bytes = Double(try await usedMemory() - empty) / Double(length - short)
        let many = try await costs(images)
        let looks = try await milliseconds(20) { _ in _ = try await broker.statistics() }
        let command = try await Self.timeOfCommand(bed)
        return .object([
            ("jobs", .list([.whole(short), .whole(length)])),
            ("submit_us", .list([Self.micros(few.submit), Self.micros(many.submit)])),
            ("take_us", .list([Self.micros(few.take), Self.micros(many.take)])),
            ("submit_ratio", Self.ratio(many.submit, few.submit)), ("take_ratio", Self.ratio(many.take, few.take)),
            ("bytes_a_job", .whole(Int(bytes.rounded()))),
            ("statistics_ms", .number((looks.quantile(0.5) * 1000).rounded() / 1000)),
            ("kirie_queues_ms", .number((command * 10).rounded() / 10)),
        ])
    }

    /// The medians of single calls, one after the other; the jobs taken are handed back.
    private func costs(_ images: [ImageDigest]) async throws -> (submit: Double, take: Double) {
        let broker = bed.broker
        let submit = try await milliseconds(calls) { index in
            _ = try await broker.submit([BenchModel.job(images[index % images.count], lane: .bulk)])
        }
        // So that the queue is as long again: as many are taken as were submitted.
        let take = try await milliseconds(calls) { index in
            let partition = Partition(index % broker.partitionCount)
            _ = try await broker.takePrompts(
                in: partition, worker: "bench", model: BenchModel.identifier, count: 1, lease: .seconds(3600))
        }
        return (submit.quantile(0.5), take.quantile(0.5))
    }

    private func fill(_ count: Int, _ images: [ImageDigest]) async throws {
        var bar = ProgressBar("filling the queue", total: count)
        let broker = bed.broker
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

    private func usedMemory() async throws -> Int {
        try await bed.broker.redis.info("memory").reduce(0) { $0 + (Int($1["used_memory"] ?? "") ?? 0) }
    }

    private func milliseconds(_ count: Int, _ body: (Int) async throws -> Void) async throws -> Times {
        let clock = ContinuousClock()
        var times: [Double] = []
        for index in 0..<count {
            let start = clock.now
            try await body(index)
            times.append((clock.now - start) / .microseconds(1) / 1000)
        }
        return Times(times)
    }

    /// The whole command, from the start of its process to its end.
    private static func timeOfCommand(_ bed: BenchBed) async throws -> Double {
        let clock = ContinuousClock()
        var times: [Double] = []
        for _ in 0..<5 {
            let start = clock.now
            let child = try ChildProcess.start(
                UpCommand.ownProgram, ["queues", "--json", "--redis", "\(bed.url)"],
                .init(output: .file(bed.folder.log("queues"))))
            await child.waitForExit()
            times.append((clock.now - start) / .microseconds(1) / 1000)
        }
        return Times(times).quantile(0.5)
    }

    private static func micros(_ milliseconds: Double) -> JSONLine { .number((milliseconds * 10_000).rounded() / 10) }

    private static func ratio(_ many: Double, _ few: Double) -> JSONLine {
        .number((many / max(few, 1e-9) * 100).rounded() / 100)
    }
}
