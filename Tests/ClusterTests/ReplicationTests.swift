import Cluster
import Glibc
import Redis
import RedisTesting
import Segmentation
import Testing

/// Jobs that count as accepted when replicas have them.
@Suite struct ReplicationTests {
    @Test func anAcceptedJobOutlivesItsPrimary() async throws {
        let fleet = try await RedisSentinelProcesses.start()
        defer { withExtendedLifetime(fleet) {} }
        var configuration = RedisConfiguration()
        configuration.patience = .hang
        var broker = try await Broker.open(
            try await RedisClient.connect(fleet.url, configuration: configuration), partitions: 4)
        broker.replication = Broker.Replication(replicas: 1, limit: .seconds(600))
        let images = (0..<8).map { TestCluster.image($0) }
        for image in images { try await broker.putImage(image, "bytes") }
        let jobs = (0..<200).map { TestCluster.job("j\($0)", images[$0 % 8]) }
        let outcomes = try await broker.submit(jobs)
        let references = outcomes.compactMap(\.reference)
        #expect(references.count == 200)
        await fleet.servers[0].kill(SIGKILL)
        try await fleet.believeDeaths()
        #expect(try await broker.status(references).compactMap(\.self).count == 200)
    }

    @Test func aJobThatNoReplicaHasIsRefusedAndTakenTheNextTime() async throws {
        let fleet = try await RedisSentinelProcesses.start()
        defer { withExtendedLifetime(fleet) {} }
        var broker = try await Broker.open(try await RedisClient.connect(fleet.url), partitions: 1)
        broker.replication = Broker.Replication(replicas: 1, limit: .milliseconds(50))
        let image = TestCluster.image(1)
        try await broker.putImage(image, "bytes")
        try await fleet.servers[1].freeze()
        let refused = try await broker.submit([TestCluster.job("a", image), TestCluster.job("b", image)])
        for outcome in refused {
            guard case .refused(_, let error) = outcome else {
                throw UnexpectedAnswer(description: "it was accepted")
            }
            #expect("\(error)".contains("0 of the 1 replicas asked for had the job within 0.05 seconds"), "\(error)")
            #expect(error.isTransient)
        }
        fleet.servers[1].thaw()
        broker.replication = Broker.Replication(replicas: 1, limit: .seconds(600))
        let again = try await broker.submit([TestCluster.job("a", image), TestCluster.job("b", image)])
        for outcome in again {
            guard case .known = outcome else { throw UnexpectedAnswer(description: "it is not known: \(outcome)") }
        }
    }

    @Test func minReplicasToWriteIsToldAsWhatItIs() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let broker = try await Broker.open(try await RedisClient.connect(server.url), partitions: 1)
        let image = TestCluster.image(1)
        try await broker.putImage(image, "bytes")
        try await RedisClusterProcess.ask(server, [RedisCommand("CONFIG", "SET", "min-replicas-to-write", 1)])
        guard case .refused(_, let error) = try await broker.submit([TestCluster.job("a", image)])[0] else {
            throw UnexpectedAnswer(description: "it was accepted")
        }
        #expect("\(error)".contains("min-replicas-to-write"), "\(error)")
    }

    /// It used to be told as a cluster that is full.
    @Test func aReplicaIsToldAsWhatItIs() async throws {
        let fleet = try await RedisSentinelProcesses.start(sentinels: 1)
        defer { withExtendedLifetime(fleet) {} }
        let broker = try await Broker.open(try await RedisClient.connect(fleet.servers[0].url), partitions: 1)
        let image = TestCluster.image(1)
        try await broker.putImage(image, "bytes")
        let replica = try await RedisClient.connect(fleet.servers[1].url)
        try await eventually("the replica has the functions") { try await FunctionsLibrary.loaded(in: replica) != nil }
        let there = try await Broker.join(replica)
        guard case .refused(_, let error) = try await there.submit([TestCluster.job("a", image)])[0] else {
            throw UnexpectedAnswer(description: "it was accepted")
        }
        let text = "\(error)"
        #expect(text.contains("it is a replica, which takes no writes: name its primary"), "\(text)")
        #expect(!text.contains("full"))
    }

    @Test func whoMayNotSetUpIsToldWhoCan() async throws {
        let server = try await RedisServerProcess.start(.init(users: try RecommendedUsers.rules()))
        defer { withExtendedLifetime(server) {} }
        let redis = try await RedisClient.connect(RecommendedUsers.url("monitor", at: server.url))
        let error = await #expect(throws: ClusterError.self) { _ = try await Broker.open(redis) }
        let text = "\(try #require(error))"
        #expect(text.contains("have the operator's user do it once: kirie queues --partitions"), "\(text)")
    }
}
