package import Cluster
import Embeddings
import Glibc
package import JSON
import LocalCluster
import Redis
package import Segmentation
import Synchronization

/// Jobs a second through submit, take, complete and result, where decoding takes no time.
package struct BrokerThroughput {
    private let bed: BenchBed
    private let jobs = 50_000
    private let inFlight = 2048

    package init(_ bed: BenchBed) { self.bed = bed }

    package func measure() async throws -> JSONValue {
        // As many images as jobs are in flight: hardly two jobs are taken together. Then few: batches are full.
        let alone = try await jobsPerSecond(images: 4096)
        let together = try await jobsPerSecond(images: 64)
        return .object([
            ("jobs", .integer(jobs)), ("jobs_per_second", .integer(Int(alone.rate))),
            ("jobs_a_batch", .number(alone.batch)),
            ("few_images_jobs_per_second", .integer(Int(together.rate))),
            ("few_images_jobs_a_batch", .number(together.batch)),
        ])
    }

    private func jobsPerSecond(images count: Int) async throws -> (rate: Double, batch: Double) {
        let (broker, model) = (bed.broker, BenchModel.identifier)
        let images = try await BenchModel.embed(count, in: broker)
        let result = RedisBytes(#"{"masks":[]}"#)
        let source = DecodeSource(broker, worker: "bench-decoder", model: model, batch: 16) { batch in
            .answers(batch.leases.map { _ in .result(result) })
        }
        let loop = WorkLoop(source, broker: broker, settings: WorkLoopSettings(concurrency: 8)) { ["bench-decoder"] }
        let working = Task { await loop.run() }
        let client = Job.makeIdentifier()
        let follower = JobFollower(broker, client: client)
        let done = Count()
        let before = try await broker.statistics().total("batches")
        let clock = ContinuousClock()
        let start = clock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await follower.run { endings in
                    for ending in endings where ending.result != nil { done.add() }
                }
            }
            var next = 0
            while next < jobs {
                await follower.waitUntilOpen(isBelow: inFlight)
                let chunk = (next..<min(next + 256, jobs)).map { index in
                    BenchModel.job(images[index % images.count], lane: .interactive)
                }
                next += chunk.count
                let references = try await broker.submit(chunk, client: client).compactMap(\.reference)
                // A rate of jobs that were refused would say nothing.
                guard references.count == chunk.count else {
                    throw ClusterFolderError(
                        path: bed.folder.path, reason: "\(chunk.count - references.count) jobs were refused")
                }
                follower.add(references)
            }
            follower.close()
            try await group.waitForAll()
        }
        let time = (clock.now - start) / .seconds(1)
        loop.drain()
        await working.value
        let batches = try await broker.statistics().total("batches") - before
        return (
            Double(done.value) / time,
            (Double(jobs) / Double(max(1, batches)) * 100).rounded() / 100
        )
    }
}

/// A number that several tasks add to.
private final class Count: Sendable {
    private let number = Atomic<Int>(0)

    var value: Int { number.load(ordering: .relaxed) }

    func add() { number.wrappingAdd(1, ordering: .relaxed) }
}

/// Jobs that nobody decodes: their embeddings are there, and are empty.
package enum BenchModel {
    package static let identifier = ModelIdentifier(fingerprint: [UInt8](repeating: 0xbe, count: 32))

    /// Longer than the mark of a record in another Redis, which could not be pinned for a job without its image.
    private static let record = RedisBytes([UInt8](repeating: 0x78, count: 128))

    /// Images whose embeddings are taken to be there.
    package static func embed(_ count: Int, in broker: Broker) async throws -> [ImageDigest] {
        let images = (0..<count).map { index in
            withUnsafeBytes(of: UInt64(index)) { ImageDigest(ofFile: $0) }
        }
        _ = try await broker.redis.pipeline(
            images.map { image in
                let key = EmbeddingKey(image: image, model: identifier)
                return RedisCommand(
                    "SET", .string(broker.keys.embedding(key, in: broker.partition(of: image))), .bytes(record), "PX",
                    .integer(86_400_000))
            })
        return images
    }

    package static func job(_ image: ImageDigest, lane: Lane) -> Job {
        let line = #"{"image":{"sha256":"\#(image.hexadecimal)"},"prompts":[{"points":[[512.5,384.5]],"labels":[1]}]}"#
        return Job(id: Job.makeIdentifier(), lane: lane, image: image, model: identifier, line: RedisBytes(line))
    }
}

extension Double {
    /// The natural logarithm.
    package var logarithm: Double { log(self) }
}
