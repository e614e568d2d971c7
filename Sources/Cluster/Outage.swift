package import Redis

/// Waits out what is wrong with Redis and not with the work: memory or disk that is full, a replica where a primary should
/// be, a server that loads its data, a connection that broke.
///
/// Whoever holds work keeps it meanwhile: its lease is renewed in the background, and nothing is counted against it.
package struct Outage: Sendable {
    /// The pauses, with jitter, so that workers that were stopped together do not come back in step.
    private let backoff: RedisBackoff
    /// Told of each fault that is waited out: for logs.
    private let onWait: @Sendable (any Error) -> Void
    /// Sleeps; a parameter for tests.
    private let sleep: @Sendable (Duration) async throws -> Void

    /// - Parameters:
    ///   - backoff: between attempts.
    ///   - onWait: told of each fault that is waited out.
    ///   - sleep: takes that long; throws where the task was cancelled.
    package init(
        backoff: RedisBackoff = RedisBackoff(base: .milliseconds(50), limit: .seconds(2)),
        onWait: @escaping @Sendable (any Error) -> Void = { _ in },
        sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
    ) {
        self.backoff = backoff
        self.onWait = onWait
        self.sleep = sleep
    }

    /// Does something again and again until it is done, or fails for a reason that no time mends.
    ///
    /// - Throws: what `body` throws where it is no outage; `CancellationError` where the task was cancelled meanwhile:
    ///   the lease is lost, or the worker shuts down.
    package func waitOut<Answer>(_ body: () async throws -> Answer) async throws -> Answer {
        var attempt = 0
        while true {
            do {
                return try await body()
            } catch {
                if Task.isCancelled { throw CancellationError() }
                guard let fault = error as? any TransientError, fault.isTransient else { throw error }
                onWait(error)
            }
            try await sleep(backoff.delay(attempt) + .milliseconds(10))
            attempt += 1
        }
    }
}
