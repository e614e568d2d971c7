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

    /// The address of the first node.
    public var url: RedisURL { nodes[0].url }

    private init(nodes: [RedisServerProcess], identifiers: [String]) {
        self.nodes = nodes
        self.identifiers = identifiers
    }

    /// Starts primaries, introduces them to each other and returns when each says that the cluster stands.
    public static func start(primaries count: Int = 3) async throws -> RedisClusterProcess {
        var nodes: [RedisServerProcess] = []
        for _ in 0..<count { nodes.append(try await RedisServerProcess.start(.init(isClusterNode: true))) }
        var identifiers: [String] = []
        for (index, node) in nodes.enumerated() {
            let connection = try await RedisConnection.connect(to: node.url)
            let first = index * HashSlot.count / count
            let last = (index + 1) * HashSlot.count / count - 1
            var commands = [
                RedisCommand("CLUSTER", "ADDSLOTSRANGE", .integer(first), .integer(last)),
                RedisCommand("CLUSTER", "SET-CONFIG-EPOCH", .integer(index + 1)),
                RedisCommand("CLUSTER", "MYID"),
            ]
            if index > 0, case .tcp(let host, let port) = nodes[0].url.endpoint {
                let bus = try await Self.busPort(of: nodes[0])
                commands.append(
                    RedisCommand("CLUSTER", "MEET", .string(host), .integer(port), .integer(bus)))
            }
            let replies = try await connection.pipeline(commands)
            for reply in replies {
                if let error = reply.error { throw RedisServerProcess.Failure(description: error.message) }
            }
            identifiers.append(replies[2].string ?? "")
        }
        let cluster = RedisClusterProcess(nodes: nodes, identifiers: identifiers)
        try await eventually("the cluster stands", within: .seconds(30)) {
            for node in nodes {
                let connection = try await RedisConnection.connect(to: node.url)
                let state = try await connection.send(RedisCommand("CLUSTER", "INFO")).string ?? ""
                guard state.contains("cluster_state:ok"), state.contains("cluster_known_nodes:\(count)") else {
                    return false
                }
            }
            return true
        }
        return cluster
    }

    private static func busPort(of node: RedisServerProcess) async throws -> Int {
        let connection = try await RedisConnection.connect(to: node.url)
        let reply = try await connection.send(RedisCommand("CONFIG", "GET", "cluster-port"))
        guard let port = reply.fields?["cluster-port"]?.integer else {
            throw RedisServerProcess.Failure(description: "the node does not know its cluster port")
        }
        return port
    }
}
