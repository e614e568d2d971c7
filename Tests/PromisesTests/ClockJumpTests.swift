import Cluster
import Foundation
import Glibc
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// Redis's clock jumps, by half an hour, forwards and backwards, while work is under way.
///
/// libfaketime gives redis-server a wall clock that a file moves; the monotonic clock stays true, as it does where an
/// operator or NTP sets the time.
@Suite(.serialized) struct ClockJumpTests {
    @Test(.timeLimit(.minutes(30)))
    func leasesHoldAndNothingHangs() async throws {
        let clock = try FakeClock()
        defer { clock.remove() }
        var options = RedisServerProcess.Options()
        options.environment = clock.environment
        try await LiveCluster.run(options) { cluster in
            // Shorter than the jumps, longer than any pause of a busy machine.
            try cluster.start(.encoder, "encoder", lease: 900)
            let decoder = try cluster.start(.decoder, "decoder", lease: 900)
            try await cluster.ready("encoder", "decoder")
            let pictures = try TestPicture.draw(32, seed: 9, in: cluster.folder)
            var said: [String] = []
            for (round, offset) in [1800, -1800, 0].enumerated() {
                // A job that is in work when the clock jumps, its worker stopped in the middle of it.
                let long = try await cluster.holdInWork(decoder) { number in
                    let long = cluster.reference("long-\(round)-\(number)", pictures[0].digest)
                    let file = try cluster.write([pictures[0].longLine(long.id, prompts: 3000)], to: "long.jsonl")
                    #expect(try await cluster.kirie("submit", "--jobs", file).exit == .status(0))
                    return long
                }
                let before = try await cluster.broker.redis.time()
                try clock.jump(to: offset)
                let jumped = (try await cluster.broker.redis.time() - before) / 1_000_000
                #expect(abs(jumped) >= 1790, "the clock jumped by \(jumped) s")
                if round == 1 {
                    // A clock that went back makes the last heartbeat and every entry one of the future.
                    try cluster.start(.decoder, "victim", lease: 900)
                    try await cluster.ready("victim")
                }
                decoder.signal(SIGCONT)
                let start = ContinuousClock.now
                try await finish(round: 2 * round, pictures, in: cluster)
                try await cluster.reach(.done, [long])
                let status = try await cluster.status(long)
                #expect(status?.attempts == 1, "the job was tried \(status?.attempts ?? 0) times")
                said.append("\(jumped) s: done after \(ContinuousClock.now - start)")
            }
            let statistics = try await cluster.broker.statistics()
            #expect(statistics.total("reclaimed") == 0 && statistics.total("encode_reclaimed") == 0)
            #expect(statistics.total("lost") == 0 && statistics.total("encode_late") == 0)
            try await cluster.expectNothingLeft()
            print("clock jump: \(said.joined(separator: "; ")); no lease was lost")
        }
    }

    /// After a jump backwards whoever died before it looks alive, and what is in line looks as if it came tomorrow.
    @Test(.timeLimit(.minutes(30)))
    func theSharesOfADeadWorkerAreTakenOverAfterAJumpBack() async throws {
        let clock = try FakeClock()
        defer { clock.remove() }
        var options = RedisServerProcess.Options()
        options.environment = clock.environment
        try await LiveCluster.run(options) { cluster in
            try cluster.start(.encoder, "encoder")
            try cluster.start(.decoder, "survivor")
            let victim = try cluster.start(.decoder, "victim")
            try await cluster.ready("encoder", "survivor", "victim")
            let pictures = try TestPicture.draw(32, seed: 9, in: cluster.folder)
            try await finish(round: 0, pictures, in: cluster)
            victim.signal(SIGKILL)
            await victim.waitForExit()
            try clock.jump(to: -1800)
            let start = ContinuousClock.now
            try await finish(round: 1, pictures, in: cluster)
            print("clock jump: a dead decoder's jobs done \(ContinuousClock.now - start) after a jump by -1800 s")
            try await cluster.expectNothingLeft()
        }
    }

    /// Jobs on pictures of all partitions, which must be done soon.
    private func finish(round: Int, _ pictures: [TestPicture], in cluster: LiveCluster) async throws {
        let lines = pictures.enumerated().map { $1.line("r\(round)-\($0)", points: [(3, 4)]) }
        let file = try cluster.write(lines, to: "round.jsonl")
        let run = try await cluster.kirie("submit", "--jobs", file, "--wait")
        #expect(run.exit == .status(0), "\(run.complaint)")
    }
}

/// The wall clock of a process, moved by a file.
private struct FakeClock {
    private let folder: String
    let environment: [String: String]

    init() throws {
        let places = ["x86_64", "aarch64"].map { "/usr/lib/\($0)-linux-gnu" }
        let place = try #require(
            places.first { access("\($0)/faketime/libfaketimeMT.so.1", R_OK) == 0 },
            "libfaketime is missing: deploy/test installs it (Debian: apt-get install faketime)")
        folder = NSTemporaryDirectory() + "kirie-clock-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        environment = [
            // glibc's malloc comes before redis-server's jemalloc, which asks for the time while libfaketime starts.
            "LD_PRELOAD": "\(place)/faketime/libfaketimeMT.so.1:\(place)/libc.so.6",
            "FAKETIME_TIMESTAMP_FILE": "\(folder)/offset", "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
        ]
        try jump(to: 0)
    }

    /// Sets how far the clock is ahead of the true one, in seconds.
    func jump(to offset: Int) throws {
        // Written aside and renamed: the server reads it whenever it asks for the time.
        try "\(offset < 0 ? "" : "+")\(offset)\n".write(toFile: "\(folder)/offset", atomically: true, encoding: .utf8)
    }

    func remove() { try? FileManager.default.removeItem(atPath: folder) }
}
