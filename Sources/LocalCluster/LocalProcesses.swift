import Cluster
import Glibc
import Platform
import Redis
import Terminals

/// A whole cluster on this machine: a private redis-server, encoders, decoders and a gateway, each a process of its own
/// that is started again when it ends by itself.
package struct LocalProcesses: Sendable {
    /// What runs.
    package struct Settings: Sendable {
        /// For Redis's data, its socket and the logs.
        package let folder: ClusterFolder
        /// How many encoders and decoders.
        package let encoders, decoders: Int
        /// Bytes at which Redis evicts embeddings.
        package let redisMemory: Int
        /// When Redis's append-only file is flushed.
        package let appendFsync: String
        /// What every worker is told beside its role and its Redis.
        package let workerArguments: [String]
        /// What decoders are told besides.
        package let decoderArguments: [String]
        /// Of the first worker, those of the others follow; nil for none.
        package let metricsPort: Int?
        /// What the gateway is told beside its Redis; nil for no gateway.
        package let gatewayArguments: [String]?
        /// How many partitions the cluster has; nil for what it has already, or the usual number.
        package let partitions: Int?

        /// Settings of all their parts.
        package init(
            folder: ClusterFolder, encoders: Int, decoders: Int, redisMemory: Int, appendFsync: String,
            workerArguments: [String], decoderArguments: [String], metricsPort: Int?, gatewayArguments: [String]?,
            partitions: Int?
        ) {
            self.folder = folder
            self.encoders = encoders
            self.decoders = decoders
            self.redisMemory = redisMemory
            self.appendFsync = appendFsync
            self.workerArguments = workerArguments
            self.decoderArguments = decoderArguments
            self.metricsPort = metricsPort
            self.gatewayArguments = gatewayArguments
            self.partitions = partitions
        }
    }

    private let settings: Settings

    /// Processes that are started by ``run(onReady:)``.
    package init(_ settings: Settings) { self.settings = settings }

    /// Runs all of it until SIGINT or SIGTERM, then drains the workers and stops Redis; a second signal stops at once.
    ///
    /// - Parameter onReady: called with the path of Redis's socket and the gateway's address, where there is one, when
    ///   every worker has announced itself and the gateway listens.
    /// - Throws: ``ClusterFolderError`` where the folder cannot be used or is another cluster's.
    package func run(onReady: @escaping @Sendable (String, String?) throws -> Void) async throws {
        let folder = settings.folder
        try folder.prepare()
        let lock = try folder.lock()
        defer { lock.release() }
        let signals = await StopSignals.trapped()
        let redis = LocalRedis(folder: folder, memory: settings.redisMemory, appendFsync: settings.appendFsync)
        try await redis.prepare()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await redis.keepRunning() }
            let workers = makeWorkers()
            let gateway = makeGateway()
            do {
                let client = try await redis.connect { signals.wasRaised }
                let broker = try await Broker.open(client, partitions: settings.partitions)
                for process in workers + gateway { group.addTask { await process.keepRunning() } }
                group.addTask { try await announce(broker, workers: workers.count, onReady) }
                await signals.next()
                Terminal.complain("kirie up: draining; once more stops at once")
                client.close()
            } catch  where !(error is CancellationError) {
                await stop([gateway, workers], redis, signals)
                throw error
            } catch {}
            await stop([gateway, workers], redis, signals)
            group.cancelAll()
        }
        Terminal.complain("kirie up: stopped; the data stays in \(folder.path)")
    }

    private func makeWorkers() -> [Supervised] {
        let roles =
            (0..<settings.encoders).map { ("encoder", $0 + 1) } + (0..<settings.decoders).map { ("decoder", $0 + 1) }
        return roles.enumerated().map { index, role in
            let name = "\(role.0)-\(role.1)"
            return Supervised(
                name: name, program: ChildProcess.ownProgram, arguments: arguments(role.0, index),
                log: settings.folder.log(name))
        }
    }

    private func makeGateway() -> [Supervised] {
        guard let arguments = settings.gatewayArguments else { return [] }
        // An address of an earlier run is nobody's.
        unlink(settings.folder.gatewayAddress)
        return [
            Supervised(
                name: "gateway", program: ChildProcess.ownProgram,
                arguments: [
                    "gateway", "--redis", "unix://\(settings.folder.socket)", "--address-file",
                    settings.folder.gatewayAddress,
                ] + arguments, log: settings.folder.log("gateway"))
        ]
    }

    private func arguments(_ role: String, _ index: Int) -> [String] {
        var words = [role, "--redis", "unix://\(settings.folder.socket)"] + settings.workerArguments
        if let port = settings.metricsPort { words += ["--metrics-port", "\(port + index)"] }
        return role == "decoder" ? words + settings.decoderArguments : words
    }

    /// The gateway first, while workers still answer; then workers, so that they can hand back what they hold; then Redis.
    private func stop(_ stages: [[Supervised]], _ redis: LocalRedis, _ signals: StopSignals) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for stage in stages {
                    await withTaskGroup(of: Void.self) { stops in
                        for process in stage { stops.addTask { await process.stop() } }
                    }
                }
            }
            group.addTask {
                await signals.next()
                if !Task.isCancelled { for process in stages.joined() { process.kill() } }
            }
            // Whichever is first; after a kill the group's end waits for the stops, which come at once.
            await group.next()
            group.cancelAll()
        }
        await redis.stop()
    }

    private func announce(
        _ broker: Broker, workers count: Int, _ onReady: @Sendable (String, String?) throws -> Void
    ) async throws {
        let registry = WorkerRegistry(broker)
        while !Task.isCancelled {
            let alive = (try? await registry.workers())?.filter { $0.age < WorkerRegistry.patience } ?? []
            if alive.count >= count { break }
            try await Task.sleep(for: .milliseconds(50))
        }
        let folder = settings.folder
        var address: String?
        while settings.gatewayArguments != nil, !Task.isCancelled {
            address = folder.writtenGatewayAddress
            if address != nil { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        let page = address.map { "; the page is at \($0)" } ?? ""
        Terminal.complain("kirie up: ready, \(count) workers\(page); logs in \(folder.path)/logs; Ctrl-C stops")
        try onReady(folder.socket, address)
    }
}
