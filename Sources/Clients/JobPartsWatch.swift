public import Cluster
public import Redis

/// Looks four times a second at what the parts of a job of everything mode have found by now.
public struct JobPartsWatch: Sendable {
    private let broker: Broker
    private let job: JobReference

    /// A watch of one job.
    public init(_ job: JobReference, broker: Broker) {
        self.broker = broker
        self.job = job
    }

    /// Tells of the parts until the task is cancelled.
    ///
    /// - Parameters:
    ///   - progress: takes how many parts are done and how many there are so far, at each look.
    ///   - found: takes the result of each part once, as `EverythingPart.masks(ofResult:)` reads it; nil where nobody wants
    ///     results.
    /// - Throws: where Redis does not answer; what `found` throws; `CancellationError`.
    public func run(
        progress: (_ done: Int, _ all: Int) -> Void = { _, _ in }, found: ((RedisBytes) async throws -> Void)?
    ) async throws {
        var (done, known) = (0, Set<String>())
        while true {
            if let parts = try await broker.status([job]).first??.parts {
                progress(parts.done, parts.all)
                if let found, parts.done != done {
                    done = parts.done
                    for (part, result) in try await broker.partResults(of: job, besides: known) {
                        known.insert(part)
                        try await found(result)
                    }
                }
            }
            try await Task.sleep(for: .milliseconds(250))
        }
    }
}
