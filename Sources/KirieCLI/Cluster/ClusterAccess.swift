import Cluster
import Redis
import Synchronization
import Terminals

/// How commands come to their cluster.
extension RedisOptions {
    /// For commands that only look: nothing is written, and rights to read are enough.
    func watcher(patience: Duration? = nil) async throws -> Broker {
        let redis = try await client(patience)
        do throws(ClusterError) { try await FunctionsLibrary.checkServer(redis) } catch {
            guard case .memoryPolicy = error else { throw error }
            // Looking is never refused; who looks may be the one to mend it.
            Terminal.complain("kirie: \(error)")
        }
        return try await Broker.join(redis, keys: keys)
    }

    /// For commands that only look after a tenant's jobs.
    func watcher(for tenant: TenantOption) async throws -> Broker {
        try await watcher().serving(try tenant.named())
    }

    /// For submitters, in a tenant's name.
    func submitter(for tenant: TenantOption) async throws -> Broker {
        let named = try tenant.named()
        return try await submitter().serving(named)
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
        try await FunctionsLibrary.checkServer(redis)
        do throws(ClusterError) {
            return try await Broker.join(redis, keys: keys)
        } catch .notSetUp {
            return try await Broker.open(redis, keys: keys)
        }
    }

    /// Does something until Redis is there and does its work.
    static func patiently<Answer>(
        _ onWait: @escaping @Sendable (any Error) -> Void, _ body: () async throws -> Answer
    ) async throws -> Answer {
        let faults = Atomic(0)
        return try await Outage(
            backoff: RedisBackoff(base: .milliseconds(100), limit: .seconds(3)),
            onWait: { error in
                if faults.wrappingAdd(1, ordering: .relaxed).oldValue % 8 == 0 { onWait(error) }
            }
        ).waitOut(body)
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
