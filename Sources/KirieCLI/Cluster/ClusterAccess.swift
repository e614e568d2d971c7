import Cluster
import Redis

/// How commands come to their cluster.
extension RedisOptions {
    /// For commands that only look: nothing is written, and rights to read are enough.
    func watcher(patience: Duration? = nil) async throws -> Broker {
        try await Broker.join(try await client(patience), keys: keys)
    }

    /// Sets up what the cluster lacks: the functions, the number of partitions, the consumer groups.
    ///
    /// Takes an operator's rights; whoever works or submits afterwards needs only those of its role.
    func setUp(partitions: Int) async throws {
        let redis = try await client(nil)
        defer { redis.close() }
        _ = try await Broker.open(redis, keys: keys, partitions: partitions)
    }

    /// For submitters: sets the cluster up where nobody did before, which takes more rights than to submit.
    func submitter() async throws -> Broker {
        let redis = try await client(nil)
        do throws(ClusterError) {
            return try await Broker.join(redis, keys: keys)
        } catch .notSetUp {
            return try await Broker.open(redis, keys: keys)
        }
    }

    private func client(_ patience: Duration?) async throws -> RedisClient {
        try await connect { configuration in
            guard let patience else { return }
            configuration.patience = patience
            // A server that is busy is no server that is away.
            configuration.connectTimeout = max(patience, .seconds(3))
            configuration.commandTimeout = max(patience, .seconds(3))
        }
    }
}
