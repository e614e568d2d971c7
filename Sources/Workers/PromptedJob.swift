import Cluster
import FoundationEssentials
import Imaging
import Redis
import SegmentAnything
import Segmentation
import Tensors

/// A job line as the decoder takes it: read, and each prompt checked against the picture for itself.
struct PromptedJob: Sendable {
    let prompts: FittedPrompts
    /// What everything mode is asked for; nil for prompts.
    let everything: EverythingParameters?
    let multimask: Bool
    /// How many masks a text has at most; nil for the best one.
    let instances: Int?
    let form: MaskForm
    /// Which part of the picture the model sees.
    let tile: JobLine.Tile?
    let origin: JobOrigin

    /// Reads a line, for a picture of that size and a model whose mask prompts have `maskSide` rows and columns.
    ///
    /// - Throws: where the line is no job, or none of its prompts can be answered.
    init(
        _ line: RedisBytes, width: Int, height: Int, maskSide: Int, takesText: Bool = false
    ) throws(PromptRefusal) {
        let job: JobLine
        do throws(JobLineError) { job = try JobLine(parsing: line.array) } catch {
            throw PromptRefusal(reason: "\(error)")
        }
        everything = job.everything
        prompts = FittedPrompts(
            job.prompts, known: job.faults, width: width, height: height, maskSide: maskSide,
            takesText: takesText)
        guard everything != nil || !prompts.isHopeless else { throw PromptRefusal(reason: prompts.summary) }
        multimask = job.multimask
        instances = job.instances
        form = MaskForm(output: job.output, outlines: job.outlines, logits: job.logits)
        tile = job.tile
        origin = job.origin
    }
}

/// A job whose line or prompt makes no sense.
struct PromptRefusal: Error, Sendable {
    let reason: String
}

/// How a job wants its masks written.
struct MaskForm: Sendable, Hashable {
    var output = JobLine.Output.runLengths
    var outlines = JobLine.Outlines()
    /// Whether the low-resolution logits come with each.
    var logits = false
}

/// Masks as jobs want them written.
enum Cutouts {
    /// One list of masks a prompt, written small on the threads of the pool.
    ///
    /// - Parameters:
    ///   - masks: by prompt.
    ///   - places: by prompt, which of its job it is.
    ///   - forms: by prompt, how its masks are to be written.
    ///   - pool: its threads take a mask at a time.
    /// - Returns: by prompt, in the order of its masks.
    static func written(
        _ masks: [[PredictedMask]], places: [Int], forms: [MaskForm], pool: ThreadPool
    ) -> [[Answer.Cutout]] {
        let flat = masks.indices.flatMap { index in masks[index].map { (prompt: index, mask: $0) } }
        let cutouts = pool.map(flat.count) { index in
            let (prompt, mask) = flat[index]
            return cutout(mask, place: places[prompt], form: forms[prompt])
        }
        var written: [[Answer.Cutout]] = Array(repeating: [], count: masks.count)
        for (each, cutout) in zip(flat, cutouts) { written[each.prompt].append(cutout) }
        return written
    }

    static func cutout(_ predicted: PredictedMask, place: Int, form: MaskForm) -> Answer.Cutout {
        var cutout = Answer.Cutout(prompt: place, predicted)
        if form.logits {
            let logits = predicted.lowResolutionLogits
            cutout.logits = Answer.Logits(
                side: logits.side, logits: logits.base64, token: predicted.token)
        }
        return shaped(cutout, predicted.encoding, form)
    }

    /// Masks that a text picked.
    static func written(
        text masks: [MaskCandidate], place: Int, form: MaskForm, pool: ThreadPool
    ) -> [Answer.Cutout] {
        pool.map(masks.count) { shaped(Answer.Cutout(prompt: place, text: masks[$0]), masks[$0].encoding, form) }
    }

    /// Masks of a prompt on its tile, written small on the threads of the pool.
    static func written(tiled masks: [MaskCandidate], place: Int, form: MaskForm, pool: ThreadPool) -> [Answer.Cutout] {
        pool.map(masks.count) { shaped(Answer.Cutout(prompt: place, tiled: masks[$0]), masks[$0].encoding, form) }
    }

    /// Masks of everything mode, written small on the threads of the pool.
    static func written(everything masks: [MaskCandidate], form: MaskForm, pool: ThreadPool) -> [Answer.Cutout] {
        pool.map(masks.count) { shaped(Answer.Cutout(everything: masks[$0]), masks[$0].encoding, form) }
    }

    private static func shaped(
        _ runs: Answer.Cutout, _ encoding: RunLengthEncoding, _ form: MaskForm
    ) -> Answer.Cutout {
        var cutout = runs
        switch form.output {
        case .runLengths: break
        case .polygons:
            cutout.segmentation = nil
            let regions = Polygon.simplified(
                Polygon.tracing(encoding.mask.gray), tolerance: form.outlines.tolerance,
                mostPoints: form.outlines.mostPoints)
            func flat(_ ring: [PixelVertex]) -> [Int] { ring.flatMap { [$0.x, $0.y] } }
            cutout.polygons = regions.flatMap(\.cocoSegmentation).map { $0.map(Double.init) }
            cutout.regions = regions.map { .init(exterior: flat($0.exterior), holes: $0.holes.map(flat)) }
        case .png:
            cutout.segmentation = nil
            cutout.png = png(encoding.mask)
        }
        return cutout
    }

    /// A PNG file in base64; empty where it cannot be written, which takes a mask that is larger than any picture.
    private static func png(_ mask: Mask) -> String {
        guard let file = try? PNGWriter.encode(mask: mask.gray) else { return "" }
        return Data(file).base64EncodedString()
    }
}
