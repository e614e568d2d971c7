import ArgumentParser
import Clients
import Cluster
import Hashing
import Imaging
import Platform
import SegmentAnything
import Segmentation
import Tensors
import Workers

struct SegmentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "segment",
        abstract: "Cut an object out of a picture.",
        discussion: """
            kirie segment photo.jpg --point 840,520 --point 900,610,0 -o mask.png
            kirie segment photo.jpg --box 100,80,640,420 --overlay overlay.png --json
            kirie segment photo.jpg --point 840,520 --redis $KIRIE_REDIS
            """)

    @Argument(help: "A PNG, JPEG, WebP or TIFF file.")
    var image: String

    @OptionGroup var prompt: PromptOptions

    @Flag(
        name: .long,
        help: "Everything that is in the picture, instead of a prompt; with the flags of `kirie everything`.")
    var everything = false

    @OptionGroup(visibility: .hidden) var everythingOptions: EverythingOptions
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
        try cluster.check(model)
    }

    func run() async throws {
        if everything { return try await runEverything() }
        if let call = try await cluster.call(model: model.model, pictures: pictures) {
            return try await run(by: call)
        }
        try runHere()
    }

    /// The same by the workers of a cluster.
    private func run(by call: ClusterCall) async throws {
        let read = try pictures.decoder.read(try pictures.decoder.contents(ofFile: image), named: image)
        PictureOptions.complain(of: read.notes, in: image)
        try output.check(masks: prompt.maskCount)
        // A mask prompt is sent as the published models take it; words are the cluster's business.
        let side = PromptOptions.publishedMaskSide
        let request = try await call.intake.request(path: image) { path, width, height in
            JobLine(
                image: .path(path),
                prompts: try prompt.given(
                    of: path, width: width, height: height, maskSide: side, limit: pictures.size.limit),
                multimask: prompt.multimask)
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
            source = try LocalMasks(model, parameters: parameters)
        }
        let found = try await source.masks(of: image, read.image) { _, _ in }
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
        let features = watch.time("encode") { encoder.encode(picture, pool: pool) }
        let masks = try watch.time("decode") {
            let prepared: any PreparedImage = try decoder.prepare(features, pool: pool)
            return try prepared.predict(prompts.usable.map(\.prompt), multimask: prompt.multimask, pool: pool)
        }
        let digest = ImageDigest(bytes: SHA256.hash(bytes).bytes).hexadecimal
        let answer = Answer(
            image: .init(
                width: picture.width, height: picture.height, sha256: digest, notes: read.notes.map(\.description)),
            model: name,
            precision: model.precision(for: sam).rawValue, timings_ms: watch.milliseconds,
            masks: zip(prompts.usable, masks).flatMap { place, masks in masks.map { .init(prompt: place.index, $0) } },
            remarks: prompts)
        try output.write(answer, masks: masks.map { $0.map(\.mask) }, prompts: prompts, image: picture)
        try output.end(prompts)
    }
}
