import ArgumentParser
import Clients
import Cluster
import Hashing
import Imaging
import Platform
import SegmentAnything
import Segmentation
import Tensors
import Terminals
import TextMatching
import Workers

struct SegmentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "segment",
        abstract: "Cut an object out of a picture.",
        discussion: """
            kirie segment photo.jpg --point 840,520 --point 900,610,0 -o mask.png
            kirie segment photo.jpg --box 100,80,640,420 --overlay overlay.png --json
            kirie segment photo.jpg --point 840,520 --redis $KIRIE_REDIS
            kirie segment photo.jpg --point 840,520 --tile auto
            """)

    @Argument(help: "A PNG, JPEG, WebP or TIFF file.")
    var image: String

    @OptionGroup var prompt: PromptOptions

    @Flag(
        name: .long,
        help: "Everything that is in the picture, instead of a prompt; with the flags of `kirie everything`.")
    var everything = false

    @OptionGroup(visibility: .hidden) var everythingOptions: EverythingOptions
    @OptionGroup var instances: InstancesOption
    @OptionGroup var textModel: TextModelOption
    @OptionGroup var pictures: PictureOptions
    @OptionGroup var model: ModelOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var cluster: ClusterChoice

    func validate() throws {
        if everything {
            guard !prompt.isAny, !prompt.multimask else {
                throw ValidationError("--everything takes the place of prompts: give one or the other.")
            }
        } else {
            try prompt.requireAny()
            if everythingOptions.isAny { throw ValidationError("Those flags go with --everything.") }
        }
        if !everything { _ = try everythingOptions.tile(for: prompt) }
        if prompt.text == nil, instances.instances != nil { throw ValidationError("--instances goes with --text.") }
        try textModel.check(
            isUsed: prompt.text != nil || everythingOptions.isLabeled, goesWith: "--text, or --everything and --label",
            cluster)
        try cluster.check(model)
    }

    func run() async throws {
        if everything { return try await runEverything() }
        if let call = try await cluster.call(model: model.model, pictures: pictures) {
            return try await run(by: call)
        }
        if prompt.text != nil { return try await runText() }
        try runHere()
    }

    /// What the words mean, in this process.
    private func runText() async throws {
        let bytes = try pictures.decoder.contents(ofFile: image)
        let read = try pictures.decoder.read(bytes, named: image)
        let picture = read.image
        PictureOptions.complain(of: read.notes, in: image)
        let count = instances.instances ?? .best
        try output.check(masks: 1)
        let (name, sam) = try model.open()
        let given = try prompt.given(
            of: image, width: picture.width, height: picture.height, maskSide: sam.maskSide,
            resize: sam.preprocessing.resize, limit: pictures.size.limit)
        let fitted = FittedPrompts(
            given, width: picture.width, height: picture.height, maskSide: sam.maskSide, takesText: true)
        guard !fitted.isHopeless else { throw PromptMismatch(file: image, reason: fitted.summary) }
        let pool = model.makePool()
        // What is wrong with the words is said before the seconds of work.
        let texts = TextPrompts(try textModel.open(pool: pool))
        let query = try texts.matcher.query(prompt.text ?? "")
        var watch = Stopwatch()
        let encoder = try sam.imageEncoder(precision: model.precision(for: sam))
        let decoder: any PromptDecoding = try sam.promptDecoder(precision: model.precision(for: sam))
        let shown = Answer.Picture(
            width: picture.width, height: picture.height,
            sha256: ImageDigest(bytes: SHA256.hash(bytes).bytes).hexadecimal, notes: read.notes.map(\.description))
        if let width = decoder.textWidth, texts.matcher.embeddingWidth != nil, instances.instances == nil {
            // The model takes the text itself, as the paper has it.
            let prompts = try fitted.usable.map { try texts.matcher.encoded($0.prompt, width: width, pool: pool) }
            let features = watch.time("encode") { encoder.encode(picture, pool: pool) }
            let masks = try watch.time("decode") {
                let prepared: any PreparedImage = try decoder.prepare(features, pool: pool)
                return try prepared.predict(prompts, multimask: prompt.multimask, pool: pool)
            }
            let answer = Answer(
                image: shown, model: name, precision: model.precision(for: sam).rawValue,
                timings_ms: watch.milliseconds,
                masks: zip(fitted.usable, masks).flatMap { place, masks in masks.map { .init(prompt: place.index, $0) }
                },
                remarks: fitted)
            try output.write(answer, masks: masks.map { $0.map(\.mask) }, prompts: fitted, image: picture)
            return try output.end(fitted)
        }
        let masks = try watch.time("candidates") {
            try AutomaticMaskGenerator(
                encoder: encoder, decoder: decoder, parameters: .forTexts,
                defaults: sam.everythingDefaults
            ).generate(picture, pool: pool)
        }
        let rows = watch.time("look") { texts.matcher.rows(of: masks.map(\.encoding), in: picture, pool: pool) }
        let found = watch.time("match") {
            fitted.usable.map { texts.masks(for: $0.prompt, query, among: masks, rows: rows, count: count) }
        }
        let answer = Answer(
            image: shown, model: name, precision: model.precision(for: sam).rawValue, timings_ms: watch.milliseconds,
            masks: zip(fitted.usable, found).flatMap { place, masks in
                masks.map { .init(prompt: place.index, text: $0) }
            }, remarks: fitted)
        let flat = found.flatMap { $0 }
        if flat.isEmpty {
            Terminal.complain("kirie: \(image): nothing in it is \(Quotation.of(prompt.text ?? ""))")
        }
        try output.write(everything: answer, masks: flat, image: picture)
        if flat.isEmpty { throw ExitCode(1) }
    }

    /// The same by the workers of a cluster.
    private func run(by call: ClusterCall) async throws {
        let read = try pictures.decoder.read(try pictures.decoder.contents(ofFile: image), named: image)
        PictureOptions.complain(of: read.notes, in: image)
        try output.check(masks: prompt.maskCount)
        // A mask prompt is sent as the published models take it; words are the cluster's business.
        let side = PromptOptions.publishedMaskSide
        let request = try await call.intake.request(path: image) { path, width, height in
            var line = JobLine(
                image: .path(path),
                prompts: try prompt.given(
                    of: path, width: width, height: height, maskSide: side, limit: pictures.size.limit),
                multimask: prompt.multimask, instances: instances.number)
            line.tile = try everythingOptions.tile(for: prompt)
            return line
        }
        let (answer, masks) = try await call.answer(of: request)
        let fitted = FittedPrompts(
            request.line.prompts, width: read.image.width, height: read.image.height, maskSide: nil, takesText: true)
        try output.write(answer, masks: masks, prompts: fitted, image: read.image)
        try output.end(fitted)
    }

    /// Everything that is in the picture: the masks in the order of their trust, as answers to one prompt.
    private func runEverything() async throws {
        let bytes = try pictures.decoder.contents(ofFile: image)
        let read = try pictures.decoder.read(bytes, named: image)
        PictureOptions.complain(of: read.notes, in: image)
        let parameters = try everythingOptions.parameters()
        try output.check(masks: 1)
        let source: any MaskSource
        if let call = try await cluster.call(model: model.model, pictures: pictures) {
            source = ClusterMasks(call: call, parameters: parameters)
        } else {
            source = try LocalMasks(model, parameters: parameters, textModel)
        }
        let found = try await source.masks(of: image, read.image, found: nil) { _, _ in }
        let answer = Answer(
            image: .init(
                width: read.image.width, height: read.image.height,
                sha256: ImageDigest(bytes: SHA256.hash(bytes).bytes).hexadecimal,
                notes: read.notes.map(\.description)), model: found.model, precision: found.precision,
            timings_ms: found.timings, masks: found.masks.map { .init(everything: $0) })
        try output.write(everything: answer, masks: found.masks, image: read.image)
    }

    private func runHere() throws {
        var watch = Stopwatch()
        let bytes = try pictures.decoder.contents(ofFile: image)
        let read = try watch.time("read") { try pictures.decoder.read(bytes, named: image) }
        let picture = read.image
        PictureOptions.complain(of: read.notes, in: image)
        try output.check(masks: prompt.maskCount)
        let (name, sam) = try model.open()
        // Everything that can be wrong with the prompt is found before the seconds of encoding.
        let prompts = try prompt.fitted(
            to: image, width: picture.width, height: picture.height, model: sam,
            limit: pictures.size.limit)
        let pool = model.makePool()
        let encoder = try watch.time("load") { try sam.imageEncoder(precision: model.precision(for: sam)) }
        let decoder = try watch.time("load") { try sam.promptDecoder(precision: model.precision(for: sam)) }
        func write(_ masks: [[Mask]], _ cutouts: [Answer.Cutout]) throws {
            let digest = ImageDigest(bytes: SHA256.hash(bytes).bytes).hexadecimal
            let answer = Answer(
                image: .init(
                    width: picture.width, height: picture.height, sha256: digest,
                    notes: read.notes.map(\.description)),
                model: name, precision: model.precision(for: sam).rawValue, timings_ms: watch.milliseconds,
                masks: cutouts, remarks: prompts)
            try output.write(answer, masks: masks, prompts: prompts, image: picture)
            try output.end(prompts)
        }
        if try everythingOptions.tile(for: prompt) != nil {
            let tiled = TiledPrediction(encoder: encoder, decoder: decoder)
            let masks = try watch.time("tiles") {
                try prompts.usable.map {
                    try tiled.masks(of: $0.prompt, in: picture, multimask: prompt.multimask, pool: pool)
                }
            }
            return try write(
                masks.map { $0.map(\.encoding.mask) },
                zip(prompts.usable, masks).flatMap { place, masks in
                    masks.map { .init(prompt: place.index, tiled: $0) }
                })
        }
        let features = watch.time("encode") { encoder.encode(picture, pool: pool) }
        let masks = try watch.time("decode") {
            let prepared: any PreparedImage = try decoder.prepare(features, pool: pool)
            return try prepared.predict(prompts.usable.map(\.prompt), multimask: prompt.multimask, pool: pool)
        }
        try write(
            masks.map { $0.map(\.mask) },
            zip(prompts.usable, masks).flatMap { place, masks in masks.map { .init(prompt: place.index, $0) } })
    }
}
