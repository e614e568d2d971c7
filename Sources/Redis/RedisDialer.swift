/// Makes connections, with pauses between attempts.
///
/// Where to is asked before each attempt, of sentinels where the address names them, and a host name is resolved by each:
/// neither a node nor an address is for ever.
struct RedisDialer: Sendable {
    let configuration: RedisConfiguration
    private let destination: @Sendable () async throws(RedisError) -> RedisURL
    private var isOfSentinels = false

    /// A dialer that asks for each attempt where to go.
    init(configuration: RedisConfiguration, destination: @escaping @Sendable () async throws(RedisError) -> RedisURL) {
        self.configuration = configuration
        self.destination = destination
    }

    /// A dialer of one server, or of whichever sentinels name.
    init(url: RedisURL, configuration: RedisConfiguration) {
        guard let question = SentinelQuestion(url, configuration: configuration) else {
            self.init(configuration: configuration) { () throws(RedisError) in url }
            return
        }
        self.init(configuration: configuration) { () async throws(RedisError) in try await question.primary() }
        isOfSentinels = true
    }

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
            var server = "Redis"
            let failure: RedisError
            do throws(RedisError) {
                let url = try await destination()
                server = url.description
                return try await connect(to: url, as: role)
            } catch {
                failure = error
                server = error.place ?? server
            }
            guard !Task.isCancelled else { throw .cancelled }
            guard failure.isConnectionFailure else { throw failure }
            if case .protocolViolation = failure { throw failure }
            let delay = configuration.backoff.delay(attempt)
            spent += .nanoseconds(Int64(Monotonic.now &- began)) + delay
            if let patience, spent > patience { throw Self.cannotConnect(failure, server: server) }
            configuration.onEvent(
                .retrying(server: server, attempt: attempt, delay: delay, reason: failure.shortReason))
            do {
                try await configuration.clock.sleep(for: delay)
            } catch {
                throw .cancelled
            }
            attempt += 1
        }
    }

    /// One attempt; a server that sentinels name has to be a primary, which it may not be yet, or any more.
    private func connect(to url: RedisURL, as role: RedisChannel.Role) async throws(RedisError) -> RedisConnection {
        guard isOfSentinels else {
            return try await RedisConnection.connect(to: url, role: role, configuration: configuration)
        }
        do throws(RedisError) {
            let connection = try await RedisConnection.connect(to: url, role: role, configuration: configuration)
            let isPrimary = connection.greeting["role"].map { $0 == "master" } ?? true
            if isPrimary { return connection }
            connection.close()
            throw .cannotConnect(server: url.description, reason: "it is a replica")
        } catch {
            guard case .cannotConnect(let server, let reason) = error else { throw error }
            throw .cannotConnect(
                server: server,
                reason: "\(reason), and the sentinels name it as the primary: until they have another, nothing goes on")
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
        case .unknownService(let sentinels, _, _): sentinels
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
