import Cluster
import Redis
import RedisTesting
import Segmentation
import Synchronization
import Testing

@Suite struct JobSubmitterTests {
    /// Counts how often each picture was asked for.
    private final class Album: Sendable {
        /// Guards the counts.
        private let counts = Mutex<[ImageDigest: Int]>([:])
        var loads: [Int] { counts.withLock { $0.values.sorted() } }
        func load(_ digest: ImageDigest) -> RedisBytes {
            counts.withLock { $0[digest, default: 0] += 1 }
            return RedisBytes("picture \(digest)")
        }
    }

    @Test func picturesAreBroughtOnceAndAgainWhenTheyAreGone() async throws {
        let cluster = try await TestCluster.start()
        let album = Album()
        let submitter = JobSubmitter(cluster.broker)
        let images = (0..<5).map { TestCluster.image($0) }
        let jobs = (0..<50).map { TestCluster.job("j\($0)", images[$0 % 5]) }
        let outcomes = try await submitter.submit(jobs) { album.load($0) }
        #expect(outcomes.count == 50 && outcomes.allSatisfy { $0.reference != nil })
        #expect(album.loads == [1, 1, 1, 1, 1])
        let again = try await submitter.submit(jobs) { album.load($0) }
        #expect(again.allSatisfy { if case .known = $0 { true } else { false } })
        #expect(album.loads == [1, 1, 1, 1, 1])

        // Somebody removes a picture that the submitter has just seen.
        let lone = TestCluster.image(99)
        try await cluster.broker.putImage(lone, .string("x"))
        _ = try await submitter.submit([TestCluster.job("k", lone)]) { album.load($0) }
        _ = try await cluster.broker.cancel([JobReference(id: "k", partition: cluster.broker.partition(of: lone))])
        try await cluster.broker.redis.remove([cluster.broker.keys.image(lone, in: cluster.broker.partition(of: lone))])
        let healed = try await submitter.submit([TestCluster.job("l", lone)]) { album.load($0) }
        #expect(healed[0].reference != nil && album.loads == [1, 1, 1, 1, 1, 1])
    }

    @Test func aPictureThatNobodyHasRefusesItsJobsAlone() async throws {
        let cluster = try await TestCluster.start()
        let (bad, good) = (TestCluster.image(1), TestCluster.image(2))
        let outcomes = try await JobSubmitter(cluster.broker).submit([
            TestCluster.job("a", bad), TestCluster.job("b", good), TestCluster.job("c", bad),
        ]) { $0 == good ? RedisBytes("picture") : nil }
        #expect(outcomes.map { $0.reference?.id } == [nil, "b", nil])
        guard case .refused(_, .noImage) = outcomes[0] else {
            Issue.record("\(outcomes[0])")
            return
        }
    }

    @Test func aFullClusterIsWaitedFor() async throws {
        let cluster = try await TestCluster.start(settings: ["jobs:bulk": 3])
        let image = TestCluster.image(3)
        let waits = Tally()
        let jobs = (0..<6).map { TestCluster.job("j\($0)", image) }
        let refusing = try await JobSubmitter(cluster.broker).submit(jobs) { _ in RedisBytes("picture") }
        #expect(refusing.filter { $0.reference == nil }.count == 3)
        let waiting = JobSubmitter(cluster.broker, whenFull: .wait, onWait: { _, _ in waits.add() })
        let submitting = Task { try await waiting.submit(jobs) { _ in RedisBytes("picture") } }
        try await eventually("it waits") { waits.value > 0 }
        _ = try await cluster.broker.cancel(refusing.compactMap(\.reference))
        let outcomes = try await within(.hang) { try await submitting.value }
        #expect(outcomes.allSatisfy { $0.reference != nil })

        let stopped = Task { try await waiting.submit((10..<20).map { TestCluster.job("j\($0)", image) }) { _ in nil } }
        let before = waits.value
        try await eventually("it waits again") { waits.value > before }
        stopped.cancel()
        let rest = try await within(.hang) { try await stopped.value }
        #expect(rest.count == 10 && rest.contains { $0.reference == nil }, "who gives up is told what was refused")
    }
}

@Suite struct JobFollowerTests {
    @Test func followsJobsThatAreAddedBeforeDuringAndAfterTheirEnd() async throws {
        let cluster = try await TestCluster.start()
        let images = (0..<4).map { TestCluster.image($0) }
        let references = try await cluster.accept((0..<200).map { TestCluster.job("j\($0)", images[$0 % 4]) })
        let follower = JobFollower(cluster.broker, interval: .milliseconds(50))
        let seen = Mutex<[JobReference]>([])
        let running = Task {
            try await follower.run { endings in seen.withLock { $0 += endings.map(\.reference) } }
        }
        _ = try await cluster.broker.cancel(Array(references[..<50]))
        follower.add(Array(references[..<100]))
        follower.add(Array(references[..<20]))
        await follower.waitUntilOpen(isBelow: 51)
        #expect(follower.openCount == 50)
        _ = try await cluster.broker.cancel(Array(references[50...]))
        follower.add(Array(references[100...]))
        follower.close()
        try await within(.hang) { try await running.value }
        #expect(seen.withLock { Set($0) } == Set(references) && seen.withLock { $0.count } == 200)
        #expect(follower.open.isEmpty)
    }

    @Test func anErrorOfTheListenerEndsIt() async throws {
        struct Full: Error {}
        let cluster = try await TestCluster.start()
        let references = try await cluster.accept([TestCluster.job("j", TestCluster.image(0))])
        _ = try await cluster.broker.cancel(references)
        let follower = JobFollower(cluster.broker)
        follower.add(references)
        await #expect(throws: Full.self) {
            try await within(.hang) { try await follower.run { _ in throw Full() } }
        }
    }
}
