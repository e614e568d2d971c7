import Cluster
import Redis
import RedisTesting
import Segmentation

/// A cluster on a real redis-server of its own.
struct TestCluster: Sendable {
    static let model = model("test:fp16")

    /// A model of a name that may stand in a key.
    static func model(_ text: String) -> ModelIdentifier {
        guard let model = ModelIdentifier(text) else { preconditionFailure("\(text) names no model") }
        return model
    }

    let server: RedisServerProcess
    let broker: Broker

    static func start(
        _ options: RedisServerProcess.Options = .init(), settings: [String: Int] = [:], partitions: Int = 16
    ) async throws -> TestCluster {
        let server = try await RedisServerProcess.start(options)
        let broker = try await Broker.open(try await RedisClient.connect(server.url), partitions: partitions)
        try await broker.set(settings)
        return TestCluster(server: server, broker: broker)
    }

    /// A digest that looks like one of an image; the number spreads over the partitions.
    static func image(_ number: Int) -> ImageDigest {
        var state = UInt64(bitPattern: Int64(number)) &+ 0x9e37_79b9_7f4a_7c15
        return ImageDigest(
            bytes: (0..<32).map { _ in
                state = (state ^ state >> 29) &* 0xbf58_476d_1ce4_e5b9 &+ 0x94d0_49bb_1331_11eb
                return UInt8(truncatingIfNeeded: state >> 32)
            })
    }

    static func job(
        _ id: String, _ image: ImageDigest, lane: Lane = .bulk, timeToLive: Duration? = nil, line: String = "{}"
    ) -> Job {
        Job(
            id: id, lane: lane, image: image, model: model, timeToLive: timeToLive, line: RedisBytes(line))
    }

    /// Stores the images and submits the jobs, all of which must be accepted.
    @discardableResult
    func accept(_ jobs: [Job], client: String? = nil) async throws -> [JobReference] {
        for image in Set(jobs.map(\.image)) { try await broker.putImage(image, .string("image \(image)")) }
        return try await broker.submit(jobs, client: client).map { outcome in
            guard case .accepted(let reference, _) = outcome else { throw UnexpectedAnswer(description: "\(outcome)") }
            return reference
        }
    }

    func takeEncode(_ image: ImageDigest, lease: Duration = .seconds(3600)) async throws -> EncodeLease? {
        let taken = try await broker.takeEncodes(
            in: broker.partition(of: image), worker: "encoder", model: Self.model, lease: lease)
        if case .work(let leases, _) = taken { return leases[0] }
        return nil
    }

    func takePrompts(_ image: ImageDigest, count: Int = 16, lease: Duration = .seconds(3600)) async throws
        -> PromptBatch?
    {
        let taken = try await broker.takePrompts(
            in: broker.partition(of: image), worker: "decoder", model: Self.model, count: count, lease: lease)
        if case .work(let batch, _) = taken { return batch }
        return nil
    }

    /// Encodes an image as an encoder would.
    func encode(_ image: ImageDigest) async throws {
        guard let lease = try await takeEncode(image) else {
            throw UnexpectedAnswer(description: "no encode of \(image)")
        }
        guard try await broker.publish(RedisBytes("record"), for: lease, expiry: .seconds(36_000)) else {
            throw UnexpectedAnswer(description: "the lease of \(image) was lost")
        }
    }

    /// Lets the time of these jobs be over.
    func expire(_ references: [JobReference]) async throws {
        for reference in references {
            let key = RedisArgument.string("\(broker.keys.prefix(reference.partition))deadlines")
            _ = try await broker.redis.send(RedisCommand("ZADD", key, "XX", "0", .string(reference.id)))
        }
    }

    func states(_ references: [JobReference]) async throws -> [JobState?] {
        try await broker.status(references).map { $0?.state }
    }
}

/// The cluster did not answer what a test builds on.
struct UnexpectedAnswer: Error, CustomStringConvertible {
    let description: String
}
