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

struct DecoderCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "decoder",
        abstract: "Serve as a decoder worker: prompts from the cluster's streams to masks.",
        discussion: """
            kirie decoder --redis redis://queue.example:6379 --model vit_b --cache-bytes 4000000000

            SIGTERM drains: nothing more is taken, what is held is finished or handed back, and the exit status is 0.
            """)

    @OptionGroup var worker: WorkerOptions
    @OptionGroup var model: ModelOptions
    @OptionGroup var textModel: TextModelOption

    @Option(
        name: .customLong("cache-bytes"),
        help: ArgumentHelp("Memory for images that are ready for prompts; the least recently used go.", valueName: "n"))
    var cacheBytes = 1 << 30

    @Option(name: .long, help: ArgumentHelp("Jobs on one image that are decoded together, 1 to 256.", valueName: "n"))
    var batch = 16

    func validate() throws {
        if cacheBytes < 0 { throw ValidationError("--cache-bytes takes a number of bytes.") }
        if !(1...256).contains(batch) { throw ValidationError("--batch takes a number from 1 to 256.") }
    }

    func run() async throws {
        let registry = PrometheusRegistry(help: WorkerMetrics.help)
        MetricsSystem.bootstrap(registry)
        let logger = worker.logger(.decoder)
        let (name, sam) = try model.open()
        let precision = worker.embedding.precision
        // Of whatever encoder: the decoder's own precision is another matter.
        let identifier = ModelIdentifier(fingerprint: try sam.fingerprint().bytes, precision: precision)
        let pool = model.makePool()
        let decoder = try sam.promptDecoder(precision: model.precision(for: sam))
        let (broker, store) = try await worker.connect(logger)
        var settings = worker.loopSettings(concurrency: decoder.isSmall ? pool.threadCount : 1)
        let waiting = WaitLog(logger).note
        let prompts = PromptDecoder(
            broker, decoder: decoder, modelName: name, store: store, pool: pool,
            concurrency: settings.concurrency, byteLimit: cacheBytes, everythingDefaults: sam.everythingDefaults,
            textModel: TextModel { [textModel] in try textModel.open(pool: pool) }, limit: PictureLimitOptions.usual,
            onWait: waiting
        ) { job, trace, time in TracedJob.log("decoded", job, trace, time, to: logger) }
        var heartbeat = worker.heartbeat(.decoder, model: identifier, modelName: name, threads: pool.threadCount)
        // One batch more is taken, or told of, while others are decoded: the cores need not wait for Redis.
        settings.concurrency += 1
        settings.spare = 1
        settings.passing = decoder.isSmall ? settings.concurrency - settings.spare : 0
        heartbeat.capacity = settings.concurrency
        let source = DecodeSource(
            broker, worker: heartbeat.name, model: identifier, serving: identifier.variants, batch: batch,
            onWait: waiting
        ) {
            await prompts.decode($0)
        }
        heartbeat.serves = source.models.map(\.text)
        let service = WorkerService(
            source, broker: broker, settings: settings, heartbeat: heartbeat, logger: logger
        ) { heartbeat in
            (heartbeat.cachedImages, heartbeat.cachedBytes) = prompts.holdings
            for (partition, fetches, hits) in prompts.takeLookups() {
                // For people; what is lost while Redis is away is not made up for.
                try? await broker.count(fetches: fetches, hits: hits, in: partition)
            }
        }
        try await worker.run(service, registry: registry, logger: logger)
    }
}
