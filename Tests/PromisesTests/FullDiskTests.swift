import Cluster
import ClusterTesting
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// The disk below the append-only file is full, and has room again later.
@Suite(.serialized) struct FullDiskTests {
    @Test(.timeLimit(.minutes(30)))
    func submittersComeBackLaterAndNothingAcceptedIsLost() async throws {
        let disk = try await SmallDisk(megabytes: 16)
        defer { disk.remove() }
        let server = try await LiveCluster.server(disk.options(appendFsync: .everysec))
        // Redis is restarted in the middle: what was taken by an answer that was lost comes back with the end of its lease.
        try await LiveCluster.run(on: server, settings: ["attempts": 100_000]) { cluster in
            try cluster.start(.encoder, "encoder", lease: 2)
            try cluster.start(.decoder, "decoder", lease: 2)
            try await cluster.ready("encoder", "decoder")
            let picture = try TestPicture(1, in: cluster.folder)
            var accepted: Set<String> = []
            func submit(_ round: Int) async throws -> KirieRun {
                let lines = (0..<20).map { picture.line("f\(round)-\($0)", points: [($0, 5)]) }
                let run = try await cluster.kirie("submit", "--jobs", try cluster.write(lines, to: "f\(round).jsonl"))
                accepted.formUnion(run.lines.filter { JobState(rawValue: $0.state ?? "") != nil }.compactMap(\.id))
                return run
            }
            #expect(try await submit(0).exit == .status(0))

            try disk.fill()
            var round = 1
            var refusal: KirieRun?
            try await eventually("a submit is refused") {
                let run = try await submit(round)
                round += 1
                if run.exit != .status(0) { refusal = run }
                return refusal != nil
            }
            let refused = try #require(refusal)
            #expect(refused.exit == .status(75), "\(refused.exit): \(refused.complaint)")
            #expect(refused.complaint.contains("disk"), "\(refused.complaint)")
            #expect(refused.lines.allSatisfy { $0.state != "refused" || ($0.retry_after_ms ?? 0) > 0 })

            try disk.free()
            try await eventually("submits are taken again") {
                round += 1
                return try await submit(round).exit == .status(0)
            }
            let jobs = accepted.map { cluster.reference($0, picture.digest) }
            try await cluster.reach(.done, jobs)
            // What was written while there was no room is in the file: a restart finds it.
            await cluster.server.kill(SIGTERM)
            try await cluster.server.restart()
            try await cluster.reach(.done, jobs)
            let audit = try await cluster.expectNothingLeft()
            #expect(Set(audit.states.keys.map(\.id)) == accepted)
            print(
                "full disk: exit status 75, \"\(refused.complaint.prefix(160))\"; \(accepted.count) accepted jobs done")
        }
    }

    /// With `appendfsync always` Redis ends itself rather than to accept what it cannot keep.
    @Test(.timeLimit(.minutes(30)))
    func whatWasAcceptedBeforeRedisGaveUpIsThereAfterwards() async throws {
        let disk = try await SmallDisk(megabytes: 16)
        defer { disk.remove() }
        let server = try await LiveCluster.server(disk.options(appendFsync: .always))
        try await LiveCluster.run(on: server) { cluster in
            let picture = try TestPicture(1, in: cluster.folder)
            let model = try InProcessMasks().model
            try await cluster.broker.putImage(picture.digest, .array(picture.bytes))
            let line = RedisBytes("{\"image\":{\"sha256\":\"\(picture.digest)\"},\"prompts\":[{\"points\":[[3,3]]}]}")
            var impatient = RedisConfiguration()
            impatient.patience = .zero
            var accepted: [JobReference] = []
            try disk.fill()
            try await eventually("redis-server gave up") {
                guard server.isRunning else { return true }
                let job = Job(
                    id: "g-\(accepted.count)", lane: .bulk, image: picture.digest, model: model, line: line)
                // A connection with no patience: when redis-server ends, nobody starts it again.
                let redis = try? await RedisClient.connect(server.url, configuration: impatient)
                let outcome = try? await redis.map { Broker(redis: $0) }?.submit([job])[0]
                if case .accepted(let reference, _)? = outcome { accepted.append(reference) }
                return false
            }
            #expect(!server.isRunning)
            try disk.free()
            try await server.restart()
            let known = try await cluster.broker.status(accepted)
            #expect(known.allSatisfy { $0?.state == .waitingForEmbedding }, "accepted jobs are gone")
            try cluster.start(.encoder, "encoder")
            try cluster.start(.decoder, "decoder")
            try await cluster.reach(.done, accepted)
            print(
                "full disk, appendfsync always: redis-server ended; all \(accepted.count) accepted jobs done afterwards"
            )
        }
    }
}
