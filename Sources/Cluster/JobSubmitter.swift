public import Redis
public import Segmentation
import Synchronization

/// Puts jobs into the cluster together with the pictures that they need, each picture once.
///
/// ```swift
/// let submitter = JobSubmitter(broker, whenFull: .wait)
/// let outcomes = try await submitter.submit(jobs) { digest in pictures[digest] }
/// ```
/// Every job is accepted, known or refused for itself. A picture's bytes are asked for only where the cluster has not got
/// them, a few pictures at a time.
public final class JobSubmitter: Sendable {
    /// What is done when the cluster is full.
    public enum Fullness: Sendable, Hashable {
        /// The jobs are refused with the reason.
        case refuse
        /// The jobs are offered again after the time that was told, until they are accepted or the task is cancelled.
        case wait
    }

    /// How the bytes of a picture are had; nil for a picture that only the cluster can have.
    public typealias Load = @Sendable (ImageDigest) async throws -> RedisBytes?

    /// For so long a picture that was seen in the cluster is taken to be there: those that no job needs stay longer.
    private static let trust: Duration = .seconds(60)
    /// How many pictures are remembered.
    private static let memory = 4096
    /// How many pictures are in memory at a time.
    private static let uploads = 4

    /// A tenant's picture.
    private struct Picture: Sendable, Hashable {
        let tenant: Tenant
        let digest: ImageDigest
    }

    private let broker: Broker
    private let client: String?
    private let whenFull: Fullness
    private let onWait: @Sendable (String, Duration) async -> Void
    /// Whether the functions are known to know tenants.
    private let knowsTenants = Atomic(false)
    /// Guards which pictures were seen when.
    private let seen = Mutex<[Picture: ContinuousClock.Instant]>([:])

    /// A submitter.
    ///
    /// - Parameters:
    ///   - broker: where the jobs go.
    ///   - client: who is told of the ends; nil for nobody in particular.
    ///   - whenFull: whether jobs for which there is no room are refused or offered again.
    ///   - onWait: told why and for how long it waits each time the cluster is full.
    public init(
        _ broker: Broker, client: String? = nil, whenFull: Fullness = .refuse,
        onWait: @escaping @Sendable (String, Duration) async -> Void = { _, _ in }
    ) {
        self.broker = broker
        self.client = client
        self.whenFull = whenFull
        self.onWait = onWait
    }

    /// Submits jobs; the outcomes are in their order.
    ///
    /// - Throws: where Redis cannot be reached; some of the jobs may have been accepted.
    public func submit(_ jobs: [Job], image load: @escaping Load) async throws(ClusterError) -> [Submission] {
        if let tenant = jobs.lazy.compactMap(\.tenant).first(where: { !$0.isStandard }) {
            // Older functions would take its pictures for the default tenant's.
            if !knowsTenants.load(ordering: .relaxed) { _ = try await broker.serving(tenant) }
            knowsTenants.store(true, ordering: .relaxed)
        }
        var outcomes: [Submission?] = Array(repeating: nil, count: jobs.count)
        var open = Array(jobs.indices)
        var lacked: Set<Int> = []
        while !open.isEmpty {
            let refused = try await putImages(for: open.map { jobs[$0] }, load)
            for index in open {
                if let error = refused[picture(of: jobs[index])] {
                    outcomes[index] = .refused(id: jobs[index].id, error)
                }
            }
            let ready = open.filter { outcomes[$0] == nil }
            for (index, outcome) in zip(ready, try await submitKnowingWhich(ready.map { jobs[$0] })) {
                outcomes[index] = outcome
            }
            var again: [Int] = []
            var pause: (reason: String, time: Duration)?
            var gone: Set<Picture> = []
            for index in open {
                guard case .refused(let id, var error) = outcomes[index] else { continue }
                if case .noImage = error {
                    // It was there a moment ago, or had been sent by somebody else.
                    gone.insert(picture(of: jobs[index]))
                    if lacked.insert(index).inserted {
                        again.append(index)
                        continue
                    }
                    if seen.withLock({ $0[picture(of: jobs[index])] != nil }) {
                        // Sent twice, and twice evicted before its job came to hold it.
                        error = .backpressure(
                            reason: "Redis is so short of memory that pictures are evicted before their jobs come",
                            retryAfter: .seconds(1))
                        outcomes[index] = .refused(id: id, error)
                    }
                }
                if let (_, sentence, time) = error.comeBack, whenFull == .wait, !Task.isCancelled {
                    if pause.map({ $0.time < time }) ?? true { pause = (sentence, time) }
                    again.append(index)
                }
            }
            seen.withLock { seen in for picture in gone { seen[picture] = nil } }
            if let pause {
                // Submitters that were told the same time do not come back in step.
                let time = max(.milliseconds(50), min(pause.time, .seconds(30))) * Double.random(in: 1..<1.5)
                await onWait(pause.reason, time)
                try? await Task.sleep(for: time)
                if Task.isCancelled { again.removeAll { !isNoImage(outcomes[$0]) } }
            }
            for index in again { outcomes[index] = nil }
            open = again
        }
        return outcomes.compactMap(\.self)
    }

    private func isNoImage(_ outcome: Submission?) -> Bool {
        if case .refused(_, .noImage) = outcome { true } else { false }
    }

    /// Submits; where Redis runs out of memory in the middle, finds out which jobs it took.
    private func submitKnowingWhich(_ jobs: [Job]) async throws(ClusterError) -> [Submission] {
        do throws(ClusterError) {
            return try await broker.submit(jobs, client: client)
        } catch {
            guard error.comeBack != nil else { throw error }
            let references = jobs.map {
                JobReference(
                    id: $0.id, partition: broker.partition(of: $0.image), tenant: $0.tenant ?? broker.tenant)
            }
            let states = try await broker.status(references)
            return zip(references, states).map { reference, status in
                status.map { .accepted(reference, $0.state) }
                    ?? .refused(id: reference.id, error)
            }
        }
    }

    private func picture(of job: Job) -> Picture {
        Picture(tenant: job.tenant ?? broker.tenant, digest: job.image)
    }

    /// Sees to it that the pictures are in the cluster which the jobs need; returns what was said against those that are
    /// not.
    private func putImages(
        for jobs: [Job], _ load: @escaping Load
    ) async throws(ClusterError) -> [Picture: ClusterError] {
        let now = ContinuousClock.now
        let pictures = Set(jobs.map { picture(of: $0) })
        let unsure = seen.withLock { seen in
            if seen.count > Self.memory { seen = seen.filter { now - $0.value < Self.trust } }
            if seen.count > Self.memory { seen.removeAll() }
            return pictures.filter { seen[$0].map { now - $0 > Self.trust } ?? true }
        }
        let asked = Array(unsure)
        let there: [ImagePresence]
        do throws(ClusterError) { there = try await presence(of: asked) } catch {
            // Out of memory or of disk: each job is refused, so that the caller is told of each when to come back.
            guard error.comeBack != nil else { throw error }
            return Dictionary(uniqueKeysWithValues: pictures.map { ($0, error) })
        }
        func those(_ wanted: ImagePresence) -> [Picture] { zip(asked, there).filter { $0.1 == wanted }.map(\.0) }
        // Of an embedding that another has had made nobody is told who has not sent the picture.
        let missing = try await withoutEmbedding(Set(those(.absent)), for: jobs) + those(.unknown)
        var refused: [Picture: ClusterError] = [:]
        for picture in those(.stored) { note(picture, now) }
        for chunk in missing.chunks(of: Self.uploads) {
            let results = await withTaskGroup(of: (Picture, Result<Bool, ClusterError>).self) { group in
                for picture in chunk {
                    group.addTask { (picture, await self.put(picture, load)) }
                }
                var results: [(Picture, Result<Bool, ClusterError>)] = []
                for await result in group { results.append(result) }
                return results
            }
            for (picture, result) in results {
                switch result {
                case .success(true): note(picture, now)
                case .success(false): break  // its embedding may be there all the same: the function decides
                case .failure(.redis(let error)): throw .redis(error)
                case .failure(let error): refused[picture] = error
                }
            }
        }
        return refused
    }

    private func presence(of pictures: [Picture]) async throws(ClusterError) -> [ImagePresence] {
        var there: [ImagePresence] = Array(repeating: .unknown, count: pictures.count)
        for (tenant, indices) in Dictionary(grouping: pictures.indices, by: { pictures[$0].tenant }) {
            let found = try await broker.presence(of: indices.map { pictures[$0].digest }, for: tenant)
            for (index, presence) in zip(indices, found) { there[index] = presence }
        }
        return there
    }

    /// Those of the pictures without which some job cannot be done: its embedding is not there either.
    private func withoutEmbedding(
        _ pictures: Set<Picture>, for jobs: [Job]
    ) async throws(ClusterError) -> [Picture] {
        if pictures.isEmpty { return [] }
        let needy = jobs.filter { pictures.contains(picture(of: $0)) }
        let there = try await broker.hasEmbeddings(needy.map { EmbeddingKey(image: $0.image, model: $0.model) })
        return Array(Set(zip(needy, there).filter { !$0.1 }.map { picture(of: $0.0) }))
    }

    private func put(_ picture: Picture, _ load: Load) async -> Result<Bool, ClusterError> {
        let bytes: RedisBytes?
        do { bytes = try await load(picture.digest) } catch { return .failure(.noImage(reason: "\(error)")) }
        guard let bytes else { return .success(false) }
        do throws(ClusterError) {
            try await broker.putImage(picture.digest, .bytes(bytes), for: picture.tenant)
            return .success(true)
        } catch {
            return .failure(error)
        }
    }

    private func note(_ picture: Picture, _ now: ContinuousClock.Instant) {
        seen.withLock { $0[picture] = now }
    }
}
