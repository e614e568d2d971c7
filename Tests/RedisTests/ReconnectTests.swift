import Redis
import RedisTesting
import Synchronization
import Testing

@Suite struct ReconnectTests {
    @Test func comesBackAfterTheServerWasKilled() async throws {
        let server = try await RedisServerProcess.start(.init(appendOnly: true, appendFsync: .always))
        defer { withExtendedLifetime(server) {} }
        let clock = ManualClock()
        let events = Mutex<[RedisEvent]>([])
        var configuration = RedisConfiguration()
        configuration.clock = clock
        configuration.backoff = RedisBackoff(base: .milliseconds(20), limit: .seconds(2), random: { 0.5 })
        configuration.onEvent = { event in events.withLock { $0.append(event) } }
        let redis = try await RedisClient.connect(server.url, configuration: configuration)
        try await redis.set("k", "kept")
        await server.kill()

        let answer = Task { try await redis.get("k") }
        var slept: [Duration] = []
        var sleeps = clock.sleeps.makeAsyncIterator()
        for _ in 0..<4 {
            guard let pause = await sleeps.next() else { break }
            slept.append(pause)
            clock.advance(by: pause)
        }
        #expect(slept == [10, 20, 40, 80].map { .milliseconds($0) })
        #expect(await sleeps.next() == .milliseconds(160))
        try await server.restart()
        clock.advance(by: .milliseconds(160))
        #expect(try await within(.hang) { try await answer.value }?.string == "kept")

        let told = events.withLock { $0 }
        #expect(told.count { if case .connected = $0 { true } else { false } } == 2)
        #expect(told.contains { if case .disconnected = $0 { true } else { false } })
        #expect(told.count { if case .retrying = $0 { true } else { false } } == 5)
    }

    @Test func losesPatience() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let clock = ManualClock()
        var configuration = RedisConfiguration()
        configuration.clock = clock
        configuration.patience = .milliseconds(500)
        configuration.backoff = RedisBackoff(base: .milliseconds(100), limit: .milliseconds(100), random: { 0.999 })
        let redis = try await RedisClient.connect(server.url, configuration: configuration)
        await server.kill()
        let mover = Task {
            for await pause in clock.sleeps { clock.advance(by: pause) }
        }
        defer { mover.cancel() }
        for _ in 0..<2 {
            await #expect {
                try await within(.hang) { try await redis.get("k") }
            } throws: {
                guard case RedisError.cannotConnect = $0 else { return false }
                return !($0 as? RedisError ?? .closed).mayHaveRun
            }
        }
    }

    @Test func cancellationEndsTheWaitForAServer() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let clock = ManualClock()
        var configuration = RedisConfiguration()
        configuration.clock = clock
        let redis = try await RedisClient.connect(server.url, configuration: configuration)
        await server.kill()
        let waiting = Task { try await redis.get("k") }
        var sleeps = clock.sleeps.makeAsyncIterator()
        _ = await sleeps.next()
        waiting.cancel()
        await #expect(throws: RedisError.cancelled) { try await within(.hang) { try await waiting.value } }
        let closed = Task { try await redis.get("k") }
        redis.close()
        await #expect(throws: RedisError.closed) { try await within(.hang) { try await closed.value } }
    }

    @Test func doesNotRepeatWhatMayHaveRun() async throws {
        // The answer never comes; a repeated command would find a server that answers it.
        let fake = try FakeServer([.read, .write(FakeServer.welcome), .read])
        var configuration = RedisConfiguration()
        configuration.attempts = 3
        let connects = Mutex(0)
        configuration.onEvent = { if case .connected = $0 { connects.withLock { $0 += 1 } } }
        configuration.patience = .hang
        let redis = try await RedisClient.connect(fake.url, configuration: configuration)
        await #expect {
            try await within(.hang) { try await redis.increment("k") }
        } throws: {
            guard case RedisError.connectionLost(_, mayHaveRun: true, _) = $0 else { return false }
            return true
        }
        #expect(connects.withLock { $0 } == 1)
        // A read is sent again, three times in all.
        await #expect {
            try await within(.hang) { try await redis.get("k") }
        } throws: {
            guard case RedisError.connectionLost(_, mayHaveRun: true, _) = $0 else { return false }
            return true
        }
        #expect(connects.withLock { $0 } == 4)
    }

    @Test func countsEveryIncrementOnceWhileTheServerDies() async throws {
        let server = try await RedisServerProcess.start(.init(appendOnly: true, appendFsync: .always))
        defer { withExtendedLifetime(server) {} }
        var configuration = RedisConfiguration()
        configuration.patience = .hang
        let redis = try await RedisClient.connect(server.url, configuration: configuration)
        let sure = Tally()
        let unsure = Tally()
        try await within(.hang) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        for _ in 0..<400 {
                            do throws(RedisError) {
                                _ = try await redis.increment("n")
                                sure.add()
                            } catch {
                                guard error.mayHaveRun else { throw error }
                                unsure.add()
                            }
                        }
                    }
                }
                group.addTask {
                    for round in 1...3 {
                        try await eventually("work goes on") { sure.value > round * 500 }
                        await server.kill()
                        try await server.restart()
                    }
                }
                try await group.waitForAll()
            }
        }
        let count = try await redis.send(RedisCommand("GET", "n")).integer ?? 0
        let (certain, possible) = (sure.value, unsure.value)
        #expect(certain + possible == 3200)
        #expect((certain...certain + possible).contains(count), "\(certain) sure, \(possible) unsure, \(count) counted")
        #expect(possible <= 24)
    }
}
