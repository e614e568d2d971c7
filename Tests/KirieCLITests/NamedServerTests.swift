import Cluster
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Testing

/// A plain Redis that is reached by a name, and the name leads elsewhere after a failover.
@Suite struct NamedServerTests {
    private static let name = "queue.kirie.test"

    /// Whether the first server is still there afterwards, as the replica of the second.
    @Test(arguments: [true, false])
    func aWorkerFollowsTheName(firstStays: Bool) async throws {
        let directory = try TemporaryDirectory()
        let first = try await RedisServerProcess.start(.init(listener: .tcp))
        guard case .tcp(_, let port) = first.url.endpoint else { return }
        // The same port of another address of this machine.
        let second = try await RedisServerProcess.start(.init(settings: ["bind 127.0.0.2", "port \(port)"]))
        defer { withExtendedLifetime((first, second)) {} }
        let primary = try await RedisClient.connect(second.url)
        _ = try await primary.send(RedisCommand("REPLICAOF", "127.0.0.1", .integer(port)))
        try await eventually("the second server has the first one's data") {
            try await primary.info("replication").first?["master_link_status"] == "up"
        }

        try lead(to: "127.0.0.1", directory)
        let decoder = try start(directory, port)
        defer { decoder.signal(SIGKILL) }
        let keys = ClusterKeys()
        try await eventually("it is there, and listens at the first server") {
            let isThere = try await primary.fields(keys.workers).isEmpty == false
            let count = try await listeners(first, keys)
            return isThere && count == 1
        }

        try lead(to: "127.0.0.2", directory)
        _ = try await primary.send(RedisCommand("REPLICAOF", "NO", "ONE"))
        if firstStays {
            try await RedisClusterProcess.ask(first, [RedisCommand("REPLICAOF", "127.0.0.2", .integer(port))])
        } else {
            await first.kill(SIGKILL)
        }
        try await primary.remove([keys.workers])
        try await eventually("it beats and listens at the second server") {
            guard decoder.isRunning else {
                throw NeverHappened(description: "the decoder ended: \(directory.text(of: "log"))")
            }
            let isThere = try await primary.fields(keys.workers).isEmpty == false
            let count = try await listeners(second, keys)
            return isThere && count == 1
        }
    }

    /// Starts a decoder that sees a file of host names of its own.
    private func start(_ directory: TemporaryDirectory, _ port: Int) throws -> ChildProcess {
        var options = ChildProcess.Options(output: .file(directory.file("log")))
        options.environment = ["KIRIE_REDIS": "redis://\(Self.name):\(port)", "HOME": directory.path]
        let user = getuid() == 0 ? [] : ["--user", "--map-root-user"]
        let script = "mount --bind '\(directory.file("hosts"))' /etc/hosts && exec \"$0\" \"$@\""
        return try ChildProcess.start(
            "/usr/bin/unshare",
            user + ["--mount", "/bin/sh", "-c", script, KirieProcess.executable.path]
                + ["decoder", "--model", KirieProcess.nano, "--threads", "1"], options)
    }

    /// Has the name lead to an address.
    ///
    /// Written in place: what is mounted is the file, not its name.
    private func lead(to address: String, _ directory: TemporaryDirectory) throws {
        let text = "\(address) \(Self.name)\n127.0.0.1 localhost\n"
        try text.write(toFile: directory.file("hosts"), atomically: false, encoding: .utf8)
    }

    private func listeners(_ server: RedisServerProcess, _ keys: ClusterKeys) async throws -> Int? {
        let count = RedisCommand("PUBSUB", "NUMSUB", .string(keys.wake(.decode)))
        return try await RedisClusterProcess.ask(server, [count])[0].array?.last?.integer
    }
}
