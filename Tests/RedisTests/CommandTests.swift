import Redis
import Testing

@Suite struct CommandTests {
    @Test(arguments: [
        (RedisCommand("GET", "a"), 0), (RedisCommand("SET", "a", "b"), 0),
        (RedisCommand.call("f", keys: ["k"], ["x"]), 2), (RedisCommand.callReadOnly("f", keys: ["k"]), 2),
        (RedisCommand.call("f", keys: [], ["x"]), nil), (RedisCommand("XINFO", "GROUPS", "s"), 1),
        (RedisCommand("XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "s", ">"), 6),
        (RedisCommand("XREAD", "STREAMS"), nil), (RedisCommand("PING"), nil), (RedisCommand("PUBLISH", "c", "m"), nil),
        (RedisCommand("SCAN", "0"), nil),
    ])
    func knowsItsKey(_ command: RedisCommand, _ index: Int?) {
        #expect(command.keyIndex == index)
    }

    @Test func repeatsWhatReads() {
        #expect(RedisCommand("GET", "a").repetition == .safe)
        #expect(RedisCommand("INCRBY", "a", 1).repetition == .unsafe)
        #expect(RedisCommand.set("a", "b").repetition == .safe)
        #expect(RedisCommand.set("a", "b", condition: .ifAbsent).repetition == .unsafe)
        #expect(RedisCommand.call("f", keys: ["k"]).repetition == .unsafe)
        #expect(RedisCommand.call("f", keys: ["k"], repetition: .safe).repetition == .safe)
    }

    // "123456789" is the check word of CRC-16/XMODEM: 0x31C3.
    @Test(arguments: [
        ("123456789", 0x31C3), ("foo", 12182), ("{user1000}.following", HashSlot.of("user1000")),
        ("foo{{bar}}zap", HashSlot.of("{bar")), ("foo{bar}{zap}", HashSlot.of("bar")),
        ("kirie:{3}:job:x", HashSlot.of("3")), ("", 0),
    ])
    func hashesToASlot(_ key: String, _ slot: Int) {
        #expect(HashSlot.of(key) == slot % HashSlot.count)
    }

    @Test func backsOffWithFullJitter() {
        let half = RedisBackoff(base: .milliseconds(20), limit: .seconds(2), random: { 0.5 })
        let expected: [Duration] = [10, 20, 40, 80, 160, 320, 640, 1000, 1000].map { .milliseconds($0) }
        #expect((0..<9).map { half.delay($0) } == expected)
        let none = RedisBackoff(random: { 0 })
        #expect(none.delay(7) == .zero)
        #expect(half.delay(.max) == .seconds(1))
        let system = RedisBackoff(base: .milliseconds(20), limit: .seconds(2))
        for attempt in 0..<1000 {
            let bound = min(Duration.seconds(2), .milliseconds(20) * (1 << min(attempt, 10)))
            let delay = system.delay(attempt)
            #expect(delay >= .zero && delay < bound)
        }
    }

    @Test func keepsArgumentsOutOfErrors() {
        let error = RedisServerError("ERR unknown command 'X', with args beginning with: 'tops3cret' ")
        #expect(error.code == "ERR")
        #expect(error.message == "ERR unknown command 'X'")
    }
}
