import Cluster
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

extension BadInputTests {
    /// Entries of the streams that nobody's function wrote.
    @Suite struct StreamEntryTests {
        private static let garbage: [(what: String, fields: [RedisArgument])] = [
            ("wrong names", ["no", "ticket"]),
            ("empty names and values", ["", ""]),
            (
                "binary",
                [.array([0, 255, 254, 10, 13]), .array((0..<200).map { UInt8(truncatingIfNeeded: $0 &* 37) })]
            ),
            ("huge", ["job", .array([UInt8](repeating: 0x78, count: 3 << 20))]),
            ("many fields", (0..<2000).map { .string("f\($0)") }),
            ("an unknown job", ["job", "nobody-knows-me", "try", "0"]),
            ("an unknown job, tried before", ["job", "nobody-knows-me", "try", "3"]),
            ("a try that is no number", ["job", "x", "try", "often"]),
            ("a key that is none", ["key", "abc", "try", "0"]),
            ("a job name that is a key of another kind", ["job", "../clock", "try", "0"]),
        ]

        @Test(.timeLimit(.minutes(30)))
        func entriesWrittenByHandGoToTheDeadLettersAndTheWorkersLive() async throws {
            try await LiveCluster.run { cluster in
                let workers = [try cluster.start(.encoder, "encoder"), try cluster.start(.decoder, "decoder")]
                try await cluster.ready("encoder", "decoder")
                let pictures = try TestPicture.draw(6, in: cluster.folder)
                var written = 0
                for stage in Stage.allCases {
                    for lane in Lane.allCases {
                        for (index, garbage) in Self.garbage.enumerated() {
                            let line = cluster.broker.keys.stream(stage, lane, in: Partition(index % 4))
                            _ = try await cluster.broker.redis.send(
                                RedisCommand("XADD", [.string(line), "*"] + garbage.fields))
                            written += 1
                        }
                    }
                }
                let lines = pictures.enumerated().map { $1.line("ok-\($0)", points: [(2, 3)]) }
                let run = try await cluster.kirie(
                    "submit", "--jobs", try cluster.write(lines, to: "jobs.jsonl"), "--wait")
                #expect(run.exit == .status(0), "\(run.complaint)")
                try await eventually("all garbage was found") {
                    try await cluster.total("malformed") == written
                }
                let letters = try await cluster.broker.deadLetters()
                #expect(letters.count == written && letters.allSatisfy { !$0.reason.isEmpty && $0.job == nil })
                #expect(workers.allSatisfy { $0.isRunning })
                let shown = try await cluster.kirie("dead", "list", "--json")
                #expect(shown.exit == .status(0) && shown.lines.count == written)
                let purged = try await cluster.kirie("dead", "purge", "--all")
                #expect(purged.exit == .status(0))
                #expect(try await cluster.broker.deadLetters().isEmpty)
                try await cluster.expectNothingLeft()
                print(
                    "bad input: \(written) entries of \(Self.garbage.count) kinds in 4 lines: all among the dead letters"
                )
            }
        }
    }
}
