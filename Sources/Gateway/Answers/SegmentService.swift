import Clients
import Cluster
import Foundation
import HTTPTypes
import JSON
import NIOCore
import Platform
import Redis
import Segmentation
import Synchronization

/// From a request to its answer, through the cluster.
struct SegmentService: Sendable {
    /// How a request is answered.
    struct Manner: Sendable {
        /// Whether nobody waits: the job's address is the answer.
        var isAsynchronous = false
        /// How long the answer is waited for before the job's address is answered in its place.
        var wait: Duration = .seconds(60)
    }

    /// What came of a request.
    enum Outcome: Sendable {
        /// The job ended well; its result as the worker wrote it.
        case done(JobReference, RedisBytes, cluster: Duration)
        /// It goes on without whoever asked.
        case open(JobReference, JobState, JobRequest)
    }

    /// The cluster, for the tenant that is served.
    private(set) var broker: Broker
    let submitter: JobSubmitter
    let answers: JobAnswers
    let models: ModelNames
    let slots: Slots
    private(set) var uploads: ImageUploads
    let connections: OpenConnections
    let quotas: Quotas
    /// What an intake asks for, though here no picture is read: made once, since it has threads of its own.
    private let files = PictureFiles(readers: 1)
    /// Fetches pictures by their addresses; nil where that is not allowed.
    private(set) var fetcher: ImageFetcher?
    /// Whether jobs are taken for models that no worker serves now, because a waiting job starts one.
    let acceptsWithoutWorkers: Bool

    /// The same for whoever asks: only what is that tenant's is there.
    func serving(_ caller: Caller) -> SegmentService {
        var service = self
        service.broker = broker.scoped(to: caller.tenant)
        service.uploads = uploads.serving(caller.tenant)
        service.fetcher = fetcher?.serving(caller.tenant)
        return service
    }

    /// Submits the job of a request, and waits for its end unless it is asked not to.
    ///
    /// - Parameters:
    ///   - request: what is asked.
    ///   - image: the picture that came beside it; nil where the request names one.
    ///   - manner: whether and how long to wait.
    ///   - context: who asks, over which connection.
    /// - Returns: the result, or where the job goes on.
    /// - Throws: ``Problem`` and other reportable errors.
    func answer(
        _ request: SegmentRequest, image: UploadedImage? = nil, manner: Manner = Manner(), context: GatewayContext
    ) async throws -> Outcome {
        try context.caller.require(.submit)
        return try await serving(context.caller).answered(request, image: image, manner: manner, context)
    }

    private func answered(
        _ request: SegmentRequest, image: UploadedImage?, manner: Manner, _ context: GatewayContext
    ) async throws -> Outcome {
        let clock = ContinuousClock()
        let start = clock.now
        let job = try await prepared(request, image: image, manner: manner, context)
        let asked = clock.now
        let submitted = try await submit(job)
        if manner.isAsynchronous { return .open(submitted.reference, submitted.state, job) }
        let cancellation = Cancellation(broker: broker, reference: submitted.reference)
        let ending: JobEnding? = try await connections.watching(
            context.channel, onClose: { cancellation.cancel(.clientLeft) }
        ) {
            try await slots.holding(
                request.slot.map { "\(context.caller.space)\u{0}\(context.clientAddress)\u{0}\($0)" },
                supersede: { cancellation.cancel(.superseded) }
            ) {
                try await self.ending(of: submitted.reference, within: manner.wait, cancellation)
            }
        }
        let told = clock.now
        defer { GatewayMetrics.ownTime((asked - start) + (clock.now - told)) }
        guard let ending else {
            if let cause = cancellation.cause { throw cause.problem }
            return .open(submitted.reference, submitted.state, job)
        }
        if ending.state == .done, let result = ending.result {
            return .done(submitted.reference, result, cluster: told - asked)
        }
        if let cause = cancellation.cause, ending.state == .cancelled { throw cause.problem }
        throw JobFailure(
            state: ending.state, reason: ending.error ?? ending.state.map { "it is \($0.rawValue)" } ?? "it is gone")
    }

    /// The job of a request.
    private func prepared(
        _ request: SegmentRequest, image: UploadedImage?, manner: Manner, _ context: GatewayContext
    ) async throws -> JobRequest {
        let model = try await models.model(
            request.model, needsWorkers: !manner.isAsynchronous && !acceptsWithoutWorkers)
        var image = image
        if let address = request.address {
            guard image == nil else {
                throw Problem(
                    .unprocessableContent, "two-pictures", "image: a picture came beside its address", field: "image")
            }
            image = try await fetched(address)
        }
        let masks = try await EarlierMasks(broker: broker).prompts(request.earlierMasks)
        var line = try request.line(image: image?.digest, masks: masks)
        line.origin.trace = context.trace?.header
        var picture = image
        switch line.image {
        case .path:
            throw Problem(
                .unprocessableContent, "path-not-allowed",
                "image: over HTTP a picture is {\"base64\":…} or {\"sha256\":…}: post the file to /v1/images",
                field: "image")
        case .bytes(let bytes):
            picture = try await uploads.store(bytes)
            line.image = .digest(picture?.digest ?? ImageDigest(bytes: []))
        case .digest(let digest):
            if let image, image.digest != digest {
                throw Problem(
                    .unprocessableContent, "two-pictures", "image: the line names another picture than came beside it",
                    field: "image")
            }
            if picture == nil { picture = uploads.sizes[digest] }
        }
        // Each point of everything mode is a prompt, of which most leave nothing.
        let points = line.everything.map {
            $0.pointGrids?.first?.count ?? ($0.pointsPerSide ?? 1) * ($0.pointsPerSide ?? 1)
        }
        try await quotas.take(points ?? line.prompts.count * (line.multimask ? 3 : 1), context.caller)
        return try JobIntake(
            .init(model: model, lane: .interactive, tenant: context.caller.tenant), files: files
        ).request(line, size: picture.map { ($0.width, $0.height) })
    }

    private func fetched(_ address: String) async throws -> UploadedImage {
        guard let fetcher else {
            throw Problem(
                .unprocessableContent, "url-not-allowed",
                "image.url: this gateway fetches nothing by its address: post the file to /v1/images, and name its sha256",
                field: "image.url")
        }
        return try await fetcher.fetch(address)
    }

    private func submit(_ request: JobRequest) async throws -> (reference: JobReference, state: JobState) {
        switch try await submitter.submit([request.job], image: { _ in nil }).first {
        case .accepted(let reference, let state), .known(let reference, let state): return (reference, state)
        case .refused(_, .noImage): throw Problem.unknownImage(request.job.image.hexadecimal)
        case .refused(_, let error): throw error
        case nil: throw JobFailure(state: nil, reason: "the cluster said nothing of it")
        }
    }

    /// The end of a job; nil where it does not come in time or the job was cancelled.
    private func ending(
        of reference: JobReference, within limit: Duration, _ cancellation: Cancellation
    ) async throws -> JobEnding? {
        try await withThrowingTaskGroup(of: JobEnding?.self) { group in
            defer { group.cancelAll() }
            group.addTask { try await answers.ending(of: reference) }
            group.addTask {
                try await Task.sleep(for: limit)
                return nil
            }
            group.addTask {
                try await cancellation.happened()
                return nil
            }
            return try await group.next() ?? nil
        }
    }
}

/// Why a job is not waited for any more.
private final class Cancellation: Sendable {
    enum Cause: Sendable {
        case clientLeft, superseded

        var problem: Problem {
            switch self {
            case .superseded: Problem(.conflict, "superseded", "a newer request of the same slot has come")
            case .clientLeft:
                Problem(.init(code: 499, reasonPhrase: "Client Closed Request"), "client-left", "the client has left")
            }
        }
    }

    private let broker: Broker
    private let reference: JobReference
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation
    /// Guards the cause, which the first who cancels sets.
    private let state = Mutex<Cause?>(nil)

    init(broker: Broker, reference: JobReference) {
        self.broker = broker
        self.reference = reference
        (stream, continuation) = AsyncStream.makeStream()
    }

    /// Why; nil where it was not cancelled.
    var cause: Cause? { state.withLock { $0 } }

    /// Drops the job from its queue, and lets whoever waits go.
    func cancel(_ cause: Cause) {
        let isFirst = state.withLock { state in
            defer { state = state ?? cause }
            return state == nil
        }
        guard isFirst else { return }
        GatewayMetrics.superseded()
        continuation.yield()
        let (broker, reference) = (broker, reference)
        // What was refused stays what it is: a job that is in work, or that has ended.
        Task { _ = try? await broker.cancel([reference]) }
    }

    /// Returns when it was cancelled.
    func happened() async throws {
        for await _ in stream { return }
        try Task.checkCancellation()
        // The stream ends with its task alone.
        try await Task.sleep(for: .seconds(86_400))
    }
}
