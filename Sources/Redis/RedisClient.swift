/// A Redis server or a Redis Cluster, whichever the address leads to.
///
/// ```swift
/// let redis = try await RedisClient.connect(RedisURL("unix:///run/kirie/redis.sock"))
/// try await redis.set("kirie:{3}:embedding:…", record, expiry: .milliseconds(3_600_000))
/// let answers = try await redis.pipeline([RedisCommand("XLEN", "a"), RedisCommand("XLEN", "b")])
/// ```
/// Whether it is a cluster the server says at the login (HELLO, field `mode`) unless the address does (`?cluster=`).
/// Commands go to the node that owns their key; keys that a command or function touches together must share a hash tag.
///
/// Commands of any number of tasks share one connection a node and are pipelined by themselves. Those that wait in the
/// server have connections of their own (``block(_:for:)``), and so has each subscription.
///
/// When a connection breaks the client makes another, with ``RedisBackoff`` between attempts. A command is sent again
/// when it cannot have run, or when running it twice is the same as once; any other fails with
/// ``RedisError/connectionLost(server:mayHaveRun:reason:)``. A command whose task is cancelled is not called back: it
/// runs, and its answer is waited for (at most the command timeout).
public final class RedisClient: Sendable {
    private enum Topology: Sendable {
        case single(RedisNode)
        case cluster(ClusterRouter)
    }

    /// Where the client was told to connect.
    public let url: RedisURL
    /// What the server said of itself at the first login.
    public let greeting: [String: String]
    private let configuration: RedisConfiguration
    private let topology: Topology

    private init(
        url: RedisURL, configuration: RedisConfiguration, topology: Topology, greeting: [String: String]
    ) {
        self.url = url
        self.configuration = configuration
        self.topology = topology
        self.greeting = greeting
    }

    deinit { close() }

    /// Connects with one attempt, so that a wrong address is told at once.
    public static func connect(
        _ url: RedisURL, configuration: RedisConfiguration = RedisConfiguration()
    ) async throws(RedisError) -> RedisClient {
        let node = RedisNode(url, configuration: configuration)
        let connection = try await node.open()
        let saysCluster = connection.greeting["mode"] == "cluster"
        guard url.cluster == .on || (url.cluster == .auto && saysCluster) else {
            return RedisClient(
                url: url, configuration: configuration, topology: .single(node), greeting: connection.greeting)
        }
        let router = ClusterRouter(seed: node)
        try await router.refresh()
        return RedisClient(
            url: url, configuration: configuration, topology: .cluster(router), greeting: connection.greeting)
    }

    /// Whether the keys are spread over several servers.
    public var isCluster: Bool { if case .cluster = topology { true } else { false } }

    /// Closes every connection; what still waits fails with ``RedisError/closed``.
    public func close() {
        switch topology {
        case .single(let node): node.close()
        case .cluster(let router): router.close()
        }
    }

    /// Sends one command.
    ///
    /// - Throws: ``RedisError/server(_:command:)`` where the answer is an error.
    public func send(_ command: RedisCommand) async throws(RedisError) -> RedisValue {
        let reply =
            switch topology {
            case .single(let node): try await node.send(command)
            case .cluster(let router): try await router.pipeline([command])[0]
            }
        if case .error(let error) = reply { throw .server(error, command: command.name) }
        return reply
    }

    /// Sends commands in one go, a round trip a node, and returns their answers in order.
    ///
    /// Error replies are among the answers and throw nothing. It is no transaction: commands of others may run in
    /// between.
    public func pipeline(_ commands: [RedisCommand]) async throws(RedisError) -> [RedisValue] {
        switch topology {
        case .single(let node): try await node.pipeline(commands)
        case .cluster(let router): try await router.pipeline(commands)
        }
    }

    /// Sends a command that waits inside the server, such as BLPOP or XREADGROUP BLOCK, on a connection of its own.
    ///
    /// Cancelling the task closes that connection; an element popped at that very moment is lost, so prefer BLMOVE or a
    /// consumer group where that matters.
    ///
    /// - Parameter wait: how long the server may wait, as the command says it.
    /// - Throws: ``RedisError/cancelled`` where the task was cancelled, or what ``send(_:)`` throws.
    public func block(_ command: RedisCommand, for wait: Duration) async throws(RedisError) -> RedisValue {
        var reply: RedisValue
        switch topology {
        case .single(let node): reply = try await node.blocking.run(command, wait: wait)
        case .cluster(let router):
            reply = try await router.node(for: command).blocking.run(command, wait: wait)
            if case .error(let error) = reply, ["MOVED", "ASK"].contains(error.code) {
                try await router.refresh()
                reply = try await router.node(for: command).blocking.run(command, wait: wait)
            }
        }
        if case .error(let error) = reply { throw .server(error, command: command.name) }
        return reply
    }

    /// Sends a command without a key to every primary; one answer a node, in no special order.
    ///
    /// - Throws: the first failure or error reply; other nodes may have run it.
    public func sendToEveryPrimary(_ command: RedisCommand) async throws(RedisError) -> [RedisValue] {
        var replies: [RedisValue] = []
        for node in primaries {
            let reply = try await node.send(command)
            if case .error(let error) = reply { throw .server(error, command: command.name) }
            replies.append(reply)
        }
        return replies
    }

    /// Calls `body` with each page of keys that match, on every primary.
    ///
    /// Keys that exist throughout are seen at least once, some maybe twice; the server works `count` keys a step.
    public func scan(
        match pattern: String, count: Int = 512, _ body: ([RedisBytes]) async throws(RedisError) -> Void
    ) async throws(RedisError) {
        for node in primaries {
            var cursor = "0"
            repeat {
                let command = RedisCommand(
                    "SCAN", .string(cursor), "MATCH", .string(pattern), "COUNT", .integer(count))
                let reply = try await node.send(command)
                if case .error(let error) = reply { throw .server(error, command: command.name) }
                guard let parts = reply.array, parts.count == 2, let next = parts[0].string, let keys = parts[1].array
                else {
                    throw .unexpectedReply(command: "SCAN", expected: "a cursor and keys", found: reply.kind)
                }
                cursor = next
                if !keys.isEmpty { try await body(keys.compactMap(\.bytes)) }
            } while cursor != "0"
        }
    }

    /// Subscribes to channels by name and by glob pattern; returns when the server has confirmed them all.
    ///
    /// In a cluster a message published on any node arrives.
    public func subscribe(
        to channels: [String], patterns: [String] = []
    ) async throws(RedisError) -> RedisSubscription {
        guard let node = primaries.first else { throw .clusterUnavailable(reason: "no node is known") }
        return try await RedisSubscription.open(
            channels: channels, patterns: patterns,
            through: RedisDialer(url: node.url, configuration: configuration))
    }

    /// Listens to channels with a closure, on the thread that reads the socket; returns when the server has confirmed
    /// them all.
    ///
    /// - Parameter hear: must neither wait nor compute; see ``RedisListening``.
    public func listen(
        to channels: [String], _ hear: @escaping @Sendable (RedisNotification) -> Void
    ) async throws(RedisError) -> RedisListening {
        guard let node = primaries.first else { throw .clusterUnavailable(reason: "no node is known") }
        return try await RedisListening.open(
            channels: channels, patterns: [], through: RedisDialer(url: node.url, configuration: configuration), hear)
    }

    var primaries: [RedisNode] {
        switch topology {
        case .single(let node): [node]
        case .cluster(let router): router.primaries
        }
    }
}
