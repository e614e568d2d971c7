import Cluster
import ClusterTesting
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// When the cluster is full, new work is refused with a reason and a time to come back.
@Suite(.serialized) struct BackpressureTests {
    @Test(.timeLimit(.minutes(30)))
    func beyondTheLimitSubmitExitsWith75AndNothingAcceptedIsLost() async throws {
        try await LiveCluster.run(settings: ["jobs:bulk": 50]) { cluster in
            let model = try InProcessMasks().model
            let picture = try TestPicture(1, in: cluster.folder)
            let lines = (0..<200).map { picture.line("b-\($0)", points: [($0 % 20, $0 / 20)]) }
            let file = try cluster.write(lines, to: "jobs.jsonl")
            let full = try await cluster.kirie("submit", "--jobs", file, "--model", model.text)
            let accepted = full.lines.filter { $0.state == "waiting_embedding" }
            let refused = full.lines.filter { $0.state == "refused" }
            #expect(full.exit == .status(75))
            #expect(
                accepted.count == 50 && refused.count == 150, "\(accepted.count) accepted, \(refused.count) refused")
            #expect(refused.allSatisfy { ($0.retry_after_ms ?? 0) > 0 && ($0.error ?? "").contains("limit") })
            #expect(full.complaint.contains("the cluster is full"), "\(full.complaint)")
            #expect(try await cluster.totalOfLanes("in") == 50)

            // Workers come; what was refused is offered until it is taken.
            try cluster.start(.encoder, "encoder")
            try cluster.start(.decoder, "decoder")
            let rest = try await cluster.kirie(
                "submit", "--jobs", file, "--model", model.text, "--when-full", "wait", "--wait")
            #expect(rest.exit == .status(0), "\(rest.complaint)")
            #expect(Set(rest.lines.filter { $0.state == "done" }.compactMap(\.id)).count == 200)
            let audit = try await cluster.expectNothingLeft()
            #expect(audit.states.count == 200)
            print(
                "backpressure: 50 of 200 accepted, exit status 75, come back in \(refused[0].retry_after_ms ?? 0) ms; "
                    + "offered again: 200 done")
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func memoryStaysUnderRedissLimit() async throws {
        let limit = 8 << 20
        try await LiveCluster.run(.init(maximumMemory: limit)) { cluster in
            let model = try InProcessMasks().model
            let pictures = try TestPicture.draw(20, in: cluster.folder)
            // Lines of 40 kB: 200 of them are more than fits.
            let lines = (0..<200).map { pictures[$0 % 20].longLine("m-\($0)", prompts: 1000) }
            let file = try cluster.write(lines, to: "jobs.jsonl")
            let run = try await cluster.kirie("submit", "--jobs", file, "--model", model.text)
            let accepted = Set(run.lines.filter { $0.state == "waiting_embedding" }.compactMap(\.id))
            let refused = run.lines.filter { $0.state == "refused" }
            let used = try await cluster.info("memory", "used_memory")
            #expect(run.exit == .status(75), "\(run.exit): \(run.complaint)")
            #expect(accepted.count + refused.count == 200 && accepted.count > 20)
            #expect(refused.allSatisfy { ($0.error ?? "").contains("maxmemory") && ($0.retry_after_ms ?? 0) > 0 })
            // The function that passes the limit is the last that runs.
            #expect(used < limit + (8 << 20), "\(used) bytes are used of \(limit)")
            #expect(run.complaint.contains("the cluster is full"), "\(run.complaint)")

            // What was accepted is there, exactly; and again nothing more is taken.
            #expect(try await cluster.totalOfLanes("in") == accepted.count)
            let again = try await cluster.kirie("submit", "--jobs", file, "--model", model.text)
            #expect(again.exit == .status(75), "\(again.exit): \(again.complaint)")
            #expect(Set(again.lines.filter { $0.state != "refused" }.compactMap(\.id)).isSuperset(of: accepted))
            let there = try await cluster.totalOfLanes("in")
            #expect(again.lines.count { $0.state != "refused" } == there)
            // Far beyond the limit no question is answered that might write.
            let tight = RedisArgument.integer(limit / 2)
            _ = try await cluster.broker.redis.send(RedisCommand("CONFIG", "SET", "maxmemory", tight))
            let beyond = try await cluster.kirie("submit", "--jobs", file, "--model", model.text)
            #expect(beyond.exit == .status(75), "\(beyond.exit): \(beyond.complaint)")
            #expect(beyond.lines.count == 200)
            // Cancelling makes room even then.
            let cancelled = try await cluster.kirie(
                ["cancel"] + again.lines.filter { $0.state != "refused" }.compactMap(\.id))
            #expect(cancelled.exit == .status(0) && cancelled.lines.allSatisfy { $0.state == "cancelled" })
            let after = try await cluster.info("memory", "used_memory")
            #expect(after < limit / 2)
            print(
                "backpressure: maxmemory \(limit): \(accepted.count) of 200 accepted, \(used) bytes used, exit status 75; "
                    + "after their cancellation \(after) bytes")
        }
    }
}
