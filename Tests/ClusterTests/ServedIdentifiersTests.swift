import Cluster
import ClusterTesting
import Redis
import RedisTesting
import Segmentation
import Testing

/// Workers whose model has several identifiers, on a real server.
@Suite struct ServedIdentifiersTests {
    private static let family = ModelIdentifier(fingerprint: [UInt8](repeating: 3, count: 32))
    private static let fp32 = ModelIdentifier(fingerprint: [UInt8](repeating: 3, count: 32), arithmetic: .fp32)
    private static let bf16 = ModelIdentifier(fingerprint: [UInt8](repeating: 3, count: 32), arithmetic: .bf16)
    private static let others = ModelIdentifier(fingerprint: [UInt8](repeating: 4, count: 32), arithmetic: .fp32)

    /// Redis's clock, which stands still here: nobody grows old while a test waits for its turn.
    private static let noon = 1_700_000_000_000_000

    private static func heartbeat(
        _ name: String, _ role: WorkerHeartbeat.Role, _ model: ModelIdentifier, serves: [ModelIdentifier]? = nil
    ) -> WorkerHeartbeat {
        var heartbeat = WorkerHeartbeat(
            name: name, role: role, host: "host", processIdentifier: 1, model: model, modelName: "tiny")
        heartbeat.serves = serves?.map(\.text)
        return heartbeat
    }

    /// Encoders of two arithmetics and a decoder of both: every job is encoded by its own arithmetic, none waits.
    @Test func noArithmeticAnswersForAnother() async throws {
        let cluster = try await TestCluster.start()
        let broker = cluster.broker
        let image = TestCluster.image(1)
        var jobs: [Job] = []
        for round in 0..<4 {
            for model in [Self.fp32, Self.bf16, Self.family] {
                jobs.append(
                    Job(id: "\(model)-\(round)", lane: .bulk, image: image, model: model, line: RedisBytes("{}")))
            }
        }
        try await cluster.accept(jobs)
        let partition = broker.partition(of: image)

        // The family's goes to whoever comes first.
        let encoders: [(ModelIdentifier, Set<ModelIdentifier>)] = [
            (Self.fp32, [Self.fp32, Self.family]), (Self.bf16, [Self.bf16]),
        ]
        for (own, expected) in encoders {
            let source = EncodeSource(broker, worker: "encoder", model: own) { _ in
                EncodeOutcome.embedding(RedisBytes("\(own)"), expiry: .seconds(60))
            }
            var encoded: [ModelIdentifier] = []
            let end = ContinuousClock.now + .seconds(60)
            while encoded.count < expected.count, ContinuousClock.now < end {
                let taken = try await source.take(in: partition, lease: .seconds(60), age: .zero)
                guard case .work(let lease, _) = taken else { continue }
                encoded.append(lease.key.model)
                try await source.perform(lease)
            }
            #expect(encoded.count == expected.count && Set(encoded) == expected)
        }

        let decode = DecodeSource(
            broker, worker: "decoder", model: Self.family, serving: Self.family.variants, batch: 8
        ) { batch in
            DecodeOutcome.answers(batch.leases.map { _ in PromptAnswer.result(RedisBytes("\(batch.key.model)")) })
        }
        var decoded: [ModelIdentifier: Int] = [:]
        let end = ContinuousClock.now + .seconds(60)
        while decoded.values.reduce(0, +) < jobs.count, ContinuousClock.now < end {
            let taken = try await decode.take(in: partition, lease: .seconds(60), age: .zero)
            guard case .work(let batch, _) = taken else { continue }
            decoded[batch.key.model, default: 0] += batch.leases.count
            try await decode.perform(batch)
        }
        #expect(decoded == [Self.fp32: 4, Self.bf16: 4, Self.family: 4])
        #expect(try await broker.demand(.decode, models: decode.models) == 0)
    }

    @Test func workOfOthersIsLeftToThem() async throws {
        let cluster = try await TestCluster.start()
        let broker = cluster.broker
        let image = TestCluster.image(2)
        try await cluster.accept([
            Job(id: "x", lane: .bulk, image: image, model: Self.others, line: RedisBytes("{}"))
        ])
        let source = EncodeSource(broker, worker: "e", model: Self.fp32) { _ in EncodeOutcome.abandoned }
        #expect(source.models == [Self.fp32, Self.family])
        guard case .idle = try await source.take(in: broker.partition(of: image), lease: .seconds(9), age: .zero) else {
            Issue.record("took another model's work")
            return
        }
        #expect(try await broker.demand(.encode, models: source.models) == 0)
        #expect(try await broker.demand(.encode, models: [Self.others]) == 1)
    }

    /// Another identifier's work that comes just after a look at all of them is looked for again soon.
    @Test func whatWasNotAskedForIsAskedForLater() async throws {
        let cluster = try await TestCluster.start()
        let broker = cluster.broker
        let image = TestCluster.image(3)
        let partition = broker.partition(of: image)
        let source = EncodeSource(broker, worker: "e", model: Self.fp32) { _ in EncodeOutcome.abandoned }
        let start = ContinuousClock.now
        guard case .idle = try await source.take(in: partition, lease: .seconds(9), age: .zero) else {
            Issue.record("took what is not there")
            return
        }
        try await cluster.accept([
            Job(id: "x", lane: .bulk, image: image, model: Self.family, line: RedisBytes("{}"))
        ])
        while true {
            switch try await source.take(in: partition, lease: .seconds(9), age: .zero) {
            case .work(let lease, _):
                #expect(lease.key.model == Self.family)
                return
            case .later(let pause):
                #expect(pause > .zero && pause <= .milliseconds(50))
                try await Task.sleep(for: pause)
            case .idle, .again:
                Issue.record("nobody would look again after \(ContinuousClock.now - start)")
                return
            }
        }
    }

    /// What a submitter who names no arithmetic is given.
    @Test func jobsGoUnderTheEncodersArithmetic() async throws {
        let cluster = try await TestCluster.start()
        let registry = WorkerRegistry(cluster.broker) { Self.noon }
        try await registry.beat(Self.heartbeat("d", .decoder, Self.family, serves: Self.family.variants))
        #expect(try await registry.defaultModel() == Self.family, "no encoder has said in what it computes")
        try await registry.beat(Self.heartbeat("e1", .encoder, Self.bf16))
        #expect(try await registry.defaultModel() == Self.bf16)
        try await registry.beat(Self.heartbeat("e2", .encoder, Self.fp32))
        #expect(try await registry.defaultModel() == Self.bf16, "it stays while somebody computes so")
        #expect(try await registry.identifier(of: Self.family) == Self.bf16)
        #expect(try await registry.identifier(of: Self.fp32) == Self.fp32, "who names one gets it")
        try await registry.leave("e1")
        #expect(try await registry.defaultModel() == Self.bf16, "what is cached is still found")
        try await registry.beat(Self.heartbeat("e2", .encoder, Self.fp32))
        #expect(try await registry.defaultModel() == Self.fp32)
        try await registry.leave("e2")
        try await registry.leave("d")
        #expect(try await registry.defaultModel() == Self.fp32)
    }

    /// In a cluster of two releases no job goes under an identifier that no decoder takes.
    @Test func earlierReleasesAreNotLeftBehind() async throws {
        let cluster = try await TestCluster.start()
        let registry = WorkerRegistry(cluster.broker) { Self.noon }
        // An earlier decoder says nothing of what it serves, and takes the family's jobs alone.
        try await registry.beat(Self.heartbeat("old decoder", .decoder, Self.family))
        try await registry.beat(Self.heartbeat("new encoder", .encoder, Self.bf16))
        #expect(try await registry.defaultModel() == Self.family)
        // An earlier submitter reads the field itself: it never holds what only later releases take.
        let redis = cluster.broker.redis
        #expect(try await redis.fields("kirie:models", ["default"])[0]?.string == Self.family.text)
        try await registry.beat(Self.heartbeat("new decoder", .decoder, Self.family, serves: Self.family.variants))
        #expect(try await registry.defaultModel() == Self.bf16)
        #expect(
            try await registry.members(.decoder, model: Self.family) == ["new decoder", "old decoder"],
            "they share the partitions")
        #expect(try await redis.fields("kirie:models", ["default"])[0]?.string == Self.family.text)
    }
}
