public import Cluster
import Dispatch
import Embeddings
public import Imaging
import Platform
import Redis
public import SegmentAnything
public import Segmentation
import Synchronization
public import Tensors
import TextMatching

/// What a decoder worker does with a batch: finds the embedding in its memory or fetches it, decodes all prompts of all
/// jobs in one go, and hands back one answer a job.
public struct PromptDecoder: Sendable {
    private let decoder: any PromptDecoding
    private let modelName: String
    private let store: EmbeddingStore
    private let images: PreparedImages
    private let pool: ThreadPool
    private let lanes: DispatchSemaphore
    private let lookups = Lookups()
    private let onTraced: OnTraced
    private let everything: EverythingDecoder
    private let tiles: TileDecoder
    private let texts: TextDecoder?
    private let outage: Outage

    /// Told of each job that came with a trace: its id, its `traceparent`, how long its batch was decoded.
    public typealias OnTraced = @Sendable (_ job: String, _ trace: String, _ time: Duration) -> Void

    /// A decoder of prompts.
    ///
    /// A batch of one prompt is shared by all threads of the pool, for a short wait, unless the model is so small that
    /// to wake them takes longer; of several prompts each has one thread to itself, for throughput. The masks are the
    /// same to the bit.
    ///
    /// - Parameters:
    ///   - broker: the cluster, in which jobs of everything mode are divided.
    ///   - decoder: the model's light half.
    ///   - modelName: how people call the model.
    ///   - store: where embeddings are found.
    ///   - pool: the threads that share a batch.
    ///   - concurrency: batches that are decoded at a time; more may be on their way from and to the cluster.
    ///   - byteLimit: what images may take in memory.
    ///   - everythingDefaults: what jobs of everything mode leave to the model.
    ///   - textModel: what texts are matched with; nil where they are refused.
    ///   - limit: the largest picture that is decoded for a text.
    ///   - onWait: told of each fault of Redis that is waited out: for logs.
    ///   - onTraced: for logs.
    public init(
        _ broker: Broker, decoder: any PromptDecoding, modelName: String, store: EmbeddingStore, pool: ThreadPool,
        concurrency: Int,
        byteLimit: Int, everythingDefaults: EverythingDefaults = .published,
        textModel: TextModel? = nil, limit: PixelLimit = .standard,
        onWait: @escaping @Sendable (any Error) -> Void = { _ in }, onTraced: @escaping OnTraced = { _, _, _ in }
    ) {
        let outage = Outage(onWait: onWait)
        self.decoder = decoder
        self.modelName = modelName
        self.store = store
        self.pool = pool
        self.onTraced = onTraced
        self.outage = outage
        everything = EverythingDecoder(
            broker: broker, decoder: decoder, pool: pool, defaults: everythingDefaults, timeToLive: store.timeToLive)
        tiles = TileDecoder(broker: broker, modelSize: decoder.preprocessing.size, pool: pool)
        texts = textModel.map {
            TextDecoder(broker: broker, model: $0, pool: pool, limit: limit, timeToLive: store.timeToLive)
        }
        lanes = DispatchSemaphore(value: max(1, concurrency))
        // Not on the thread of the batch that asked first: it may be stopped while another batch waits for the image.
        let threads = ComputeThreads(count: concurrency)
        images = PreparedImages(byteLimit: byteLimit) { key throws(PreparedImages.Unavailable) in
            let record: EmbeddingRecord?
            do {
                record = try await outage.waitOut {
                    try await store.record(for: key)
                }
            } catch is CancellationError {
                throw PreparedImages.Unavailable(reason: "nobody waits for the image", isAbandoned: true)
            } catch {
                throw PreparedImages.Unavailable(reason: "\(error)")
            }
            guard let record else { return nil }
            let work = { @Sendable in
                Result<any PreparedImage, any Error> { try decoder.prepare(record.features(), pool: pool) }
            }
            guard let prepared = await threads.run(work) else {
                throw PreparedImages.Unavailable(reason: "the worker is shutting down")
            }
            do { return try prepared.get() } catch { throw PreparedImages.Unavailable(reason: "\(error)") }
        }
    }

    /// Images in memory and their bytes.
    public var holdings: (count: Int, bytes: Int) { images.holdings }

    /// How many embeddings were fetched and found in memory in each partition since the last call.
    public func takeLookups() -> [(partition: Partition, fetches: Int, hits: Int)] { lookups.take() }

    /// Decodes the jobs of a batch, on the thread that calls: see ``WorkSource/perform(_:)``.
    public func decode(_ batch: PromptBatch) async -> DecodeOutcome {
        let found: (image: (any PreparedImage)?, outcome: PreparedImages.Outcome)
        do throws(PreparedImages.Unavailable) {
            found = try await images.image(for: batch.key)
        } catch {
            if error.isAbandoned { return .abandoned }
            for _ in batch.leases { WorkerMetrics.job("faulty") }
            return .answers(batch.leases.map { _ in .faulty(reason: error.reason) })
        }
        WorkerMetrics.lookedUp(found.outcome)
        lookups.note(found.outcome, jobs: batch.leases.count, in: batch.partition)
        guard let image = found.image else {
            for _ in batch.leases { WorkerMetrics.job("missing_embedding") }
            // The mark of a record that is kept elsewhere must go with it, or the jobs would come back at once.
            return .missingEmbedding(corrupt: store.isElsewhere)
        }
        var answers: [PromptAnswer?] = []
        for lease in batch.leases { answers.append(await everythingAnswer(lease, on: image, key: batch.key)) }
        if Task.isCancelled { return .abandoned }
        let others = answers.indices.filter { answers[$0] == nil }
        if !others.isEmpty {
            guard
                let found = self.answers(
                    to: others.map { batch.leases[$0].line }, of: others.map { batch.leases[$0].reference.id },
                    on: image, key: batch.key, passes: batch.standing == .passing)
            else { return .abandoned }
            for (index, answer) in zip(others, found) { answers[index] = answer }
        }
        let all = answers.compactMap(\.self)
        for answer in all { WorkerMetrics.job(answer.name) }
        return .answers(all)
    }

    /// The answer to a job of everything mode, or to a part of one; nil for any other job.
    private func everythingAnswer(
        _ lease: PromptLease, on image: any PreparedImage, key: EmbeddingKey
    ) async -> PromptAnswer? {
        let isSpecial = lease.line.withUnsafeBytes { line in
            [#""everything""#, #""text""#, #""tile""#].contains { line.contains(Array($0.utf8)) }
        }
        guard isSpecial else { return nil }
        do {
            if let part = EverythingPart(line: lease.line.array) {
                lanes.wait()
                defer { lanes.signal() }
                let start = ContinuousClock.now
                let result = try everything.result(lease.line, part, on: image)
                WorkerMetrics.decoded(jobs: 1, prompts: part.points.count, in: ContinuousClock.now - start)
                return result.map { .result($0) } ?? .faulty(reason: "the worker left it")
            }
            if let part = TileDecoder.part(lease.line.array) {
                lanes.wait()
                defer { lanes.signal() }
                let start = ContinuousClock.now
                let result = try tiles.result(lease.line, part, on: image)
                WorkerMetrics.decoded(jobs: 1, prompts: 1, in: ContinuousClock.now - start)
                return .result(result)
            }
            let job = try PromptedJob(
                lease.line, width: image.width, height: image.height, maskSide: decoder.maskSide,
                takesText: texts != nil)
            if job.tile != nil {
                return try await outage.waitOut { try await tiledAnswer(job, lease.reference, on: image, key: key) }
            }
            if job.everything == nil, job.prompts.usable.contains(where: { $0.prompt.text != nil }), let texts {
                return try await outage.waitOut {
                    try await textAnswer(job, lease.reference, by: texts, on: image, key: key)
                }
            }
            guard let parameters = job.everything else { return nil }
            // What is wrong with a vocabulary is said before the work.
            let labeling = try parameters.labels.isEmpty ? nil : labeling(by: parameters.labels)
            let outcome = try await outage.waitOut {
                try await everything.answer(lease.reference, parameters, on: image, key: key)
            }
            switch outcome {
            case .divided(let parts): return .divided(parts)
            case .masks(var masks):
                if let (matcher, labels) = labeling, let texts {
                    let rows = try await outage.waitOut { [masks] in
                        try await texts.rows(
                            of: masks, foundWith: parameters, matcher, key: key, in: lease.reference.partition)
                    }
                    masks = TextPrompts(matcher).labels(of: labels, among: masks, rows: rows)
                }
                let answer = Answer(
                    image: .init(width: image.width, height: image.height, sha256: key.image.hexadecimal),
                    model: modelName, precision: decoder.precision.rawValue, timings_ms: [:],
                    masks: Cutouts.written(everything: masks, form: job.form, pool: pool))
                return .result(RedisBytes(try answer.encoded(first: job.origin.members)))
            }
        } catch let error as PromptRefusal {
            return .unusable(reason: error.reason)
        } catch let error as TextError {
            return .unusable(reason: "\(error)")
        } catch let error as any ReportableError where error.report.errorClass == .input {
            return .unusable(reason: "\(error)")
        } catch {
            return .faulty(reason: "\(error)")
        }
    }

    /// What tells which label fits a mask, and the labels as it reads them.
    private func labeling(by labels: [String]) throws -> (matcher: any TextMatcher, labels: [TextQuery]) {
        guard let texts else { throw PromptRefusal(reason: "everything: labels: this worker has no model for texts") }
        let matcher = try texts.model.matcher()
        do { return (matcher, try texts.model.ready(labels, pool: pool)) } catch let error as TextError {
            throw PromptRefusal(reason: "everything: labels: \(error)")
        }
    }

    /// The answer to a job whose prompts are each seen on a tile.
    private func tiledAnswer(
        _ job: PromptedJob, _ reference: JobReference, on image: any PreparedImage, key: EmbeddingKey
    ) async throws -> PromptAnswer {
        switch try await tiles.answer(job, reference, on: image, of: key.image) {
        case .divided(let parts): return .divided(parts)
        case .masks(let masks):
            let answer = Answer(
                image: .init(width: image.width, height: image.height, sha256: key.image.hexadecimal),
                model: modelName, precision: decoder.precision.rawValue, timings_ms: [:],
                masks: zip(job.prompts.usable, masks).flatMap { place, masks in
                    Cutouts.written(tiled: masks, place: place.index, form: job.form, pool: pool)
                },
                remarks: job.prompts)
            return .result(RedisBytes(try answer.encoded(first: job.origin.members)))
        }
    }

    /// The answer to a job some of whose prompts are texts.
    private func textAnswer(
        _ job: PromptedJob, _ reference: JobReference, by texts: TextDecoder, on image: any PreparedImage,
        key: EmbeddingKey
    ) async throws -> PromptAnswer {
        let matcher = try texts.model.matcher()
        let start = ContinuousClock.now
        // What is wrong with all words is said before the work.
        var faults: [Answer.Fault] = []
        var queries: [Int: TextQuery] = [:]
        for place in job.prompts.usable where place.prompt.text != nil {
            do {
                queries[place.index] = try texts.model.ready([place.prompt.text ?? ""], pool: pool).first
            } catch let error as TextError {
                faults.append(Answer.Fault(prompt: place.index, error: "\(error)"))
            }
        }
        if faults.count == job.prompts.usable.count, let first = faults.first {
            throw PromptRefusal(reason: "prompts[\(first.prompt)]: \(first.error)")
        }
        if let width = decoder.textWidth, matcher.embeddingWidth != nil, job.instances == nil {
            return try projectedAnswer(job, by: matcher, width: width, faults: faults, on: image, key: key)
        }
        let candidates: [MaskCandidate]
        switch try await everything.answer(reference, .forTexts, on: image, key: key) {
        case .divided(let parts): return .divided(parts)
        case .masks(let masks): candidates = masks
        }
        let found = ContinuousClock.now
        let rows = try await texts.rows(
            of: candidates, foundWith: .forTexts, matcher, key: key, in: reference.partition)
        let count: TextSelection.Count = job.instances.map { $0 == .max ? .all : .top($0) } ?? .best
        let seen = ContinuousClock.now
        var cutouts: [Answer.Cutout] = []
        for place in job.prompts.usable where !faults.contains(where: { $0.prompt == place.index }) {
            if let query = queries[place.index] {
                let masks = TextPrompts(matcher).masks(
                    for: place.prompt, query, among: candidates, rows: rows, count: count)
                cutouts += Cutouts.written(text: masks, place: place.index, form: job.form, pool: pool)
            } else {
                let masks = try image.predict([place.prompt], multimask: job.multimask, pool: pool)[0]
                cutouts += masks.map { Cutouts.cutout($0, place: place.index, form: job.form) }
            }
        }
        var answer = Answer(
            image: .init(width: image.width, height: image.height, sha256: key.image.hexadecimal),
            model: modelName, precision: decoder.precision.rawValue,
            timings_ms: [
                "candidates": Self.milliseconds(found - start), "look": Self.milliseconds(seen - found),
                "match": Self.milliseconds(ContinuousClock.now - seen),
            ], masks: cutouts, remarks: job.prompts)
        if !faults.isEmpty { answer.errors = (answer.errors ?? []) + faults }
        return .result(RedisBytes(try answer.encoded(first: job.origin.members)))
    }

    /// The answer to a job some of whose prompts are texts, by a model of masks that takes a text as a token.
    private func projectedAnswer(
        _ job: PromptedJob, by matcher: any TextMatcher, width: Int, faults: [Answer.Fault],
        on image: any PreparedImage, key: EmbeddingKey
    ) throws -> PromptAnswer {
        let places = job.prompts.usable.filter { place in !faults.contains { $0.prompt == place.index } }
        let prompts = try places.map { try matcher.encoded($0.prompt, width: width, pool: pool) }
        lanes.wait()
        defer { lanes.signal() }
        let masks = try image.predict(prompts, multimask: job.multimask, pool: pool)
        var answer = Answer(
            image: .init(width: image.width, height: image.height, sha256: key.image.hexadecimal),
            model: modelName, precision: decoder.precision.rawValue, timings_ms: [:],
            masks: Cutouts.written(
                masks, places: places.map(\.index), forms: places.map { _ in job.form }, pool: pool
            ).flatMap { $0 }, remarks: job.prompts)
        if !faults.isEmpty { answer.errors = (answer.errors ?? []) + faults }
        return .result(RedisBytes(try answer.encoded(first: job.origin.members)))
    }

    /// One answer a job; nil where the task was cancelled before the last chunk of prompts.
    private func answers(
        to lines: [RedisBytes], of identifiers: [String], on image: any PreparedImage, key: EmbeddingKey, passes: Bool
    ) -> [PromptAnswer]? {
        let jobs = lines.map { line in
            Result { () throws(PromptRefusal) in
                try PromptedJob(line, width: image.width, height: image.height, maskSide: decoder.maskSide)
            }
        }
        // While one batch is decoded, others are read and written; what passes waits for none.
        if !passes { lanes.wait() }
        let clock = ContinuousClock()
        let start = clock.now
        let decoded = cutouts(of: jobs, on: image)
        let time = clock.now - start
        if !passes { lanes.signal() }
        guard let decoded else { return nil }
        let count = jobs.reduce(0) { sum, job in sum + ((try? job.get())?.prompts.usable.count ?? 0) }
        WorkerMetrics.decoded(jobs: jobs.count, prompts: count, in: time)
        let milliseconds = Self.milliseconds(time)
        for (job, id) in zip(jobs, identifiers) {
            if case .success(let job) = job, let trace = job.origin.trace { onTraced(id, trace, time) }
        }
        return zip(jobs, decoded).map { job, cuts in
            switch job {
            case .failure(let refusal): return .unusable(reason: refusal.reason)
            case .success(let job):
                guard cuts.count >= job.prompts.usable.count else { return .faulty(reason: "the decoder gave no mask") }
                let answer = Answer(
                    image: .init(width: image.width, height: image.height, sha256: key.image.hexadecimal),
                    model: modelName, precision: decoder.precision.rawValue, timings_ms: ["decode": milliseconds],
                    masks: cuts,
                    remarks: job.prompts)
                do { return .result(RedisBytes(try answer.encoded(first: job.origin.members))) } catch {
                    return .faulty(reason: "the masks cannot be written as JSON")
                }
            }
        }
    }

    /// The masks of each job; nil where the task was cancelled before the last chunk of prompts.
    private func cutouts(
        of jobs: [Result<PromptedJob, PromptRefusal>], on image: any PreparedImage
    ) -> [[Answer.Cutout]]? {
        var cutouts: [[Answer.Cutout]] = Array(repeating: [], count: jobs.count)
        for multimask in [false, true] {
            // All prompts that want the same number of masks, with the job and the place where they belong.
            let prompts = jobs.indices.flatMap { index -> [(job: Int, place: Int, prompt: Prompt)] in
                guard case .success(let job) = jobs[index], job.multimask == multimask else { return [] }
                return job.prompts.usable.map { (index, $0.index, $0.prompt) }
            }
            for chunk in prompts.chunks(of: chunkSize(image, multimask: multimask)) {
                if Task.isCancelled { return nil }
                let pool = chunk.count == 1 && decoder.isSmall ? .inline : pool
                // They were validated; one that the decoder refuses all the same leaves its batch's jobs without masks.
                guard
                    let masks = try? image.predict(chunk.map(\.prompt), multimask: multimask, pool: pool)
                else { continue }
                let forms = chunk.map { (try? jobs[$0.job].get())?.form ?? MaskForm() }
                let written = Cutouts.written(masks, places: chunk.map(\.place), forms: forms, pool: pool)
                for (prompt, cuts) in zip(chunk, written) { cutouts[prompt.job] += cuts }
            }
        }
        return cutouts
    }

    /// To the microsecond.
    private static func milliseconds(_ time: Duration) -> Double { Double(time.nanoseconds / 1000) / 1000 }

    /// How many prompts are decoded before their masks are written small: full-size masks of a chunk take at most
    /// 128 MiB, however many prompts a job has.
    private func chunkSize(_ image: any PreparedImage, multimask: Bool) -> Int {
        let bytes = max(1, image.width * image.height * (multimask ? 3 : 1))
        return max(1, min(256, (128 << 20) / bytes))
    }
}

/// Lookups by partition, which the heartbeat carries to Redis.
private final class Lookups: Sendable {
    /// Guards the counts.
    private let counts = Mutex<[Partition: (fetches: Int, hits: Int)]>([:])

    func note(_ outcome: PreparedImages.Outcome, jobs: Int, in partition: Partition) {
        counts.withLock { counts in
            var count = counts[partition] ?? (0, 0)
            // The jobs of one batch share one fetch.
            switch outcome {
            case .hit: count.hits += jobs
            case .fetched: count = (count.fetches + 1, count.hits + jobs - 1)
            case .missing: break
            }
            counts[partition] = count
        }
    }

    func take() -> [(partition: Partition, fetches: Int, hits: Int)] {
        counts.withLock { counts in
            defer { counts = [:] }
            return counts.map { ($0.key, $0.value.fetches, $0.value.hits) }
        }
    }
}

extension PromptAnswer {
    /// As it is counted.
    fileprivate var name: String {
        switch self {
        case .result: "done"
        case .divided: "divided"
        case .unusable: "unusable"
        case .faulty: "faulty"
        }
    }
}
