import Cluster
import Foundation
import Redis
import RedisTesting
import Segmentation
import Testing

/// Commands that only look, run as the user that operators are to give to those who only look.
@Suite struct MonitorTests {
    private static let image = ImageDigest("0" + String(repeating: "7", count: 63))

    /// A cluster, looked at as the monitor.
    private struct Watched {
        let server: RedisServerProcess
        let redis: RedisClient

        /// Runs every command that only looks, at a cluster where one `isSetUp`; expects that none lacks a right and
        /// that nothing is written.
        func look(_ state: String, isSetUp: Bool = true) async throws {
            let commands: [[String]] = [
                ["queues"], ["queues", "--json"], ["workers"], ["workers", "--json"], ["dead", "list"],
                ["dead", "list", "--json"], ["dead", "show", "--all"], ["dead", "show", "nobody"], ["cache", "stats"],
                ["cache", "stats", "--json"], ["status", "waits", "ended", "nobody"], ["wait", "ended", "nobody"],
                ["wait", "waits", "--timeout", "0.2"],
            ]
            let before = try await changes()
            for command in commands {
                let run = try await ClientRun(command, redis: RecommendedUsers.url("monitor", at: server.url)).end()
                let words = "\(state): kirie \(command.joined(separator: " ")): \(run)"
                #expect(!"\(run)".contains("NOPERM") && !"\(run)".contains("permission"), "\(words)")
                if isSetUp {
                    // What some of them have to say of jobs that are open, failed or unknown is 1 as well.
                    let mayBeOne = ["status", "wait", "dead"].contains(command[0])
                    #expect(run.status == 0 || (mayBeOne && run.status == 1), "\(words)")
                } else {
                    #expect(run.status == 1 && run.complaint.contains("holds no cluster"), "\(words)")
                }
            }
            #expect(try await changes() == before, "\(state): something was written")
        }

        private func changes() async throws -> String? {
            try await redis.info("persistence").first?["rdb_changes_since_last_save"]
        }
    }

    @Test func everyCommandThatLooksWorksInEveryStateAndWritesNothing() async throws {
        let server = try await RedisServerProcess.start(.init(users: try RecommendedUsers.rules()))
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let watched = Watched(server: server, redis: redis)
        try await watched.look("nothing there", isSetUp: false)
        try await FunctionsLibrary.ensure(in: redis)
        try await watched.look("functions alone", isSetUp: false)
        let broker = try await Broker.open(redis)
        try await watched.look("empty")

        // Workers that went without a word, one of them long ago, and one whose heartbeat cannot be read.
        let model = ClientCluster.model
        for (name, age) in [("gone", 30), ("long-gone", 3600)] {
            let then = try await redis.time() - age * 1_000_000
            try await WorkerRegistry(broker) { then }.beat(
                WorkerHeartbeat(name: name, role: .decoder, host: "far", processIdentifier: 1, model: model))
        }
        try await redis.setFields(broker.keys.workers, [("broken", "{")])
        try await watched.look("heartbeats of workers long gone")

        // Jobs in all states that nobody sees to any more: waiting, past their time, held by the dead, given up.
        let image = try #require(Self.image)
        try await broker.set(["attempts": 1])
        try await broker.putImage(image, "picture")
        func job(_ id: String, _ model: ModelIdentifier = model, timeToLive: Duration? = nil) -> Job {
            Job(id: id, lane: .bulk, image: image, model: model, timeToLive: timeToLive, line: RedisBytes("{}"))
        }
        let other = try #require(ModelIdentifier("other:fp16"))
        let outcomes = try await broker.submit([
            job("waits"), job("late", timeToLive: .milliseconds(1)), job("ended"), job("strange", other),
        ])
        _ = try await broker.cancel(outcomes[2...2].compactMap(\.reference))
        try await watched.look("jobs that wait, and one past its time")
        let partition = broker.partition(of: image)
        let third = try #require(ModelIdentifier("third:fp16"))
        _ = try await broker.takeEncodes(in: partition, worker: "w", model: third, lease: .milliseconds(1))
        try await watched.look("work set aside for other models")
        _ = try await broker.takeEncodes(in: partition, worker: "w", model: model, lease: .milliseconds(1))
        try await watched.look("an encode whose holder is dead")
        try await eventually("a dead letter") {
            _ = try await broker.keepHouse(broker.partitions)
            return try await !broker.deadLetters().isEmpty
        }
        let line = broker.keys.stream(.decode, .bulk, in: partition)
        _ = try await redis.send(RedisCommand("XADD", .string(line), "*", "no", "ticket"))
        try await watched.look("dead letters, and garbage in a line")

        let own = FunctionsLibrary.own
        try await redis.loadFunctions(
            FunctionsLibrary.source.replacing(
                "local PROTOCOL, REVISION = \(own.protocolNumber), \(own.revision)",
                with: "local PROTOCOL, REVISION = \(own.protocolNumber), \(own.revision - 1)"))
        try await watched.look("functions of an older revision")
        _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "1"))
        try await watched.look("a full Redis")
        _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "0"))
        _ = try await redis.send(RedisCommand("REPLICAOF", "127.0.0.1", "1"))
        try await watched.look("a replica")
        _ = try await redis.send(RedisCommand("REPLICAOF", "NO", "ONE"))
        _ = try await redis.send(RedisCommand("FUNCTION", "FLUSH"))
        try await watched.look("functions lost", isSetUp: false)
    }
}
