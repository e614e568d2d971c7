import ArgumentParser
import Checkpoints
import Clients
import Cluster
import Embeddings
import Hashing
import Imaging
import Platform
import SegmentAnything
import Segmentation
import Tensors
import Terminals
import Workers

struct EncodeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "encode",
        abstract: "Compute a picture's embedding once, to decode many prompts from it later.",
        discussion: "kirie encode photo.jpg -o photo.kemb && kirie decode photo.kemb --point 840,520 -o mask.png")

    @Argument(help: "A PNG, JPEG, WebP or TIFF file.")
    var image: String

    @Option(
        name: .shortAndLong, help: ArgumentHelp("The embedding's file.", valueName: "out.kemb|.safetensors"))
    var output: String

    @Option(
        name: .long,
        help: "How a .kemb file stores its numbers: fp16 (default), fp32 or int8; with --redis as the cluster has them."
    )
    var type: RecordType?

    enum RecordType: String, ExpressibleByArgument, CaseIterable {
        case fp16, fp32, int8

        var precision: EmbeddingPrecision {
            switch self {
            case .fp16: .fp16
            case .fp32: .fp32
            case .int8: .int8
            }
        }
    }

    @Flag(name: .long, help: "Also write input_image (1,3,S,S), the model's input; to .safetensors only.")
    var debug = false

    @OptionGroup var pictures: PictureOptions
    @OptionGroup var model: ModelOptions
    @OptionGroup var cluster: ClusterChoice
    @OptionGroup var otherCache: CacheRedisOption

    func validate() throws {
        guard EmbeddingFile.isSupported(output) else {
            throw ValidationError("-o takes a name that ends in .kemb or .safetensors.")
        }
        if debug, !output.hasSuffix(".safetensors") {
            throw ValidationError("--debug writes to a .safetensors file.")
        }
        try cluster.check(model)
        if cluster.redis != nil, type != nil || debug {
            throw ValidationError("With --redis the embedding is written as the cluster has it: no --type, no --debug.")
        }
        if cluster.redis == nil, otherCache.cacheRedis != nil {
            throw ValidationError("--cache-redis goes with --redis.")
        }
    }

    func run() async throws {
        if let call = try await cluster.call(model: model.model, pictures: pictures) {
            return try await run(by: call)
        }
        try runHere()
    }

    /// The same by the encoders of a cluster: the record that they put into the cache.
    private func run(by call: ClusterCall) async throws {
        try StagedFiles.check(output)
        let request = try await call.intake.request(path: image) { path, _, _ in JobLine(image: .path(path)) }
        let cache = RedisEmbeddingCache(
            try await otherCache.redis() ?? call.broker.redis, namespace: call.broker.keys.namespace,
            partitions: call.broker.partitionCount)
        let key = EmbeddingKey(image: request.job.image, model: request.job.model)
        // It may be evicted between the end of its job and the question.
        for _ in 0..<8 {
            _ = try await JobCall(call.broker, files: call.files).result(of: request.renamed)
            guard let record = try await cache.record(for: key) else { continue }
            if output.hasSuffix(".kemb") {
                try AtomicFile.write(record.withUnsafeBytes { Array($0) }, to: output)
            } else {
                try EmbeddingFile.writeTensors(
                    record.features(), fingerprint: Hexadecimal.text(of: record.fingerprint), picture: nil, to: output)
            }
            Terminal.complain("wrote \(output)")
            return
        }
        throw JobFailure(
            state: .done,
            reason:
                "the embedding is evicted before it can be fetched: give Redis more memory, or name --cache-redis if "
                + "the workers have one")
    }

    private func runHere() throws {
        let bytes = try pictures.decoder.contents(ofFile: image)
        let read = try pictures.decoder.read(bytes, named: image)
        let picture = read.image
        PictureOptions.complain(of: read.notes, in: image)
        try StagedFiles.check(output)
        let sam = try model.open().model
        let pool = model.makePool()
        let encoder = try sam.imageEncoder(precision: model.precision(for: sam))
        let clock = ContinuousClock()
        let start = clock.now
        let features = encoder.encode(picture, pool: pool)
        let encodeTime = clock.now - start
        if output.hasSuffix(".kemb") {
            try EmbeddingFile.write(
                features, model: sam, image: ImageDigest(bytes: SHA256.hash(bytes).bytes),
                precision: (type ?? .fp16).precision,
                arithmetic: encoder.arithmetic, encodeTime: encodeTime, to: output)
        } else {
            try EmbeddingFile.writeTensors(
                features, fingerprint: try sam.fingerprint().description, picture: debug ? picture : nil, to: output)
        }
        Terminal.complain("wrote \(output)")
    }
}
