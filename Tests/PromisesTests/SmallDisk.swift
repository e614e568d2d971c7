import Foundation
import Glibc
import KirieTesting
import Platform
import RedisTesting
import Testing

/// A file system of a few megabytes in memory, in a mount namespace of its own, so that nothing is left of it.
final class SmallDisk: Sendable {
    private let folder: String
    private let holder: ChildProcess

    /// Mounts it; a process that sleeps holds the namespace.
    init(megabytes: Int) async throws {
        folder = NSTemporaryDirectory() + "kirie-disk-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: "\(folder)/data", withIntermediateDirectories: true)
        let script =
            "mount -t tmpfs -o size=\(megabytes)m kirie '\(folder)/data' && : > '\(folder)/ready' && exec sleep 600"
        let user = getuid() == 0 ? [] : ["--user", "--map-root-user"]
        let holder = try ChildProcess.start(
            "/usr/bin/unshare", user + ["--mount", "/bin/sh", "-c", script], .init(output: .file("\(folder)/log")))
        self.holder = holder
        let ready = "\(folder)/ready"
        try await eventually("a small disk is mounted") {
            try #require(holder.isRunning, "no file system can be mounted, not even in a namespace of its own")
            return access(ready, F_OK) == 0
        }
    }

    /// A server whose files lie on it.
    func options(appendFsync: RedisServerProcess.Options.AppendFsync) -> RedisServerProcess.Options {
        var options = RedisServerProcess.Options(
            appendOnly: true, appendFsync: appendFsync, settings: ["dir \(folder)/data"])
        let user = getuid() == 0 ? [] : ["--user", "--preserve-credentials"]
        options.wrapper = ["/usr/bin/nsenter", "--target", "\(holder.identifier)"] + user + ["--mount"]
        return options
    }

    /// The namespace seen from outside.
    var data: String { "/proc/\(holder.identifier)/root\(folder)/data" }
    private var filler: String { "\(data)/filler" }

    /// Writes until nothing more fits.
    func fill() throws {
        guard let file = fopen(filler, "w") else { throw UnexpectedAnswer(description: "\(filler) cannot be written") }
        defer { fclose(file) }
        setvbuf(file, nil, _IONBF, 0)
        let block = [UInt8](repeating: 1, count: 4096)
        while fwrite(block, 1, block.count, file) == block.count {}
    }

    /// Makes room again.
    func free() throws { try FileManager.default.removeItem(atPath: filler) }

    func remove() {
        holder.signal(SIGKILL)
        try? FileManager.default.removeItem(atPath: folder)
    }
}
