import Embeddings
import Redis
import RedisTesting
import Segmentation
import Tensors
import Testing

@Suite struct EmbeddingCacheTests {
    @Test func inMemoryKeepsThePromises() async throws {
        let clock = ManualClock()
        let cache = MemoryEmbeddingCache(byteLimit: 1 << 20, clock: clock)
        try await keepsThePromises(cache) { clock.advance(by: $0) }
    }

    @Test func inRedisKeepsThePromises() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        // Time passes by the keys' time to live being cut short, on the server's own clock.
        try await keepsThePromises(RedisEmbeddingCache(redis)) { elapsed in
            var left: [(String, Duration)] = []
            var names: [String] = []
            try await redis.scan(match: "kirie:*:embedding:*") { names += $0.map(\.string) }
            for name in names {
                if let time = try await redis.timeToLive(name) { left.append((name, time)) }
            }
            for (name, time) in left {
                try await redis.expire(name, after: max(.milliseconds(1), time - elapsed))
            }
            try await eventually("what is over is gone") {
                for (name, time) in left where time <= elapsed {
                    if try await redis.exists(name) { return false }
                }
                return true
            }
        }
    }

    /// What holds for every driver.
    private func keepsThePromises(
        _ cache: some EmbeddingCache, letTimePass: (Duration) async throws -> Void
    ) async throws {
        let features = Sample.features(channels: 4, grid: 8, seed: 7)
        let first = try Sample.record(features, image: 1)
        let second = try Sample.record(features, image: 2)
        let exact = try Sample.record(features, image: 1, precision: .fp32)

        #expect(try await cache.record(for: first.key) == nil)
        try await cache.store(first, timeToLive: .seconds(6000))
        let found = try await cache.record(for: first.key)
        #expect(found?.withUnsafeBytes { Array($0) } == first.withUnsafeBytes { Array($0) })
        #expect(found?.maps()[0].tensor.elements == first.maps()[0].tensor.elements)

        // Another image, and another precision of the same one, are other entries.
        #expect(try await cache.contains([first.key, second.key, exact.key]) == [true, false, false])
        #expect(try await cache.contains([]).isEmpty)
        try await cache.store(exact, timeToLive: .seconds(60_000))
        #expect(try await cache.record(for: exact.key)?.maps()[0].tensor.elements == features.elements)
        try await cache.store(second, timeToLive: .seconds(60_000))
        try await cache.store(second, timeToLive: .seconds(60_000))

        var statistics = try await cache.statistics()
        #expect(statistics.entries == 3)
        #expect(statistics.bytes > 0)
        #expect((statistics.hits, statistics.misses, statistics.stores) == (2, 1, 4))
        #expect(statistics.encodeTimeSaved == .milliseconds(2 * 1234))
        #expect(statistics.hitRate == 2.0 / 3)

        #expect(try await cache.remove(second.key))
        #expect(try await !cache.remove(second.key))
        #expect(try await cache.record(for: second.key) == nil)

        try await letTimePass(.seconds(6001))
        #expect(try await cache.contains([first.key, exact.key]) == [false, true])
        #expect(try await cache.record(for: first.key) == nil)
        statistics = try await cache.statistics()
        #expect(statistics.entries == 1)
        #expect(statistics.misses == 3)
        #expect(statistics.expirations >= 1)
    }

    @Test func inMemoryStaysWithinItsBytes() async throws {
        let features = Sample.features(channels: 4, grid: 8, seed: 8)
        let records = try (0..<10).map { try Sample.record(features, image: $0) }
        let size = records[0].byteCount
        let cache = MemoryEmbeddingCache(byteLimit: 4 * size + size / 2)
        for record in records.prefix(4) { try await cache.store(record, timeToLive: .seconds(6000)) }
        _ = try await cache.record(for: records[0].key)
        try await cache.store(records[4], timeToLive: .seconds(6000))
        #expect(try await cache.contains(records.prefix(5).map(\.key)) == [true, false, true, true, true])
        #expect(try await cache.statistics().evictions == 1)
        #expect(try await cache.statistics().bytes == 4 * size)
        let large = try Sample.record(Sample.features(channels: 64, grid: 8, seed: 9), image: 20)
        await #expect(throws: EmbeddingCacheError.full(bytes: large.byteCount)) {
            try await cache.store(large, timeToLive: .seconds(6000))
        }
        #expect(try await cache.statistics().entries == 4)
    }

    @Test func inRedisADamagedRecordIsDroppedAndCounted() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let cache = RedisEmbeddingCache(redis)
        let record = try Sample.record(Sample.features(channels: 4, grid: 8, seed: 10), image: 1)
        let other = try Sample.record(Sample.features(channels: 4, grid: 8, seed: 10), image: 2)
        let bytes = record.withUnsafeBytes { Array($0) }
        var flipped = bytes
        flipped[200] ^= 4
        let damages: [[UInt8]] = [
            flipped, Array(bytes.dropLast(3)), [], Array("garbage".utf8), other.withUnsafeBytes { Array($0) },
        ]
        for damage in damages {
            try await redis.set(cache.redisKey(record.key), .array(damage), expiry: .seconds(6000))
            #expect(try await cache.record(for: record.key) == nil)
            #expect(try await cache.contains([record.key]) == [false])
        }
        #expect(try await cache.statistics().corrupt == damages.count)
        #expect(try await cache.statistics().misses == damages.count)
        try await cache.store(record, timeToLive: .seconds(6000))
        #expect(try await cache.record(for: record.key) != nil)
        #expect(try await redis.timeToLive(cache.redisKey(record.key)) ?? .zero > .seconds(3000))
    }

    @Test func underMemoryPressureOnlyEmbeddingsGo() async throws {
        let server = try await RedisServerProcess.start(
            .init(maximumMemory: 8 << 20, memoryPolicy: "volatile-lru"))
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let cache = RedisEmbeddingCache(redis)
        for index in 0..<200 { try await redis.push("kirie:{\(index % 16)}:waiting", [.integer(index)]) }
        let features = Sample.features(channels: 64, grid: 32, seed: 11)
        let records = try (0..<100).map { try Sample.record(features, image: $0) }
        for record in records { try await cache.store(record, timeToLive: .seconds(60_000)) }
        let statistics = try await cache.statistics()
        #expect(statistics.evictions > 20)
        #expect(statistics.stores == 100)
        #expect((1..<80).contains(statistics.entries))
        #expect(statistics.bytes == statistics.entries * records[0].byteCount)
        var waiting = 0
        for index in 0..<16 { waiting += try await redis.list("kirie:{\(index)}:waiting").count }
        #expect(waiting == 200)
        // What is still there is whole.
        let present = try await cache.contains(records.map(\.key))
        var read = 0
        for (record, isPresent) in zip(records, present) where isPresent {
            // To count the lookups takes memory too: one may go meanwhile.
            guard let found = try await cache.record(for: record.key) else { continue }
            #expect(found.image == record.image)
            read += 1
        }
        #expect(read > 0)
        #expect(try await cache.statistics().corrupt == 0)
    }

    /// A Redis that evicts nothing by itself: the cache drops what was idle for the longest time, and nothing else.
    @Test func aFullRedisLosesOldEmbeddingsAndNothingElse() async throws {
        let server = try await RedisServerProcess.start(.init(maximumMemory: 6 << 20))
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let cache = RedisEmbeddingCache(redis)
        for number in 0..<20 { try await redis.set("kirie:{\(number % 16)}:job:\(number)", "a job") }
        let features = Sample.features(channels: 256, grid: 32, seed: 12)
        let records = try (0..<40).map { try Sample.record(features, image: $0) }
        for record in records { try await cache.store(record, timeToLive: .seconds(6000)) }
        let present = try await cache.contains(records.map(\.key))
        #expect(present.count { $0 } > 1 && present.count { !$0 } > 10 && present[39])
        for number in 0..<20 { #expect(try await redis.get("kirie:{\(number % 16)}:job:\(number)") != nil) }
    }

    /// Among thousands of other keys chance hardly ever draws the one embedding that can go.
    @Test func theOneEmbeddingAmongThousandsOfKeysIsFound() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let cache = RedisEmbeddingCache(redis)
        for number in 0..<5000 { try await redis.set("kirie:{\(number % 16)}:job:\(number)", "a job") }
        let features = Sample.features(channels: 256, grid: 32, seed: 12)
        let records = try (0..<12).map { try Sample.record(features, image: $0) }
        try await cache.store(records[0], timeToLive: .seconds(6000))
        let used = try await redis.info("memory").first?["used_memory"].flatMap { Int($0) } ?? 0
        // Room for one or two, and for what a connection holds of the next.
        let limit = used + records[0].byteCount * 5 / 2
        _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", .integer(limit)))
        for record in records.dropFirst() { try await cache.store(record, timeToLive: .seconds(6000)) }
        let present = try await cache.contains(records.map(\.key))
        #expect(present[11] && present.count { $0 } < 5)
    }

    @Test func aRedisWithoutRoomForOneEmbeddingSaysSo() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let cache = RedisEmbeddingCache(redis)
        try await redis.set("jobs", .string(String(repeating: "x", count: 4 << 20)))
        _ = try await redis.send(RedisCommand("CONFIG", "SET", "maxmemory", "4mb"))
        let record = try Sample.record(Sample.features(channels: 256, grid: 32, seed: 12), image: 0)
        await #expect {
            try await cache.store(record, timeToLive: .seconds(6000))
        } throws: {
            guard case EmbeddingCacheError.full = $0 else { return false }
            return true
        }
        // A lookup is served although its counters cannot grow.
        #expect(try await cache.record(for: record.key) == nil)
    }

    @Test func aliasesLeadToContent() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let aliases = ImageAliases(try await RedisClient.connect(server.url))
        try await aliases.set("photo one.jpg", tenant: "a", to: Sample.image(1), timeToLive: .seconds(6000))
        #expect(try await aliases.image("photo one.jpg", tenant: "a") == Sample.image(1))
        #expect(try await aliases.image("photo one.jpg", tenant: "b") == nil)
        #expect(try await aliases.image("photo one.jpg") == nil)
        try await aliases.set("photo one.jpg", tenant: "a", to: Sample.image(2), timeToLive: .seconds(6000))
        #expect(try await aliases.image("photo one.jpg", tenant: "a") == Sample.image(2))
        #expect(try await aliases.remove("photo one.jpg", tenant: "a"))
        #expect(try await aliases.image("photo one.jpg", tenant: "a") == nil)
    }

    @Test func leastRecentlyUsedAgreesWithASlowOne() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var random = SeededGenerator(seed: seed)
        var fast = LeastRecentlyUsed<Int, Int>(limit: 50)
        var slow: [(key: Int, value: Int, cost: Int)] = []
        for step in 0..<20_000 {
            let key = Int.random(in: 0..<30, using: &random)
            switch Int.random(in: 0..<3, using: &random) {
            case 0:
                let cost = Int.random(in: 0...55, using: &random) / 4
                slow.removeAll { $0.key == key }
                var gone: [Int] = []
                while slow.reduce(0, { $0 + $1.cost }) + cost > 50 { gone.append(slow.removeFirst().key) }
                slow.append((key, step, cost))
                #expect(fast.insert(step, for: key, cost: cost).map(\.key) == gone, "seed \(seed)")
            case 1:
                let place = slow.firstIndex { $0.key == key }
                #expect(fast.value(for: key) == place.map { slow[$0].value }, "seed \(seed)")
                if let place { slow.append(slow.remove(at: place)) }
            default:
                let place = slow.firstIndex { $0.key == key }
                #expect(fast.remove(key) == place.map { slow.remove(at: $0).value }, "seed \(seed)")
            }
            #expect(fast.count == slow.count)
            #expect(fast.cost == slow.reduce(0) { $0 + $1.cost })
        }
    }
}
