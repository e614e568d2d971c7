import Redis
import RedisTesting
import Testing

@Suite struct BlockingTests {
    @Test func aWaitingPopDelaysNobody() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let popped = Task { try await redis.popFirst(["list"], for: .seconds(3600)) }
        try await eventually("the pop waits") { try await redis.blocked() == 1 }
        for _ in 0..<200 { try await redis.ping() }
        #expect(try await redis.blocked() == 1, "it waits as before")
        try await redis.push("list", ["element"])
        let answer = try await within(.hang) { try await popped.value }
        #expect(answer?.key == "list")
        #expect(answer?.value.string == "element")
        #expect(try await redis.popFirst(["list"], for: .milliseconds(10)) == nil)
    }

    @Test func cancellationFreesTheServer() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let popped = Task { try await redis.moveWaiting(from: "a", .left, to: "b", .right, for: .seconds(3600)) }
        try await eventually("the move waits") { try await redis.blocked() == 1 }
        popped.cancel()
        await #expect(throws: RedisError.cancelled) { try await within(.hang) { try await popped.value } }
        try await eventually("the server forgets it") { try await redis.blocked() == 0 }
        try await redis.push("a", ["x"])
        #expect(try await redis.list("a").map(\.string) == ["x"])
        #expect(try await redis.moveWaiting(from: "a", .left, to: "b", .right, for: .seconds(1))?.string == "x")
    }

    @Test func othersWaitInLine() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        var configuration = RedisConfiguration()
        configuration.blockingConnections = 2
        let redis = try await RedisClient.connect(server.url, configuration: configuration)
        let waiting = (0..<3).map { index in Task { try await redis.popFirst(["l\(index)"], for: .seconds(3600)) } }
        try await eventually("two wait in the server") { try await redis.blocked() == 2 }
        for index in 0..<3 { try await redis.push("l\(index)", [.integer(index)]) }
        for (index, task) in waiting.enumerated() {
            let answer = try await within(.hang) { try await task.value }
            #expect(answer?.value.string == "\(index)")
        }
        let held = (0..<2).map { index in Task { try await redis.popFirst(["m\(index)"], for: .seconds(3600)) } }
        try await eventually("two wait in the server") { try await redis.blocked() == 2 }
        let third = Task { try await redis.popFirst(["m2"], for: .seconds(3600)) }
        third.cancel()
        await #expect(throws: RedisError.cancelled) { try await within(.hang) { try await third.value } }
        redis.close()
        for task in held {
            await #expect(throws: RedisError.self) { try await within(.hang) { try await task.value } }
        }
    }

    @Test func readsAStreamAsAGroup() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        #expect(try await redis.makeGroup("s", "g"))
        #expect(try await !redis.makeGroup("s", "g"))
        let read = Task {
            try await redis.readGroup("g", consumer: "c", streams: ["s"], limit: 10, for: .seconds(3600))
        }
        try await eventually("the reader waits") { try await redis.blocked() == 1 }
        let id = try await redis.appendEntry("s", [("field", "value")])
        let streams = try await within(.hang) { try await read.value }
        #expect(streams.first?.entries.map(\.id) == [id])
        #expect(streams.first?.entries.first?.fields["field"]?.string == "value")
        #expect(try await redis.pending("s", "g").consumers == ["c": 1])
        #expect(try await redis.groups("s") == [.init(name: "g", consumers: 1, pending: 1, lastDelivered: id, lag: 0)])
        #expect(try await redis.acknowledge("s", "g", [id]) == 1)
        #expect(try await redis.groups("none").isEmpty)
        #expect(try await redis.readGroup("g", consumer: "c", streams: ["s"], limit: 1).isEmpty)
        #expect(try await redis.entries("s", limit: 5).count == 1)
        #expect(try await redis.entryCount("s") == 1)
        #expect(try await redis.removeEntries("s", [id]) == 1)
    }
}

extension RedisClient {
    /// How many clients wait inside the server.
    func blocked() async throws -> Int {
        Int(try await info("clients").first?["blocked_clients"] ?? "") ?? -1
    }
}
