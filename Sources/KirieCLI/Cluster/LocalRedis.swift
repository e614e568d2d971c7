import FoundationEssentials
import Glibc
import Processes
import Redis

/// The private redis-server of a `kirie up`.
final class LocalRedis: Sendable {
    private let folder: ClusterFolder
    private let memory: Int
    private let appendFsync: String
    private let port: Int?
    private let server: Supervised?

    /// - Parameters:
    ///   - memory: bytes at which embeddings are evicted.
    ///   - appendFsync: when the append-only file is flushed.
    ///   - port: of 127.0.0.1, beside the socket; nil for none.
    init(folder: ClusterFolder, memory: Int, appendFsync: String, port: Int? = nil) {
        self.folder = folder
        self.port = port
        self.memory = memory
        self.appendFsync = appendFsync
        server = Self.binary.map {
            Supervised(name: "redis-server", program: $0, arguments: [folder.configuration], log: folder.log("redis"))
        }
    }

    /// Writes the settings.
    func prepare() throws {
        guard server != nil else { throw MissingServer() }
        try FileOutput.write(Array(settings.utf8), to: folder.configuration)
    }

    /// Connects as soon as the server has loaded its data, which takes a minute for ten gigabytes.
    ///
    /// - Parameter isGivenUp: whether to stop trying.
    func connect(unless isGivenUp: @Sendable () -> Bool) async throws -> RedisClient {
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

    func keepRunning() async { await server?.keepRunning() }

    func stop() async { await server?.stop() }

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

    private static var binary: String? {
        let path = Environment["PATH"] ?? ""
        let folders = path.split(separator: ":").map(String.init) + ["/usr/bin", "/usr/local/bin"]
        return folders.map { "\($0)/redis-server" }.first { access($0, X_OK) == 0 }
    }

    private struct MissingServer: Error, CustomStringConvertible {
        let description =
            "there is no redis-server on the PATH: install Redis 7 (Debian: apt-get install redis-server)"
    }
}

extension ClusterFolder {
    var configuration: String { "\(path)/redis.conf" }

    func log(_ name: String) -> String { "\(path)/logs/\(name).log" }

    /// Makes the folders, for their owner alone.
    func prepare() throws {
        guard socket.utf8.count <= 107 else {
            throw ClusterFolderError(
                path: path, reason: "its path is too long for a Unix socket (107 bytes): give a shorter --data")
        }
        var built = ""
        for part in "\(path)/logs".split(separator: "/") {
            built += "/\(part)"
            guard mkdir(built, 0o700) == 0 || errno == EEXIST || errno == EISDIR else {
                throw ClusterFolderError(path: built, reason: "cannot be made: \(String(cString: strerror(errno)))")
            }
        }
        guard access(path, R_OK | W_OK | X_OK) == 0 else {
            throw ClusterFolderError(path: path, reason: "cannot be written: give another folder with --data")
        }
    }

    /// Takes the folder for this process alone.
    func lock() throws -> ClusterLock {
        let file = "\(path)/lock"
        let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw ClusterFolderError(path: file, reason: "cannot be made: \(String(cString: strerror(errno)))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw ClusterFolderError(
                path: path, reason: "another `kirie up` runs on it: stop that one, or give another folder with --data")
        }
        return ClusterLock(descriptor: descriptor)
    }
}

/// A data folder that is this process's own.
struct ClusterLock {
    let descriptor: Int32

    func release() { close(descriptor) }
}

/// A data folder that cannot be used.
struct ClusterFolderError: Error, CustomStringConvertible {
    let path: String
    let reason: String
    var description: String { "\(path): \(reason)" }
}
