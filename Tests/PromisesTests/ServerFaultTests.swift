import Cluster
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// A Redis that is set up wrongly is told as what it is, with what to do.
@Suite(.serialized) struct ServerFaultTests {
    @Test(.timeLimit(.minutes(30)))
    func aPolicyThatEvictsJobsIsRefusedAndMayBeLookedAt() async throws {
        try await LiveCluster.run { cluster in
            _ = try await cluster.broker.redis.send(
                RedisCommand("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"))
            let picture = try TestPicture(1, in: cluster.folder)
            let submit = try await cluster.kirie("submit", picture.path, "--point", "3,3")
            #expect(submit.exit == .status(1), "\(submit.exit)")
            #expect(submit.complaint.contains("set it to volatile-lru or noeviction"), "\(submit.complaint)")
            let queues = try await cluster.kirie("queues")
            #expect(queues.exit == .status(0), "\(queues.exit)")
            #expect(queues.complaint.contains("has maxmemory-policy allkeys-lru"), "\(queues.complaint)")
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func aReplicaIsNoClusterThatIsFull() async throws {
        try await LiveCluster.run { cluster in
            let picture = try TestPicture(1, in: cluster.folder)
            let model = try InProcessMasks().model.text
            _ = try await cluster.broker.redis.send(RedisCommand("REPLICAOF", "127.0.0.1", 1))
            // Its old data is served until it has the primary's.
            let run = try await cluster.kirie("submit", picture.path, "--point", "3,3", "--model", model)
            #expect(run.exit == .status(75), "\(run.exit)")
            #expect(
                run.complaint.contains("it is a replica, which takes no writes: name its primary"), "\(run.complaint)")
            #expect(!run.complaint.contains("is full"), "\(run.complaint)")
        }
    }

    /// A right that is taken away while the worker runs: without its channel it hears of no work, and goes on by looking.
    @Test(.timeLimit(.minutes(30)))
    func aUserWithoutItsChannelsIsLogged() async throws {
        try await LiveCluster.runGuarded { cluster in
            try cluster.start(.encoder, "encoder", ["--log-level", "warning"])
            try await cluster.ready("encoder")
            _ = try await cluster.broker.redis.send(RedisCommand("ACL", "SETUSER", "encoder", "resetchannels"))
            try await eventually("the log names the right") {
                try String(contentsOfFile: "\(cluster.folder)/encoder.log", encoding: .utf8).contains("NOPERM")
            }
        }
    }
}
