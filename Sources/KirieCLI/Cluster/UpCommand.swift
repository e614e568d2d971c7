import ArgumentParser
import Cluster
import Glibc
import Processes
import Redis
import Tensors

struct UpCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up",
        abstract: "Run a whole cluster on this machine: a private redis-server, encoders and decoders.",
        discussion: """
            kirie up                                   then, in another terminal:
            kirie submit photo.jpg --point 920,560 --wait
            kirie queues --watch

            Redis listens on a Unix socket in the data folder, which survives: jobs that were accepted are finished after
            a restart. A worker that crashes is started again. Ctrl-C or SIGTERM drains the workers and stops Redis.
            When the cluster is ready, one line is printed on standard output: KIRIE_REDIS=unix:///…
            """)

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The folder for Redis's data, its socket and the logs. Default: $XDG_DATA_HOME/kirie/cluster.",
            valueName: "folder"))
    var data: String?

    @Option(name: .long, help: "Encoder workers.")
    var encoders = 1

    @Option(name: .long, help: "Decoder workers. Default: one for each four processors, at least one.")
    var decoders: Int?

    @Option(
        name: .customLong("redis-memory"),
        help: ArgumentHelp(
            "Redis's maxmemory in bytes; embeddings go when it is reached. Default: a quarter of the memory.",
            valueName: "bytes"))
    var redisMemory: Int?

    @Option(
        name: .customLong("appendfsync"),
        help: "When Redis's append-only file is flushed: always (nothing accepted is ever lost), everysec or no.")
    var appendFsync: AppendFsync = .everysec

    @Option(
        name: .customLong("cache-bytes"), help: ArgumentHelp("Of each decoder; see `kirie decoder`.", valueName: "n"))
    var cacheBytes = 1 << 30

    @Option(
        name: .long, help: ArgumentHelp("Of each worker; see `kirie encoder`.", valueName: "seconds"),
        transform: DecimalNumber.argument)
    var lease = 15.0

    @Option(
        name: .customLong("metrics-port"),
        help: ArgumentHelp("Serve each worker's metrics, from this port upwards.", valueName: "port"))
    var metricsPort: Int?

    @OptionGroup var model: ModelOptions

    enum AppendFsync: String, ExpressibleByArgument, CaseIterable { case always, everysec, no }

    func validate() throws {
        if !(0...256).contains(encoders) { throw ValidationError("--encoders takes a number from 0 to 256.") }
        if let decoders, !(0...256).contains(decoders) {
            throw ValidationError("--decoders takes a number from 0 to 256.")
        }
        if let redisMemory, redisMemory < 64 << 20 {
            throw ValidationError("--redis-memory takes at least 67108864 bytes.")
        }
        if !(0.05...86_400).contains(lease) { throw ValidationError("--lease takes seconds from 0.05 to 86400.") }
        if let metricsPort, !(1...65_000).contains(metricsPort) {
            throw ValidationError("--metrics-port takes a number from 1 to 65000.")
        }
    }

    func run() async throws {
        // What is wrong with the model is said here once, not by every worker over and over.
        _ = try model.open()
        let folder = ClusterFolder(path: try data.map(Self.absolute) ?? ClusterFolder.standard.path)
        try folder.prepare()
        let lock = try folder.lock()
        defer { lock.release() }
        let signals = await StopSignals.trapped()
        let redis = LocalRedis(
            folder: folder, memory: redisMemory ?? Self.quarterOfMemory, appendFsync: appendFsync.rawValue)
        try redis.prepare()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await redis.keepRunning() }
            let workers = makeWorkers(folder)
            do {
                let client = try await redis.connect { signals.wasRaised }
                let broker = try await Broker.open(client)
                for worker in workers { group.addTask { await worker.keepRunning() } }
                group.addTask { try await announce(broker, folder, workers: workers.count) }
                await signals.next()
                Terminal.complain("kirie up: draining; once more stops at once")
                client.close()
            } catch  where !(error is CancellationError) {
                await stop(workers, redis, signals)
                throw error
            } catch {}
            await stop(workers, redis, signals)
            group.cancelAll()
        }
        Terminal.complain("kirie up: stopped; the data stays in \(folder.path)")
    }

    private func makeWorkers(_ folder: ClusterFolder) -> [Supervised] {
        let decoderCount = decoders ?? max(1, ThreadPool.availableProcessors / 4)
        let roles = (0..<encoders).map { ("encoder", $0 + 1) } + (0..<decoderCount).map { ("decoder", $0 + 1) }
        return roles.enumerated().map { index, role in
            Supervised(
                name: "\(role.0)-\(role.1)", program: Self.ownProgram, arguments: arguments(role.0, folder, index),
                log: folder.log("\(role.0)-\(role.1)"))
        }
    }

    /// Workers first, so that they can hand back what they hold; then Redis.
    private func stop(_ workers: [Supervised], _ redis: LocalRedis, _ signals: StopSignals) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await withTaskGroup(of: Void.self) { stops in
                    for worker in workers { stops.addTask { await worker.stop() } }
                }
            }
            group.addTask {
                await signals.next()
                if !Task.isCancelled { for worker in workers { worker.kill() } }
            }
            // Whichever is first; after a kill the group's end waits for the stops, which come at once.
            await group.next()
            group.cancelAll()
        }
        await redis.stop()
    }

    private func announce(_ broker: Broker, _ folder: ClusterFolder, workers count: Int) async throws {
        let registry = WorkerRegistry(broker)
        while !Task.isCancelled {
            let alive = (try? await registry.workers())?.filter { $0.age < WorkerRegistry.patience } ?? []
            if alive.count >= count { break }
            try await Task.sleep(for: .milliseconds(50))
        }
        Terminal.complain(
            "kirie up: ready, \(count) workers; logs in \(folder.path)/logs; Ctrl-C stops")
        try FileOutput.print(Array("KIRIE_REDIS=unix://\(folder.socket)\n".utf8))
    }

    private func arguments(_ role: String, _ folder: ClusterFolder, _ index: Int) -> [String] {
        var words = [role, "--redis", "unix://\(folder.socket)", "--lease", "\(lease)"]
        words += model.workerArguments
        if let threads = model.threads { words += ["--threads", "\(threads)"] }
        if let metricsPort { words += ["--metrics-port", "\(metricsPort + index)"] }
        if role == "decoder" { words += ["--cache-bytes", "\(cacheBytes)"] }
        return words
    }

    private static func absolute(_ path: String) throws -> String {
        if path.hasPrefix("/") { return path }
        guard let here = getcwd(nil, 0) else { return path }
        defer { free(here) }
        return "\(String(cString: here))/\(path)"
    }

    private static var quarterOfMemory: Int {
        max(256 << 20, sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)) / 4)
    }

    static var ownProgram: String {
        guard let path = realpath("/proc/self/exe", nil) else { return "kirie" }
        defer { free(path) }
        return String(cString: path)
    }
}
