import ArgumentParser
import Checkpoints
import Cluster
import CoreMetrics
import Logging
import SegmentAnything
import Segmentation
import Telemetry
import Tensors
import Workers

struct EncoderCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "encoder",
        abstract: "Serve as an encoder worker: images from the cluster's streams to embeddings in Redis.",
        discussion: """
            kirie encoder --redis redis://queue.example:6379 --model vit_b --metrics-port 9100

            SIGTERM drains: nothing more is taken, what is held is finished or handed back, and the exit status is 0.
            """)

    @OptionGroup var worker: WorkerOptions
    @OptionGroup var model: ModelOptions
    @OptionGroup var size: PictureLimitOptions

    @Option(
        name: .customLong("shared-images"),
        help: ArgumentHelp(
            "A folder below which lie images that are submitted as `ref:` and a path.", valueName: "folder"))
    var sharedImages: String?

    @Option(
        name: .customLong("embedding-ttl"),
        help: ArgumentHelp("How long embeddings stay where memory is not short.", valueName: "seconds"))
    var embeddingLifetime = 86_400

    func validate() throws {
        if !(1...1_000_000_000).contains(embeddingLifetime) {
            throw ValidationError("--embedding-ttl takes seconds from 1 to 1000000000.")
        }
    }

    func run() async throws {
        let registry = PrometheusRegistry(help: WorkerMetrics.help)
        MetricsSystem.bootstrap(registry)
        let logger = worker.logger(.encoder)
        let (name, sam) = try model.open()
        let fingerprint = try sam.fingerprint()
        let pool = model.makePool()
        let precision = worker.embedding.precision
        let encoder = try sam.imageEncoder(precision: model.precision(for: sam))
        let (broker, store) = try await worker.connect(logger, embeddingLifetime: .seconds(embeddingLifetime))
        let waiting = WaitLog(logger).note
        let pictures = PictureEncoder(
            broker, encoder: encoder, fingerprint: fingerprint.bytes, precision: precision, store: store, pool: pool,
            concurrency: worker.concurrency ?? 1, sharedFolder: sharedImages, limit: size.limit,
            notes: { image, notes in for note in notes { logger.warning("picture \(image): \(note)") } },
            onWait: waiting
        ) { job, trace, time in TracedJob.log("encoded", job, trace, time, to: logger) }
        var heartbeat = worker.heartbeat(
            .encoder, model: pictures.model, modelName: name, threads: pool.threadCount)
        let source = EncodeSource(broker, worker: heartbeat.name, model: pictures.model, onWait: waiting) {
            await pictures.encode($0)
        }
        heartbeat.serves = source.models.map(\.text)
        let service = WorkerService(
            source, broker: broker, settings: worker.loopSettings(), heartbeat: heartbeat, logger: logger)
        try await worker.run(service, registry: registry, logger: logger)
    }
}
