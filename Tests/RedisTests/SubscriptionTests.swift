import Redis
import RedisTesting
import Testing

@Suite struct SubscriptionTests {
    @Test func receivesAcrossARestart() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        var configuration = RedisConfiguration()
        configuration.backoff = RedisBackoff(base: .milliseconds(2), limit: .milliseconds(20))
        let redis = try await RedisClient.connect(server.url, configuration: configuration)
        let subscription = try await redis.subscribe(to: ["wake", "other"], patterns: ["kirie:*"])
        #expect(try await redis.publish("wake", "1") == 1)
        try await redis.publish("kirie:{3}:events", "id done")
        try await within(.hang) {
            var arriving = subscription.makeAsyncIterator()
            #expect(await arriving.next() == .wake("1"))
            let event = RedisMessage(
                channel: "kirie:{3}:events", pattern: "kirie:*", payload: RedisBytes("id done"))
            #expect(await arriving.next() == .message(event))
            await server.kill()
            try await server.restart()
            #expect(await arriving.next() == .resubscribed)
            try await redis.publish("wake", "2")
            #expect(await arriving.next() == .wake("2"))
        }
    }

    @Test func leavingTheLoopEndsTheSubscription() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url)
        let subscription = try await redis.subscribe(to: ["wake"])
        let reader = Task { for await _ in subscription {} }
        #expect(try await redis.publish("wake", "1") == 1)
        reader.cancel()
        try await within(.hang) { await reader.value }
        try await eventually("nobody listens") { try await redis.publish("wake", "1") == 0 }
    }

    @Test func aChannelThatMayNotBeReadIsAnError() async throws {
        let server = try await RedisServerProcess.start(
            .init(users: ["user reader on >secret ~* &allowed +@all"]))
        defer { withExtendedLifetime(server) {} }
        var url = server.url
        url.user = "reader"
        url.password = RedisPassword("secret")
        let redis = try await RedisClient.connect(url)
        await #expect {
            try await within(.hang) { try await redis.subscribe(to: ["forbidden"]) }
        } throws: {
            ($0 as? RedisError)?.serverCode == "NOPERM"
        }
    }
}

extension RedisNotification {
    fileprivate static func wake(_ payload: String) -> RedisNotification {
        .message(RedisMessage(channel: "wake", pattern: nil, payload: RedisBytes(payload)))
    }
}
