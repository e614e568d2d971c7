import Cluster
import HTTPTypes
import Logging
import ServiceLifecycle
import Synchronization

/// Tells of the ends of jobs: one subscription for all requests of this gateway.
final class JobAnswers: Service, Sendable {
    private let follower: JobFollower
    private let logger: Logger
    private struct State {
        var next = 0
        var waiting: [JobReference: [Int: CheckedContinuation<JobEnding, any Error>]] = [:]
    }
    /// Guards who waits for what.
    private let state = Mutex(State())

    /// Answers for jobs that are submitted under the name of `client`.
    init(_ broker: Broker, client: String, logger: Logger) {
        self.logger = logger
        follower = JobFollower(broker, client: client)
    }

    /// Listens until the task is cancelled or the service is shut down.
    func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                do { try await self.follower.run { self.tell($0) } } catch {
                    if Task.isCancelled { break }
                    // Redis is away for longer than the client's patience: who waits is told so, and asked to come back.
                    self.logger.warning("ends of jobs cannot be followed", metadata: ["error": "\(error)"])
                    self.fail(error)
                }
                try? await Task.sleep(for: .milliseconds(200))
            }
        }
        fail(Problem(.serviceUnavailable, "shutting-down", "this gateway is shutting down", retryAfter: .seconds(1)))
    }

    /// Waits for the end of a job that was submitted under this gateway's name.
    ///
    /// - Throws: `CancellationError` when the task is cancelled; ``ClusterError`` where Redis is away.
    func ending(of reference: JobReference) async throws -> JobEnding {
        let token = state.withLock { state in
            state.next += 1
            return state.next
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let isCancelled = state.withLock { state in
                    if Task.isCancelled { return true }
                    state.waiting[reference, default: [:]][token] = continuation
                    return false
                }
                if isCancelled { continuation.resume(throwing: CancellationError()) } else { follower.add([reference]) }
            }
        } onCancel: {
            let continuation = state.withLock { state in
                let continuation = state.waiting[reference]?.removeValue(forKey: token)
                if state.waiting[reference]?.isEmpty == true { state.waiting[reference] = nil }
                return continuation
            }
            continuation?.resume(throwing: CancellationError())
        }
    }

    private func tell(_ endings: [JobEnding]) {
        for ending in endings {
            let continuations = state.withLock { $0.waiting.removeValue(forKey: ending.reference) }
            for continuation in (continuations ?? [:]).values { continuation.resume(returning: ending) }
        }
    }

    private func fail(_ error: any Error) {
        let waiting = state.withLock { state in
            defer { state.waiting = [:] }
            return state.waiting
        }
        for continuation in waiting.values.flatMap(\.values) { continuation.resume(throwing: error) }
    }
}
