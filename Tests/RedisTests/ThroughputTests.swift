import Redis
import RedisTesting
import Testing

/// What the client costs.
///
/// The figures are printed and decide nothing: a busy machine makes any of them worse.
@Suite(.serialized) struct ThroughputTests {
    @Test func measures() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        try await redis.set("k", "v")
        let clock = ContinuousClock()

        var trips: [Duration] = []
        for _ in 0..<5000 {
            trips.append(try await clock.measure { _ = try await redis.get("k") })
        }
        trips.sort()

        let commands = Array(repeating: RedisCommand("GET", "k"), count: 1000)
        let pipelined = try await clock.measure { for _ in 0..<100 { _ = try await redis.pipeline(commands) } }

        let callers = 64
        let concurrent = try await clock.measure {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<callers {
                    group.addTask { for _ in 0..<1000 { _ = try await redis.get("k") } }
                }
                try await group.waitForAll()
            }
        }

        let record = RedisBytes(Array(repeating: 42, count: 2 << 20))
        try await redis.set("large", .bytes(record))
        let writes = try await clock.measure { for _ in 0..<50 { try await redis.set("large", .bytes(record)) } }
        let reads = try await clock.measure { for _ in 0..<50 { _ = try await redis.get("large") } }

        func perSecond(_ count: Int, _ time: Duration) -> Int { Int(Double(count) / (time / .seconds(1))) }
        print(
            """
            redis client over a Unix socket:
              one command, round trip    p50 \(trips[2500]), p99 \(trips[4950])
              pipelines of 1000          \(perSecond(100_000, pipelined)) commands/s
              \(callers) callers, one each      \(perSecond(callers * 1000, concurrent)) commands/s
              2 MiB SET / GET            \(writes / 50) / \(reads / 50)
            """)
    }
}
