import Foundation
import Glibc
import LocalCluster
import Platform
import Redis
import RedisTesting
import Synchronization
import Testing

/// The log of a redis-server that was killed, by a real server and Redis's own tool.
@Suite struct AppendOnlyLogTests {
    /// A data folder of a server that was killed behind a transaction.
    private final class KilledServer: Sendable {
        let server: RedisServerProcess
        /// Its last file of commands, and what is in it.
        let file: String
        let content: Data
        /// Where the transaction begins.
        let transaction: Int
        private let sentences = Mutex<[String]>([])

        init() async throws {
            server = try await RedisServerProcess.start(.init(appendOnly: true, appendFsync: .always))
            let redis = try await RedisClient.connect(server.url)
            _ = try await redis.send(RedisCommand("SET", "before", "1"))
            _ = try await redis.send(RedisCommand("EVAL", .string(twoWrites), "0"))
            redis.close()
            await server.kill()
            file = "\(server.directory)/appendonlydir/appendonly.aof.1.incr.aof"
            content = try Data(contentsOf: URL(fileURLWithPath: file))
            let start = try #require(content.range(of: Data("*1\r\n$5\r\nMULTI\r\n".utf8)))
            transaction = start.lowerBound
        }

        var complaints: [String] { sentences.withLock { $0 } }
        var bytes: Data { get throws { try Data(contentsOf: URL(fileURLWithPath: file)) } }

        func write(_ data: some DataProtocol) throws { try Data(data).write(to: URL(fileURLWithPath: file)) }

        func mend(tool: String? = AppendOnlyLogTests.tool, appendFsync: String = "always") async throws {
            let repair = AppendOnlyLog.Repair(
                tool: tool, toolLog: "\(server.directory)/check.log", appendFsync: appendFsync,
                complain: { [self] text in sentences.withLock { $0.append(text) } })
            try await AppendOnlyLog(dataFolder: server.directory).mend(repair)
        }

        /// What a server reads of it.
        func keys() async throws -> [String] {
            try await server.restart()
            let redis = try await RedisClient.connect(server.url)
            defer { redis.close() }
            guard case .array(let values) = try await redis.send(RedisCommand("KEYS", "*")) else { return [] }
            return values.compactMap(\.string).sorted()
        }
    }

    private static let tool = ["/usr/bin", "/usr/local/bin"].map { "\($0)/redis-check-aof" }
        .first { access($0, X_OK) == 0 }

    @Test func everyCutWithinATransactionTakesAllOfItOut() async throws {
        let killed = try await KilledServer()
        for count in (killed.transaction + 1)..<killed.content.count {
            try killed.write(killed.content.prefix(count))
            try await killed.mend()
            #expect(try killed.bytes == killed.content.prefix(killed.transaction), "cut to \(count) bytes")
            let copy = try Data(contentsOf: URL(fileURLWithPath: "\(killed.file).before-repair"))
            #expect(copy == killed.content.prefix(count), "the copy of \(count) bytes")
        }
        #expect(killed.complaints.count == killed.content.count - killed.transaction - 1)
        let last = try #require(killed.complaints.last)
        for word in [
            "in the middle of a transaction", "from byte \(killed.transaction) on", "SET cut:a", "SET cut:b",
            "never confirmed", "\(killed.file).before-repair",
        ] {
            #expect(last.contains(word), "\(word) is not in: \(last)")
        }
        #expect(try await killed.keys() == ["before"])
    }

    @Test func aCutCommandAndZerosAtTheEndAreTakenOutToo() async throws {
        let killed = try await KilledServer()
        // The second write of all, after the SELECT before it.
        try killed.write(killed.content.prefix(killed.transaction - 3))
        try await killed.mend(appendFsync: "everysec")
        let last = try #require(killed.complaints.last)
        #expect(last.contains("in the middle of a command") && last.contains("an incomplete SET before"), "\(last)")
        #expect(last.contains("up to a second"), "\(last)")
        let whole = try killed.bytes
        #expect(whole.count < killed.transaction && killed.content.starts(with: whole))

        for count in [killed.content.count, killed.content.count - 9] {
            try killed.write(killed.content.prefix(count) + Data(count: 4096))
            try await killed.mend()
            let end = count == killed.content.count ? count : killed.transaction
            #expect(try killed.bytes == killed.content.prefix(end), "\(count) bytes before the zeros")
        }
    }

    @Test func aWholeLogIsLeftAlone() async throws {
        let killed = try await KilledServer()
        try await killed.mend(tool: nil)
        #expect(try killed.bytes == killed.content && killed.complaints.isEmpty)
        #expect(access("\(killed.file).before-repair", F_OK) != 0)
        try await AppendOnlyLog(dataFolder: "/tmp/no-such-folder").mend(
            AppendOnlyLog.Repair(tool: nil, toolLog: "/dev/null", appendFsync: "always"))
        #expect(try await killed.keys() == ["before", "cut:a", "cut:b"])
    }

    /// A byte that is another one, and a length that runs over all that follows.
    @Test func damageInTheMiddleIsRefusedAndNothingIsChanged() async throws {
        let killed = try await KilledServer()
        var changed = killed.content
        let name = try #require(changed.range(of: Data("SELECT\r\n".utf8)))
        changed[name.upperBound - 2] = UInt8(ascii: "X")
        let long = Data("*2\r\n$6\r\nSELECT\r\n$900000\r\n0\r\n".utf8) + killed.content
        let nested = killed.content + killed.content[killed.transaction...].prefix(15) + killed.content
        for (damaged, offset) in [
            (changed, name.upperBound - 2), (long, 0), (nested + Data("*2\r\n$3\r\nDEL".utf8), killed.content.count),
        ] {
            try killed.write(damaged)
            await #expect {
                try await killed.mend()
            } throws: { error in
                let text = "\(error)"
                return text.contains("damaged at byte \(offset) of \(damaged.count)")
                    && text.contains("redis-check-aof --fix \(killed.server.directory)/appendonlydir")
                    && text.contains("put back a backup")
            }
            #expect(try killed.bytes == damaged)
        }
        let files = try FileManager.default.contentsOfDirectory(atPath: "\(killed.server.directory)/appendonlydir")
        #expect(files.count == 3 && killed.complaints.isEmpty, "\(files)")
    }

    /// Redis starts with such a log, so it is told and left.
    @Test func aHalfTransactionOfAnEarlierStartIsTold() async throws {
        let killed = try await KilledServer()
        let half = killed.content + killed.content[killed.transaction...].prefix(15) + killed.content
        try killed.write(half)
        try await killed.mend(tool: nil)
        #expect(try killed.bytes == half)
        let text = try #require(killed.complaints.first)
        #expect(text.contains("half a transaction at byte \(killed.content.count)"), "\(text)")
        #expect(text.contains("BGREWRITEAOF"), "\(text)")
    }

    @Test func aFileThatIsNotTheLastIsNotCut() async throws {
        let killed = try await KilledServer()
        let folder = "\(killed.server.directory)/appendonlydir"
        let manifest = URL(fileURLWithPath: "\(folder)/appendonly.aof.manifest")
        let text = try String(contentsOf: manifest, encoding: .utf8)
        try Data((text + "file appendonly.aof.2.incr.aof seq 2 type i\n").utf8).write(to: manifest)
        try killed.content.write(to: URL(fileURLWithPath: "\(folder)/appendonly.aof.2.incr.aof"))
        let cut = killed.content.dropLast(9)
        try killed.write(cut)
        await #expect {
            try await killed.mend()
        } throws: { error in
            "\(error)".contains("damaged at byte \(killed.transaction)") && "\(error)".contains("put back a backup")
        }
        #expect(try killed.bytes == cut)
    }

    @Test func aMissingToolAndOneThatFailsAreSaidAndNothingIsChanged() async throws {
        let killed = try await KilledServer()
        let cut = killed.content.dropLast(9)
        try killed.write(cut)
        await #expect {
            try await killed.mend(tool: nil)
        } throws: { error in
            "\(error)".contains("apt-get install redis-tools") && "\(error)".contains("start again")
        }
        await #expect {
            try await killed.mend(tool: "/bin/true")
        } throws: { error in
            "\(error)".contains("redis-check-aof does not mend that") && "\(error)".contains("check.log")
        }
        #expect(try killed.bytes == cut && killed.complaints.isEmpty)
        #expect(access("\(killed.file).before-repair", F_OK) != 0)
    }

    /// Redis is killed while `kirie up` stays, and is started again by it.
    @Test func itIsMendedBeforeARestart() async throws {
        let path = try #require(TemporaryFolder.make("kirie-log"))
        defer { TemporaryFolder.remove(path) }
        let folder = ClusterFolder(path: path)
        try folder.prepare()
        let redis = LocalRedis(folder: folder, memory: 64 << 20, appendFsync: "always")
        try await redis.prepare()
        let running = Task { await redis.keepRunning() }
        let client = try await redis.connect { false }
        _ = try await client.send(RedisCommand("SET", "before", "1"))
        _ = try await client.send(RedisCommand("EVAL", .string(twoWrites), "0"))
        let file = "\(path)/appendonlydir/appendonly.aof.1.incr.aof"
        let size = try Data(contentsOf: URL(fileURLWithPath: file)).count
        let first = try #require(try await client.info("server").first?["process_id"].flatMap { pid_t($0) })
        client.close()
        #expect(truncate(file, size - 9) == 0)
        kill(first, SIGKILL)
        try await eventually("another server has read the log") {
            guard let client = try? await RedisClient.connect(RedisURL(.unixSocket(path: folder.socket))) else {
                return false
            }
            defer { client.close() }
            guard try await client.info("server").first?["process_id"].flatMap({ pid_t($0) }) != first else {
                return false
            }
            let keys = try await client.send(RedisCommand("EXISTS", "before", "cut:a", "cut:b"))
            #expect(keys == .integer(1), "\(keys)")
            return true
        }
        #expect(access("\(file).before-repair", F_OK) == 0)
        await redis.stop()
        await running.value
    }

    /// What another server still writes may look cut off.
    @Test func aLogThatAnotherServerWritesToIsLeftAlone() async throws {
        let path = try #require(TemporaryFolder.make("kirie-log"))
        defer { TemporaryFolder.remove(path) }
        let folder = ClusterFolder(path: path)
        try folder.prepare()
        let first = LocalRedis(folder: folder, memory: 64 << 20, appendFsync: "always")
        try await first.prepare()
        let running = Task { await first.keepRunning() }
        let client = try await first.connect { false }
        _ = try await client.send(RedisCommand("EVAL", .string(twoWrites), "0"))
        client.close()
        let file = "\(path)/appendonlydir/appendonly.aof.1.incr.aof"
        let content = try Data(contentsOf: URL(fileURLWithPath: file)).dropLast(9)
        #expect(truncate(file, content.count) == 0)
        let second = LocalRedis(folder: folder, memory: 64 << 20, appendFsync: "always", patience: .zero)
        await #expect {
            try await second.prepare()
        } throws: { error in
            "\(error)".contains("\(folder.socket)") && "\(error)".contains("stop it, and start again")
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: file)) == content)
        await first.stop()
        await running.value
        // Its socket is free now.
        try await second.prepare()
        #expect(try Data(contentsOf: URL(fileURLWithPath: file)).count < content.count)
    }
}

/// A script's writes are one transaction in the log.
private let twoWrites = "redis.call('SET', 'cut:a', '1') redis.call('SET', 'cut:b', '2')"
