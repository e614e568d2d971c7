import Synchronization

/// The connections on which a client listens, so that they can be told to leave a server that is the wrong one now.
///
/// Who listens says nothing, so it never hears that the server has left the cluster, or that its name leads elsewhere.
final class ListeningPosts: Sendable {
    /// Guards the connections.
    private let connections = Mutex<[ObjectIdentifier: RedisConnection]>([:])

    func add(_ connection: RedisConnection) {
        connections.withLock { $0[ObjectIdentifier(connection)] = connection }
    }

    func remove(_ connection: RedisConnection) {
        connections.withLock { $0[ObjectIdentifier(connection)] = nil }
    }

    /// Breaks the connections that are not where they should be; their subscriptions connect anew.
    func leave(because reason: String, where isWrong: (RedisConnection) -> Bool) {
        let wrong = connections.withLock { $0.values.filter(isWrong) }
        for connection in wrong {
            connection.close(.connectionLost(server: connection.server, mayHaveRun: false, reason: reason))
        }
    }
}

/// How the connections of one subscription come about.
struct ListeningRoute: Sendable {
    /// Connects to where messages are to be heard now.
    let dialer: RedisDialer
    /// Where its connection is known.
    let posts: ListeningPosts
    /// How long the first connection may take; nil for ever.
    let firstPatience: Duration?
    /// Looks whether the connection is where it should be; nil where that shows by itself.
    let look: (@Sendable () async -> Void)?
}
