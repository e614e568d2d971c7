import Cluster
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// The other ends that a job may come to: cancelled, expired, dead.
@Suite(.serialized) struct EndingTests {
    @Test(.timeLimit(.minutes(30)))
    func jobsAreCancelledWhereverTheyStand() async throws {
        try await LiveCluster.run { cluster in
            let picture = try TestPicture(1, in: cluster.folder)
            let model = try InProcessMasks().model.text
            // Parked: there is no encoder.
            try await submit([picture.line("parked", points: [(3, 3)])], model, to: cluster)
            try await expectCancelled("parked", .waitingForEmbedding, picture, in: cluster)
            // In line: there is no decoder.
            try cluster.start(.encoder, "encoder")
            try await submit([picture.line("queued", points: [(3, 3)])], model, to: cluster)
            try await cluster.reach(.queued, [cluster.reference("queued", picture.digest)])
            try await expectCancelled("queued", .queued, picture, in: cluster)
            // In work.
            let decoder = try cluster.start(.decoder, "decoder")
            let held = try await cluster.holdInWork(decoder) { number in
                try await submit([picture.longLine("held-\(number)", prompts: 6000)], model, to: cluster)
                return cluster.reference("held-\(number)", picture.digest)
            }
            try await expectCancelled(held.id, .inWork, picture, in: cluster)
            decoder.signal(SIGCONT)
            // The worker lives, and what comes next is done.
            let next = try await cluster.kirie("submit", picture.path, "--point", "4,4", "--wait", "--model", model)
            #expect(next.exit == .status(0))
            let waited = try await cluster.kirie("wait", held.id)
            #expect(waited.exit == .status(1) && waited.lines.map(\.state) == ["cancelled"])
            try await cluster.expectNothingLeft()
        }
    }

    @Test(.timeLimit(.minutes(30)))
    func jobsExpireEvenWhereNoWorkerIsAlive() async throws {
        try await LiveCluster.run { cluster in
            let picture = try TestPicture(1, in: cluster.folder)
            let model = try InProcessMasks().model.text
            let file = try cluster.write([picture.line("late", points: [(3, 3)])], to: "late.jsonl")
            let run = try await cluster.kirie("submit", "--jobs", file, "--ttl", "0.3", "--wait", "--model", model)
            #expect(run.exit == .status(1) && run.lines.map(\.state) == ["expired"], "\(run.exit) \(run.complaint)")
            let status = try #require(try await cluster.status(cluster.reference("late", picture.digest)))
            let lived = Double((status.finished ?? 0) - status.submitted) / 1e6
            #expect(lived >= 0.3, "expired after \(lived) s")

            // One that is in work when its time comes: its decoder is stopped until then.
            try cluster.start(.encoder, "encoder")
            let decoder = try cluster.start(.decoder, "decoder")
            let held = try await cluster.holdInWork(decoder) { number in
                let long = picture.longLine("long-\(number)", prompts: 8000, ",\"ttl_ms\":3000")
                try await submit([long], model, to: cluster)
                return cluster.reference("long-\(number)", picture.digest)
            }
            let second = try await cluster.kirie("wait", held.id)
            #expect(second.lines.map(\.state) == ["expired"])
            decoder.signal(SIGCONT)
            try await cluster.expectNothingLeft()
            print("expiry: a ttl of 0.3 s ended after \(lived) s")
        }
    }

    /// A job that kills whoever takes it drags no other along, and ends with the reason.
    @Test(.timeLimit(.minutes(30)))
    func aPoisonJobIsDeadAfterItsAttemptsAndTheOthersGoOn() async throws {
        try await LiveCluster.run { cluster in
            let model = try InProcessMasks().model.text
            let slots = (0..<2).map { number in
                WorkerSlot("decoder-\(number)") { try cluster.start(.decoder, $0) }
            }
            let picture = try TestPicture(1, in: cluster.folder)
            try cluster.start(.encoder, "encoder")
            try await withThrowingTaskGroup(of: Void.self) { group in
                defer { for slot in slots { slot.close() } }
                for slot in slots { group.addTask { try await slot.keepRunning() } }
                // A job that ended before it was seen in work killed too few, and another takes its place.
                var poison = PoisonJob(0, picture, in: cluster)
                try await submit(poison.lines, model, to: cluster)
                while try await poison.killItsWorkers(slots) != .dead {
                    poison = PoisonJob(poison.number + 1, picture, in: cluster)
                    try await submit(poison.lines, model, to: cluster)
                }
                let end = try #require(try await cluster.status(poison.reference))
                #expect(end.attempts == 5 && poison.kills == 5, "\(end), \(poison.kills) kills")
                #expect(end.error?.contains("ran out") == true, "\(end.error ?? "")")
                try await cluster.reach(.done, poison.others)
                let letters = try await cluster.broker.deadLetters()
                #expect(letters.map(\.job) == [poison.reference.id] && letters.first?.reason == end.error)
                try await cluster.expectNothingLeft()

                // Nobody kills its workers any more.
                let retry = try await cluster.kirie("dead", "retry", poison.reference.id)
                #expect(retry.exit == .status(0) && retry.lines.map(\.state) == ["queued"], "\(retry.complaint)")
                try await cluster.reach(.done, [poison.reference])
                let most = try await cluster.broker.status(poison.others).compactMap { $0?.attempts }.max() ?? 0
                // Once with the poison, in its batch or in its worker's other slot, and once without.
                #expect(most <= 2, "one of the others was tried \(most) times")
                try await cluster.expectNothingLeft()
                for slot in slots { slot.close() }
                try await group.waitForAll()
                print(
                    "poison: dead after \(poison.kills) killed workers: \(end.error ?? ""); 60 others done, tried \(most) "
                        + "times at most; \(poison.number) ended before they were seen in work")
            }
        }
    }

    private func submit(_ lines: [String], _ model: String, to cluster: LiveCluster) async throws {
        let file = try cluster.write(lines, to: "submitted.jsonl")
        let run = try await cluster.kirie("submit", "--jobs", file, "--model", model)
        #expect(run.exit == .status(0), "\(run.complaint)")
    }

    private func expectCancelled(
        _ id: String, _ state: JobState, _ picture: TestPicture, in cluster: LiveCluster
    ) async throws {
        let reference = cluster.reference(id, picture.digest)
        #expect(try await cluster.status(reference)?.state == state)
        let run = try await cluster.kirie("cancel", id)
        #expect(run.exit == .status(0) && run.lines.map(\.state) == ["cancelled"], "\(run.complaint)")
        #expect(try await cluster.status(reference)?.state == .cancelled)
    }
}

/// A job whose workers are killed, among sixty on the same picture that did nothing.
private struct PoisonJob {
    let number: Int
    let lines: [String]
    let reference: JobReference
    let others: [JobReference]
    private let cluster: LiveCluster
    /// Workers killed while they held it.
    private(set) var kills = 0

    init(_ number: Int, _ picture: TestPicture, in cluster: LiveCluster) {
        let names = (0..<60).map { "good-\(number)-\($0)" }
        // The others are on the same picture, and may be taken together with it the first time.
        let good = names.enumerated().map { picture.line($1, points: [($0 % 20, $0 / 20)]) }
        let id = "poison-\(number)"
        lines = Array(good.prefix(30) + [picture.longLine(id, prompts: 6000)] + good.suffix(30))
        reference = cluster.reference(id, picture.digest)
        others = names.map { cluster.reference($0, picture.digest) }
        (self.number, self.cluster) = (number, cluster)
    }

    /// Kills whoever has the job in work, until it has ended; returns how.
    mutating func killItsWorkers(_ slots: [WorkerSlot]) async throws -> JobState {
        let deadline = ContinuousClock.now + .hang
        while ContinuousClock.now < deadline {
            guard let status = try await cluster.status(reference) else { continue }
            if status.state.isTerminal { return status.state }
            // A worker's other slot dies with it. What is in that slot did nothing to deserve it, so from the second time on
            // the others are let through first.
            let isAlone = try await cluster.broker.status(others).allSatisfy { $0?.state == .done }
            if status.state == .inWork, kills == 0 || isAlone,
                let holder = slots.compactMap(\.current).first(where: { $0.name == status.worker })
            {
                try await kill(holder)
            } else {
                try await Task.sleep(for: .milliseconds(2))
            }
        }
        throw UnexpectedAnswer(description: "the poison has not ended within \(Duration.hang)")
    }

    private mutating func kill(_ holder: (name: String, process: ChildProcess)) async throws {
        holder.process.signal(SIGKILL)
        await holder.process.waitForExit()
        // Nobody renews the dead worker's leases; those of the other are renewed at once.
        let jobs = [reference] + others
        let held = try await zip(jobs, cluster.broker.status(jobs))
            .filter { $1?.state == .inWork && $1?.worker == holder.name }.map(\.0)
        if held.contains(reference) { kills += 1 }
        try await cluster.letRunOut(held)
    }
}
