import FoundationEssentials
import Glibc
import Platform
package import Redis

/// The private redis-server of a `kirie up`.
package final class LocalRedis: Sendable {
    private let folder: ClusterFolder
    private let memory: Int
    private let appendFsync: String
    private let port: Int?
    private let server: Supervised?
    private let mendLog: @Sendable () async throws -> Void
    private let patience: Duration

    /// A server on the folder's socket that does not run yet.
    ///
    /// - Parameters:
    ///   - folder: where its data, its settings, its log and its socket are.
    ///   - memory: bytes at which embeddings are evicted.
    ///   - appendFsync: when the append-only file is flushed, in Redis's words: `always`, `everysec` or `no`.
    ///   - port: of 127.0.0.1, beside the socket; nil for none.
    ///   - patience: what a server of before, which was told to stop, may take to close its files.
    package init(
        folder: ClusterFolder, memory: Int, appendFsync: String, port: Int? = nil, patience: Duration = .seconds(30)
    ) {
        self.patience = patience
        self.folder = folder
        self.port = port
        self.memory = memory
        self.appendFsync = appendFsync
        let log = AppendOnlyLog(dataFolder: folder.path)
        let repair = AppendOnlyLog.Repair(
            tool: Self.program("redis-check-aof"), toolLog: folder.log("redis-check-aof"), appendFsync: appendFsync)
        let mend: @Sendable () async throws -> Void = { try await log.mend(repair) }
        mendLog = mend
        server = Self.program("redis-server").map {
            Supervised(
                name: "redis-server", program: $0, arguments: [folder.configuration], log: folder.log("redis"),
                beforeRestart: mend)
        }
    }

    /// Writes the settings, and mends a log that a kill has cut off.
    ///
    /// - Throws: ``ClusterFolderError`` where the log is damaged, or a server runs on it already.
    package func prepare() async throws {
        guard server != nil else { throw MissingServer() }
        try await waitUntilNobodyListens()
        try AtomicFile.write(Array(settings.utf8), to: folder.configuration)
        try await mendLog()
    }

    /// Returns when the server of a `kirie up` that was killed has written its log to the end and is gone.
    private func waitUntilNobodyListens() async throws {
        let deadline = ContinuousClock.now + patience
        while UnixSocket.isListened(to: folder.socket) {
            guard ContinuousClock.now < deadline else {
                throw ClusterFolderError(
                    path: folder.socket,
                    reason: "a redis-server that no `kirie up` looks after listens there: stop it, and start again")
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Connects as soon as the server has loaded its data, which takes a minute for ten gigabytes.
    ///
    /// - Parameter isGivenUp: asked between attempts whether to stop trying.
    /// - Returns: a client on the server's socket.
    /// - Throws: `CancellationError` where it was given up; ``ClusterFolderError`` where the server is not installed or
    ///   ended three times in a row; `RedisError` where it answers and refuses.
    package func connect(unless isGivenUp: @Sendable () -> Bool) async throws -> RedisClient {
        while true {
            do {
                return try await RedisClient.connect(RedisURL(.unixSocket(path: folder.socket)))
            } catch {
                guard error.isConnectionFailure || error.serverCode == "LOADING" else { throw error }
                if isGivenUp() { throw CancellationError() }
                guard let server, server.failures < 3 else {
                    throw ClusterFolderError(
                        path: folder.path, reason: "redis-server does not start on it: see \(folder.log("redis"))")
                }
                try await Task.sleep(for: .milliseconds(10))
            }
        }
    }

    package func keepRunning() async { await server?.keepRunning() }

    package func stop() async { await server?.stop() }

    /// Nothing listens on the network; what is accepted is on disk; queues are never evicted.
    private var settings: String {
        """
        # Written by Kirie at each start.
        \(port.map { "bind 127.0.0.1\nport \($0)" } ?? "port 0")
        unixsocket \(Self.quoted(folder.socket))
        unixsocketperm 700
        dir \(Self.quoted(folder.path))
        daemonize no
        save ""
        appendonly yes
        appendfsync \(appendFsync)
        # Jobs come and go: at the default of 64mb a busy queue would have its log rewritten every few seconds.
        auto-aof-rewrite-min-size 512mb
        maxmemory \(memory)
        maxmemory-policy volatile-lru
        maxmemory-samples 10
        lazyfree-lazy-eviction yes
        # A full-size result on a slow reader is no reason to drop it.
        client-output-buffer-limit pubsub 256mb 64mb 60

        """
    }

    private static func quoted(_ path: String) -> String {
        "\"" + path.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
    }

    private static func program(_ name: String) -> String? {
        let path = Environment["PATH"] ?? ""
        let folders = path.split(separator: ":").map(String.init) + ["/usr/bin", "/usr/local/bin"]
        return folders.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    private struct MissingServer: ReportableError {
        let report = ErrorReport(
            .notFound, "no-redis-server", "there is no redis-server on the PATH",
            remedy: "install Redis 7 (Debian: apt-get install redis-server)")
        var description: String { report.text }
    }
}
