import Redis
import RedisTesting
import Synchronization
import Testing

@Suite struct ClusterTests {
    @Test func servesKeysOfAllNodesAndFollowsSlotsThatMove() async throws {
        let cluster = try await RedisClusterProcess.start()
        defer { withExtendedLifetime(cluster) {} }
        let readings = Mutex(0)
        var configuration = RedisConfiguration()
        configuration.onEvent = { if case .clusterMapRead = $0 { readings.withLock { $0 += 1 } } }
        let redis = try await RedisClient.connect(cluster.url, configuration: configuration)
        #expect(redis.isCluster)

        // Keys of all nodes in one pipeline, answers in order.
        let keys = (0..<300).map { "kirie:{\($0)}:job" }
        let answers = try await redis.pipeline(
            keys.map { .set($0, .string($0)) } + keys.map { RedisCommand("GET", .string($0)) })
        #expect(answers[300...].map(\.string) == keys)
        var sizes: [Int] = []
        for size in try await redis.sendToEveryPrimary(RedisCommand("DBSIZE")) { sizes.append(size.integer ?? 0) }
        #expect(sizes.count == 3 && sizes.allSatisfy { $0 > 0 } && sizes.reduce(0, +) == 300)
        let seen = Mutex<Set<String>>([])
        try await redis.scan(match: "kirie:*", count: 50) { page in seen.withLock { $0.formUnion(page.map(\.string)) } }
        #expect(seen.withLock { $0 } == Set(keys))
        for key in keys.prefix(20) {
            let slot = try await redis.send(RedisCommand("CLUSTER", "KEYSLOT", .string(key))).integer
            #expect(slot == HashSlot.of(key))
        }

        // A function, loaded on every node.
        try await redis.loadFunctions(
            """
            #!lua name=demo
            local function put(keys, args) return redis.call('SET', keys[1] .. 'x', args[1]) end
            redis.register_function('demo_put', put)
            """)
        for tag in 0..<12 { _ = try await redis.call("demo_put", keys: ["kirie:{\(tag)}:"], ["v"]) }
        #expect(try await redis.get("kirie:{7}:x")?.string == "v")

        // A slot on its way from one node to another: ASK for keys that went, the old node for those that did not.
        let slot = HashSlot.of("{moving}a")
        let from = slot * 3 / HashSlot.count
        let to = (from + 1) % 3
        try await redis.set("{moving}a", "1")
        try await redis.set("{moving}b", "2")
        let old = try await RedisConnection.connect(to: cluster.nodes[from].url)
        let new = try await RedisConnection.connect(to: cluster.nodes[to].url)
        func run(_ connection: RedisConnection, _ command: RedisCommand) async throws {
            let reply = try await connection.send(command)
            #expect(reply.error == nil, "\(command.name): \(reply)")
        }
        let (source, target) = (cluster.identifiers[from], cluster.identifiers[to])
        try await run(new, RedisCommand("CLUSTER", "SETSLOT", .integer(slot), "IMPORTING", .string(source)))
        try await run(old, RedisCommand("CLUSTER", "SETSLOT", .integer(slot), "MIGRATING", .string(target)))
        guard case .tcp(let host, let port) = cluster.nodes[to].url.endpoint else { return }
        try await run(old, RedisCommand("MIGRATE", .string(host), .integer(port), "{moving}a", 0, 5000))
        #expect(try await old.send(RedisCommand("GET", "{moving}a")).error?.code == "ASK")
        let before = readings.withLock { $0 }
        let both = try await redis.pipeline([
            RedisCommand("GET", "{moving}a"), RedisCommand("GET", "{moving}b"), .set("{moving}c", "3"),
            RedisCommand("GET", "{moving}c"),
        ])
        #expect(both.map(\.string) == ["1", "2", "OK", "3"])
        #expect(readings.withLock { $0 } == before)

        // The move is done: MOVED, and the map is read again.
        try await run(old, RedisCommand("MIGRATE", .string(host), .integer(port), "{moving}b", 0, 5000))
        for connection in [new, old] {
            try await run(connection, RedisCommand("CLUSTER", "SETSLOT", .integer(slot), "NODE", .string(target)))
        }
        #expect(try await redis.get("{moving}b")?.string == "2")
        #expect(readings.withLock { $0 } == before + 1)
        #expect(try await redis.get("{moving}a")?.string == "1")
        #expect(readings.withLock { $0 } == before + 1)
        let waiting = Task { try await redis.popFirst(["{moving}list"], for: .seconds(3600)) }
        try await redis.push("{moving}list", ["x"])
        #expect(try await within(.hang) { try await waiting.value }?.value.string == "x")

        // A message published on one node arrives over another.
        let subscription = try await redis.subscribe(to: ["wake"])
        let elsewhere = try await RedisConnection.connect(to: cluster.nodes[2].url)
        _ = try await elsewhere.send(RedisCommand("PUBLISH", "wake", "1"))
        try await within(.hang) {
            var arriving = subscription.makeAsyncIterator()
            #expect(await arriving.next() != nil)
        }
        await #expect {
            try await redis.send(RedisCommand("MSET", "{1}a", "x", "{2}b", "y"))
        } throws: {
            ($0 as? RedisError)?.serverCode == "CROSSSLOT"
        }
    }
}
