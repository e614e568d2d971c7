import Glibc
import Platform
public import Redis
import Synchronization

/// A real redis-server in a temporary folder of its own, on a private Unix socket or a free TCP port.
///
/// ```swift
/// let server = try await RedisServerProcess.start(.init(appendOnly: true, appendFsync: .always))
/// let redis = try await RedisClient.connect(server.url)
/// await server.kill(SIGKILL)
/// try await server.restart()  // the same data, the same address
/// ```
/// The last reference kills the server and removes the folder: hold it with `defer { withExtendedLifetime(server) {} }`.
public final class RedisServerProcess: Sendable {
    /// How the server is set up; what is not said is off.
    public struct Options: Sendable {
        /// Where the server listens.
        public enum Listener: Sendable {
            /// A socket in the server's folder.
            case unixSocket
            /// A free port of 127.0.0.1.
            case tcp
        }
        /// When the append-only file is flushed.
        public enum AppendFsync: String, Sendable {
            /// Before each answer.
            case always
            /// Once a second.
            case everysec
            /// When the system likes to.
            case no
        }

        /// Where the server listens; a cluster node always on a port.
        public var listener: Listener
        /// Whether there is an append-only file, so that a restart finds the data.
        public var appendOnly: Bool
        /// When it is flushed.
        public var appendFsync: AppendFsync
        /// Bytes; nil for no limit.
        public var maximumMemory: Int?
        /// The maxmemory-policy.
        public var memoryPolicy: String
        /// The password of the default user.
        public var password: String?
        /// Lines such as `user worker on >secret ~kirie:* +@all`.
        public var users: [String]
        /// Whether it is a node of a cluster.
        public var isClusterNode: Bool
        /// By what a server on a port speaks TLS alone; nil for none.
        public var tls: TLSCertificates?
        /// The name of the server's certificate among them.
        public var certificate = "server"
        /// Whether a client needs a certificate there.
        public var wantsClientCertificates = true
        /// Further lines of redis.conf.
        public var settings: [String]
        /// A program and its arguments that become the server: `/usr/bin/nsenter`, `--target`, …; none for the server alone.
        public var wrapper: [String] = []
        /// Whether it is a sentinel, with what it watches among ``settings``.
        public var isSentinel = false
        /// Environment variables of the server beside those of this process.
        public var environment: [String: String] = [:]

        /// A server without persistence, limit or password unless told otherwise.
        public init(
            listener: Listener = .unixSocket, appendOnly: Bool = false, appendFsync: AppendFsync = .everysec,
            maximumMemory: Int? = nil, memoryPolicy: String = "noeviction", password: String? = nil,
            users: [String] = [], isClusterNode: Bool = false, tls: TLSCertificates? = nil, settings: [String] = []
        ) {
            self.tls = tls
            self.listener = isClusterNode || tls != nil ? .tcp : listener
            self.appendOnly = appendOnly
            self.appendFsync = appendFsync
            self.maximumMemory = maximumMemory
            self.memoryPolicy = memoryPolicy
            self.password = password
            self.users = users
            self.isClusterNode = isClusterNode
            self.settings = settings
        }
    }

    /// Why there is no server.
    public struct Failure: Error, CustomStringConvertible {
        /// What went wrong and what to do.
        public let description: String
    }

    private struct State: Sendable {
        var process: ChildProcess?
    }

    /// The folder with redis.conf, the log and the data.
    public let directory: String
    /// The address, with the default user's password where one is set.
    public let url: RedisURL
    private let command: [String]
    private let environment: [String: String]
    /// What its append-only files are listed in.
    private let manifest: String
    /// Kept as long as the server reads its files.
    private let certificates: TLSCertificates?
    /// Guards the running process.
    private let state = Mutex(State())

    /// Starts a server and returns when it answers.
    public static func start(_ options: Options = Options()) async throws -> RedisServerProcess {
        var attempt = 0
        while true {
            let server = try RedisServerProcess(options)
            do {
                try await server.restart()
                return server
            } catch {
                // A port that was free a moment ago may be somebody else's by now.
                attempt += 1
                guard options.listener == .tcp, attempt < 5, !server.isRunning else { throw error }
            }
        }
    }

    private init(_ options: Options) throws {
        guard let found = Self.findBinary() else {
            throw Failure(
                description: "there is no redis-server on this machine; `deploy/test` installs what the tests need "
                    + "(Debian: apt-get install redis-server)")
        }
        environment = options.environment
        certificates = options.tls
        guard let folder = TemporaryFolder.make("kirie-redis") else {
            throw Failure(description: "no folder can be made in /tmp")
        }
        directory = folder

        var lines = [
            "dir \(directory)", "logfile \(directory)/redis.log", "daemonize no", "save \"\"",
            "appendonly \(options.appendOnly ? "yes" : "no")", "appendfsync \(options.appendFsync.rawValue)",
            "maxmemory-policy \(options.memoryPolicy)",
        ]
        let password = options.password.map { RedisPassword($0) }
        switch options.listener {
        case .unixSocket:
            lines += ["port 0", "unixsocket \(directory)/redis.sock", "unixsocketperm 700"]
            url = RedisURL(.unixSocket(path: "\(directory)/redis.sock"), password: password)
        case .tcp:
            let port = try Self.freePort()
            lines.append("bind 127.0.0.1")
            if let tls = options.tls {
                lines.append("port 0")
                lines += tls.settings(
                    port: port, certificate: options.certificate, wantsClients: options.wantsClientCertificates)
            } else {
                lines.append("port \(port)")
            }
            if options.isClusterNode {
                lines += [
                    "cluster-enabled yes", "cluster-port \(try Self.freePort())", "cluster-config-file nodes.conf",
                    // Long, so that a busy machine makes nobody look dead: tests that need a failover order it.
                    "cluster-node-timeout 30000",
                ]
            }
            url = RedisURL(.tcp(host: "127.0.0.1", port: port), password: password, tls: options.tls?.client)
        }
        if let bytes = options.maximumMemory { lines.append("maxmemory \(bytes)") }
        if let password = options.password { lines.append("requirepass \(password)") }
        lines += options.users + options.settings
        let data = lines.last { $0.hasPrefix("dir ") }?.dropFirst(4) ?? directory[...]
        manifest = "\(data)/appendonlydir/appendonly.aof.manifest"
        command = options.wrapper + [found, "\(directory)/redis.conf"] + (options.isSentinel ? ["--sentinel"] : [])
        try Self.write(lines.joined(separator: "\n") + "\n", to: "\(directory)/redis.conf")
    }

    deinit {
        state.withLock { $0.process }?.signal(SIGKILL)
        TemporaryFolder.remove(directory)
    }

    /// The process identifier, while it runs.
    public var processIdentifier: Int32? { state.withLock { $0.process }?.identifier }

    /// Whether the process has not ended.
    public var isRunning: Bool { state.withLock { $0.process }?.isRunning ?? false }

    /// Sends a signal, SIGKILL (9) unless told otherwise, and returns when the process is gone.
    public func kill(_ signal: Int32 = 9) async {
        guard let process = state.withLock({ $0.process }) else { return }
        process.signal(signal)
        await process.waitForExit()
        state.withLock { $0.process = nil }
    }

    /// Stops the process with SIGSTOP, and returns when it has stopped: it is there and does not answer.
    public func freeze() async throws { try await state.withLock { $0.process }?.stop() }

    /// Lets a frozen process go on.
    public func thaw() { state.withLock { $0.process }?.signal(SIGCONT) }

    /// Takes a transaction that was cut off by a kill out of the append-only file.
    ///
    /// A server that finds one cuts its file within the transaction, where it was cut off in the middle of a command, and
    /// appends to that: the start after the next does the half transaction together with the one behind it (Redis 7.0.15).
    /// What operators are told to do is done here (RUNBOOK.md).
    private func repair() async throws {
        guard access(manifest, F_OK) == 0 else { return }
        let check = try ChildProcess.start(
            "/bin/sh", ["-c", "echo y | redis-check-aof --fix \"$1\"", "sh", manifest],
            .init(output: .file("\(directory)/output.log")))
        await check.waitForExit()
    }

    /// Starts the server again on the same data and address; returns when it has loaded them.
    public func restart() async throws {
        await kill()
        try await repair()
        var options = ChildProcess.Options(output: .file("\(directory)/output.log"))
        options.environment = environment
        let process = try ChildProcess.start(command[0], Array(command.dropFirst()), options)
        state.withLock { $0.process = process }
        var configuration = RedisConfiguration(clientName: "readiness")
        configuration.backoff = RedisBackoff(base: .milliseconds(2), limit: .milliseconds(20))
        let deadline = ContinuousClock.now + .hang
        while true {
            do {
                try await RedisConnection.connect(to: url, configuration: configuration).close()
                return
            } catch {
                // A server whose certificate is refused is there, too.
                if case .notTrusted = error { return }
                guard error.isConnectionFailure, ContinuousClock.now < deadline, process.isRunning else {
                    throw Failure(description: "redis-server does not start: \(error); see \(directory)/redis.log")
                }
                try await Task.sleep(for: .milliseconds(3))
            }
        }
    }

    private static func findBinary() -> String? {
        let path = getenv("PATH").map { String(cString: $0) } ?? ""
        let folders = path.split(separator: ":").map(String.init) + ["/usr/bin", "/usr/local/bin"]
        return folders.map { "\($0)/redis-server" }.first { access($0, X_OK) == 0 }
    }

    private static func write(_ text: String, to file: String) throws {
        guard let handle = fopen(file, "w") else { throw Failure(description: "\(file) cannot be written") }
        defer { fclose(handle) }
        fputs(text, handle)
    }

    /// A port that was free a moment ago.
    public static func freePort() throws -> Int {
        guard let port = LoopbackPort.free() else { throw Failure(description: "no TCP port is free") }
        return port
    }
}
