import Cluster
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Testing

/// A program that was started nice is nice in all of its threads.
@Suite struct NicenessTests {
    /// Decoders have threads that give way to the others by five more.
    @Test(arguments: [("encoder", [7]), ("decoder", [7, 12])])
    func workersAreAsNiceAsTheyWereStarted(role: String, expected: [Int]) async throws {
        let directory = try TemporaryDirectory()
        let server = try await RedisServerProcess.start(.init())
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        var options = ChildProcess.Options(output: .file(directory.file("log")))
        options.environment = ["KIRIE_REDIS": server.url.description, "HOME": directory.path]
        let own = Int(getpriority(Int32(PRIO_PROCESS.rawValue), 0))
        let worker = try ChildProcess.start(
            "/usr/bin/nice",
            ["-n", "7", KirieProcess.executable.path, role, "--model", KirieProcess.nano, "--threads", "3"], options)
        defer { worker.signal(SIGKILL) }
        try await eventually("its first heartbeat") {
            guard worker.isRunning else { throw NeverHappened(description: "it ended: \(directory.text(of: "log"))") }
            return try await redis.fields(ClusterKeys().workers).isEmpty == false
        }
        // Threads that compute are started with the first heartbeat; each sets what it gives way by itself.
        try await eventually("threads of a niceness of \(expected) and no others") {
            try Set(niceness(of: worker.identifier).map { $0 - own }).sorted() == expected
        }
    }

    /// Of each thread; proc(5) has it in the 19th field, the 17th behind the name in parentheses.
    private func niceness(of process: Int32) throws -> [Int] {
        let tasks = "/proc/\(process)/task"
        return try FileManager.default.contentsOfDirectory(atPath: tasks).compactMap { task in
            guard let text = try? String(contentsOfFile: "\(tasks)/\(task)/stat", encoding: .utf8) else { return nil }
            let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
            return fields.count > 17 ? Int(fields[17]) : nil
        }
    }
}
