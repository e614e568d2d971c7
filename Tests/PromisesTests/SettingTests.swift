import Cluster
import Foundation
import FoundationNetworking
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// What operators set around Redis, with real processes: versions, passwords, replicas that have to have a job.
@Suite(.serialized) struct SettingTests {
    /// Runs a command with an environment of its own.
    private static func run(
        _ arguments: [String], _ environment: [String: String], in folder: String
    ) async throws -> KirieRun {
        let log = "\(folder)/\(UUID().uuidString).log"
        let process = try start(arguments, environment, log: log)
        let exit = try await within(.hang, "the end of kirie \(arguments[0])") { await process.waitForExit() }
        return try KirieRun(exit: exit, file: log)
    }

    private static func start(
        _ arguments: [String], _ environment: [String: String], log: String
    ) throws -> ChildProcess {
        var options = ChildProcess.Options(output: .file(log))
        options.environment = environment.merging(["KIRIE_MODEL": KirieProcess.nano]) { own, _ in own }
        return try ChildProcess.start(KirieProcess.executable.path, arguments, options)
    }

    /// A listener that says what Redis 6.2 says at a login; a redis-server of that age is not to be had here.
    @Test(.timeLimit(.minutes(5)), arguments: [["encoder"], ["decoder"], ["queues"], ["submit", "--point", "1,1"]])
    func aRedisThatIsTooOldIsRefused(_ command: [String]) async throws {
        let folder = try TemporaryDirectory()
        let old = try FakeServer([
            .read,
            .write("*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n6.2.14\r\n+OK\r\n+PONG\r\n"), .hang,
        ])
        let arguments = command[0] == "submit" ? command + [KirieProcess.landscape] : command
        let run = try await Self.run(arguments, ["KIRIE_REDIS": "\(old.url)"], in: folder.file(""))
        #expect(run.exit == .status(1), "\(run.complaint)")
        #expect(run.complaint.contains("6.2.14") && run.complaint.contains("7"), "\(run.complaint)")
    }

    /// Embeddings in a Redis of their own that asks for a password.
    @Test(.timeLimit(.minutes(10)))
    func aCacheRedisMayHaveAPassword() async throws {
        try await LiveCluster.run { cluster in
            let cache = try await RedisServerProcess.start(.init(listener: .tcp, password: "secret-of-the-cache"))
            defer { withExtendedLifetime(cache) {} }
            guard case .tcp(let host, let port) = cache.url.endpoint else { return }
            let elsewhere = ["--cache-redis", "redis://\(host):\(port)"]
            func environment(_ command: String) -> [String: String] {
                cluster.connection(of: command).merging(["KIRIE_CACHE_REDIS_PASSWORD": "secret-of-the-cache"]) { $1 }
            }
            var workers: [ChildProcess] = []
            for role in ["encoder", "decoder"] {
                workers.append(
                    try Self.start(
                        [role, "--name", role, "--threads", "1"] + elsewhere, environment(role),
                        log: "\(cluster.folder)/\(role).log"))
            }
            defer { for worker in workers { worker.signal(SIGKILL) } }
            try await cluster.ready("encoder", "decoder")
            let picture = try TestPicture(1, in: cluster.folder)
            let done = try await cluster.kirie("submit", picture.path, "--point", "3,3", "--wait")
            #expect(done.exit == .status(0), "\(done.json) \(done.complaint)")
            let kept = try await RedisClient.connect(cache.url)
            var names: [String] = []
            try await kept.scan(match: "kirie:*:embedding:*") { names += $0.map(\.string) }
            kept.close()
            #expect(Set(names).count == 1)
            let dropped = try await Self.run(
                ["cache", "drop", "--all"] + elsewhere, environment("cache"), in: cluster.folder)
            #expect(dropped.exit == .status(0), "\(dropped.complaint)")
            for role in ["encoder", "decoder"] {
                let log = try String(contentsOfFile: "\(cluster.folder)/\(role).log", encoding: .utf8)
                #expect(!log.contains("secret-of-the-cache"))
            }
            var wrong = environment("cache")
            wrong["KIRIE_CACHE_REDIS_PASSWORD"] = "another"
            let refused = try await Self.run(["cache", "stats"] + elsewhere, wrong, in: cluster.folder)
            #expect(refused.exit != .status(0) && !refused.complaint.isEmpty, "\(refused.complaint)")
            #expect(!refused.complaint.contains("another"))
        }
    }

    /// Sentinels that ask for a password of their own.
    @Test(.timeLimit(.minutes(10)))
    func sentinelsMayHaveAPassword() async throws {
        let folder = try TemporaryDirectory()
        let servers = try await RedisSentinelProcesses.start(replicas: 1, sentinels: 1)
        defer { withExtendedLifetime(servers) {} }
        try await RedisClusterProcess.ask(
            servers.sentinels[0], [RedisCommand("ACL", "SETUSER", "default", "resetpass", ">of-the-sentinels")])
        let environment = ["KIRIE_REDIS": "\(servers.url)", "KIRIE_REDIS_SENTINEL_PASSWORD": "of-the-sentinels"]
        let run = try await Self.run(["queues", "--partitions", "4", "--json"], environment, in: folder.file(""))
        #expect(run.exit == .status(0), "\(run.complaint)")
        let refused = try await Self.run(
            ["queues", "--json"], ["KIRIE_REDIS": "\(servers.url)"], in: folder.file(""))
        #expect(refused.exit == .status(75), "\(refused.exit) \(refused.complaint)")
        #expect(refused.complaint.contains("it wants a password"), "\(refused.complaint)")
    }

    /// Over HTTP a job that too few replicas have is refused, with a time to come back, and is done once when they have it.
    @Test(.timeLimit(.minutes(10)))
    func replicasHaveToHaveAJobOverHTTP() async throws {
        // A server that a plain replica can follow.
        try await LiveCluster.run(on: try await RedisServerProcess.start(.init(listener: .tcp))) { cluster in
            try cluster.start(.encoder, "encoder")
            try cluster.start(.decoder, "decoder")
            try await cluster.ready("encoder", "decoder")
            _ = try cluster.start(
                ["gateway", "--listen", "127.0.0.1:0", "--wait-replicas", "1", "--wait-replicas-limit", "0.2"],
                log: "gateway.log")
            var address = ""
            try await eventually("it serves") {
                let log = try String(contentsOfFile: "\(cluster.folder)/gateway.log", encoding: .utf8)
                address = log.firstMatch(of: #/KIRIE_GATEWAY=(http:\S*)\//#).map { String($0.1) } ?? ""
                return !address.isEmpty
            }
            let picture = try TestPicture(1, in: cluster.folder)
            let image = Data(picture.bytes).base64EncodedString()
            let line = "{\"id\":\"one\",\"image\":{\"base64\":\"\(image)\"},\"prompts\":[{\"points\":[[3,3]]}]}"
            func post() async throws -> (status: Int, retry: String?, text: String) {
                var request = URLRequest(url: try #require(URL(string: "\(address)/v1/segment")))
                request.httpMethod = "POST"
                request.httpBody = Data(line.utf8)
                request.setValue("application/json", forHTTPHeaderField: "Content-Type")
                let (data, response) = try await URLSession.shared.data(for: request)
                let http = try #require(response as? HTTPURLResponse)
                let retry = http.value(forHTTPHeaderField: "Retry-After")
                return (http.statusCode, retry, String(decoding: data, as: UTF8.self))
            }
            let refused = try await post()
            #expect(refused.status == 503 && Int(refused.retry ?? "") ?? 0 > 0, "\(refused)")
            #expect(refused.text.contains("replica"), "\(refused)")
            guard case .tcp(let host, let port) = cluster.server.url.endpoint else { return }
            let replica = try await RedisServerProcess.start(
                .init(listener: .tcp, settings: ["replicaof \(host) \(port)"]))
            defer { withExtendedLifetime(replica) {} }
            var answer = refused
            try await eventually("the replica has it") {
                answer = try await post()
                return answer.status == 200
            }
            #expect(answer.text.contains("\"id\":\"one\""), "\(answer)")
            #expect(try await cluster.totalOfLanes("done") == 1)
        }
    }
}
