public import Cluster
import Embeddings
public import Imaging
import Platform
import Redis
public import SegmentAnything
public import Segmentation
public import Tensors

/// What an encoder worker does with a lease: fetches the picture, encodes it, and hands the record back.
public struct PictureEncoder: Sendable {
    private let broker: Broker
    private let encoder: any ImageEncoding
    private let fingerprint: [UInt8]
    private let precision: EmbeddingPrecision
    private let store: EmbeddingStore
    private let pool: ThreadPool
    private let threads: ComputeThreads
    private let sharedFolder: String?
    private let limit: PixelLimit
    private let notes: @Sendable (ImageDigest, [ImageNote]) -> Void
    private let outage: Outage
    private let onTraced: OnTraced

    /// Told of each job that waits for an encode and came with a trace: its id, its `traceparent`, how long the encode took.
    public typealias OnTraced = @Sendable (_ job: String, _ trace: String, _ time: Duration) -> Void

    /// An encoder of pictures.
    ///
    /// - Parameters:
    ///   - broker: the cluster that the pictures are in.
    ///   - encoder: the model's heavy half.
    ///   - fingerprint: the SHA-256 of the weights, 32 bytes.
    ///   - precision: how embeddings are stored.
    ///   - store: where they are put.
    ///   - pool: the threads that share one encode.
    ///   - concurrency: encodes at a time.
    ///   - sharedFolder: below which lie images that were submitted as `ref:` and a path.
    ///   - limit: the largest picture that is decoded.
    ///   - notes: told what is to be said of a picture, by its digest.
    ///   - onWait: told of each fault of Redis that is waited out: for logs.
    ///   - onTraced: for logs.
    public init(
        _ broker: Broker, encoder: any ImageEncoding, fingerprint: [UInt8], precision: EmbeddingPrecision,
        store: EmbeddingStore, pool: ThreadPool, concurrency: Int, sharedFolder: String? = nil,
        limit: PixelLimit = .standard,
        notes: @escaping @Sendable (ImageDigest, [ImageNote]) -> Void = { _, _ in },
        onWait: @escaping @Sendable (any Error) -> Void = { _ in }, onTraced: @escaping OnTraced = { _, _, _ in }
    ) {
        self.broker = broker
        self.encoder = encoder
        self.fingerprint = fingerprint
        self.precision = precision
        self.store = store
        self.pool = pool
        self.sharedFolder = sharedFolder
        self.limit = limit
        self.notes = notes
        self.onTraced = onTraced
        outage = Outage(onWait: onWait)
        threads = ComputeThreads(count: concurrency)
    }

    /// What the embeddings are made by, the arithmetic included, and how they are stored.
    public var model: ModelIdentifier {
        ModelIdentifier(fingerprint: fingerprint, arithmetic: encoder.arithmetic, precision: precision)
    }

    /// Encodes the picture of a lease.
    public func encode(_ lease: EncodeLease) async -> EncodeOutcome {
        if let kept = await kept(lease) {
            WorkerMetrics.encoded("kept")
            return kept
        }
        let outcome = await outcome(lease)
        WorkerMetrics.encoded(outcome.name)
        return outcome
    }

    /// What was encoded before, by whomever, and has gone from Redis since; nil where no folder has it.
    private func kept(_ lease: EncodeLease) async -> EncodeOutcome? {
        guard let record = await store.kept(lease.key) else { return nil }
        do {
            let published = try await outage.waitOut { try await store.put(record, isKept: true) }
            return .embedding(published, expiry: store.timeToLive)
        } catch is CancellationError {
            return .abandoned
        } catch {
            return .faulty(reason: "\(error)")
        }
    }

    private func outcome(_ lease: EncodeLease) async -> EncodeOutcome {
        do {
            guard let bytes = try await outage.waitOut({ try await broker.image(lease.key.image) }) else {
                return .unusable(
                    reason: "the image is no longer in the cluster: store it again, then submit the job again")
            }
            var image = SubmittedImage(digest: lease.key.image, bytes: bytes)
            var crop: PictureCrop?
            if let found = PictureCrop(bytes) {
                crop = found
                guard found.digest(partitions: broker.partitionCount) == lease.key.image,
                    let whole = try await outage.waitOut({ try await broker.image(found.picture) })
                else {
                    return .unusable(reason: "the picture that it is a part of is no longer in the cluster")
                }
                image = SubmittedImage(digest: found.picture, bytes: whole)
            }
            let result = await threads.run { [image, crop] in
                Result { try record(image, crop: crop, for: lease.key) }
            }
            switch result {
            case nil: return .abandoned
            case .success(let record):
                let published = try await outage.waitOut {
                    try await store.put(record)
                }
                WorkerMetrics.published(bytes: record.byteCount)
                await tellTraces(lease, record.encodeTime)
                return .embedding(published, expiry: store.timeToLive)
            case .failure(let error as UnusableImage): return .unusable(reason: error.reason)
            case .failure(let error as ImageError): return .unusable(reason: "\(error)")
            case .failure(let error): return .faulty(reason: "\(error)")
            }
        } catch is CancellationError {
            return .abandoned
        } catch {
            return .faulty(reason: "\(error)")
        }
    }

    /// Tells of the jobs that wait for this encode, as long as they do: what releases them comes next.
    private func tellTraces(_ lease: EncodeLease, _ time: Duration) async {
        // For people; what cannot be read while Redis is away is not worth a wait.
        guard let traces = try? await broker.traces(waitingFor: lease.key) else { return }
        for (job, trace) in traces { onTraced(job, trace, time) }
    }

    /// Encodes a picture for a model as the job names it, with or without the arithmetic: so is the record's key.
    private func record(
        _ image: SubmittedImage, crop: PictureCrop?, for key: EmbeddingKey
    ) throws -> EmbeddingRecord {
        let read = try image.decoded(sharedFolder: sharedFolder, limit: limit)
        if !read.notes.isEmpty { notes(image.digest, read.notes) }
        var picture = read.image
        if let crop {
            guard crop.box.x1 <= picture.width, crop.box.y1 <= picture.height else {
                throw UnusableImage(reason: "the part that is asked for is not in the picture")
            }
            picture = picture.cropped(to: crop.box)
        }
        let clock = ContinuousClock()
        let start = clock.now
        let features = encoder.encode(picture, pool: pool)
        let time = clock.now - start
        WorkerMetrics.encodeTook(time)
        return try EmbeddingRecord(
            features, fingerprint: fingerprint, image: key.image, precision: precision,
            arithmetic: key.model.arithmetic, encodeTime: time)
    }
}

extension EncodeOutcome {
    /// As it is counted.
    fileprivate var name: String {
        switch self {
        case .embedding: "embedding"
        case .unusable: "unusable"
        case .faulty: "faulty"
        case .abandoned: "abandoned"
        }
    }
}
