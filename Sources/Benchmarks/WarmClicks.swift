import Cluster
import FoundationEssentials
package import JSON
import Platform
import Redis
import Segmentation
import Synchronization

/// How long a click takes beside its decode, where the owner of its image has it in memory.
package struct WarmClicks {
    private let bed: BenchBed
    private let clicks: Int
    private let seed: UInt64
    private let load: Double

    /// Measures so many clicks, at the pace that keeps the decoders busy for the share `load` of their time.
    package init(_ bed: BenchBed, clicks: Int, load: Double, seed: UInt64) {
        self.bed = bed
        self.load = load
        self.clicks = clicks
        self.seed = seed
    }

    /// One decoder with all threads, as `kirie up` starts it, for the time; two that share the images, for the lookups.
    package func measure() async throws -> JSONValue {
        let alone = try await measure(decoders: 1, threads: nil)
        let shared = try await measure(decoders: 2, threads: 1)
        return .object([("one_decoder", alone), ("two_decoders", shared)])
    }

    private func measure(decoders count: Int, threads: Int?) async throws -> JSONValue {
        let encoders = try await bed.start("encoder", count: 1, threads: nil)
        let decoders = try await bed.start("decoder", count: count, threads: threads)
        let (images, model) = try await bed.encodePictures(16, seed: seed)
        await bed.stop(encoders)
        let client = Job.makeIdentifier()
        let follower = JobFollower(bed.broker, client: client)
        let clock = ContinuousClock()
        let arrivals = Arrivals()
        let following = Task {
            try await follower.run { endings in
                let now = clock.now
                for ending in endings { arrivals.ended(ending, at: now) }
            }
        }
        var random = SplitMix64(seed: seed)
        // The first prompt on each image is not warm; the decode time of the second round sets the pace.
        for round in 0..<2 {
            for image in images {
                let job = click(image, model, client, &random)
                arrivals.expect(job.id, counts: round == 1)
                follower.add(try await bed.broker.submit([job], client: client).compactMap(\.reference))
                await arrivals.waitUntilAllEnded()
            }
        }
        let pace = Times(try arrivals.takeTimes().map(\.decode)).quantile(0.5) / (load * Double(decoders.count))
        let before = try await bed.broker.statistics()
        var due = clock.now
        for _ in 0..<clicks {
            // A Poisson process: clicks of many people do not wait for each other.
            let gap = -pace * Double.random(in: Double.leastNonzeroMagnitude..<1, using: &random).logarithm
            due += .microseconds(Int64(gap * 1000))
            try await clock.sleep(until: due, tolerance: .zero)
            let image = images[Int.random(in: images.indices, using: &random)]
            let job = click(image, model, client, &random)
            // Noted now, so that the wait below knows of it; the time runs from the call of `submit`.
            arrivals.expect(job.id, counts: true)
            Task {
                arrivals.restart(job.id)
                follower.add(try await bed.broker.submit([job], client: client).compactMap(\.reference))
            }
        }
        await arrivals.waitUntilAllEnded()
        follower.close()
        try await following.value
        // The heartbeat carries the decoders' counts.
        try await Task.sleep(for: .milliseconds(2500))
        let after = try await bed.broker.statistics()
        await bed.stop(decoders)
        let times = try arrivals.takeTimes()
        // By Redis's clock: from submit to take, from take to complete.
        let statuses = try await bed.broker.status(times.map(\.reference)).compactMap(\.self)
        let waits = statuses.compactMap { status in status.started.map { Double($0 - status.submitted) / 1000 } }
        let services = statuses.compactMap { status -> Double? in
            guard let started = status.started, let finished = status.finished else { return nil }
            return Double(finished - started) / 1000
        }
        let fetches = after.total("fetches") - before.total("fetches")
        let lookups = fetches + after.total("hits") - before.total("hits")
        return .object([
            ("clicks", .integer(times.count)), ("load", .number(load)), ("decoders", .integer(decoders.count)),
            ("decode_ms", Times(times.map(\.decode)).spread), ("overhead_ms", Times(times.map(\.beside)).figures),
            ("wait_ms", Times(waits).spread), ("service_ms", Times(services).spread),
            ("total_ms", Times(times.map { $0.decode + $0.beside }).figures), ("embedding_lookups", .integer(lookups)),
            (
                "fetched_share",
                .number(lookups == 0 ? 0 : (Double(fetches) / Double(lookups) * 10_000).rounded() / 10_000)
            ),
        ])
    }

    private func click(
        _ image: ImageDigest, _ model: ModelIdentifier, _ client: String, _ random: inout SplitMix64
    ) -> Job {
        let point = LabeledPoint(
            x: Double.random(in: 0..<Double(BenchPicture.width), using: &random),
            y: Double.random(in: 0..<Double(BenchPicture.height), using: &random))
        let line = JobLine(image: .digest(image), prompts: [Prompt(points: [point])])
        return Job(
            id: Job.makeIdentifier(), lane: .interactive, image: image, model: model,
            line: RedisBytes(line.encoded(for: image)))
    }
}

/// When jobs were submitted and when their results came.
private final class Arrivals: Sendable {
    private struct State: Sendable {
        var expected: [String: (since: ContinuousClock.Instant, counts: Bool)] = [:]
        var ended: [(total: Duration, ending: JobEnding)] = []
        var waiter: UnsafeContinuation<Void, Never>?
    }

    /// Guards what the submitter and the follower share.
    private let state = Mutex(State())

    func expect(_ id: String, counts: Bool) {
        state.withLock { $0.expected[id] = (ContinuousClock.now, counts) }
    }

    /// The job is submitted now.
    func restart(_ id: String) { state.withLock { $0.expected[id]?.since = ContinuousClock.now } }

    func ended(_ ending: JobEnding, at now: ContinuousClock.Instant) {
        let waiter = state.withLock { state -> UnsafeContinuation<Void, Never>? in
            guard let job = state.expected.removeValue(forKey: ending.reference.id) else { return nil }
            if job.counts { state.ended.append((now - job.since, ending)) }
            guard state.expected.isEmpty else { return nil }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    func waitUntilAllEnded() async {
        await withUnsafeContinuation { continuation in
            let isOver = state.withLock { state in
                if !state.expected.isEmpty { state.waiter = continuation }
                return state.expected.isEmpty
            }
            if isOver { continuation.resume() }
        }
    }

    /// Milliseconds of the decode, and of all beside it, of the jobs that ended with a result since the last call.
    func takeTimes() throws -> [(reference: JobReference, decode: Double, beside: Double)] {
        let ended = state.withLock { state in
            defer { state.ended = [] }
            return state.ended
        }
        return try ended.compactMap { total, ending in
            guard let result = ending.result else { return nil }
            let answer = try JSONDecoder().decode(Answer.self, from: Data(result.array))
            let decode = answer.timings_ms["decode"] ?? 0
            return (ending.reference, decode, total / .microseconds(1) / 1000 - decode)
        }
    }
}
