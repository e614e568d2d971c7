import Synchronization

/// A Redis server or a Redis Cluster, whichever the address leads to.
///
/// ```swift
/// let redis = try await RedisClient.connect(RedisURL("unix:///run/kirie/redis.sock"))
/// try await redis.set("kirie:{3}:embedding:a", .bytes(record), expiry: .seconds(3600))
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
        case single(RedisNode, ListeningPosts, SentinelWatch?)
        case cluster(ClusterRouter)
    }

    /// Where the client was told to connect.
    public let url: RedisURL
    /// What the server said of itself at the first login.
    public let greeting: [String: String]
    private let configuration: RedisConfiguration
    private let topology: Topology
    /// Guards the library that nodes without it are given.
    private let library = Mutex<String?>(nil)

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
        let posts = ListeningPosts()
        let node = RedisNode(url, configuration: configuration) { connection in
            guard let peer = connection.peer else { return }
            posts.leave(because: "the server's name leads to \(peer) now") { post in
                post.peer.map { $0 != peer } ?? false || post.endpoint != connection.endpoint
            }
        }
        let connection = try await node.open()
        if connection.greeting["mode"] == "sentinel" {
            node.close()
            throw .protocolViolation(
                server: "\(url)", reason: "it is a sentinel: write redis+sentinel://host:port,host:port/SERVICE")
        }
        let saysCluster = connection.greeting["mode"] == "cluster"
        guard url.cluster == .on || (url.cluster == .auto && saysCluster) else {
            let watch = SentinelQuestion(url, configuration: configuration).map { question in
                SentinelWatch(question, configuration: configuration) { [weak node] primary in
                    node?.leave(unless: primary)
                    posts.leave(because: "the sentinels name another primary") { $0.endpoint != primary }
                }
            }
            return RedisClient(
                url: url, configuration: configuration, topology: .single(node, posts, watch),
                greeting: connection.greeting)
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
        case .single(let node, _, let watch):
            watch?.cancel()
            node.close()
        case .cluster(let router): router.close()
        }
    }

    /// Sends one command.
    ///
    /// - Throws: ``RedisError/server(_:command:)`` where the answer is an error.
    public func send(_ command: RedisCommand) async throws(RedisError) -> RedisValue {
        var reply = try await transmit([command])[0]
        if Self.lacksFunction(command, reply), await giveLibrary(for: [command]) {
            reply = try await transmit([command])[0]
        }
        if case .error(let error) = reply { throw .server(error, command: command.name) }
        return reply
    }

    /// Sends commands in one go, a round trip a node, and returns their answers in order.
    ///
    /// Error replies are among the answers and throw nothing. It is no transaction: commands of others may run in
    /// between.
    public func pipeline(_ commands: [RedisCommand]) async throws(RedisError) -> [RedisValue] {
        var replies = try await transmit(commands)
        let missing = commands.indices.filter { Self.lacksFunction(commands[$0], replies[$0]) }
        if !missing.isEmpty, await giveLibrary(for: missing.map { commands[$0] }) {
            // None of them ran, so that all of them may be sent again.
            let answers = try await transmit(missing.map { commands[$0] })
            for (index, answer) in zip(missing, answers) { replies[index] = answer }
        }
        return replies
    }

    private func transmit(_ commands: [RedisCommand]) async throws(RedisError) -> [RedisValue] {
        switch topology {
        case .single(let node, _, _):
            commands.count == 1 ? [try await node.send(commands[0])] : try await node.pipeline(commands)
        case .cluster(let router): try await router.pipeline(commands)
        }
    }

    /// Sends a command that waits inside the server, such as BLPOP or XREADGROUP BLOCK, on a connection of its own.
    ///
    /// Cancelling the task closes that connection; an element popped at that very moment is lost, so prefer BLMOVE or a
    /// consumer group where that matters.
    ///
    /// - Parameters:
    ///   - command: says itself how long the server waits.
    ///   - wait: the same time.
    /// - Returns: the server's answer; null, as most such commands have it, where the time passed.
    /// - Throws: ``RedisError/cancelled`` where the task was cancelled, or what ``send(_:)`` throws.
    public func block(_ command: RedisCommand, for wait: Duration) async throws(RedisError) -> RedisValue {
        let reply =
            switch topology {
            case .single(let node, _, _): try await node.blocking.run(command, wait: wait)
            case .cluster(let router): try await router.block(command, for: wait)
            }
        if case .error(let error) = reply { throw .server(error, command: command.name) }
        return reply
    }

    /// Sends a command and waits until replicas have what the server had written by then: WAIT,
    /// <https://redis.io/docs/latest/commands/wait/>.
    ///
    /// On a connection of its own, since one that waits serves nobody else. What replicas have is in their memory, and
    /// survives the primary where one of those is its successor; it is not on their disks.
    ///
    /// - Parameters:
    ///   - command: has a key, whose primary's replicas are meant.
    ///   - replicas: how many of them are waited for.
    ///   - limit: for how long at most.
    /// - Returns: the server's answer, an error among them, and how many replicas have it; 0 where the answer is an error.
    /// - Throws: what ``send(_:)`` throws where there is no answer.
    public func sendReplicated(
        _ command: RedisCommand, to replicas: Int, within limit: Duration
    ) async throws(RedisError) -> (reply: RedisValue, replicas: Int) {
        let milliseconds = max(1, Int(limit / .milliseconds(1)))
        let commands = [
            command, RedisCommand("WAIT", .integer(replicas), .integer(milliseconds), repetition: .safe),
        ]
        var isSecond = false
        while true {
            let replies =
                switch topology {
                case .single(let node, _, _): try await node.blocking.run(commands, wait: limit)
                case .cluster(let router): try await router.block(commands, for: limit)
                }
            if !isSecond, Self.lacksFunction(command, replies[0]), await giveLibrary(for: [command]) {
                isSecond = true
                continue
            }
            if let error = replies[1].error { throw .server(error, command: "WAIT") }
            return (replies[0], replies[0].error == nil ? replies[1].integer ?? 0 : 0)
        }
    }

    /// Sends a command without a key to every primary; one answer a node, in no special order.
    ///
    /// Where a node is gone, its successor is asked as soon as the cluster names one.
    ///
    /// - Throws: the first failure or error reply; other nodes may have run it.
    public func sendToEveryPrimary(_ command: RedisCommand) async throws(RedisError) -> [RedisValue] {
        try await askPrimaries(isSafe: command.repetition == .safe) { [isCluster] node throws(RedisError) in
            let reply = try await node.send(command)
            guard case .error(let error) = reply else { return reply }
            if isCluster, error.isOfReplica { return nil }
            throw .server(error, command: command.name)
        }
    }

    /// Asks every primary; see ``ClusterRouter/askPrimaries(isSafe:_:)``.
    func askPrimaries<Answer: Sendable>(
        isSafe: Bool, _ body: (RedisNode) async throws(RedisError) -> Answer?
    ) async throws(RedisError) -> [Answer] {
        switch topology {
        case .single(let node, _, _): try await body(node).map { [$0] } ?? []
        case .cluster(let router): try await router.askPrimaries(isSafe: isSafe, body)
        }
    }

    /// Calls `body` with each page of keys that match, on every primary.
    ///
    /// Keys that exist throughout are seen at least once, some maybe twice; the server works `count` keys a step.
    public func scan(
        match pattern: String, count: Int = 512, _ body: ([RedisBytes]) async throws(RedisError) -> Void
    ) async throws(RedisError) {
        // Keys that were seen are seen again where a node broke off.
        _ = try await askPrimaries(isSafe: true) { node throws(RedisError) -> Bool? in
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
            return true
        }
    }

    /// Subscribes to channels by name and by glob pattern; returns when the server has confirmed them all.
    ///
    /// In a cluster a message published on any node arrives, and a node that is gone is left for another.
    public func subscribe(
        to channels: [String], patterns: [String] = []
    ) async throws(RedisError) -> RedisSubscription {
        try await RedisSubscription.open(channels: channels, patterns: patterns, through: listeningRoute)
    }

    /// Listens to channels with a closure, on the thread that reads the socket; returns when the server has confirmed
    /// them all.
    ///
    /// The closure must neither wait nor compute; see ``RedisListening``.
    public func listen(
        to channels: [String], _ hear: @escaping @Sendable (RedisNotification) -> Void
    ) async throws(RedisError) -> RedisListening {
        try await RedisListening.open(channels: channels, patterns: [], through: listeningRoute, hear)
    }

    private var listeningRoute: ListeningRoute {
        switch topology {
        case .single(let node, let posts, _):
            return ListeningRoute(
                dialer: RedisDialer(url: node.url, configuration: configuration), posts: posts, firstPatience: .zero,
                look: nil)
        case .cluster(let router):
            // Subscriptions begin at different nodes, so that these share the work.
            let turn = Turn(Int.random(in: 0..<64))
            return ListeningRoute(
                dialer: RedisDialer(configuration: configuration) { await router.listeningPlace(turn.next()) },
                posts: router.posts, firstPatience: configuration.patience, look: { try? await router.refresh() })
        }
    }

    // MARK: Functions

    /// Remembers the source of a library of functions: a node that has not got it when one of its functions is called is
    /// given it, and the call is made again.
    ///
    /// So a primary that joined the cluster later, or a server that came back empty, serves like the others. It takes the
    /// right to load functions; without it the call fails as it would have. A library that is there is never replaced.
    public func keepFunctions(_ source: String) { library.withLock { $0 = source } }

    private static func lacksFunction(_ command: RedisCommand, _ reply: RedisValue) -> Bool {
        guard command.name == "FCALL" || command.name == "FCALL_RO", let error = reply.error else { return false }
        return error.message.contains("Function not found")
    }

    /// Loads the library where these commands go; returns whether that went well anywhere.
    private func giveLibrary(for commands: [RedisCommand]) async -> Bool {
        guard let source = library.withLock({ $0 }) else { return false }
        var isGiven = false
        var served: Set<ObjectIdentifier> = []
        for command in commands {
            let node: RedisNode? =
                switch topology {
                case .single(let node, _, _): node
                case .cluster(let router): try? router.node(for: command)
                }
            guard let node, served.insert(ObjectIdentifier(node)).inserted else { continue }
            let load = RedisCommand("FUNCTION", "LOAD", .string(source), repetition: .safe)
            guard let reply = try? await node.send(load) else { continue }
            // Another client may have been first.
            if reply.error == nil || reply.error?.message.contains("already exists") == true { isGiven = true }
        }
        return isGiven
    }
}

/// Counts the attempts of one subscription.
final class Turn: Sendable {
    private let count: Atomic<Int>

    init(_ start: Int) { count = Atomic(start) }

    func next() -> Int { count.wrappingAdd(1, ordering: .relaxed).newValue }
}
