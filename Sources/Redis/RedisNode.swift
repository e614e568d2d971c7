import Synchronization

/// One server: its shared connection, made anew when it breaks, and the connections for commands that block.
///
/// ```text
///            command            stands
///   idle ───────────▶ dialing ─────────▶ ready
///    ▲                   │                 │ broken
///    └───────────────────┴─────────────────┘        close() leads to `closed` from everywhere
///       patience is over: all who wait fail
/// ```
/// What is sent again after a break: a command that had not gone out in full, and one that may run twice
/// (``RedisCommand/Repetition/safe``); a pipeline when this holds for all of its commands. Any other is reported with
/// ``RedisError/connectionLost(server:mayHaveRun:reason:)``.
///
/// A server that says that it is a replica now is left: the next command connects anew, to wherever the address leads by
/// then. What was under way has its answer all the same.
final class RedisNode: Sendable {
    private typealias Waiter = UnsafeContinuation<Result<RedisConnection, RedisError>, Never>

    private enum Link: Sendable {
        case idle
        case dialing(Task<Void, Never>, waiters: [Int: Waiter])
        case ready(RedisConnection)
        case closed
    }

    private struct State: Sendable {
        var link = Link.idle
        var nextWaiter = 0
        var isCancelled: Set<Int> = []
    }

    let url: RedisURL
    let configuration: RedisConfiguration
    let blocking: BlockingPool
    private let dialer: RedisDialer
    private let onConnect: @Sendable (RedisConnection) -> Void
    /// Guards the link.
    private let state = Mutex(State())

    /// A node that is not connected yet; `onConnect` is told of each connection for commands that comes about.
    init(
        _ url: RedisURL, configuration: RedisConfiguration,
        onConnect: @escaping @Sendable (RedisConnection) -> Void = { _ in }
    ) {
        self.url = url
        self.onConnect = onConnect
        self.configuration = configuration
        dialer = RedisDialer(url: url, configuration: configuration)
        blocking = BlockingPool(dialer, limit: configuration.blockingConnections)
    }

    /// Connects with one attempt.
    func open() async throws(RedisError) -> RedisConnection {
        let connection = try await dialer.dial(patience: .zero)
        state.withLock { state in
            if case .idle = state.link { state.link = .ready(connection) }
        }
        onConnect(connection)
        return connection
    }

    /// Sends a command with one attempt and no patience.
    func probe(_ command: RedisCommand) async throws(RedisError) -> RedisValue {
        let standing: RedisConnection? = state.withLock { state in
            if case .ready(let connection) = state.link, !connection.isClosed { return connection }
            return nil
        }
        if let standing { return try await standing.send(command) }
        return try await open().send(command)
    }

    func send(_ command: RedisCommand) async throws(RedisError) -> RedisValue {
        try await retrying(isSafe: command.repetition == .safe) { [self] connection throws(RedisError) in
            let reply = try await connection.send(command)
            leaveIfReplica(connection, [reply])
            return reply
        }
    }

    func pipeline(_ commands: [RedisCommand]) async throws(RedisError) -> [RedisValue] {
        let isSafe = commands.allSatisfy { $0.repetition == .safe }
        return try await retrying(isSafe: isSafe) { [self] connection throws(RedisError) in
            let replies = try await connection.pipeline(commands)
            leaveIfReplica(connection, replies)
            return replies
        }
    }

    func close() {
        let link = state.withLock { state in
            defer { state.link = .closed }
            return state.link
        }
        switch link {
        case .ready(let connection): connection.close()
        case .dialing(let task, let waiters):
            task.cancel()
            for waiter in waiters.values { waiter.resume(returning: .failure(.closed)) }
        case .idle, .closed: break
        }
        blocking.close()
    }

    private func retrying<Answer: Sendable>(
        isSafe: Bool, _ body: (RedisConnection) async throws(RedisError) -> Answer
    ) async throws(RedisError) -> Answer {
        var attempt = 1
        while true {
            let connection = try await connection()
            do throws(RedisError) {
                return try await body(connection)
            } catch {
                guard error.isConnectionFailure else { throw error }
                drop(connection, because: error)
                guard isSafe || !error.mayHaveRun, attempt < configuration.attempts else { throw error }
                attempt += 1
            }
        }
    }

    // MARK: the link

    private func connection() async throws(RedisError) -> RedisConnection {
        enum Step {
            case use(RedisConnection)
            case wait(Int)
            case fail
        }
        guard !Task.isCancelled else { throw .cancelled }
        let (step, broken): (Step, RedisConnection?) = state.withLock { state in
            switch state.link {
            case .closed: return (.fail, nil)
            case .ready(let connection) where !connection.isClosed: return (.use(connection), nil)
            case .ready(let connection):
                state.nextWaiter += 1
                state.link = .dialing(dial(), waiters: [:])
                return (.wait(state.nextWaiter), connection)
            case .idle:
                state.nextWaiter += 1
                state.link = .dialing(dial(), waiters: [:])
                return (.wait(state.nextWaiter), nil)
            case .dialing:
                state.nextWaiter += 1
                return (.wait(state.nextWaiter), nil)
            }
        }
        if let broken { configuration.onEvent(.disconnected(server: broken.server, reason: "found closed")) }
        switch step {
        case .use(let connection): return connection
        case .fail: throw .closed
        case .wait(let number): return try await wait(number)
        }
    }

    private func wait(_ number: Int) async throws(RedisError) -> RedisConnection {
        let result = await withTaskCancellationHandler {
            await withUnsafeContinuation { (waiter: Waiter) in
                let now: Result<RedisConnection, RedisError>? = state.withLock { state in
                    if state.isCancelled.remove(number) != nil { return .failure(.cancelled) }
                    switch state.link {
                    case .closed: return .failure(.closed)
                    case .ready(let connection): return .success(connection)
                    case .idle:
                        state.link = .dialing(dial(), waiters: [number: waiter])
                        return nil
                    case .dialing(let task, var waiters):
                        waiters[number] = waiter
                        state.link = .dialing(task, waiters: waiters)
                        return nil
                    }
                }
                if let now { waiter.resume(returning: now) }
            }
        } onCancel: {
            let waiter: Waiter? = state.withLock { state in
                guard case .dialing(let task, var waiters) = state.link,
                    let waiter = waiters.removeValue(forKey: number)
                else {
                    state.isCancelled.insert(number)
                    return nil
                }
                state.link = .dialing(task, waiters: waiters)
                return waiter
            }
            waiter?.resume(returning: .failure(.cancelled))
        }
        _ = state.withLock { $0.isCancelled.remove(number) }
        return try result.get()
    }

    private func dial() -> Task<Void, Never> {
        Task.detached { [self] in
            let result: Result<RedisConnection, RedisError>
            do throws(RedisError) {
                result = .success(try await dialer.dial(patience: configuration.patience))
            } catch {
                result = .failure(error)
            }
            let waiters: [Waiter] = state.withLock { state in
                guard case .dialing(_, let waiters) = state.link else { return [] }
                if case .success(let connection) = result {
                    state.link = .ready(connection)
                } else {
                    state.link = .idle
                }
                return Array(waiters.values)
            }
            if case .success(let connection) = result { onConnect(connection) }
            for waiter in waiters { waiter.resume(returning: result) }
        }
    }

    /// Lets go of a connection to a replica without closing it; the last command under way does that.
    private func leaveIfReplica(_ connection: RedisConnection, _ replies: [RedisValue]) {
        guard let refusal = replies.lazy.compactMap(\.error).first(where: \.isOfReplica) else { return }
        // One that was made a moment ago led to the same server: there is nothing better yet.
        guard Monotonic.now &- connection.began > Self.leavingPause else { return }
        let isOurs = state.withLock { state in
            guard case .ready(let current) = state.link, current === connection else { return false }
            state.link = .idle
            return true
        }
        if isOurs { configuration.onEvent(.disconnected(server: connection.server, reason: refusal.message)) }
    }

    /// Nanoseconds.
    private static let leavingPause: UInt64 = 250_000_000

    /// Breaks the connections that lead elsewhere than to the primary of now.
    func leave(unless primary: RedisURL.Endpoint) {
        let wrong: RedisConnection? = state.withLock { state in
            guard case .ready(let current) = state.link, current.endpoint != primary else { return nil }
            return current
        }
        if let wrong {
            drop(
                wrong,
                because: .connectionLost(
                    server: wrong.server, mayHaveRun: true, reason: "the sentinels name another primary"))
        }
        blocking.leave(unless: primary)
    }

    private func drop(_ connection: RedisConnection, because error: RedisError) {
        let isOurs = state.withLock { state in
            guard case .ready(let current) = state.link, current === connection else { return false }
            state.link = .idle
            return true
        }
        connection.close()
        if isOurs { configuration.onEvent(.disconnected(server: connection.server, reason: error.shortReason)) }
    }
}
