import Cluster
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// An image is encoded at most once at a time per model in the whole cluster.
@Suite(.serialized) struct SingleFlightTests {
    @Test(.timeLimit(.minutes(30)))
    func twoHundredJobsOnAColdImageOverThreeEncodersAreOneEncode() async throws {
        try await LiveCluster.run { cluster in
            let names = ["encoder-a", "encoder-b", "encoder-c"]
            for name in names { try cluster.start(.encoder, name) }
            try cluster.start(.decoder, "decoder")
            try await cluster.ready("encoder-a", "encoder-b", "encoder-c", "decoder")

            // Large, so that the encode is still going on while jobs arrive.
            let picture = try TestPicture(1, width: 1600, height: 1200, in: cluster.folder)
            let files = try (0..<4).map { file in
                let lines = (0..<50).map { picture.line("\(file)-\($0)", points: [($0 * 7, $0 * 5)]) }
                return try cluster.write(lines, to: "jobs-\(file).jsonl")
            }
            let statuses = try await withThrowingTaskGroup(of: ChildProcess.Exit.self) { group in
                for file in files {
                    group.addTask { try await cluster.kirie("submit", "--jobs", file, "--wait").exit }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(statuses.allSatisfy { $0 == .status(0) }, "\(statuses)")
            let (started, joins) = (try await cluster.total("encode_started"), try await cluster.total("joins"))
            #expect(started == 1)
            #expect(try await cluster.total("encodes") == 1)
            #expect(try await cluster.totalOfLanes("done") == 200)
            try await cluster.expectNothingLeft()
            print("single flight: 200 jobs, 3 encoders: \(started) encode started, \(joins) jobs joined it")
        }
    }

    @Test(.timeLimit(.minutes(30)), arguments: [SIGKILL, SIGSTOP])
    func anotherEncoderTakesOverWhenTheLeaseEndsAndNotBefore(signal: Int32) async throws {
        try await LiveCluster.run { cluster in
            let lease = 3.0
            try cluster.start(.decoder, "decoder")
            let victim = try cluster.start(.encoder, "victim", lease: lease)
            try await cluster.ready("victim", "decoder")
            let (job, taken) = try await catchInWork(victim, in: cluster)
            victim.signal(signal)
            let startsBefore = try await cluster.total("encode_started")

            // From here on the heir is idle and looks for work.
            let heir = try cluster.start(.encoder, "heir", lease: lease)
            var wait = 0.0
            try await eventually("the heir took over") {
                let starts = try await cluster.total("encode_started")
                // After the question, so that the take was not later than this.
                wait = Double(try await cluster.broker.redis.time() - taken) / 1e6
                return starts == startsBefore + 1
            }
            // A renewal between the take and the signal would only make it longer.
            #expect(wait >= lease, "taken over \(wait) s after the take, before the lease of \(lease) s ended")
            try await cluster.reach(.done, [job])
            #expect(try await cluster.status(job)?.attempts == 1, "the job itself was tried once")
            #expect(try await cluster.total("encode_started") == startsBefore + 1)
            #expect(try await cluster.total("encode_finished") == startsBefore)
            if signal == SIGSTOP {
                // It goes on where it stopped, finds its lease lost, and serves on.
                victim.signal(SIGCONT)
                heir.signal(SIGKILL)
                let next = try TestPicture(99, in: cluster.folder)
                let run = try await cluster.kirie("submit", next.path, "--point", "3,3", "--wait")
                #expect(run.exit == .status(0), "\(run.complaint)")
            }
            try await cluster.expectNothingLeft()
            print("single flight: encoder caught by signal \(signal), lease \(lease) s: taken over after \(wait) s")
        }
    }

    /// Submits pictures until the victim is stopped in the middle of one's encode; returns the job, and when the victim
    /// took it by Redis's clock.
    private func catchInWork(_ victim: ChildProcess, in cluster: LiveCluster) async throws -> (JobReference, Int) {
        let model = try #require(try await WorkerRegistry(cluster.broker).defaultModel())
        for number in 0..<1000 {
            let picture = try TestPicture(number, seed: 7, width: 1600, height: 1200, in: cluster.folder)
            let prefix = cluster.broker.keys.prefix(cluster.broker.partition(of: picture.digest))
            let encode = "\(prefix)encoding:\(picture.digest):\(model)"
            let job = cluster.reference("caught-\(number)", picture.digest)
            let file = try cluster.write([picture.line(job.id, points: [(9, 9)])], to: "caught.jsonl")
            async let submitted = cluster.kirie("submit", "--jobs", file)
            try await eventually("the encode of picture \(number) began or ended") {
                if try await cluster.broker.redis.fields(encode, ["state"])[0]?.string == "in_work" {
                    try await victim.stop()
                    return true
                }
                return try await cluster.status(job).map { $0.state != .waitingForEmbedding } ?? false
            }
            _ = try await submitted
            // What it had sent before it stopped has been read by now.
            for _ in 0..<3 { try await cluster.broker.redis.ping() }
            let fields = try await cluster.broker.redis.fields(encode, ["state", "started"])
            if fields[0]?.string == "in_work", let started = fields[1].flatMap({ Int($0.string) }) {
                return (job, started)
            }
            victim.signal(SIGCONT)
            try await cluster.reach(.done, [job])
        }
        throw UnexpectedAnswer(description: "no encode of a thousand was slow enough to be caught")
    }
}
