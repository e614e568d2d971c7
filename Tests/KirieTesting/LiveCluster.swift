package import Cluster
package import ClusterTesting
import Foundation
import Glibc
package import Platform
import Redis
package import RedisTesting
package import Segmentation
import Synchronization
package import Testing

/// A real redis-server with real `kirie` processes around it, all of which end with the test.
package final class LiveCluster: Sendable {
    package let server: RedisServerProcess
    package let broker: Broker
    /// For pictures, job files and logs.
    package let folder: String
    /// Whether each process is the user of its role, over TLS.
    private let isGuarded: Bool
    private let processes = Mutex<[ChildProcess]>([])
    private let runs = Atomic(0)

    /// Starts a cluster, hands it to the test, and ends everything; where the test failed, says where its logs said
    /// what.
    ///
    /// The settings are those of every partition, see `Protocol.md`.
    package static func run(
        _ options: RedisServerProcess.Options = .init(), settings: [String: Int] = [:],
        _ body: (LiveCluster) async throws -> Void
    ) async throws {
        try #require(
            FileManager.default.isExecutableFile(atPath: KirieProcess.executable.path),
            "\(KirieProcess.executable.path) is not built: run deploy/test")
        try await run(on: try await server(options), settings: settings, body)
    }

    /// Whether every cluster is one of ``runGuarded(_:)``: with `KIRIE_TEST_GUARDED=1` in the environment.
    private static let areAllGuarded = ProcessInfo.processInfo.environment["KIRIE_TEST_GUARDED"] == "1"

    /// A server for ``run(on:settings:_:)``.
    package static func server(_ options: RedisServerProcess.Options) async throws -> RedisServerProcess {
        guard areAllGuarded else { return try await RedisServerProcess.start(options) }
        if !options.environment.isEmpty {
            // At another time than theirs it takes no certificates.
            print("KIRIE_TEST_GUARDED: not for a server whose clock a test moves")
            return try await RedisServerProcess.start(options)
        }
        return try await RedisServerProcess.start(guarded(options))
    }

    private static func guarded(_ options: RedisServerProcess.Options) async throws -> RedisServerProcess.Options {
        var options = options
        options.tls = try await TLSCertificates()
        options.listener = .tcp
        options.password = "nobody"
        options.users += try RecommendedUsers.rules()
        return options
    }

    /// The same over TLS with certificates on both sides, every process under the user of its role that
    /// `deploy/README.md` recommends.
    package static func runGuarded(_ body: (LiveCluster) async throws -> Void) async throws {
        let options = try await guarded(.init(appendOnly: true, appendFsync: .always))
        try await run(on: try await RedisServerProcess.start(options), body)
    }

    /// The same on a server that was started already.
    package static func run(
        on server: RedisServerProcess, settings: [String: Int] = [:], _ body: (LiveCluster) async throws -> Void
    ) async throws {
        let broker = try await Broker.open(try await RedisClient.connect(server.url))
        try await broker.set(settings)
        let cluster = try LiveCluster(server: server, broker: broker)
        do {
            try await body(cluster)
            await cluster.end()
        } catch {
            cluster.showLogs()
            await cluster.end()
            throw error
        }
    }

    private init(server: RedisServerProcess, broker: Broker) throws {
        isGuarded = server.url.tls != nil
        self.server = server
        self.broker = broker
        folder = NSTemporaryDirectory() + "kirie-promise-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    private func end() async {
        for process in processes.withLock({ $0 }) {
            process.signal(SIGKILL)
            await process.waitForExit()
        }
        broker.redis.close()
        await server.kill()
        try? FileManager.default.removeItem(atPath: folder)
    }

    private func showLogs() {
        let logs = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        for name in logs.filter({ $0.hasSuffix(".log") }).sorted() {
            let text = (try? String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)) ?? ""
            print("--- \(name)\n\(text.suffix(1500))")
        }
    }

    // MARK: Processes

    /// Starts the program; what it prints goes to a file of the folder.
    package func start(_ arguments: [String], log: String) throws -> ChildProcess {
        var options = ChildProcess.Options(output: .file("\(folder)/\(log)"))
        options.environment = ["KIRIE_MODEL": KirieProcess.nano, "HOME": folder]
        options.environment.merge(connection(of: arguments.first ?? "")) { $1 }
        let process = try ChildProcess.start(KirieProcess.executable.path, arguments, options)
        processes.withLock { processes in
            processes.removeAll { !$0.isRunning }
            processes.append(process)
        }
        return process
    }

    /// The environment in which a command finds the cluster: as whom, and by what its process proves it.
    package func connection(of command: String) -> [String: String] {
        guard let tls = server.url.tls else { return ["KIRIE_REDIS": "\(server.url)"] }
        let role =
            switch command {
            case "encoder": "encoder"
            case "decoder": "decoder"
            case "gateway": "gateway"
            case "queues", "workers", "status", "wait": "monitor"
            case "dead", "cache", "tenants": "operator"
            default: "submitter"
            }
        return [
            "KIRIE_REDIS": address(as: role), "KIRIE_REDIS_PASSWORD": role,
            "KIRIE_REDIS_CA": tls.authorities ?? "", "KIRIE_REDIS_CERT": tls.certificate ?? "",
            "KIRIE_REDIS_KEY": tls.key ?? "",
        ]
    }

    /// Where a process finds the cluster: as one of ``RecommendedUsers`` where it is guarded.
    package func address(as role: String) -> String {
        guard isGuarded, case .tcp(let host, let port) = server.url.endpoint else { return "\(server.url)" }
        return "rediss://\(role)@\(host):\(port)"
    }

    /// Starts a worker under a name; see ``ready(_:)``.
    ///
    /// The lease is in seconds. Unless told otherwise no lease ends by itself while a test runs, however busy the
    /// machine is; where somebody dies with work in hand, see ``letRunOut(_:)``.
    @discardableResult
    package func start(
        _ role: WorkerHeartbeat.Role, _ name: String, lease: Double = 3600, _ arguments: [String] = []
    ) throws -> ChildProcess {
        try start(
            [role.rawValue, "--name", name, "--threads", "1", "--lease", "\(lease)"] + arguments, log: "\(name).log")
    }

    /// Returns when these workers have sent a heartbeat.
    package func ready(_ names: String...) async throws {
        try await eventually("heartbeats of \(names)") {
            let known = try await broker.redis.fields(broker.keys.workers)
            return names.allSatisfy { known[$0] != nil }
        }
    }

    /// Whether a worker is in the list of heartbeats.
    package func isListed(_ name: String) async throws -> Bool {
        try await broker.redis.fields(broker.keys.workers, [name])[0] != nil
    }

    /// Runs a command to its end.
    package func kirie(_ arguments: String...) async throws -> KirieRun { try await kirie(arguments) }

    /// Runs a command to its end.
    package func kirie(_ arguments: [String]) async throws -> KirieRun {
        let number = runs.add(1, ordering: .relaxed).newValue
        let log = "run-\(number).log"
        let process = try start(arguments, log: log)
        let exit = try await within(.hang, "the end of kirie \(arguments.joined(separator: " "))") {
            await process.waitForExit()
        }
        return try KirieRun(exit: exit, file: "\(folder)/\(log)")
    }

    /// Writes job lines for `kirie submit --jobs`.
    package func write(_ lines: [String], to name: String) throws -> String {
        let path = "\(folder)/\(name)"
        try (lines.joined(separator: "\n") + "\n").write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    // MARK: What the cluster says

    /// Where a job on a picture is.
    package func reference(_ id: String, _ image: ImageDigest) -> JobReference {
        JobReference(id: id, partition: broker.partition(of: image))
    }

    package func status(_ reference: JobReference) async throws -> JobStatus? {
        try await broker.status([reference])[0]
    }

    /// Returns when jobs are in a state.
    package func reach(_ state: JobState, _ references: [JobReference]) async throws {
        try await eventually("\(references.count) jobs \(state.rawValue)") {
            try await broker.status(references).allSatisfy { $0?.state == state }
        }
    }

    /// Ends the leases on these jobs: their holder has died, and nobody renews.
    package func letRunOut(_ references: [JobReference]) async throws {
        for reference in references {
            let leases = RedisArgument.string("\(broker.keys.prefix(reference.partition))leases")
            let member = RedisArgument.string("d:\(reference.id)")
            _ = try await broker.redis.send(RedisCommand("ZADD", leases, "XX", "0", member, repetition: .safe))
        }
    }

    /// Returns a job that is in work while its worker is stopped: neither ends until the test says so.
    ///
    /// `submit` submits the job of a number, a new one each time, to be tried again where it ended too soon.
    package func holdInWork(
        _ worker: ChildProcess, _ submit: (Int) async throws -> JobReference
    ) async throws -> JobReference {
        for number in 0..<1000 {
            let job = try await submit(number)
            try await eventually("the job is in work") {
                let state = try await status(job)?.state
                return state == .inWork || state?.isTerminal == true
            }
            try await worker.stop()
            // What it had sent before it stopped has been read by now.
            for _ in 0..<3 { try await broker.redis.ping() }
            if try await status(job)?.state == .inWork { return job }
            worker.signal(SIGCONT)
        }
        throw UnexpectedAnswer(description: "no job of a thousand was in work when its worker was stopped")
    }

    /// A total of all partitions.
    package func total(_ name: String) async throws -> Int { try await broker.statistics().total(name) }

    /// Sum of a total over both lanes.
    package func totalOfLanes(_ name: String) async throws -> Int {
        let statistics = try await broker.statistics()
        return Lane.allCases.reduce(0) { $0 + statistics.total("\(name):\($1.rawValue)") }
    }

    /// A figure of INFO.
    package func info(_ section: String, _ name: String) async throws -> Int {
        try await broker.redis.info(section)[0][name].flatMap { Int($0) } ?? -1
    }

    /// How many answers with an error such as `OOM` Redis gave since it was started.
    package func refusals(_ code: String) async throws -> Int {
        let found = try await broker.redis.info("errorstats")[0]["errorstat_\(code)"]
        return found.flatMap { Int($0.drop { $0 != "=" }.dropFirst()) } ?? 0
    }

    /// Expects that nothing is left, which workers may need a moment for: they drop stale entries as they reach them.
    @discardableResult
    package func expectNothingLeft(sourceLocation: SourceLocation = #_sourceLocation) async throws -> ClusterAudit {
        var audit = try await ClusterAudit(of: broker)
        let deadline = ContinuousClock.now + .hang
        while !audit.findings.isEmpty, ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(50))
            audit = try await ClusterAudit(of: broker)
        }
        #expect(audit.findings.isEmpty, "\(audit.findings.prefix(20))", sourceLocation: sourceLocation)
        return audit
    }
}
