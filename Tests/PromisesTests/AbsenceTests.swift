import Cluster
import ClusterTesting
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// Redis is gone for a while, dead or frozen, and comes back with what it had.
@Suite(.serialized) struct AbsenceTests {
    enum Kind: CaseIterable {
        case killed, frozen
    }

    /// Longer than the patience of clients (15 s) in `deploy/chaos`, shorter in the suite.
    private static let absence = Duration.seconds(
        ProcessInfo.processInfo.environment["KIRIE_ABSENCE_SECONDS"].flatMap { Int($0) } ?? 3)

    @Test(.timeLimit(.minutes(30)), arguments: Kind.allCases)
    func workersGoOnWhenRedisIsBack(kind: Kind) async throws {
        // What was taken by an answer that was lost with Redis comes back with the end of its lease, and so may the rest.
        let options = RedisServerProcess.Options(appendOnly: true, appendFsync: .always)
        try await LiveCluster.run(options, settings: ["attempts": 100_000]) { cluster in
            let workers = [
                try cluster.start(.encoder, "encoder", lease: 2), try cluster.start(.decoder, "decoder", lease: 2),
            ]
            try await cluster.ready("encoder", "decoder")
            let pictures = try TestPicture.draw(10, seed: 5, in: cluster.folder)
            let lines = (0..<60).map { pictures[$0 % 10].longLine("a-\($0)", prompts: 40) }
            let jobs = (0..<60).map { cluster.reference("a-\($0)", pictures[$0 % 10].digest) }
            let accepted = try await cluster.kirie("submit", "--jobs", try cluster.write(lines, to: "jobs.jsonl"))
            #expect(accepted.exit == .status(0))
            try await eventually("some work is done") { try await cluster.totalOfLanes("done") > 0 }

            switch kind {
            case .killed: await cluster.server.kill()
            case .frozen: try await cluster.server.freeze()
            }
            // The absence itself is what is tested.
            try await Task.sleep(for: Self.absence)
            #expect(workers.allSatisfy { $0.isRunning }, "a worker gave up")
            switch kind {
            case .killed: try await cluster.server.restart()
            case .frozen: cluster.server.thaw()
            }
            let clock = ContinuousClock()
            let back = clock.now
            try await eventually("all jobs done") {
                guard let statuses = try? await cluster.broker.status(jobs) else { return false }
                return statuses.allSatisfy { $0?.state == .done }
            }
            let time = clock.now - back
            #expect(workers.allSatisfy { $0.isRunning })
            // And new work is taken as before.
            let more = try await cluster.kirie("submit", pictures[0].path, "--point", "3,3", "--wait")
            #expect(more.exit == .status(0), "\(more.complaint)")
            let audit = try await cluster.expectNothingLeft()
            #expect(audit.states.count == 61)
            print("absence: redis-server \(kind) for \(Self.absence): 60 accepted jobs done \(time) after it was back")
        }
    }
}
