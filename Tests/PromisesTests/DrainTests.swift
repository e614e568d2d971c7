import Cluster
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// SIGTERM drains: no new work, what is held is finished or handed back, the name is taken off, exit status 0.
@Suite(.serialized) struct DrainTests {
    @Test(.timeLimit(.minutes(30)), arguments: [SIGTERM, SIGINT])
    func aDecoderFinishesWhatItHolds(signal: Int32) async throws {
        try await LiveCluster.run { cluster in
            try cluster.start(.encoder, "encoder")
            // However slow the machine: what it holds is never too much for the limit.
            let decoder = try cluster.start(.decoder, "decoder", ["--drain-limit", "86400"])
            try await cluster.ready("encoder", "decoder")
            let picture = try TestPicture(1, in: cluster.folder)
            let job = try await cluster.holdInWork(decoder) { number in
                try await submitLong("held-\(number)", picture, prompts: 1000, to: cluster)
            }
            // It finds the signal when it goes on, with the job in its hands.
            decoder.signal(signal)
            decoder.signal(SIGCONT)
            let registry = WorkerRegistry(cluster.broker)
            try await eventually("the decoder drains or is gone") {
                guard decoder.isRunning else { return true }
                return try await registry.workers().contains { $0.heartbeat.name == "decoder" && $0.heartbeat.draining }
            }
            let late = try await submitLong("late", picture, prompts: 1, to: cluster)
            let exit = try await within(.hang, "the drain") { await decoder.waitForExit() }
            #expect(exit == .status(0))
            #expect(try await cluster.status(job)?.state == .done)
            #expect(try await cluster.status(job)?.attempts == 1)
            #expect(try await cluster.status(late)?.state == .queued, "a draining worker takes nothing")
            #expect(try await !cluster.isListed("decoder"))
            try cluster.start(.decoder, "successor")
            try await cluster.reach(.done, [late])
            try await cluster.expectNothingLeft()
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func whatIsNotFinishedWithinTheLimitIsHandedBack() async throws {
        try await LiveCluster.run { cluster in
            try cluster.start(.encoder, "encoder")
            // Its lease does not end: only handing back can free the job.
            let decoder = try cluster.start(.decoder, "decoder", ["--drain-limit", "0"])
            try await cluster.ready("encoder", "decoder")
            let picture = try TestPicture(1, in: cluster.folder)
            let job = try await cluster.holdInWork(decoder) { number in
                try await submitLong("long-\(number)", picture, prompts: 6000, to: cluster)
            }
            decoder.signal(SIGTERM)
            decoder.signal(SIGCONT)
            let exit = try await within(.hang, "the drain") { await decoder.waitForExit() }
            #expect(exit == .status(0))
            let left = try await cluster.status(job)
            #expect(left?.state == .queued && left?.attempts == 0, "\(String(describing: left))")
            #expect(try await !cluster.isListed("decoder"))
            try cluster.start(.decoder, "successor")
            try await cluster.reach(.done, [job])
            #expect(try await cluster.status(job)?.worker == "successor")
            try await cluster.expectNothingLeft()
        }
    }

    @Test(.timeLimit(.minutes(30)), arguments: ["20", "0"])
    func anEncoderDrainsToo(limit: String) async throws {
        try await LiveCluster.run { cluster in
            let encoder = try cluster.start(.encoder, "encoder", ["--drain-limit", limit])
            try await cluster.ready("encoder")
            // So many that one is in work whenever the signal comes.
            let pictures = try (0..<12).map { try TestPicture($0, width: 900, height: 700, in: cluster.folder) }
            let lines = pictures.enumerated().map { "{\"id\":\"d-\($0)\",\"image\":\"\($1.path)\"}" }
            _ = try await cluster.kirie("submit", "--jobs", try cluster.write(lines, to: "jobs.jsonl"))
            try await eventually("some encode began") { try await cluster.total("encode_started") > 0 }
            encoder.signal(SIGTERM)
            let exit = try await within(.hang, "the drain") { await encoder.waitForExit() }
            #expect(exit == .status(0))
            #expect(try await !cluster.isListed("encoder"))
            let inWork = try await cluster.broker.statistics().stream(.encode, .bulk).inWork
            #expect(inWork == 0, "\(inWork) encodes are still leased")
            try cluster.start(.encoder, "successor")
            try await cluster.reach(.done, pictures.enumerated().map { cluster.reference("d-\($0)", $1.digest) })
            try await cluster.expectNothingLeft()
        }
    }

    private func submitLong(
        _ id: String, _ picture: TestPicture, prompts: Int, to cluster: LiveCluster
    ) async throws -> JobReference {
        let file = try cluster.write([picture.longLine(id, prompts: prompts)], to: "\(id).jsonl")
        let run = try await cluster.kirie("submit", "--jobs", file)
        #expect(run.exit == .status(0), "\(run.complaint)")
        return cluster.reference(id, picture.digest)
    }
}
