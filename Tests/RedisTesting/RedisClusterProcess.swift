public import Redis

/// A Redis Cluster of real servers on this machine, the slots shared out evenly.
///
/// A class, because an optimised build may give up a structure's parts before the scope that holds it ends, and with
/// the last reference the servers go.
public final class RedisClusterProcess: Sendable {
    /// The primaries.
    public let nodes: [RedisServerProcess]
    /// The identifiers that the nodes have among themselves, in the order of ``nodes``.
    public let identifiers: [String]
    /// A replica of each primary, in the order of ``nodes``; none unless asked for.
    public let replicas: [RedisServerProcess]

    /// The address of the first node.
    public var url: RedisURL { nodes[0].url }

    private init(nodes: [RedisServerProcess], identifiers: [String], replicas: [RedisServerProcess]) {
        self.nodes = nodes
        self.identifiers = identifiers
        self.replicas = replicas
    }

    /// Starts primaries and replicas, introduces them to each other and returns when each says that the cluster stands.
    ///
    /// Every node has the users, see ``RedisServerProcess/Options/users``.
    public static func start(
        primaries count: Int = 3, withReplicas: Bool = false, users: [String] = []
    ) async throws -> RedisClusterProcess {
        var nodes: [RedisServerProcess] = []
        for _ in 0..<(withReplicas ? 2 * count : count) {
            nodes.append(try await RedisServerProcess.start(.init(users: users, isClusterNode: true)))
        }
        var identifiers: [String] = []
        for (index, node) in nodes.enumerated() {
            var commands = [
                RedisCommand("CLUSTER", "MYID"), RedisCommand("CLUSTER", "SET-CONFIG-EPOCH", .integer(index + 1)),
            ]
            if index < count {
                let first = index * HashSlot.count / count
                let last = (index + 1) * HashSlot.count / count - 1
                commands.append(RedisCommand("CLUSTER", "ADDSLOTSRANGE", .integer(first), .integer(last)))
            }
            identifiers.append(try await ask(node, commands)[0].string ?? "")
            for other in nodes[..<index] { try await introduce(node, to: other) }
        }
        try await waitUntilAllKnowEachOther(nodes)
        for index in count..<max(count, nodes.count) {
            try await ask(nodes[index], [RedisCommand("CLUSTER", "REPLICATE", .string(identifiers[index - count]))])
            let connection = try await RedisConnection.connect(to: nodes[index].url)
            try await eventually("a replica has its primary's data") {
                let state = try await connection.send(RedisCommand("INFO", "replication")).string ?? ""
                return state.contains("master_link_status:up")
            }
        }
        if withReplicas {
            // Who asks for the map is told of the replicas.
            for node in nodes {
                let connection = try await RedisConnection.connect(to: node.url)
                try await eventually("everybody knows the replicas") {
                    let slots = try await connection.send(RedisCommand("CLUSTER", "SLOTS")).array ?? []
                    return slots.count == count && slots.allSatisfy { $0.array?.count == 4 }
                }
            }
        }
        return RedisClusterProcess(
            nodes: Array(nodes[..<count]), identifiers: Array(identifiers[..<count]), replicas: Array(nodes[count...]))
    }

    /// Starts a primary without slots and waits until all know it; returns it and its identifier.
    public func addNode() async throws -> (node: RedisServerProcess, identifier: String) {
        let node = try await RedisServerProcess.start(.init(isClusterNode: true))
        let identifier = try await Self.ask(node, [RedisCommand("CLUSTER", "MYID")])[0].string ?? ""
        let all = nodes + replicas + [node]
        for other in all.dropLast() { try await Self.introduce(node, to: other) }
        try await Self.waitUntilAllKnowEachOther(all)
        return (node, identifier)
    }

    /// Gives slots without keys to a node, whose identifier follows, and tells others so; `owner` is the identifier of
    /// who has them.
    public static func move(
        _ slots: some Sequence<Int>, of owner: String, to node: RedisServerProcess, _ identifier: String,
        telling others: [RedisServerProcess]
    ) async throws {
        let slots = Array(slots)
        func assign(_ word: RedisArgument, _ who: String) -> [RedisCommand] {
            slots.map { RedisCommand("CLUSTER", "SETSLOT", .integer($0), word, .string(who)) }
        }
        // Who imported a slot gets a new epoch with it, without which the old owner's word would go for more.
        try await ask(node, assign("IMPORTING", owner))
        for server in [node] + others { try await ask(server, assign("NODE", identifier)) }
    }

    /// Makes a replica the primary at once, without asking the others.
    public func promoteReplica(of index: Int) async throws {
        try await Self.ask(replicas[index], [RedisCommand("CLUSTER", "FAILOVER", "TAKEOVER")])
    }

    /// Sends commands to one server; throws the first refusal.
    @discardableResult
    public static func ask(_ node: RedisServerProcess, _ commands: [RedisCommand]) async throws -> [RedisValue] {
        let connection = try await RedisConnection.connect(to: node.url)
        let replies = try await connection.pipeline(commands)
        for (reply, command) in zip(replies, commands) {
            if let error = reply.error {
                throw RedisServerProcess.Failure(description: "\(command.name): \(error.message)")
            }
        }
        return replies
    }

    private static func introduce(_ node: RedisServerProcess, to other: RedisServerProcess) async throws {
        guard case .tcp(let host, let port) = other.url.endpoint,
            let bus = try await ask(other, [RedisCommand("CONFIG", "GET", "cluster-port")])[0].fields?["cluster-port"]?
                .integer
        else { throw RedisServerProcess.Failure(description: "the node does not know its cluster port") }
        try await ask(node, [RedisCommand("CLUSTER", "MEET", .string(host), .integer(port), .integer(bus))])
    }

    private static func waitUntilAllKnowEachOther(_ nodes: [RedisServerProcess]) async throws {
        for node in nodes {
            let connection = try await RedisConnection.connect(to: node.url)
            try await eventually("the cluster stands") {
                let state = try await connection.send(RedisCommand("CLUSTER", "INFO")).string ?? ""
                let lines = Set(state.split(whereSeparator: \.isNewline))
                guard lines.isSuperset(of: ["cluster_state:ok", "cluster_known_nodes:\(nodes.count)"]) else {
                    return false
                }
                // Who is only being introduced is known, and not yet listened to.
                let table = try await connection.send(RedisCommand("CLUSTER", "NODES")).string ?? ""
                return !table.contains("handshake")
            }
        }
    }
}
