import ArgumentParser
import Checkpoints
import Clients
import Cluster
import Embeddings
import Platform
import SegmentAnything
import Segmentation
import Tensors
import Workers

struct DecodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "decode",
        abstract: "Cut objects out of a picture whose embedding is there.",
        discussion: "kirie decode photo.kemb --point 840,520 -o mask.png --json")

    @Argument(help: "A file that `kirie encode` wrote.")
    var embedding: String

    @OptionGroup var prompt: PromptOptions
    @OptionGroup var size: PictureLimitOptions
    @OptionGroup var model: ModelOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var cluster: ClusterChoice
    @OptionGroup var otherCache: CacheRedisOption

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Write low_res_logits (P,M,4g,4g) and iou (P,M) for P prompts and M masks, the output tokens in order.",
            valueName: "out.safetensors"))
    var logits: String?

    @Flag(
        name: .long,
        help: ArgumentHelp(
            "With --logits: also logits (P,M,H,W) at the picture's size. With --redis they are made of the others, which a "
                + "SAM 2 hands out within ±32."))
    var fullSize = false

    func validate() throws {
        try prompt.requireAny()
        if output.overlay != nil {
            throw ValidationError("An embedding holds no picture to draw on: --overlay belongs to `kirie segment`.")
        }
        if fullSize, logits == nil { throw ValidationError("--full-size goes with --logits.") }
        if let logits, !logits.hasSuffix(".safetensors") {
            throw ValidationError("--logits takes a name that ends in .safetensors.")
        }
        try cluster.check(model)
        if logits != nil, prompt.text != nil {
            throw ValidationError("What a text finds is picked among masks: --logits goes with the other prompts.")
        }
        if cluster.redis == nil, otherCache.cacheRedis != nil {
            throw ValidationError("--cache-redis goes with --redis.")
        }
    }

    func run() async throws {
        if let call = try await cluster.call(model: model.model, pictures: PictureOptions.parse([])) {
            return try await run(by: call)
        }
        try runHere()
    }

    /// The same by the decoders of a cluster, into whose cache the embedding goes.
    private func run(by call: ClusterCall) async throws {
        try output.check(masks: prompt.maskCount)
        if let logits { try StagedFiles.check(logits) }
        let record = try EmbeddingFile.readRecord(embedding)
        guard record.model.family == call.model.family else {
            throw EmbeddingFileError(
                path: embedding, reason: "was made by another model (\(record.model)) than the cluster's \(call.model)")
        }
        let store = EmbeddingStore(call.broker, elsewhere: try await otherCache.redis())
        try await store.offer(record)
        var line = JobLine(
            image: .digest(record.image),
            prompts: try prompt.given(
                of: embedding, width: record.frame.originalWidth, height: record.frame.originalHeight,
                maskSide: PromptOptions.publishedMaskSide, limit: size.limit), multimask: prompt.multimask)
        line.lane = .interactive
        line.logits = logits != nil
        let fitted = FittedPrompts(
            line.prompts, width: record.frame.originalWidth, height: record.frame.originalHeight, maskSide: nil,
            takesText: true)
        let own = ClusterCall(broker: call.broker, model: record.model, files: call.files)
        var (answer, masks) = try await own.answer(of: try await own.intake.request(.request, line))
        let files = StagedFiles()
        if let logits {
            let tensors = try LogitsTensors(answer, prompts: line.prompts.count, multimask: prompt.multimask)
            for index in answer.masks.indices { answer.masks[index].logits = nil }
            try files.stage(logits) { path in
                try tensors.write(
                    to: path,
                    fullSize: fullSize ? tensors.fullSize(record.frame, record.preprocessing) : nil)
            }
        }
        try output.write(answer, masks: masks, prompts: fitted, image: nil, files: files)
        try output.end(fitted)
    }

    private func runHere() throws {
        var watch = Stopwatch()
        try output.check(masks: prompt.maskCount)
        if let logits { try StagedFiles.check(logits) }
        let (name, sam) = try model.open()
        let features = try watch.time("read") { try EmbeddingFile.read(embedding, model: sam) }
        let prompts = try prompt.fitted(
            to: embedding, width: features.frame.originalWidth, height: features.frame.originalHeight,
            model: sam, limit: size.limit)
        let pool = model.makePool()
        let decoder = try watch.time("load") { try sam.promptDecoder(precision: model.precision(for: sam)) }
        let prepared: any PreparedImage = try watch.time("prepare") { try decoder.prepare(features, pool: pool) }
        let decoded = try watch.time("decode") {
            try prepared.decode(
                prompts.usable.map(\.prompt), selection: prompt.multimask ? .multiple : .single, pool: pool)
        }
        let files = StagedFiles()
        if let logits {
            let tensors = LogitsTensors(
                decoded, of: prompts, side: decoder.maskSide, multimask: prompt.multimask)
            try files.stage(logits) {
                try tensors.write(
                    to: $0,
                    fullSize: fullSize
                        ? tensors.fullSize(width: prepared.width, height: prepared.height, prepared.fullSizeLogits)
                        : nil)
            }
        }
        let masks = watch.time("scale") { prepared.masks(decoded, isRanked: true, pool: pool) }
        let answer = Answer(
            image: .init(width: prepared.width, height: prepared.height, sha256: nil), model: name,
            precision: model.precision(for: sam).rawValue, timings_ms: watch.milliseconds,
            masks: zip(prompts.usable, masks).flatMap { place, masks in masks.map { .init(prompt: place.index, $0) } },
            remarks: prompts)
        try output.write(answer, masks: masks.map { $0.map(\.mask) }, prompts: prompts, image: nil, files: files)
        try output.end(prompts)
    }
}
