import Cluster
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// Everything mode through a cluster: the masks of the process itself to the bit, whoever dies on the way.
@Suite(.serialized) struct EverythingTests {
    private static func settings(side: Int = 12) -> [String] {
        [
            "--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--box-nms-thresh", "0.98", "--points-per-side",
            "\(side)", "--points-per-batch", "16",
        ]
    }

    private func masks(_ run: KirieRun) throws -> [Answer.Cutout] {
        try #require(run.exit == .status(0), "\(run.complaint)")
        return try JSONDecoder().decode(Answer.self, from: Data(run.json.utf8)).masks
    }

    @Test(
        .timeLimit(.minutes(30)),
        arguments: [
            [], ["--crop-n-layers", "1", "--min-mask-region-area", "20"], ["--fast"], ["--tile", "128"],
        ])
    func theClusterFindsWhatTheProcessFinds(more: [String]) async throws {
        try await LiveCluster.run { cluster in
            try cluster.start(.encoder, "encoder", ["--embedding", "fp32"])
            for name in ["one", "two"] { try cluster.start(.decoder, name, ["--embedding", "fp32"]) }
            try await cluster.ready("encoder", "one", "two")
            let picture = try TestPicture(4, width: 300, height: 200, in: cluster.folder)
            let words = ["everything", picture.path, "--json"] + Self.settings() + more
            let here = try masks(try await cluster.kirie(words))
            let there = try masks(try await cluster.kirie(words + ["--redis", cluster.address(as: "submitter")]))
            #expect(!here.isEmpty)
            #expect(try InProcessMasks.text(here) == InProcessMasks.text(there))
            // What was found is kept: no decoder is asked again.
            let parts = try await cluster.total("parts_done")
            #expect(parts > 1)
            let again = try masks(try await cluster.kirie(words + ["--redis", cluster.address(as: "submitter")]))
            #expect(try InProcessMasks.text(here) == InProcessMasks.text(again))
            #expect(try await cluster.total("parts_done") == parts)
            try await cluster.expectNothingLeft()
        }
    }

    /// What was found is found again in Redis by a decoder that did not find it, and then in that decoder's own memory.
    @Test(.timeLimit(.minutes(30))) func whatWasFoundIsNotSearchedForAgain() async throws {
        try await LiveCluster.run { cluster in
            try cluster.start(.encoder, "encoder", ["--embedding", "fp32"])
            let finder = try cluster.start(.decoder, "finder", ["--embedding", "fp32"])
            try await cluster.ready("encoder", "finder")
            let picture = try TestPicture(6, width: 300, height: 200, in: cluster.folder)
            let words =
                ["everything", picture.path, "--json", "--redis", cluster.address(as: "submitter")] + Self.settings()
            let first = try InProcessMasks.text(try masks(try await cluster.kirie(words)))
            let parts = try await cluster.total("parts_done")
            finder.signal(SIGTERM)
            await finder.waitForExit()
            try cluster.start(.decoder, "other", ["--embedding", "fp32"])
            try await cluster.ready("other")
            #expect(try InProcessMasks.text(try masks(try await cluster.kirie(words))) == first)
            let redis = cluster.broker.redis
            let names = try await redis.send(RedisCommand("KEYS", "*candidates:*")).array?.compactMap(\.string) ?? []
            #expect(!names.isEmpty)
            for name in names { _ = try await redis.send(RedisCommand("DEL", .string(name))) }
            #expect(try InProcessMasks.text(try masks(try await cluster.kirie(words))) == first)
            #expect(try await cluster.total("parts_done") == parts)
            // Other settings find something else.
            let others = words + ["--points-per-side", "10"]
            #expect(try InProcessMasks.text(try masks(try await cluster.kirie(others))) != first)
            #expect(try await cluster.total("parts_done") > parts)
        }
    }

    /// The one decoder is killed with parts in its hands, again and again; another goes on.
    @Test(.timeLimit(.minutes(30))) func aWorkerThatDiesCostsItsOwnPartsAlone() async throws {
        try await LiveCluster.run(settings: ["attempts": 1000]) { cluster in
            try cluster.start(.encoder, "encoder", ["--embedding", "fp32"])
            try await cluster.ready("encoder")
            let picture = try TestPicture(5, width: 300, height: 200, in: cluster.folder)
            let words = ["everything", picture.path, "--json"] + Self.settings(side: 24)
            let here = try masks(try await cluster.kirie(words))
            async let run = cluster.kirie(words + ["--redis", cluster.address(as: "submitter")])
            for round in 0..<6 {
                let before = try await cluster.total("parts_done")
                let decoder = try cluster.start(.decoder, "victim-\(round)", lease: 1, ["--embedding", "fp32"])
                try await eventually("a part is done, or all is") {
                    let done = try await cluster.total("parts_done")
                    return done > before || done >= 36
                }
                decoder.signal(SIGKILL)
                await decoder.waitForExit()
            }
            try cluster.start(.decoder, "survivor", lease: 1, ["--embedding", "fp32"])
            let there = try masks(try await run)
            #expect(try InProcessMasks.text(here) == InProcessMasks.text(there))
            // No part was done twice and counted twice.
            #expect(try await cluster.total("parts_done") == 36)
            try await cluster.expectNothingLeft()
        }
    }

    @Test(.timeLimit(.minutes(30))) func cancellingEndsAllParts() async throws {
        try await LiveCluster.run { cluster in
            try cluster.start(.encoder, "encoder")
            let decoder = try cluster.start(.decoder, "decoder")
            try await cluster.ready("encoder", "decoder")
            let picture = try TestPicture(6, width: 300, height: 200, in: cluster.folder)
            let submitted = try await cluster.kirie(
                ["submit", picture.path, "--everything", "--points-per-batch", "2"])
            let id = try #require(submitted.lines.first?.id)
            let job = cluster.reference(id, picture.digest)
            try await eventually("the job is divided, or done") {
                let state = try await cluster.status(job)?.state
                return state == .waitingForParts || state == .done
            }
            try await decoder.stop()
            let cancelled = try await cluster.broker.cancel([job]) == [.cancelled]
            decoder.signal(SIGCONT)
            let state = try await cluster.status(job)?.state
            #expect(state == (cancelled ? .cancelled : .done))
            try await cluster.expectNothingLeft()
        }
    }

    @Test(.timeLimit(.minutes(30))) func aJobLineAsksForEverything() async throws {
        try await LiveCluster.run { cluster in
            try cluster.start(.encoder, "encoder")
            try cluster.start(.decoder, "decoder")
            try await cluster.ready("encoder", "decoder")
            let picture = try TestPicture(7, width: 120, height: 90, in: cluster.folder)
            let lines = [
                "{\"id\":\"a\",\"image\":\"\(picture.path)\",\"everything\":true,\"output\":\"polygon\",\"meta\":7}",
                "{\"id\":\"b\",\"image\":\"\(picture.path)\",\"everything\":{\"points_per_side\":4,\"pred_iou_thresh\":0}}",
                "{\"id\":\"c\",\"image\":\"\(picture.path)\",\"everything\":{\"points_per_side\":9999}}",
                "{\"id\":\"d\",\"image\":\"\(picture.path)\",\"everything\":true,\"prompts\":[{\"points\":[[1,1]]}]}",
            ]
            let run = try await cluster.kirie("submit", "--jobs", try cluster.write(lines, to: "jobs.jsonl"), "--wait")
            #expect(run.exit == .status(1))
            let by = run.byIdentifier
            #expect(by["a"]?.last?.state == "done" && by["b"]?.last?.state == "done")
            #expect(run.json.contains("\"meta\":7"))
            let faults = run.lines.compactMap(\.error).joined()
            #expect(faults.contains("9999") && faults.contains("takes no prompts"))
            try await cluster.expectNothingLeft()
        }
    }
}
