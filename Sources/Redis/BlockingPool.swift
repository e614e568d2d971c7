import Synchronization

/// Connections for commands that wait inside the server (BLPOP, XREADGROUP BLOCK): each command has one to itself while
/// it waits, so it delays nobody else.
final class BlockingPool: Sendable {
    private typealias Turn = UnsafeContinuation<Result<RedisConnection?, RedisError>, Never>

    private struct State: Sendable {
        var idle: [RedisConnection] = []
        var inUse = 0
        var busy: [ObjectIdentifier: RedisConnection] = [:]
        var line: [(number: Int, turn: Turn)] = []
        var nextNumber = 0
        /// Connections from before are not kept.
        var retired: UInt64 = 0
        var isCancelled: Set<Int> = []
        var isClosed = false
    }

    private let dialer: RedisDialer
    private let limit: Int
    /// Guards who has which connection.
    private let state = Mutex(State())

    init(_ dialer: RedisDialer, limit: Int) {
        self.dialer = dialer
        self.limit = max(1, limit)
    }

    /// Runs a command that the server answers within `wait`.
    ///
    /// Cancelling the task closes the connection, which makes the server forget the command; an element that was on its
    /// way at that moment is lost with it, so what must not be lost is taken with BLMOVE or a consumer group.
    func run(_ command: RedisCommand, wait: Duration) async throws(RedisError) -> RedisValue {
        try await run([command], wait: wait)[0]
    }

    /// Runs commands in one go on one connection; they may be sent again where all of them may.
    func run(_ commands: [RedisCommand], wait: Duration) async throws(RedisError) -> [RedisValue] {
        let isSafe = commands.allSatisfy { $0.repetition == .safe }
        let timeout = wait + dialer.configuration.commandTimeout
        while true {
            let kept = try await acquire()
            let isFresh = kept == nil
            let connection: RedisConnection
            do throws(RedisError) {
                connection =
                    if let kept { kept } else {
                        try await dialer.dial(patience: dialer.configuration.patience)
                    }
            } catch {
                release(nil)
                throw error
            }
            let isClosed = state.withLock { state in
                state.busy[ObjectIdentifier(connection)] = connection
                return state.isClosed
            }
            if isClosed { connection.close() }
            let result = await withTaskCancellationHandler {
                do throws(RedisError) {
                    return Result<[RedisValue], RedisError>.success(
                        try await connection.pipeline(commands, timeout: timeout))
                } catch {
                    return .failure(error)
                }
            } onCancel: {
                connection.close(.cancelled)
            }
            if case .success(let replies) = result, replies.contains(where: { $0.error?.isOfReplica == true }) {
                retire()
            }
            release(connection)
            // A connection that lay idle may have died unseen; then the command did not go out.
            if case .failure(let error) = result, error.isConnectionFailure, !isFresh,
                !error.mayHaveRun || isSafe
            {
                continue
            }
            return try result.get()
        }
    }

    func close() {
        let (connections, line) = state.withLock { state in
            state.isClosed = true
            defer {
                state.idle = []
                state.line = []
            }
            return (state.idle + state.busy.values, state.line)
        }
        for connection in connections { connection.close() }
        for waiter in line { waiter.turn.resume(returning: .failure(.closed)) }
    }

    /// A connection that was kept, or nil: leave to make one.
    private func acquire() async throws(RedisError) -> RedisConnection? {
        guard !Task.isCancelled else { throw .cancelled }
        let number = state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber
        }
        let result = await withTaskCancellationHandler {
            await withUnsafeContinuation { (turn: Turn) in
                let now: Result<RedisConnection?, RedisError>? = state.withLock { state in
                    if state.isCancelled.remove(number) != nil { return .failure(.cancelled) }
                    if state.isClosed { return .failure(.closed) }
                    guard state.inUse < limit else {
                        state.line.append((number, turn))
                        return nil
                    }
                    state.inUse += 1
                    while let connection = state.idle.popLast() {
                        if !connection.isClosed { return .success(connection) }
                    }
                    return .success(nil)
                }
                if let now { turn.resume(returning: now) }
            }
        } onCancel: {
            let turn: Turn? = state.withLock { state in
                guard let index = state.line.firstIndex(where: { $0.number == number }) else {
                    state.isCancelled.insert(number)
                    return nil
                }
                return state.line.remove(at: index).turn
            }
            turn?.resume(returning: .failure(.cancelled))
        }
        _ = state.withLock { $0.isCancelled.remove(number) }
        return try result.get()
    }

    /// Keeps none of the present connections for another command: the next is made anew.
    private func retire() {
        let idle = state.withLock { state in
            state.retired = Monotonic.now
            defer { state.idle = [] }
            return state.idle
        }
        for connection in idle { connection.close() }
    }

    /// Breaks the connections that lead elsewhere than to the primary of now.
    func leave(unless primary: RedisURL.Endpoint) {
        let wrong = state.withLock { state in
            let idle = state.idle.filter { $0.endpoint != primary }
            state.idle.removeAll { $0.endpoint != primary }
            return idle + state.busy.values.filter { $0.endpoint != primary }
        }
        for connection in wrong {
            connection.close(
                .connectionLost(
                    server: connection.server, mayHaveRun: true, reason: "the sentinels name another primary"))
        }
    }

    private func release(_ connection: RedisConnection?) {
        let retired = state.withLock(\.retired)
        let usable = connection.flatMap { $0.isClosed || $0.began < retired ? nil : $0 }
        let (next, surplus): (Turn?, RedisConnection?) = state.withLock { state in
            if let connection { state.busy[ObjectIdentifier(connection)] = nil }
            if !state.line.isEmpty { return (state.line.removeFirst().turn, nil) }
            state.inUse -= 1
            if let usable, !state.isClosed, state.idle.count < 4 {
                state.idle.append(usable)
                return (nil, nil)
            }
            return (nil, usable)
        }
        next?.resume(returning: .success(usable))
        surplus?.close()
        if usable == nil { connection?.close() }
    }
}
