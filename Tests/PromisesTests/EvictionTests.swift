import Cluster
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Synchronization
import Testing

/// Memory for hardly any embedding: they go all the time, and nothing else does.
@Suite(.serialized) struct EvictionTests {
    @Test(.timeLimit(.minutes(30)))
    func everyJobFinishesWhileEmbeddingsAreEvictedAllTheTime() async throws {
        let options = RedisServerProcess.Options(
            memoryPolicy: "volatile-lru", settings: ["notify-keyspace-events Ee", "maxmemory-samples 10"])
        // A job may see its embedding go as often as it likes here.
        try await LiveCluster.run(options, settings: ["misses": 100_000]) { cluster in
            let redis = cluster.broker.redis
            let evicted = Mutex<[String]>([])
            let subscription = try await redis.subscribe(to: ["__keyevent@0__:evicted"])
            let listener = Task {
                for await case .message(let message) in subscription {
                    evicted.withLock { $0.append(message.payload.string) }
                }
            }
            defer { listener.cancel() }
            // A first job brings the models, the clients and their buffers into being.
            try cluster.start(.encoder, "encoder", ["--embedding", "fp32"])
            // Every job fetches its embedding anew, and so finds it gone often enough, however fast the decoder is.
            try cluster.start(.decoder, "decoder", ["--embedding", "fp32", "--cache-bytes", "0", "--batch", "1"])
            try await cluster.ready("encoder", "decoder")
            let pictures = try TestPicture.draw(40, seed: 3, in: cluster.folder)
            let warm = try await cluster.kirie("submit", pictures[0].path, "--point", "5,5", "--wait")
            #expect(warm.exit == .status(0))
            // Room for two or three embeddings of 33 kB beside the jobs' own needs, which grow with their results.
            let squeezer = Task {
                while !Task.isCancelled {
                    let used = try await cluster.info("memory", "used_memory")
                    let embeddings = try await embeddingBytes(cluster)
                    let limit = used - embeddings + 150_000
                    _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", .integer(limit)))
                    try await Task.sleep(for: .milliseconds(10))
                }
            }
            defer { squeezer.cancel() }
            // A decoder comes too late where an embedding goes between the take of its job and the fetch: more jobs until one did.
            var (jobs, misses) = (0, 0)
            try await eventually("an embedding is gone between a take and its fetch") {
                let lines = (jobs..<jobs + 400).map {
                    pictures[$0 % 40].line("e-\($0)", points: [($0 % 20, $0 / 20 % 20)])
                }
                let file = try cluster.write(lines, to: "jobs-\(jobs).jsonl")
                let run = try await cluster.kirie("submit", "--jobs", file, "--wait", "--when-full", "wait")
                #expect(run.exit == .status(0), "\(run.exit): \(run.complaint)")
                #expect(run.lines.count { $0.state == "done" } == 400)
                jobs += 400
                misses = try await cluster.total("evictions")
                return misses > 0
            }
            squeezer.cancel()

            let keys = try await cluster.info("stats", "evicted_keys")
            #expect(keys >= 40, "\(keys) keys evicted")
            let names = evicted.withLock { $0 }
            let others = names.filter { !$0.contains(":embedding:") && !$0.contains(":image:") }
            #expect(others.isEmpty, "\(others.prefix(5))")
            try await cluster.expectNothingLeft()
            print(
                "eviction: \(jobs) jobs done; \(keys) keys evicted, \(names.count) of them seen by name, no queue key among "
                    + "them; \(misses) times a decoder came too late; "
                    + "\(try await cluster.total("encode_finished")) encodes of 40 pictures")
        }
    }

    private func embeddingBytes(_ cluster: LiveCluster) async throws -> Int {
        var count = 0
        try await cluster.broker.redis.scan(match: "kirie:*:embedding:*") { page throws(RedisError) in
            count += page.count
        }
        return count * 41_000
    }

    @Test(.timeLimit(.minutes(30)), arguments: ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
    func aPolicyThatEvictsQueuesIsRefused(policy: String) async throws {
        let server = try await RedisServerProcess.start(.init(memoryPolicy: policy))
        defer { withExtendedLifetime(server) {} }
        for arguments in [
            ["encoder"], ["decoder"], ["submit", "--point", "1,1", KirieProcess.landscape],
        ] {
            let log = "\(server.directory)/\(arguments[0]).log"
            var options = ChildProcess.Options(output: .file(log))
            options.environment = ["KIRIE_MODEL": KirieProcess.nano, "KIRIE_REDIS": "\(server.url)"]
            let process = try ChildProcess.start(KirieProcess.executable.path, arguments, options)
            let exit = try await within(.hang, "the end of kirie \(arguments[0])") {
                await process.waitForExit()
            }
            let said = try KirieRun(exit: exit, file: log).complaint
            #expect(exit == .status(1), "kirie \(arguments[0]): \(exit)")
            #expect(said.contains(policy) && said.contains("volatile-lru"), "kirie \(arguments[0]): \(said)")
        }
    }
}
