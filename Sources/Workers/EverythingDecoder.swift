import Cluster
import Hashing
import JSON
import Platform
import Redis
import SegmentAnything
import Segmentation
import Tensors

/// Everything mode in a cluster: a job is divided into batches of points, which any decoder answers, and whoever takes it
/// when they are done weighs all masks against each other.
///
/// What is computed is what ``AutomaticMaskGenerator`` computes, by the same plan and in the same order, so the masks are
/// the same to the bit.
struct EverythingDecoder: Sendable {
    /// What became of a job.
    enum Outcome: Sendable {
        case masks([MaskCandidate])
        case divided([JobPart])
    }

    let broker: Broker
    let decoder: any PromptDecoding
    let pool: ThreadPool
    /// What parameters leave to the model.
    let defaults: EverythingDefaults
    /// How long candidates are kept.
    let timeToLive: Duration
    /// Candidates by what they are kept under, read: for a second text they are as they were for the first.
    private let remembered = RememberedValues<String, [MaskCandidate]>(byteLimit: 64 << 20)

    /// Does a job as far as it can be done now.
    ///
    /// - Parameters:
    ///   - job: which, and where.
    ///   - parameters: what it asks for.
    ///   - image: the whole picture.
    ///   - key: its embedding's.
    /// - Returns: the masks, or the parts in which it is done from here on.
    /// - Throws: ``EverythingFault``; ``ClusterError`` where Redis does not answer.
    func answer(
        _ job: JobReference, _ parameters: EverythingParameters, on image: any PreparedImage, key: EmbeddingKey
    ) async throws -> Outcome {
        let asked = parameters
        let parameters = parameters.searched.resolved(by: defaults)
        let plan = try MaskGenerationPlan(
            width: image.width, height: image.height, parameters: parameters, modelSize: decoder.preprocessing.size)
        let name = Self.name(key, parameters)
        if let masks = remembered.value(for: name) { return .masks(try image.ranked(masks, by: asked, pool: pool)) }
        if let kept = try await broker.kept(name, in: job.partition),
            let masks = CandidateText.read(kept.array, width: image.width, height: image.height)
        {
            return .masks(try image.ranked(remember(masks.map(\.mask), as: name), by: asked, pool: pool))
        }
        let bytes = try await broker.partResultBytes(of: job)
        if bytes > Self.mostText { throw EverythingFault.tooManyRuns(bytes: bytes, limit: Self.mostText) }
        var answers = try read(try await broker.partResults(of: job), plan)
        var open: [(crop: Int, request: MaskGenerationPlan.PointRequest)] = []
        for crop in plan.crops.indices {
            if let request = plan.nextPoints(of: crop, after: answers[crop]) { open.append((crop, request)) }
        }
        if !open.isEmpty { return .divided(parts(open, plan, of: key.image)) }
        // Masks that stay after all, and whose runs were let go.
        for crop in plan.crops.indices {
            let points = answers[crop].bare(of: answers[crop].places(keptBy: plan))
            if !points.isEmpty { open.append((crop, .init(points: points, wantsDrafts: false))) }
        }
        if !open.isEmpty { return .divided(parts(open, plan, of: key.image, mayThin: false)) }
        let byCrop = answers.map { plan.kept(ofCrop: $0) }
        answers = []
        let masks = plan.selected(byCrop)
        let text = CandidateText.write(masks.enumerated().map { (number: $0.offset, mask: $0.element) })
        // To keep them saves time and no more.
        if !text.isEmpty {
            try? await broker.keep(RedisBytes(text), as: name, in: job.partition, timeToLive: timeToLive)
        }
        return .masks(try image.ranked(remember(masks, as: name), by: asked, pool: pool))
    }

    /// Holds candidates for whoever asks next.
    private func remember(_ masks: [MaskCandidate], as name: String) -> [MaskCandidate] {
        // A run takes four bytes; a candidate besides them not much more than its own fields.
        let bytes = masks.reduce(256) { $0 + 4 * $1.encoding.counts.count + 256 }
        remembered.remember(masks, for: name, bytes: bytes)
        return masks
    }

    /// By crop and point, what parts found; of points that were asked twice the later part, which is whole.
    private func read(
        _ results: [RedisBytes], _ plan: MaskGenerationPlan
    ) throws(PromptRefusal) -> [MaskGenerationPlan.CropAnswers] {
        var answers = Array(repeating: MaskGenerationPlan.CropAnswers(), count: plan.crops.count)
        for result in results {
            let (part, masks) = try PartResult.read(result, width: plan.width, height: plan.height) { line in
                EverythingPart(line: line).flatMap { $0.crop < plan.crops.count ? $0 : nil }
            }
            var found: [Int: [MaskCandidate]] = [:]
            for (point, mask) in masks { found[point, default: []].append(mask) }
            if part.areDrafts {
                for point in part.points { answers[part.crop].drafts[point] = found[point] ?? [] }
            } else {
                answers[part.crop].add(
                    part.points.map { found[$0] ?? [] }, of: part.points, by: plan, limit: MaskGenerationPlan.runLimit)
            }
        }
        return answers
    }

    /// Points of a part: so few that all decoders have work to the end, and more than a take costs.
    private static let pointsOfPart = 16

    /// Bytes of runs of a part's masks from which those of masks that lie on better ones are let go: of most pictures all
    /// are sent.
    private static let runLimitOfPart = 4 << 20
    /// Bytes of the masks that a job's parts find, as they are written.
    private static let mostText = 256 << 20
    /// So much of it a part of hardly any points may have.
    private static let leastText = 8 << 20
    /// A part may find so many times as much as its share of the points.
    private static let unevenness = 4

    /// The parts that answer points of crops; of very many points more in each, so that a job does not get too many parts.
    private func parts(
        _ open: [(crop: Int, request: MaskGenerationPlan.PointRequest)], _ plan: MaskGenerationPlan,
        of picture: ImageDigest, mayThin: Bool = true
    ) -> [JobPart] {
        // What comes whole may be large.
        let size = mayThin ? min(plan.parameters.pointsPerBatch, Self.pointsOfPart) : 1
        let most = Broker.mostParts / 4
        let count = open.reduce(0) { $0 + ($1.request.points.count + size - 1) / size }
        return open.flatMap { crop, request -> [JobPart] in
            let cut = crop == 0 ? nil : PictureCrop(of: picture, plan.crops[crop].box)
            let image = cut?.digest(partitions: broker.partitionCount) ?? picture
            return request.points.chunks(of: size * max(1, (count + most - 1) / most)).map { points in
                let part = EverythingPart(
                    parameters: plan.parameters, width: plan.width, height: plan.height, crop: crop, points: points,
                    areDrafts: request.wantsDrafts, mayThin: mayThin)
                return JobPart(image: image, stored: cut?.stored, line: RedisBytes(part.line))
            }
        }
    }

    /// Answers a part's points.
    ///
    /// - Parameters:
    ///   - line: the part's, as it was written.
    ///   - part: what it says.
    ///   - image: the part of the picture that its points lie in.
    /// - Returns: the part's result; nil where the task was cancelled.
    /// - Throws: ``EverythingFault`` or ``PromptError`` where the part is none of this picture.
    func result(_ line: RedisBytes, _ part: EverythingPart, on image: any PreparedImage) throws -> RedisBytes? {
        let plan = try MaskGenerationPlan(
            width: part.width, height: part.height, parameters: part.parameters, modelSize: decoder.preprocessing.size)
        guard part.crop < plan.crops.count, plan.crops[part.crop].box.width == image.width,
            plan.crops[part.crop].box.height == image.height,
            part.points.allSatisfy({ plan.grids[plan.crops[part.crop].layer].indices.contains($0) })
        else { throw PromptRefusal(reason: "the part is none of this picture") }
        var answers = MaskGenerationPlan.CropAnswers()
        var batches = PointBatches(
            part.points, most: part.parameters.pointsPerBatch, memory: MaskGenerationPlan.runLimit / 2,
            haveRuns: !part.areDrafts)
        while let batch = batches.next() {
            if Task.isCancelled { return nil }
            let found = try plan.candidates(
                of: part.crop, points: batch, areDrafts: part.areDrafts, on: image, pool: pool)
            batches.took(found.reduce(0) { $0 + $1.runBytes })
            answers.add(found, of: batch, by: plan, limit: part.mayThin && !part.areDrafts ? Self.runLimitOfPart : .max)
        }
        let masks = part.points.flatMap { point in (answers.masks[point] ?? []).map { (number: point, mask: $0) } }
        let result = PartResult.write(line, masks)
        let share = Self.mostText / max(1, plan.pointCount) * part.points.count * Self.unevenness
        let most = max(Self.leastText, min(Self.mostText, share))
        if result.count > most { throw EverythingFault.tooManyRuns(bytes: result.count, limit: most) }
        return result
    }

    /// What candidates are kept under.
    static func name(_ key: EmbeddingKey, _ parameters: EverythingParameters) -> String {
        var parameters = parameters
        // It says how the work is shared, not what is found.
        parameters.pointsPerBatch = EverythingParameters().pointsPerBatch
        return "\(key)/everything-\(Hexadecimal.text(of: SHA256.hash(Array(parameters.json.utf8)).bytes.prefix(12)))"
    }
}
