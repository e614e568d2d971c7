package import Cluster
package import Platform
package import Redis
import Segmentation

/// One job from its picture to its result: what a click is.
package struct JobCall: Sendable {
    private let broker: Broker
    private let files: PictureFiles

    /// Calls for a cluster, of pictures that `files` reads.
    package init(_ broker: Broker, files: PictureFiles) {
        self.broker = broker
        self.files = files
    }

    /// Submits the job, waits for its end, and returns the result.
    ///
    /// - Throws: ``JobFailure``: it ended in another way; ``UnusableJob``: the cluster did not take it;
    ///   `ClusterError/backpressure`: come back later; ``ChangedPicture``.
    package func result(of request: JobRequest) async throws -> RedisBytes {
        let outcome = try await JobSubmitter(broker).submit([request.job]) { _ in
            guard let picture = request.picture else { return nil }
            return try await files.bytes(of: picture)
        }.first
        switch outcome {
        case .accepted(let reference, _), .known(let reference, _): return try await result(of: reference)
        case .refused(_, .noImage(let reason)), .refused(_, .badJob(let reason)), .refused(_, .conflict(let reason)):
            throw UnusableJob(
                id: request.line.id, place: request.place, origin: request.line.origin, field: nil, reason: reason)
        case .refused(_, let error): throw error
        case nil: throw JobFailure(state: nil, reason: "the cluster said nothing of it")
        }
    }

    /// The result of a job that was submitted, when it is there.
    private func result(of reference: JobReference) async throws -> RedisBytes {
        for try await ending in JobWaiter(broker).endings(of: [reference]) {
            if ending.state == .done, let result = ending.result { return result }
            throw JobFailure(
                state: ending.state, reason: ending.error ?? ending.state.map { "it is \($0.rawValue)" } ?? "it is gone"
            )
        }
        throw CancellationError()
    }
}

/// A job that ended without a result.
package struct JobFailure: ReportableError, Sendable {
    /// How it ended; nil where nobody knows.
    package let state: JobState?
    /// Why.
    package let reason: String

    /// A failure of those parts.
    package init(state: JobState?, reason: String) {
        self.state = state
        self.reason = reason
    }

    /// How and why.
    package var report: ErrorReport {
        ErrorReport(
            state == nil ? .notFound : state == .dead ? .ours : .input,
            state.map { "job-\($0.rawValue)" } ?? "unknown-job",
            at: "the job \(state.map { "ended as \($0.rawValue)" } ?? "is unknown")", reason)
    }

    /// The report in one line.
    package var description: String { report.text }
}
