/// Makes connections, with pauses between attempts.
///
/// Where to is asked before each attempt, and a host name is resolved by each: neither a node nor an address is for ever.
struct RedisDialer: Sendable {
    let configuration: RedisConfiguration
    private let destination: @Sendable () async -> RedisURL

    /// A dialer that asks for each attempt where to go.
    init(configuration: RedisConfiguration, destination: @escaping @Sendable () async -> RedisURL) {
        self.configuration = configuration
        self.destination = destination
    }

    /// A dialer of one server.
    init(url: RedisURL, configuration: RedisConfiguration) { self.init(configuration: configuration) { url } }

    /// Tries until a connection stands.
    ///
    /// - Parameters:
    ///   - role: what the connection is for.
    ///   - patience: how long, pauses and attempts together; zero for one attempt, nil for ever.
    /// - Returns: a connection that is signed in and in its database.
    /// - Throws: ``RedisError/cannotConnect(server:reason:)`` where the patience is over; ``RedisError/cancelled``; at
    ///   once whatever no further attempt would mend, such as a wrong password.
    func dial(
        as role: RedisChannel.Role = .commands, patience: Duration?
    ) async throws(RedisError) -> RedisConnection {
        var spent = Duration.zero
        var attempt = 0
        while true {
            let began = Monotonic.now
            let url = await destination()
            let failure: RedisError
            do throws(RedisError) {
                return try await RedisConnection.connect(to: url, role: role, configuration: configuration)
            } catch {
                failure = error
            }
            guard !Task.isCancelled else { throw .cancelled }
            guard failure.isConnectionFailure else { throw failure }
            if case .protocolViolation = failure { throw failure }
            let delay = configuration.backoff.delay(attempt)
            spent += .nanoseconds(Int64(Monotonic.now &- began)) + delay
            if let patience, spent > patience { throw Self.cannotConnect(failure, server: url.description) }
            configuration.onEvent(
                .retrying(server: url.description, attempt: attempt, delay: delay, reason: failure.shortReason))
            do {
                try await configuration.clock.sleep(for: delay)
            } catch {
                throw .cancelled
            }
            attempt += 1
        }
    }

    private static func cannotConnect(_ failure: RedisError, server: String) -> RedisError {
        if case .cannotConnect = failure { return failure }
        return .cannotConnect(server: server, reason: failure.shortReason)
    }
}

extension RedisError {
    /// The address without the password; nil where the error is of none.
    var place: String? {
        switch self {
        case .cannotConnect(let server, _), .authenticationFailed(let server, _), .connectionLost(let server, _, _),
            .timedOut(let server, _, _), .protocolViolation(let server, _), .overloaded(let server, _),
            .notTrusted(let server, _, _):
            server
        case .server, .unexpectedReply, .clusterUnavailable, .closed, .cancelled: nil
        }
    }

    /// The cause without the address.
    var shortReason: String {
        switch self {
        case .cannotConnect(_, let reason), .connectionLost(_, _, let reason), .protocolViolation(_, let reason),
            .authenticationFailed(_, let reason), .clusterUnavailable(let reason), .notTrusted(_, let reason, _):
            reason
        case .timedOut(_, _, let after): "no answer within \(after)"
        default: description
        }
    }
}
