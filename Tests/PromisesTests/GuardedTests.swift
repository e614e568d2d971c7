import Cluster
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// The promises over TLS, with certificates on both sides and every process under the user of its role.
@Suite(.serialized) struct GuardedTests {
    @Test(.timeLimit(.minutes(30)))
    func workersAndRedisAreKilledAndEveryJobIsAnsweredOnce() async throws {
        try await LiveCluster.runGuarded { cluster in
            let pictures = try (0..<4).map { try TestPicture($0, in: cluster.folder) }
            let model = try InProcessMasks().model.text
            let lines = (0..<80).map { pictures[$0 % 4].line("j\($0)", points: [(2 + $0 % 9, 3)]) }
            // A take whose answer goes with the Redis that is killed comes back when its lease ends.
            try cluster.start(.encoder, "encoder", lease: 15)
            let first = try cluster.start(.decoder, "first")
            try await cluster.ready("encoder", "first")
            let held = try await cluster.holdInWork(first) { number in
                let id = "held-\(number)"
                let file = try cluster.write([pictures[0].longLine(id, prompts: 4000)], to: "\(id).jsonl")
                let run = try await cluster.kirie("submit", "--jobs", file, "--model", model)
                #expect(run.exit == .status(0), "\(run.complaint)")
                return cluster.reference(id, pictures[0].digest)
            }
            first.signal(SIGKILL)
            await first.waitForExit()
            try await cluster.letRunOut([held])

            let half = try cluster.write(Array(lines[..<40]), to: "half.jsonl")
            let before = try await cluster.kirie("submit", "--jobs", half, "--model", model)
            #expect(before.exit == .status(0) && before.lines.count == 40, "\(before.complaint)")
            // With `appendfsync always` what was accepted is there when Redis is back.
            try await cluster.server.restart()
            let second = try cluster.start(.decoder, "second")
            let all = try cluster.write(lines, to: "all.jsonl")
            let after = try await cluster.kirie("submit", "--jobs", all, "--wait", "--model", model)
            #expect(after.exit == .status(0), "\(after.complaint)")
            #expect(after.lines.count == 80 && after.lines.allSatisfy { $0.state == "done" })
            let waited = try await cluster.kirie("wait", held.id)
            #expect(waited.exit == .status(0) && waited.lines.map(\.state) == ["done"], "\(waited.complaint)")

            for command in [["queues", "--json"], ["workers", "--json"], ["dead", "list"], ["cache", "stats"]] {
                let run = try await cluster.kirie(command)
                #expect(run.exit == .status(0), "\(command): \(run.complaint)")
            }
            second.signal(SIGTERM)
            #expect(await second.waitForExit() == .status(0))
            try await cluster.expectNothingLeft()
        }
    }

    /// Its rights reach for what it does, and it waits for its Redis as workers do.
    @Test(.timeLimit(.minutes(30)))
    func aGatewayWaitsForRedisAndServes() async throws {
        try await LiveCluster.runGuarded { cluster in
            await cluster.server.kill()
            let gateway = try cluster.start(["gateway", "--listen", "127.0.0.1:0"], log: "gateway.log")
            func log() throws -> String { try String(contentsOfFile: "\(cluster.folder)/gateway.log", encoding: .utf8) }
            try await eventually("it says what it waits for") { try log().contains("waiting for Redis") }
            #expect(gateway.isRunning)
            try await cluster.server.restart()
            try await eventually("it serves") { try log().contains("KIRIE_GATEWAY=http://") }
            gateway.signal(SIGTERM)
            #expect(await gateway.waitForExit() == .status(0))
        }
    }

    /// Neither a password nor the place of a key is in a message or an argument of a process.
    @Test(.timeLimit(.minutes(30)))
    func aWrongPasswordIsRefusedWithoutItsText() async throws {
        try await LiveCluster.runGuarded { cluster in
            guard case .tcp(let host, let port) = cluster.server.url.endpoint else { return }
            let run = try await cluster.kirie("queues", "--redis", "rediss://monitor:tops3cret@\(host):\(port)")
            #expect(run.exit == .status(1), "\(run.exit)")
            #expect(run.complaint.contains("the user or the password is wrong"), "\(run.complaint)")
            #expect(!run.complaint.contains("tops3cret"))
            let plain = try await cluster.kirie("queues", "--redis", "redis://monitor@\(host):\(port)")
            #expect(plain.complaint.contains("rediss://"), "\(plain.complaint)")
        }
    }
}
