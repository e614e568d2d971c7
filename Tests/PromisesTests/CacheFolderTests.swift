import Cluster
import ClusterTesting
import Embeddings
import Foundation
import FoundationNetworking
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// A folder of embeddings below Redis, with real workers.
@Suite(.serialized) struct CacheFolderTests {
    /// The metrics of a worker, as Prometheus reads them.
    private struct Metrics {
        let port = LoopbackPort.free() ?? 0
        var arguments: [String] { ["--metrics-port", "\(port)"] }

        /// The sum of all series of a name.
        func total(_ name: String) async throws -> Int {
            let url = try #require(URL(string: "http://127.0.0.1:\(port)/metrics"))
            let (data, _) = try await URLSession.shared.data(from: url)
            let lines = String(decoding: data, as: UTF8.self).split(separator: "\n")
            let values = lines.filter { $0.hasPrefix("\(name) ") || $0.hasPrefix("\(name){") }
                .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }
            return Int(try #require(values.isEmpty ? nil : values.reduce(0, +), "\(name) is not told"))
        }
    }

    private static func files(in folder: String, ending: String = ".kemb") -> [String] {
        (FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? [])
            .filter { $0.hasSuffix(ending) }
    }

    private static func embeddings(_ cluster: LiveCluster) async throws -> [String] {
        var names: Set<String> = []
        try await cluster.broker.redis.scan(match: "kirie:*:embedding:*") { names.formUnion($0.map(\.string)) }
        return names.sorted()
    }

    /// All of Redis is gone, and set up anew.
    private static func empty(_ cluster: LiveCluster) async throws {
        _ = try await cluster.broker.redis.send(RedisCommand("FLUSHALL"))
        _ = try await Broker.open(cluster.broker.redis)
    }

    private static func named(_ id: String, _ digest: ImageDigest) -> String {
        "{\"id\":\"\(id)\",\"image\":{\"sha256\":\"\(digest)\"},\"prompts\":[{\"points\":[[3,3]],\"labels\":[1]}]}"
    }

    /// A data set that was warmed once survives a Redis that comes back empty: nothing is encoded a second time.
    @Test(.timeLimit(.minutes(30)))
    func aDataSetSurvivesAnEmptyRedis() async throws {
        try await LiveCluster.run { cluster in
            let folder = "\(cluster.folder)/cache"
            let (before, after, decoding) = (Metrics(), Metrics(), Metrics())
            let encoder = try cluster.start(.encoder, "encoder", ["--cache-dir", folder] + before.arguments)
            try cluster.start(.decoder, "decoder", ["--cache-dir", folder] + decoding.arguments)
            try await cluster.ready("encoder", "decoder")
            let pictures = try TestPicture.draw(12, in: cluster.folder)
            #expect(try await cluster.kirie("cache", "warm", cluster.folder).exit == .status(0))
            let jobs = try cluster.write(
                pictures.enumerated().map { $1.line("\($0)", points: [(3, 3)]) }, to: "jobs.jsonl")
            let first = try await cluster.kirie("submit", "--jobs", jobs, "--wait")
            #expect(first.exit == .status(0), "\(first.complaint)")
            #expect(try await before.total("kirie_encodes_total{outcome=\"embedding\"}") == 12)
            #expect(Self.files(in: folder).count == 12)
            let bytes = try await before.total("kirie_cache_dir_bytes")
            #expect(try bytes == EmbeddingFolder(reading: folder).byteCount())
            #expect(try await before.total("kirie_cache_dir_written_bytes_total") == bytes)
            #expect(try await before.total("kirie_cache_dir_misses_total") == 12)
            encoder.signal(SIGTERM)
            #expect(await encoder.waitForExit() == .status(0))

            try await Self.empty(cluster)
            try cluster.start(.encoder, "heir", ["--cache-dir", folder] + after.arguments)
            try await cluster.ready("heir", "decoder")
            let warm = try await cluster.kirie("cache", "warm", cluster.folder, "--json")
            #expect(warm.exit == .status(0) && warm.json.contains("\"encoded\":12"), "\(warm.json) \(warm.complaint)")
            #expect(try await Self.embeddings(cluster).count == 12)
            let second = try await cluster.kirie("submit", "--jobs", jobs, "--wait")
            #expect(second.exit == .status(0), "\(second.complaint)")
            let answers = [first, second].map { run in
                Dictionary(
                    uniqueKeysWithValues: run.lines.map { ($0.id ?? "", $0.masks?.first?.segmentation?.counts ?? "") })
            }
            #expect(answers[0] == answers[1] && answers[0].count == 12)
            #expect(try await after.total("kirie_encodes_total{outcome=\"embedding\"}") == 0)
            #expect(try await after.total("kirie_cache_dir_hits_total") == 12)
            #expect(try await after.total("kirie_encodes_total{outcome=\"kept\"}") == 12)
            try await cluster.expectNothingLeft()
        }
    }

    /// What Redis evicts is answered from the folder, whether its jobs wait for it or have been taken already.
    @Test(.timeLimit(.minutes(30)))
    func whatRedisEvictsIsAnsweredFromTheFolder() async throws {
        try await LiveCluster.run(.init(memoryPolicy: "volatile-lru")) { cluster in
            let folder = "\(cluster.folder)/cache"
            let (encoding, decoding) = (Metrics(), Metrics())
            try cluster.start(.encoder, "encoder", ["--cache-dir", folder] + encoding.arguments)
            let decoder = try cluster.start(
                .decoder, "decoder", ["--cache-dir", folder, "--cache-bytes", "0"] + decoding.arguments)
            try await cluster.ready("encoder", "decoder")
            let pictures = try TestPicture.draw(6, in: cluster.folder)
            #expect(try await cluster.kirie("cache", "warm", cluster.folder).exit == .status(0))
            func evictAll() async throws {
                let redis = cluster.broker.redis
                _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "1"))
                try await eventually("all embeddings are evicted") {
                    try await redis.ping()
                    return try await Self.embeddings(cluster).isEmpty
                }
                _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "0"))
            }
            try await evictAll()
            let jobs = try cluster.write(
                pictures.enumerated().map { $1.line("w\($0)", points: [(3, 3)]) }, to: "w.jsonl")
            let waited = try await cluster.kirie("submit", "--jobs", jobs, "--wait")
            #expect(waited.exit == .status(0), "\(waited.complaint)")
            #expect(try await encoding.total("kirie_encodes_total{outcome=\"embedding\"}") == 6)
            #expect(try await encoding.total("kirie_cache_dir_hits_total") == 6)

            // Queued for a decoder that is stopped while they go.
            try await decoder.stop()
            let lines = pictures.enumerated().map { $1.line("q\($0)", points: [(5, 5)]) }
            let queued = try await cluster.kirie("submit", "--jobs", try cluster.write(lines, to: "q.jsonl"))
            #expect(queued.exit == .status(0), "\(queued.complaint)")
            try await evictAll()
            decoder.signal(SIGCONT)
            try await cluster.reach(
                .done, pictures.enumerated().map { cluster.reference("q\($0)", $1.digest) })
            #expect(try await encoding.total("kirie_encodes_total{outcome=\"embedding\"}") == 6)
            #expect(try await decoding.total("kirie_cache_dir_hits_total") >= 1)
            try await cluster.expectNothingLeft()
        }
    }

    /// The folder answers who may name a picture and nobody else, as Redis does.
    @Test(.timeLimit(.minutes(30)))
    func theFolderIsNoWayToAnothersPicture() async throws {
        try await LiveCluster.run { cluster in
            let folder = "\(cluster.folder)/cache"
            let metrics = Metrics()
            try cluster.start(.encoder, "encoder", ["--cache-dir", folder] + metrics.arguments)
            try cluster.start(.decoder, "decoder", ["--cache-dir", folder])
            try await cluster.ready("encoder", "decoder")
            let picture = try TestPicture(1, in: cluster.folder)
            let sent = try cluster.write([picture.line("sent", points: [(3, 3)])], to: "sent.jsonl")
            let byHash = try cluster.write([Self.named("hash", picture.digest)], to: "hash.jsonl")
            let nobodys = try cluster.write(
                [
                    Self.named("hash", picture.digest)
                        .replacing("\(picture.digest)", with: String(repeating: "0", count: 64))
                ], to: "nobody.jsonl")
            func refused(_ tenant: String) async throws {
                let run = try await cluster.kirie("submit", "--jobs", byHash, "--wait", "--tenant", tenant)
                let unknown = try await cluster.kirie("submit", "--jobs", nobodys, "--wait", "--tenant", tenant)
                #expect(run.exit == .status(1) && run.lines.first?.field == "image", "\(tenant): \(run.json)")
                #expect(
                    run.json.replacing("\(picture.digest)", with: "?")
                        == unknown.json.replacing(String(repeating: "0", count: 64), with: "?"))
            }
            #expect(
                try await cluster.kirie("submit", "--jobs", sent, "--wait", "--tenant", "a").exit == .status(0))
            try await refused("b")
            // With Redis goes what is known of who has sent what; the folder has the embedding, and tells nobody.
            try await Self.empty(cluster)
            try await cluster.ready("encoder", "decoder")
            try await refused("b")
            try await refused("a")
            #expect(Self.files(in: folder).count == 1)
            #expect(try await metrics.total("kirie_cache_dir_hits_total") == 0)
            // Who sends the bytes has it, from the folder.
            #expect(
                try await cluster.kirie("submit", "--jobs", sent, "--wait", "--tenant", "b").exit == .status(0))
            try await refused("a")
            #expect(try await metrics.total("kirie_cache_dir_hits_total") == 1)
            #expect(try await metrics.total("kirie_encodes_total{outcome=\"embedding\"}") == 1)
            // One that was imported is no way either.
            try await Self.empty(cluster)
            try await cluster.ready("encoder", "decoder")
            #expect(try await cluster.kirie("cache", "warm", "--import", folder).exit == .status(0))
            try await refused("b")
            try await cluster.expectNothingLeft()
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func whatIsExportedCanBeImported() async throws {
        try await LiveCluster.run { cluster in
            let metrics = Metrics()
            let encoder = try cluster.start(.encoder, "encoder", metrics.arguments)
            try cluster.start(.decoder, "decoder")
            try await cluster.ready("encoder", "decoder")
            let pictures = try TestPicture.draw(5, in: cluster.folder)
            let files = "\(cluster.folder)/embeddings"
            let warm = try await cluster.kirie("cache", "warm", cluster.folder, "--export", files)
            #expect(warm.exit == .status(0), "\(warm.complaint)")
            #expect(warm.complaint.contains("5 embeddings are in"), "\(warm.complaint)")
            let jobs = try cluster.write(
                pictures.enumerated().map { $1.line("\($0)", points: [(3, 3)]) }, to: "jobs.jsonl")
            let before = try await cluster.kirie("submit", "--jobs", jobs, "--wait")
            encoder.signal(SIGTERM)
            #expect(await encoder.waitForExit() == .status(0))

            // Into an empty Redis; nobody is there who could encode.
            try await Self.empty(cluster)
            try await cluster.ready("decoder")
            let imported = try await cluster.kirie("cache", "warm", "--import", files)
            #expect(
                imported.exit == .status(0) && imported.complaint.contains("5 embeddings of"), "\(imported.complaint)")
            #expect(try await Self.embeddings(cluster).count == 5)
            #expect(!imported.complaint.contains("importing"), "progress where nobody looks: \(imported.complaint)")
            // On a terminal, how far it is.
            let screen = "\(cluster.folder)/screen"
            var options = ChildProcess.Options(output: .file("\(cluster.folder)/script.log"))
            options.environment = cluster.connection(of: "cache")
            options.environment["KIRIE"] = KirieProcess.executable.path
            let terminal = try ChildProcess.start(
                "/usr/bin/env",
                ["script", "-q", "-e", "-c", "stty cols 120; \"$KIRIE\" cache warm --import \(files)", screen], options)
            #expect(await terminal.waitForExit() == .status(0))
            let drawn = try String(contentsOfFile: screen, encoding: .utf8)
            #expect(drawn.contains("importing █") && drawn.contains(" of 5 "), "\(drawn)")
            let model = try InProcessMasks().model
            _ = try await cluster.broker.redis.send(
                RedisCommand("HSET", "kirie:models", "default", .string(model.text)))
            let after = try await cluster.kirie("submit", "--jobs", jobs, "--wait")
            #expect(after.exit == .status(0), "\(after.json) \(after.complaint)")
            let answers = [before, after].map { run in
                Set(run.lines.map { "\($0.id ?? "") \($0.masks?.first?.segmentation?.counts ?? "")" })
            }
            #expect(answers[0] == answers[1] && answers[0].count == 5)

            // A second import finds all there, and counts nothing twice.
            let stored = try await Self.stored(cluster)
            let second = try await cluster.kirie("cache", "warm", "--import", files)
            #expect(second.exit == .status(0) && second.complaint.contains("5 embeddings of"), "\(second.complaint)")
            #expect(try await Self.stored(cluster) == stored && stored >= 5)

            // A torn file is said and stays, the others come.
            let torn = try #require(Self.files(in: files).first)
            try Data([1, 2, 3]).write(to: URL(fileURLWithPath: "\(files)/\(torn)"))
            let damaged = try await cluster.kirie("cache", "warm", "--import", files)
            #expect(damaged.exit == .status(1) && damaged.complaint.contains("is damaged"), "\(damaged.complaint)")
            #expect(damaged.complaint.contains("4 embeddings of") && Self.files(in: files).count == 5)
            let none = try await cluster.kirie("cache", "warm", "--import", "\(cluster.folder)/none")
            #expect(none.exit == .status(1) && none.complaint.contains("none"), "\(none.complaint)")
        }
    }

    /// How many embeddings were ever put there, by `kirie cache stats`.
    private static func stored(_ cluster: LiveCluster) async throws -> Int {
        struct Figures: Decodable { var stores: Int }
        let run = try await cluster.kirie("cache", "stats", "--json")
        return try JSONDecoder().decode(Figures.self, from: Data(run.json.utf8)).stores
    }

    /// Encoders that share a folder are killed while they work: what has a name in it is whole.
    @Test(.timeLimit(.minutes(30)))
    func killedWritersLeaveNoHalfRecords() async throws {
        let seed = UInt64.random(in: 1...999_999)
        print("cache folder and kills, seed \(seed)")
        var random = SeededGenerator(seed)
        try await LiveCluster.run(settings: ["attempts": 1000]) { cluster in
            let folder = "\(cluster.folder)/cache"
            var encoders = try (0..<2).map {
                try cluster.start(.encoder, "encoder-\($0)", lease: 1, ["--cache-dir", folder])
            }
            try await cluster.ready("encoder-0", "encoder-1")
            let pictures = try TestPicture.draw(60, seed: seed, in: cluster.folder)
            try await withThrowingTaskGroup(of: KirieRun.self) { group in
                group.addTask { try await cluster.kirie("cache", "warm", cluster.folder) }
                for kill in 0..<8 {
                    let before = try await cluster.total("encode_finished")
                    let more = Int.random(in: 1...4, using: &random)
                    try await eventually("\(more) more encodes") {
                        try await cluster.total("encode_finished") >= min(before + more, 58)
                    }
                    let victim = Int.random(in: 0..<2, using: &random)
                    encoders[victim].signal(SIGKILL)
                    await encoders[victim].waitForExit()
                    encoders[victim] = try cluster.start(
                        .encoder, "heir-\(kill)", lease: 1, ["--cache-dir", folder])
                }
                for try await run in group { #expect(run.exit == .status(0), "\(run.complaint)") }
            }
            let kept = try EmbeddingFolder(folder, byteLimit: 1 << 30)
            let keys = kept.keys()
            // What was published was on the disk before.
            #expect(Set(keys.map(\.image)) == Set(pictures.map(\.digest)))
            for key in keys { #expect(kept.record(for: key) != nil, "\(key) is not whole") }
            #expect(kept.countedBytes == kept.byteCount())
        }
    }

    /// A writer that is killed in the middle of a file leaves no record, and its picture is encoded by another.
    @Test(.timeLimit(.minutes(30)))
    func aWriterThatDiesWithinAFileLeavesNoRecord() async throws {
        try await LiveCluster.run(settings: ["attempts": 1000]) { cluster in
            let folder = "\(cluster.folder)/cache"
            // A file is there for a few milliseconds before it has its name: another picture until one was caught then.
            var caught: TestPicture?
            for number in 0..<300 where caught == nil {
                let name = "victim-\(number)"
                let victim = try cluster.start(.encoder, name, lease: 1, ["--cache-dir", folder])
                try await cluster.ready(name)
                let picture = try TestPicture(number, in: cluster.folder)
                let place = "\(folder)/\("\(picture.digest)".prefix(2))"
                let run = try await cluster.kirie("submit", picture.path, "--point", "3,3")
                #expect(run.exit == .status(0), "\(run.complaint)")
                let deadline = ContinuousClock.now + .hang
                while ContinuousClock.now < deadline {
                    let names = (try? FileManager.default.contentsOfDirectory(atPath: place)) ?? []
                    if names.contains(where: { $0.hasPrefix("\(picture.digest)") }) { break }
                }
                victim.signal(SIGKILL)
                await victim.waitForExit()
                let names = try FileManager.default.contentsOfDirectory(atPath: place)
                    .filter { $0.hasPrefix("\(picture.digest)") }
                if names.count == 1, names[0].hasSuffix(".partial") { caught = picture }
            }
            let picture = try #require(caught, "none of 300 was killed while it wrote")
            let metrics = Metrics()
            try cluster.start(.encoder, "heir", ["--cache-dir", folder] + metrics.arguments)
            try cluster.start(.decoder, "decoder", ["--cache-dir", folder])
            let done = try await cluster.kirie("submit", picture.path, "--point", "3,3", "--wait")
            #expect(done.exit == .status(0), "\(done.json) \(done.complaint)")
            #expect(try await metrics.total("kirie_encodes_total{outcome=\"embedding\"}") >= 1)
            let kept = try EmbeddingFolder(reading: folder)
            #expect(kept.keys().contains { $0.image == picture.digest })
            for key in kept.keys() { #expect(kept.record(for: key) != nil, "\(key) is not whole") }
        }
    }

    /// Two encoders keep one folder within the lesser of their limits, and a place that is none is said at the start.
    @Test(.timeLimit(.minutes(30)))
    func twoProcessesKeepOneBound() async throws {
        try await LiveCluster.run { cluster in
            let folder = "\(cluster.folder)/cache"
            for name in ["encoder-0", "encoder-1"] {
                try cluster.start(.encoder, name, ["--cache-dir", folder, "--cache-dir-bytes", "70000"])
            }
            try await cluster.ready("encoder-0", "encoder-1")
            _ = try TestPicture.draw(40, in: cluster.folder)
            #expect(try await cluster.kirie("cache", "warm", cluster.folder).exit == .status(0))
            let kept = try EmbeddingFolder(reading: folder)
            #expect((1...70_000).contains(kept.byteCount()), "\(kept.byteCount()) bytes")
            for key in kept.keys() { #expect(kept.record(for: key) != nil) }
            let refused = try await cluster.kirie("encoder", "--cache-dir", "/proc/none")
            #expect(refused.exit == .status(1) && refused.complaint.contains("/proc/none"), "\(refused.complaint)")
            for options in [["--cache-dir-bytes", "0"], ["--cache-dir", ""]] {
                #expect(try await cluster.kirie(["decoder"] + options).exit == .status(2))
            }
        }
    }

    /// A disk that is full is said once, costs no job anything, and is used again when it has room.
    @Test(.timeLimit(.minutes(30)))
    func aFullDiskIsSaidOnceAndWorkGoesOn() async throws {
        let disk = try await SmallDisk(megabytes: 4)
        defer { disk.remove() }
        try await LiveCluster.run { cluster in
            let folder = "\(disk.data)/cache"
            let metrics = Metrics()
            try cluster.start(.encoder, "encoder", ["--cache-dir", folder] + metrics.arguments)
            try await cluster.ready("encoder")
            func log() throws -> String { try String(contentsOfFile: "\(cluster.folder)/encoder.log", encoding: .utf8) }
            try disk.fill()
            _ = try TestPicture.draw(8, in: cluster.folder)
            let full = try await cluster.kirie("cache", "warm", cluster.folder)
            #expect(full.exit == .status(0), "\(full.complaint)")
            var said = try log()
            #expect(said.matches(of: #/takes nothing/#).count == 1, "\(said)")
            #expect(said.contains("No space left on device"), "\(said)")
            #expect(try await metrics.total("kirie_cache_dir_faults_total") == 8)
            #expect(try EmbeddingFolder(reading: folder).keys().isEmpty)
            #expect(Self.files(in: folder, ending: ".partial").isEmpty)

            try disk.free()
            _ = try TestPicture.draw(4, seed: 2, in: cluster.folder)
            #expect(try await cluster.kirie("cache", "warm", cluster.folder).exit == .status(0))
            said = try log()
            #expect(said.contains("takes embeddings again"), "\(said)")
            // With records in it the folder makes room for others on a disk that is smaller than its limit.
            try disk.fill()
            _ = try TestPicture.draw(2, seed: 3, in: cluster.folder)
            #expect(try await cluster.kirie("cache", "warm", cluster.folder).exit == .status(0))
            said = try log()
            #expect(said.matches(of: #/takes nothing/#).count == 1, "\(said)")
            let kept = try EmbeddingFolder(reading: folder)
            #expect(kept.keys().count >= 2)
            for key in kept.keys() { #expect(kept.record(for: key) != nil) }
        }
    }
}
