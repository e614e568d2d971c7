import Cluster
import Foundation
import Glibc
import Imaging
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// What is wrong with Redis for a while is no fault of the jobs: it costs no attempt, however long it takes.
@Suite(.serialized) struct OutageTests {
    /// A cluster with a job whose encode and another whose decode meet the trouble, in the hands of stopped workers.
    private func withWorkInHand(
        _ options: RedisServerProcess.Options, settings: [String: Int] = [:],
        _ body: (LiveCluster, _ release: () throws -> Void, [JobReference]) async throws -> Void
    ) async throws {
        let server = try await LiveCluster.server(options)
        // An attempt that counts would be the last.
        var all = ["attempts": 1, "backoff_ms": 10, "backoff_max_ms": 20]
        all.merge(settings) { $1 }
        try await LiveCluster.run(on: server, settings: all) { cluster in
            let encoder = try cluster.start(.encoder, "encoder", lease: 600)
            let decoder = try cluster.start(.decoder, "decoder", lease: 600)
            try await cluster.ready("encoder", "decoder")
            let pictures = try TestPicture.draw(2, in: cluster.folder)
            let warm = try await cluster.kirie("cache", "warm", pictures[1].path)
            #expect(warm.exit == .status(0), "\(warm.complaint)")
            try await encoder.stop()
            try await decoder.stop()
            let lines = [
                pictures[0].line("to-encode", points: [(3, 3)]), pictures[1].line("to-decode", points: [(4, 4)]),
            ]
            let submit = try await cluster.kirie("submit", "--jobs", try cluster.write(lines, to: "jobs.jsonl"))
            #expect(submit.exit == .status(0), "\(submit.complaint)")
            let references = [
                cluster.reference("to-encode", pictures[0].digest), cluster.reference("to-decode", pictures[1].digest),
            ]
            try await body(
                cluster,
                {
                    encoder.signal(SIGCONT)
                    decoder.signal(SIGCONT)
                }, references)
            try await cluster.reach(.done, references)
            for status in try await cluster.broker.status(references) {
                #expect(status?.attempts == 1, "\(String(describing: status))")
            }
            let retries = try await (cluster.total("retries"), cluster.total("encode_retries"))
            #expect(retries == (0, 0))
            let again = try await cluster.kirie("submit", "--jobs", "\(cluster.folder)/jobs.jsonl", "--wait")
            #expect(again.exit == .status(0) && again.lines.allSatisfy { $0.state == "done" }, "\(again.complaint)")
            try await cluster.expectNothingLeft()
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func aReplicaThatTakesNoWritesIsWaitedOut() async throws {
        try await withWorkInHand(.init()) { cluster, release, references in
            let redis = cluster.broker.redis
            _ = try await redis.send(RedisCommand("REPLICAOF", "127.0.0.1", "1"))
            try release()
            try await eventually("the workers were refused often") {
                try await cluster.refusals("READONLY") >= 200
            }
            #expect(try await cluster.broker.status(references).allSatisfy { $0?.state.isTerminal == false })
            _ = try await redis.send(RedisCommand("REPLICAOF", "NO", "ONE"))
        }
    }

    /// Redis is full of what nobody may drop.
    ///
    /// The work that is there is done all the same, as its end makes room.
    @Test(.timeLimit(.minutes(30)))
    func aFullRedisTakesWhatEndsJobs() async throws {
        try await withWorkInHand(.init()) { cluster, release, references in
            let redis = cluster.broker.redis
            _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "1mb"))
            let refused = try await cluster.kirie("submit", "\(cluster.folder)/picture-1-0.png", "--point", "1,1")
            #expect(refused.exit == .status(75), "\(refused.exit) \(refused.complaint)")
            try release()
            try await cluster.reach(.done, references)
            #expect(try await cluster.refusals("OOM") >= 2)
            _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "0"))
        }
    }

    /// There is no room for results: they stay in the decoder's hands until there is.
    @Test(.timeLimit(.minutes(30)))
    func resultsWithoutRoomAreKeptByTheDecoder() async throws {
        try await LiveCluster.run(settings: ["attempts": 1]) { cluster in
            try cluster.start(.encoder, "encoder")
            try cluster.start(.decoder, "decoder", ["--threads", "1", "--concurrency", "1"])
            let picture = try TestPicture(1, in: cluster.folder)
            func lines(_ ids: [String]) throws -> String {
                try cluster.write(ids.map { picture.line($0, points: [(3, 3)]) }, to: "\(ids[0]).jsonl")
            }
            try await cluster.ready("encoder", "decoder")
            let first = try await cluster.kirie("submit", "--jobs", try lines(["a"]), "--wait")
            #expect(first.exit == .status(0), "\(first.complaint)")
            // Room for one more of the same size.
            let held = try await cluster.total("result_bytes")
            try await cluster.broker.set(["result_bytes": held * 2 + held / 2])
            let both = try await cluster.kirie("submit", "--jobs", try lines(["b", "c"]))
            #expect(both.exit == .status(0), "\(both.complaint)")
            let references = ["b", "c"].map { cluster.reference($0, picture.digest) }
            try await eventually("one is done and one has no room") {
                let states = try await cluster.broker.status(references).compactMap { $0?.state }
                return states.count { $0 == .done } == 1
            }
            try await cluster.broker.set(["result_bytes": 1 << 30])
            try await cluster.reach(.done, references)
            #expect(try await cluster.broker.status(references).allSatisfy { $0?.attempts == 1 })
            try await cluster.expectNothingLeft()
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func aFullDiskIsWaitedOut() async throws {
        let disk = try await SmallDisk(megabytes: 16)
        defer { disk.remove() }
        try await withWorkInHand(disk.options(appendFsync: .everysec)) { cluster, release, references in
            try disk.fill()
            let redis = cluster.broker.redis
            try await eventually("Redis sees that its disk is full") {
                _ = try? await redis.send(RedisCommand("SET", "filler", .string(String(repeating: "x", count: 9000))))
                return try await cluster.refusals("MISCONF") > 0
            }
            try release()
            let before = try await cluster.refusals("MISCONF")
            try await eventually("the workers were refused often") {
                try await cluster.refusals("MISCONF") >= before + 200
            }
            #expect(try await cluster.broker.status(references).allSatisfy { $0?.state.isTerminal == false })
            try disk.free()
            try await eventually("Redis writes again") {
                (try? await redis.send(RedisCommand("DEL", "filler"))) != nil
            }
        }
    }

    /// Pictures that no job needs any more fill a Redis that evicts nothing: Kirie makes its own room.
    @Test(.timeLimit(.minutes(30)), arguments: ["noeviction", "volatile-lru"])
    func picturesThatNoJobNeedsGoUnderEitherPolicy(policy: String) async throws {
        let limit = 12 << 20
        try await LiveCluster.run(.init(maximumMemory: limit, memoryPolicy: policy)) { cluster in
            try cluster.start(.encoder, "encoder", ["--embedding", "fp32"])
            try cluster.start(.decoder, "decoder", ["--embedding", "fp32"])
            try await cluster.ready("encoder", "decoder")
            // Noise, which PNG cannot press: 0.9 MB each, 27 MB together.
            var random = SystemRandomNumberGenerator()
            let paths = try (0..<30).map { number in
                let pixels = (0..<(640 * 480 * 3)).map { _ in UInt8.random(in: 0...255, using: &random) }
                let path = "\(cluster.folder)/noise-\(number).png"
                try Data(try PNGWriter.encode(Image(width: 640, height: 480, pixels: pixels)))
                    .write(to: URL(fileURLWithPath: path))
                return path
            }
            let run = try await cluster.kirie(
                ["submit"] + paths + ["--point", "100,100", "--wait", "--when-full", "wait"])
            #expect(run.exit == .status(0), "\(run.exit): \(run.complaint)")
            #expect(run.lines.count { $0.state == "done" } == 30)
            let retries = try await (cluster.total("retries"), cluster.total("encode_retries"))
            #expect(retries == (0, 0))
            if policy == "noeviction" { #expect(try await cluster.total("room_made") > 0) }
            try await cluster.expectNothingLeft()
            print(
                "\(policy), maxmemory \(limit): 30 pictures of 0.9 MB done, "
                    + "\(try await cluster.total("room_made")) dropped by Kirie, "
                    + "\(try await cluster.info("stats", "evicted_keys")) evicted by Redis")
        }
    }
}
