import Synchronization

/// What arrives on a subscription.
public enum RedisNotification: Sendable, Hashable {
    /// Somebody published.
    case message(RedisMessage)
    /// The connection had been lost and stands again: messages of the meantime are gone, so look for yourself.
    case resubscribed
}

/// A published message.
public struct RedisMessage: Sendable, Hashable {
    /// Where it was published.
    public let channel: String
    /// The pattern by which it came here; nil for a channel by name.
    public let pattern: String?
    /// Its content.
    public let payload: RedisBytes

    /// A message of its parts.
    public init(channel: String, pattern: String? = nil, payload: RedisBytes) {
        self.channel = channel
        self.pattern = pattern
        self.payload = payload
    }
}

/// The messages of some channels, on a connection of their own that is made again whenever it breaks.
///
/// Ends when the loop over it is left or its task is cancelled. Of a reader that is slow the oldest messages are dropped
/// beyond ``RedisConfiguration/subscriptionBuffer``.
public struct RedisSubscription: AsyncSequence, Sendable {
    /// A message, or the news that some were missed.
    public typealias Element = RedisNotification

    private let stream: AsyncStream<RedisNotification>

    /// Subscribes; returns when the server has confirmed every channel, so nothing published later is missed.
    static func open(
        channels: [String], patterns: [String], through route: ListeningRoute
    ) async throws(RedisError) -> RedisSubscription {
        let (stream, continuation) = AsyncStream.makeStream(
            of: RedisNotification.self,
            bufferingPolicy: .bufferingNewest(route.dialer.configuration.subscriptionBuffer))
        let listening = try await RedisListening.open(channels: channels, patterns: patterns, through: route) {
            continuation.yield($0)
        }
        continuation.onTermination = { _ in listening.cancel() }
        Task.detached {
            await listening.waitUntilEnded()
            continuation.finish()
        }
        return RedisSubscription(stream: stream)
    }

    /// The reading end.
    public func makeAsyncIterator() -> AsyncStream<RedisNotification>.Iterator { stream.makeAsyncIterator() }
}

/// Channels that are listened to by a closure, on a connection of their own that is made again whenever it breaks.
///
/// Made again to wherever messages are to be heard by then: in a cluster to any node that owns slots, found in a map that is
/// read anew. A node that has left the cluster and says nothing is found by looking at the map now and then.
///
/// The closure is called on the thread that reads the socket, one message after another: so a message costs no other
/// thread's waking, and the closure must neither wait nor compute. Ends by ``cancel()``, or when nobody holds it any more.
public final class RedisListening: Sendable {
    private let task: Task<Void, Never>

    private init(_ task: Task<Void, Never>) { self.task = task }

    deinit { task.cancel() }

    /// Subscribes; returns when the server has confirmed every channel, so nothing published later is missed.
    static func open(
        channels: [String], patterns: [String], through route: ListeningRoute,
        _ hear: @escaping @Sendable (RedisNotification) -> Void
    ) async throws(RedisError) -> RedisListening {
        let session = SubscriptionSession(channels: channels, patterns: patterns, route: route, hear: hear)
        let first = try await session.connect(patience: route.firstPatience)
        return RedisListening(
            Task.detached {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await session.run(first) }
                    if let look = route.look {
                        group.addTask { await session.every(route.dialer.configuration.mapInterval, look) }
                    }
                    // The look ends only when it is cancelled.
                    await group.next()
                    group.cancelAll()
                }
            })
    }

    /// Hears nothing more.
    public func cancel() { task.cancel() }

    /// Returns when it has ended; to cancel the task that waits is to end it.
    public func waitUntilEnded() async {
        await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
    }
}

/// The channels of one subscription and how its connections come about.
private struct SubscriptionSession: Sendable {
    let channels: [String]
    let patterns: [String]
    let route: ListeningRoute
    let hear: @Sendable (RedisNotification) -> Void

    private var configuration: RedisConfiguration { route.dialer.configuration }

    /// Listens on one connection after another, until the task is cancelled.
    func run(_ first: SubscribedConnection) async {
        var current = first
        while !Task.isCancelled {
            await current.waitForEnd()
            route.posts.remove(current.connection)
            guard !Task.isCancelled, let next = await reconnect() else { break }
            current = next
            hear(.resubscribed)
        }
        route.posts.remove(current.connection)
        current.close()
    }

    func every(_ pause: Duration, _ body: () async -> Void) async {
        while (try? await configuration.clock.sleep(for: pause)) != nil { await body() }
    }

    func connect(patience: Duration?) async throws(RedisError) -> SubscribedConnection {
        while true {
            let gate = SubscriptionGate(expected: channels.count + patterns.count)
            let connection = try await route.dialer.dial(
                as: .subscription(
                    receive: { [hear] reply in
                        if let message = Self.message(reply) {
                            hear(.message(message))
                        } else if let error = reply.error {
                            gate.refuse(.server(error, command: "SUBSCRIBE"))
                        } else {
                            gate.confirm(reply)
                        }
                    }, close: { gate.end($0) }), patience: patience)
            if !channels.isEmpty {
                connection.post(RedisCommand("SUBSCRIBE", channels.map { .string($0) }))
            }
            if !patterns.isEmpty {
                connection.post(RedisCommand("PSUBSCRIBE", patterns.map { .string($0) }))
            }
            do throws(RedisError) {
                try await gate.waitUntilSubscribed()
                route.posts.add(connection)
                return SubscribedConnection(connection: connection, gate: gate)
            } catch {
                connection.close()
                guard error.isConnectionFailure, patience == nil, !Task.isCancelled else { throw error }
            }
        }
    }

    /// A connection in the place of one that ended; nil only where the task is cancelled.
    ///
    /// Whatever the server says on its way up, such as that it knows no user yet, passes: it took us once before.
    func reconnect() async -> SubscribedConnection? {
        var attempt = 0
        while !Task.isCancelled {
            let failure: RedisError
            do throws(RedisError) { return try await connect(patience: nil) } catch { failure = error }
            let delay = configuration.backoff.delay(attempt)
            configuration.onEvent(
                .retrying(
                    server: failure.place ?? "Redis", attempt: attempt, delay: delay, reason: failure.shortReason))
            try? await configuration.clock.sleep(for: delay)
            attempt += 1
        }
        return nil
    }

    private static func message(_ reply: RedisValue) -> RedisMessage? {
        guard let parts = reply.array, let kind = parts.first?.string else { return nil }
        switch (kind, parts.count) {
        case ("message", 3):
            guard let channel = parts[1].string, let payload = parts[2].bytes else { return nil }
            return RedisMessage(channel: channel, pattern: nil, payload: payload)
        case ("pmessage", 4):
            guard let channel = parts[2].string, let payload = parts[3].bytes else { return nil }
            return RedisMessage(channel: channel, pattern: parts[1].string, payload: payload)
        default: return nil
        }
    }
}

/// A connection that delivers messages.
private struct SubscribedConnection: Sendable {
    let connection: RedisConnection
    let gate: SubscriptionGate

    func waitForEnd() async {
        await withTaskCancellationHandler {
            await gate.waitForEnd()
        } onCancel: {
            connection.close(.cancelled)
        }
    }

    func close() { connection.close() }
}

/// Opens when all channels are confirmed, and tells when the connection has ended.
private final class SubscriptionGate: Sendable {
    private struct State: Sendable {
        var missing: Int
        var failure: RedisError?
        var end: RedisError?
        var opening: UnsafeContinuation<Result<Void, RedisError>, Never>?
        var ending: UnsafeContinuation<Void, Never>?
    }

    /// Guards both waits; each has at most one waiter.
    private let state: Mutex<State>

    init(expected: Int) { state = Mutex(State(missing: expected)) }

    func confirm(_ reply: RedisValue) {
        guard let kind = reply.array?.first?.string, kind == "subscribe" || kind == "psubscribe" else { return }
        settle { $0.missing -= 1 }
    }

    func refuse(_ error: RedisError) { settle { $0.failure = error } }

    func end(_ error: RedisError) {
        settle { $0.end = error }
        let ending = state.withLock { state in
            defer { state.ending = nil }
            return state.ending
        }
        ending?.resume()
    }

    func waitUntilSubscribed() async throws(RedisError) {
        let result = await withUnsafeContinuation { continuation in
            let now = state.withLock { state in
                let now = Self.outcome(state)
                if now == nil { state.opening = continuation }
                return now
            }
            if let now { continuation.resume(returning: now) }
        }
        try result.get()
    }

    func waitForEnd() async {
        await withUnsafeContinuation { continuation in
            let hasEnded = state.withLock { state in
                if state.end == nil { state.ending = continuation }
                return state.end != nil
            }
            if hasEnded { continuation.resume() }
        }
    }

    private func settle(_ change: (inout State) -> Void) {
        let (opening, outcome) = state.withLock { state in
            change(&state)
            let outcome = Self.outcome(state)
            defer { if outcome != nil { state.opening = nil } }
            return (state.opening, outcome)
        }
        if let outcome { opening?.resume(returning: outcome) }
    }

    private static func outcome(_ state: State) -> Result<Void, RedisError>? {
        if let failure = state.failure { return .failure(failure) }
        if state.missing <= 0 { return .success(()) }
        return state.end.map { .failure($0) }
    }
}
