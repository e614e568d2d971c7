import Cluster
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Testing

/// `kirie up`, as an operator meets it.
@Suite struct UpTests {
    /// A cluster on this machine, with the small model of the golden tests.
    private final class Up: Sendable {
        let run: ClientRun
        let folder: String

        init(folder: String, _ more: [String] = []) throws {
            self.folder = folder
            run = try ClientRun(
                ["up", "--data", folder, "--model", KirieProcess.nano, "--threads", "1"] + more,
                redis: nil)
        }

        var url: RedisURL { RedisURL(.unixSocket(path: "\(folder)/redis.sock")) }

        func waitUntilReady() async throws {
            try await eventually("the cluster is ready: \(run.complaint)") {
                run.output.contains("KIRIE_REDIS=unix://\(folder)/redis.sock\n")
            }
        }

        func kirie(_ arguments: [String]) async throws -> ClientRun.Ending {
            try await ClientRun(arguments, redis: url).end()
        }

        func workers() async throws -> [WorkerHeartbeat] {
            let broker = try await Broker.join(try await RedisClient.connect(url))
            return try await WorkerRegistry(broker).workers().map(\.heartbeat)
        }
    }

    private static func folder() -> String { "/tmp/kirie-up-\(UInt32.random(in: .min ... .max))" }

    @Test func oneCommandRunsAClusterWhoseDataSurvive() async throws {
        let folder = Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let up = try Up(folder: folder)
        try await up.waitUntilReady()
        let answer = try await up.kirie(["submit", KirieProcess.landscape, "--point", "60,70", "--wait"])
        #expect(answer.status == 0, "\(answer)")
        let id = try #require(answer.objects.first?["id"] as? String)

        let second = try Up(folder: folder)
        let refused = try await second.run.end()
        #expect(refused.status == 1 && refused.complaint.contains("another `kirie up` runs on it"), "\(refused)")

        up.run.child.signal(SIGINT)
        let ending = try await up.run.end()
        #expect(ending.status == 0 && ending.complaint.contains("the data stays in \(folder)"), "\(ending)")
        let logs = try String(contentsOfFile: "\(folder)/logs/decoder-1.log", encoding: .utf8)
        #expect(logs.contains("left"), "the decoder did not drain: \(logs)")

        let again = try Up(folder: folder)
        try await again.waitUntilReady()
        let status = try await again.kirie(["status", id])
        #expect(status.objects.first?["state"] as? String == "done", "\(status)")
        let cached = try await again.kirie(["cache", "stats", "--json"])
        #expect((cached.objects.first?["entries"] as? Int ?? 0) >= 1, "\(cached)")
        again.run.child.signal(SIGTERM)
        #expect(try await again.run.end().status == 0)
    }

    @Test func whatCrashesIsStartedAgain() async throws {
        let folder = Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let up = try Up(folder: folder, ["--appendfsync", "always"])
        try await up.waitUntilReady()
        let first = try await up.workers()
        for worker in first { kill(pid_t(worker.processIdentifier), SIGKILL) }
        let redis = try #require(try await RedisClient.connect(up.url).info("server").first?["process_id"])
        kill(try #require(pid_t(redis)), SIGKILL)
        let old = Set(first.map(\.processIdentifier))
        try await eventually("other workers are there") {
            guard let workers = try? await up.workers() else { return false }
            return Set(workers.map(\.processIdentifier)).subtracting(old).count == 2
        }
        let answer = try await up.kirie(["submit", KirieProcess.portrait, "--point", "60,70", "--wait"])
        #expect(answer.status == 0, "\(answer)")
        up.run.child.signal(SIGTERM)
        let ending = try await up.run.end()
        #expect(ending.status == 0 && ending.complaint.contains("redis-server ended with signal 9"), "\(ending)")
    }

    /// Killed, it cannot stop anything itself; what it started stops all the same.
    @Test func nothingOutlivesIt() async throws {
        let folder = Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let up = try Up(folder: folder)
        try await up.waitUntilReady()
        var processes = try await up.workers().map { pid_t($0.processIdentifier) }
        let redis = try #require(try await RedisClient.connect(up.url).info("server").first?["process_id"])
        processes.append(try #require(pid_t(redis)))
        up.run.child.signal(SIGKILL)
        // The next one waits for the end of that Redis, which it cannot signal.
        let again = try Up(folder: folder)
        try await eventually("all are gone") {
            processes.allSatisfy { kill($0, 0) != 0 && errno == ESRCH }
        }
        try await again.waitUntilReady()
        again.run.child.signal(SIGTERM)
        #expect(try await again.run.end().status == 0)
    }

    /// A kill cuts the log off within a transaction: all before it is there, and the half is not.
    @Test func aLogThatAKillCutIsMended() async throws {
        let folder = Self.folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let up = try Up(folder: folder, ["--appendfsync", "always"])
        try await up.waitUntilReady()
        let answer = try await up.kirie(["submit", KirieProcess.landscape, "--point", "60,70", "--wait"])
        let done = try #require(answer.objects.first?["id"] as? String)
        let accepted = try await up.kirie(["submit", KirieProcess.portrait, "--point", "60,70"])
        let waiting = try #require(accepted.objects.first?["id"] as? String)
        up.run.child.signal(SIGTERM)
        #expect(try await up.run.end().status == 0)

        let server = try ChildProcess.start(
            "/usr/bin/env", ["redis-server", "\(folder)/redis.conf"], .init(output: .file("\(folder)/logs/mine.log")))
        var client: RedisClient?
        try await eventually("the server has its data") {
            client = try? await RedisClient.connect(up.url)
            return client != nil
        }
        let redis = try #require(client)
        let script = "redis.call('SET', 'cut:a', '1') redis.call('SET', 'cut:b', '2')"
        _ = try await redis.send(RedisCommand("EVAL", .string(script), "0"))
        redis.close()
        server.signal(SIGKILL)
        await server.waitForExit()
        let file = URL(fileURLWithPath: "\(folder)/appendonlydir/appendonly.aof.1.incr.aof")
        let cut = try Data(contentsOf: file).dropLast(20)
        try cut.write(to: file)

        let again = try Up(folder: folder, ["--appendfsync", "always"])
        try await again.waitUntilReady()
        for words in ["ended in the middle of a transaction", "SET cut:a", "never confirmed", ".before-repair"] {
            #expect(again.run.complaint.contains(words), "\(again.run.complaint)")
        }
        #expect(try Data(contentsOf: file.appendingPathExtension("before-repair")) == cut)
        let status = try await again.kirie(["status", done])
        #expect(status.objects.first?["state"] as? String == "done", "\(status)")
        let ended = try await again.kirie(["wait", waiting])
        #expect(ended.status == 0, "\(ended)")
        let reader = try await RedisClient.connect(up.url)
        #expect(try await reader.send(RedisCommand("EXISTS", "cut:a", "cut:b")) == .integer(0))
        reader.close()
        again.run.child.signal(SIGTERM)
        #expect(try await again.run.end().status == 0)

        var damaged = try Data(contentsOf: file)
        let place = try #require(damaged.range(of: Data("\r\n*".utf8)))
        damaged[place.lowerBound + 2] = UInt8(ascii: "X")
        try damaged.write(to: file)
        let log = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/logs/redis.log"))
        let refused = try await Up(folder: folder).run.end()
        #expect(refused.status == 1, "\(refused)")
        #expect(refused.complaint.contains("damaged at byte \(place.lowerBound + 2)"), "\(refused)")
        #expect(refused.complaint.contains("put back a backup"), "\(refused)")
        #expect(try Data(contentsOf: file) == damaged)
        #expect(try Data(contentsOf: URL(fileURLWithPath: "\(folder)/logs/redis.log")) == log, "a Redis was started")
    }

    @Test func aBadFolderOrModelIsSaidAtOnce() async throws {
        let long = "/tmp/" + String(repeating: "x", count: 120)
        let tooLong = try await ClientRun(["up", "--data", long], redis: nil).end()
        #expect(tooLong.status == 1 && tooLong.complaint.contains("too long for a Unix socket"), "\(tooLong)")
        let file = try TemporaryDirectory()
        let path = try file.write("x".utf8, to: "file")
        let noFolder = try await ClientRun(["up", "--data", "\(path)/data"], redis: nil).end()
        #expect(noFolder.status == 1 && noFolder.complaint.contains("cannot be made"), "\(noFolder)")
        let noModel = try await ClientRun(["up", "--data", file.file("data"), "--model", "/no/such.pth"], redis: nil)
            .end()
        #expect(noModel.status == 1 && noModel.complaint.contains("/no/such.pth"), "\(noModel)")
    }
}

/// What a worker tells of itself over HTTP.
@Suite struct MonitoringTests {
    @Test func healthAndMetricsAreServed() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let port = try RedisServerProcess.freePort()
        let decoder = try ClientRun(
            ["decoder", "--model", KirieProcess.nano, "--threads", "1", "--metrics-port", "\(port)"], redis: server.url)
        let encoder = try ClientRun(["encoder", "--model", KirieProcess.nano, "--threads", "1"], redis: server.url)
        func get(_ path: String) async throws -> (status: Int, body: String)? {
            let answer = try TemporaryDirectory()
            let child = try ChildProcess.start(
                "/usr/bin/env",
                ["curl", "-s", "-o", answer.file("body"), "-w", "%{http_code}", "http://127.0.0.1:\(port)/\(path)"],
                .init(output: .file(answer.file("status"))))
            await child.waitForExit()
            let status = (try? String(contentsOfFile: answer.file("status"), encoding: .utf8)).flatMap { Int($0) } ?? 0
            return (status, (try? String(contentsOfFile: answer.file("body"), encoding: .utf8)) ?? "")
        }
        try await eventually("the worker is ready") { try await get("readyz")?.status == 200 }
        let job = try await ClientRun(
            ["submit", KirieProcess.landscape, "--point", "60,70", "--wait"], redis: server.url
        ).end()
        #expect(job.status == 0, "\(job)")
        #expect(try await get("healthz")?.body == "ok\n")
        let metrics = try #require(try await get("metrics")?.body)
        for line in [
            "# TYPE kirie_jobs_total counter", "kirie_jobs_total{outcome=\"done\"} 1",
            "kirie_embedding_fetches_total 1", "kirie_decode_seconds_count 1", "# TYPE kirie_decode_seconds histogram",
        ] {
            #expect(metrics.contains("\(line)\n"), "\(line) is not in \(metrics)")
        }
        // Two seconds lie between two heartbeats of a worker, however slow the machine: less is a loop that does not wait.
        let redis = try await RedisClient.connect(server.url)
        let registry = WorkerRegistry(try await Broker.open(redis))
        var times: [String: Set<Int>] = [:]
        try await eventually("two workers have sent four heartbeats each") {
            for worker in try await registry.workers() {
                times[worker.heartbeat.name, default: []].insert(worker.heartbeat.at)
            }
            return times.count == 2 && times.values.allSatisfy { $0.count >= 4 }
        }
        for (worker, times) in times.mapValues({ $0.sorted() }) {
            let shortest = zip(times, times.dropFirst()).map { $1 - $0 }.min() ?? 0
            #expect(shortest > 1_900_000, "\(worker): two heartbeats within \(shortest) µs")
        }
        await server.kill()
        try await eventually("no heartbeat is confirmed any more") {
            try await get("readyz")?.status == 503
        }
        #expect(try await get("healthz")?.status == 200, "a Redis that is away is no reason to restart a worker")
        for run in [decoder, encoder] { run.child.signal(SIGTERM) }
    }
}
