import Glibc
import Redis
import RedisTesting
import Synchronization
import Testing

/// Nodes that go for good, and servers that turn into others: nothing in the client stays with one address.
@Suite struct FailoverTests {
    private static var quick: RedisConfiguration {
        var configuration = RedisConfiguration()
        configuration.backoff = RedisBackoff(base: .milliseconds(2), limit: .milliseconds(50))
        configuration.patience = .hang
        return configuration
    }

    /// The node whose subscriber somebody is.
    private static func listener(_ channel: String, _ nodes: [RedisServerProcess]) async throws -> Int? {
        for (index, node) in nodes.enumerated() where node.isRunning {
            let count = RedisCommand("PUBSUB", "NUMSUB", .string(channel))
            if try await RedisClusterProcess.ask(node, [count])[0].array?.last?.integer == 1 { return index }
        }
        return nil
    }

    /// Waits until the subscription stands anew and hears what a node publishes.
    ///
    /// It may move more than once, while nodes still tell different things of the cluster, and hears nothing meanwhile.
    private static func expectMove(
        of subscription: RedisSubscription, heardFrom node: RedisServerProcess
    ) async throws {
        try await within(.hang, "the subscription stands elsewhere and hears") {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    while !Task.isCancelled {
                        try await RedisClusterProcess.ask(node, [RedisCommand("PUBLISH", "wake", "1")])
                        try await Task.sleep(for: .milliseconds(10))
                    }
                }
                group.addTask {
                    var hasMoved = false
                    for await notification in subscription {
                        if case .message = notification, hasMoved { return }
                        if case .resubscribed = notification { hasMoved = true }
                    }
                    throw NeverHappened(description: "the subscription ended")
                }
                try await group.next()
                group.cancelAll()
            }
        }
    }

    @Test func aSubscriptionMovesWhenItsNodeIsGoneForGood() async throws {
        let cluster = try await RedisClusterProcess.start(withReplicas: true)
        defer { withExtendedLifetime(cluster) {} }
        let redis = try await RedisClient.connect(cluster.url, configuration: Self.quick)
        let subscription = try await redis.subscribe(to: ["wake"])
        // The second in a row falls on whichever node the subscription went to after the first.
        for _ in 0..<2 {
            let nodes = cluster.nodes + cluster.replicas
            let place = try #require(try await Self.listener("wake", nodes))
            let index = place % cluster.nodes.count
            guard place < cluster.nodes.count else { return }
            await nodes[place].kill(SIGKILL)
            try await cluster.promoteReplica(of: index)
            try await Self.expectMove(of: subscription, heardFrom: try #require(nodes.first { $0.isRunning }))
        }
    }

    /// Each kind of command is the first that its client sends after the only primary that it knew is gone.
    @Test func everyKindOfCommandFindsTheReplicaOfTheOnlyPrimary() async throws {
        let cluster = try await RedisClusterProcess.start(primaries: 1, withReplicas: true)
        defer { withExtendedLifetime(cluster) {} }
        var clients: [RedisClient] = []
        for _ in 0..<6 { clients.append(try await RedisClient.connect(cluster.url, configuration: Self.quick)) }
        let redis = clients
        try await redis[0].set("key", "kept")
        try await redis[0].push("list", ["element"])
        let held = try await redis[5].subscribe(to: ["held"])
        // `held` has its connection; each of the others has one for its commands.
        try await eventually("the replica has it") {
            try await redis[0].send(RedisCommand("WAIT", 1, 1000)).integer == 1
        }
        await cluster.nodes[0].kill(SIGKILL)
        try await cluster.promoteReplica(of: 0)
        try await within(.hang) {
            #expect(try await redis[0].get("key")?.string == "kept")
            #expect(try await redis[1].sendToEveryPrimary(RedisCommand("DBSIZE")).map(\.integer) == [2])
            let pages = Pages()
            try await redis[2].scan(match: "*") { page throws(RedisError) in pages.add(page.map(\.string)) }
            #expect(pages.all == ["key", "list"])
            #expect(try await redis[3].popFirst(["list"], for: .seconds(3600))?.value.string == "element")
            let subscription = try await redis[4].subscribe(to: ["wake"])
            #expect(try await redis[0].publish("wake", "1") == 1)
            var arriving = subscription.makeAsyncIterator()
            #expect(await arriving.next() != nil)
            var back = held.makeAsyncIterator()
            #expect(await back.next() == .resubscribed)
        }
    }

    @Test func aSubscriptionLeavesANodeThatLeftTheClusterAlive() async throws {
        let cluster = try await RedisClusterProcess.start()
        defer { withExtendedLifetime(cluster) {} }
        var configuration = Self.quick
        configuration.mapInterval = .milliseconds(50)
        let redis = try await RedisClient.connect(cluster.url, configuration: configuration)
        let subscription = try await redis.subscribe(to: ["wake"])
        let place = try #require(try await Self.listener("wake", cluster.nodes))
        let others = [0, 1, 2].filter { $0 != place }
        let count = HashSlot.count
        // The node itself hears of it, and may become a replica of who has its slots then.
        try await RedisClusterProcess.move(
            (place * count / 3)...((place + 1) * count / 3 - 1), of: cluster.identifiers[place],
            to: cluster.nodes[others[0]], cluster.identifiers[others[0]], telling: [cluster.nodes[others[1]]])
        let forget = RedisCommand("CLUSTER", "FORGET", .string(cluster.identifiers[place]))
        for index in others { try await RedisClusterProcess.ask(cluster.nodes[index], [forget]) }
        try await RedisClusterProcess.ask(cluster.nodes[place], [RedisCommand("CLUSTER", "RESET", "HARD")])
        try await Self.expectMove(of: subscription, heardFrom: cluster.nodes[others[1]])
    }

    private static let library = """
        #!lua name=demo
        local function put(keys, args) return redis.call('SET', keys[1] .. 'x', args[1]) end
        redis.register_function('demo_put', put)
        """

    @Test func aPrimaryThatJoinsLaterIsGivenTheFunctions() async throws {
        let cluster = try await RedisClusterProcess.start(primaries: 2)
        defer { withExtendedLifetime(cluster) {} }
        let redis = try await RedisClient.connect(cluster.url, configuration: Self.quick)
        redis.keepFunctions(Self.library)
        try await redis.loadFunctions(Self.library)
        let (node, identifier) = try await cluster.addNode()
        let slot = HashSlot.of("{moving}")
        try await RedisClusterProcess.move(
            [slot], of: cluster.identifiers[slot * 2 / HashSlot.count], to: node, identifier, telling: cluster.nodes)
        let tags = ["{moving}", "{1}", "{2}", "{3}"]
        let replies = try await redis.pipeline(tags.map { .call("demo_put", keys: [$0], ["v"]) })
        #expect(replies.map(\.string) == tags.map { _ in "OK" })
        #expect(try await RedisClusterProcess.ask(node, [RedisCommand("GET", "{moving}x")])[0].string == "v")
        // A node that has slots and that nobody has sent anything to yet is among those that get a library.
        try await redis.loadFunctions(Self.library.replacing("demo", with: "second"))
        let second = RedisCommand.call("second_put", keys: ["{moving}"], ["w"])
        #expect(try await RedisClusterProcess.ask(node, [second])[0].string == "OK")
    }

    /// The other node would run it on what has come of the slot so far: a part, or nothing.
    @Test func aFunctionWaitsForItsSlotToHaveMoved() async throws {
        let cluster = try await RedisClusterProcess.start(primaries: 2)
        defer { withExtendedLifetime(cluster) {} }
        let redis = try await RedisClient.connect(cluster.url, configuration: Self.quick)
        try await redis.loadFunctions(Self.library)
        let slot = HashSlot.of("{moving}")
        let from = slot * 2 / HashSlot.count
        let (old, new) = (cluster.nodes[from], cluster.nodes[1 - from])
        let (source, target) = (cluster.identifiers[from], cluster.identifiers[1 - from])
        func assign(_ words: RedisArgument...) -> RedisCommand {
            RedisCommand("CLUSTER", ["SETSLOT", .integer(slot)] + words)
        }
        try await RedisClusterProcess.ask(new, [assign("IMPORTING", .string(source))])
        try await RedisClusterProcess.ask(old, [assign("MIGRATING", .string(target))])
        let call = Task { try await redis.call("demo_put", keys: ["{moving}"], ["v"]).string }
        try await eventually("it was told to ask the other node, again and again") {
            let errors = try await RedisClusterProcess.ask(old, [RedisCommand("INFO", "errorstats")])[0].string ?? ""
            let count = errors.split(separator: "errorstat_ASK:count=").dropFirst().first?.prefix { $0.isNumber }
            return count.flatMap { Int($0) } ?? 0 >= 3
        }
        let calls = try await RedisClusterProcess.ask(new, [RedisCommand("INFO", "commandstats")])[0].string ?? ""
        #expect(!calls.contains("cmdstat_fcall:"))
        for node in [new, old] { try await RedisClusterProcess.ask(node, [assign("NODE", .string(target))]) }
        #expect(try await call.value == "OK")
        #expect(try await RedisClusterProcess.ask(new, [RedisCommand("GET", "{moving}x")])[0].string == "v")
    }

    @Test func aServerThatCameBackEmptyIsGivenTheFunctions() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(server.url, configuration: Self.quick)
        redis.keepFunctions(Self.library)
        try await redis.loadFunctions(Self.library)
        try await server.restart()
        try await redis.ping()
        #expect(try await redis.call("demo_put", keys: ["k"], ["v"]).string == "OK")
        let error = await #expect(throws: RedisError.self) { try await redis.call("demo_get", keys: ["k"], []) }
        #expect(error?.serverCode == "ERR")
    }

    /// The address leads to another server while the first one is still there, as a replica: a planned failover.
    @Test func aServerThatTurnedIntoAReplicaIsLeft() async throws {
        let first = try await RedisServerProcess.start()
        let second = try await RedisServerProcess.start()
        defer { withExtendedLifetime((first, second)) {} }
        let address = "\(first.directory)/address.sock"
        func lead(to server: RedisServerProcess) throws {
            guard case .unixSocket(let path) = server.url.endpoint else { return }
            unlink(address)
            try #require(symlink(path, address) == 0)
        }
        try lead(to: first)
        let redis = try await RedisClient.connect(RedisURL(.unixSocket(path: address)), configuration: Self.quick)
        try await redis.set("k", "1")
        // A blocking connection that is kept for the next command.
        #expect(try await redis.popFirst(["none"], for: .milliseconds(10)) == nil)

        try lead(to: second)
        // A replica whose primary is not to be reached: it serves reads, and no writes.
        try await RedisClusterProcess.ask(first, [RedisCommand("REPLICAOF", "127.0.0.1", 1)])
        try await eventually("a write reaches the new server") {
            do throws(RedisError) { try await redis.set("k", "3") } catch {
                guard error.serverCode == "READONLY" else { throw error }
                return false
            }
            return true
        }
        #expect(try await RedisClusterProcess.ask(second, [RedisCommand("GET", "k")])[0].string == "3")
        try await redis.push("list", ["x"])
        try await eventually("so does a command that waits") {
            do throws(RedisError) {
                return try await redis.popFirst(["list"], for: .seconds(3600))?.value.string == "x"
            } catch {
                guard error.serverCode == "READONLY" else { throw error }
                return false
            }
        }
    }
}

/// Keys that pages brought.
private final class Pages: Sendable {
    private let keys = Mutex<Set<String>>([])
    var all: Set<String> { keys.withLock { $0 } }
    func add(_ page: [String]) { keys.withLock { $0.formUnion(page) } }
}
