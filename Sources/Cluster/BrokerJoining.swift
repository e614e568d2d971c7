public import Redis

extension Broker {
    /// A broker over a cluster that others have set up; writes nothing, so rights to read are enough.
    ///
    /// - Throws: ``ClusterError/notSetUp(server:namespace:)`` where no worker was ever there.
    public static func join(
        _ redis: RedisClient, keys: ClusterKeys = ClusterKeys()
    ) async throws(ClusterError) -> Broker {
        try FunctionsLibrary.checkVersion(redis)
        guard let library = try await FunctionsLibrary.loaded(in: redis) else {
            throw .notSetUp(server: "\(redis.url)", namespace: keys.namespace)
        }
        guard library.protocolNumber == FunctionsLibrary.own.protocolNumber else {
            throw .otherProtocol(found: library.protocolNumber, expected: FunctionsLibrary.own.protocolNumber)
        }
        let partitions: RedisBytes?
        do { partitions = try await redis.fields(keys.cluster, ["partitions"])[0] } catch { throw ClusterError(error) }
        guard let partitions else { throw .notSetUp(server: "\(redis.url)", namespace: keys.namespace) }
        let count = try Broker.partitionCount(partitions.string, keys, redis)
        return Broker(redis: redis, keys: keys, partitionCount: count)
    }
}
