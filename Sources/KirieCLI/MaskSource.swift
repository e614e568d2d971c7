import Cluster
import Imaging
import Platform
import SegmentAnything
import Segmentation
import Tensors
import TextMatching

/// Where the masks of everything mode come from: this process, or a cluster.
protocol MaskSource: Sendable {
    /// What, besides the parameters, tells whether another run would find the same masks.
    var settings: String { get }

    /// The masks of a picture that was read; `progress` hears how many of how many points are answered, and `found` sees the
    /// masks as they come, before they are weighed against each other, where there is one.
    func masks(
        of path: String, _ image: Image, found: (@Sendable ([MaskCandidate]) throws -> Void)?,
        progress: @escaping @Sendable (Int, Int) -> Void
    ) async throws -> FoundMasks
}

/// The masks of a picture.
struct FoundMasks: Sendable {
    let masks: [MaskCandidate]
    /// How people call the model.
    let model: String
    /// Of the encoder's products.
    let precision: String
    /// Milliseconds by part of the work.
    let timings: [String: Double]
}

/// The masks that this process finds.
struct LocalMasks: MaskSource {
    private let name: String
    private let precision: String
    let settings: String
    private let generator: AutomaticMaskGenerator
    /// What labels masks, and with what; nil where no labels are asked for.
    private let labeling: (texts: TextPrompts, labels: [TextQuery])?
    private let pool: ThreadPool
    private let thread = BlockingExecutor()

    init(_ options: ModelOptions, parameters: EverythingParameters, _ textModel: TextModelOption) throws {
        let (name, model) = try options.open()
        let precision = options.precision(for: model)
        self.name = name
        self.precision = precision.rawValue
        pool = options.makePool()
        var settings = "\(try model.fingerprint(cache: nil, threads: 2)) \(precision.rawValue)"
        if parameters.labels.isEmpty {
            labeling = nil
        } else {
            let texts = TextPrompts(try textModel.open(pool: pool))
            // What is wrong with the words is said before the seconds of work.
            labeling = (texts, try texts.matcher.queries(parameters.labels, pool: pool))
            settings += " \(texts.matcher.fingerprint)"
        }
        self.settings = settings
        generator = AutomaticMaskGenerator(
            encoder: try model.imageEncoder(precision: precision),
            decoder: try model.promptDecoder(precision: precision),
            parameters: parameters.labels.isEmpty ? parameters : parameters.searched,
            defaults: model.everythingDefaults)
    }

    func masks(
        of path: String, _ image: Image, found: (@Sendable ([MaskCandidate]) throws -> Void)?,
        progress: @escaping @Sendable (Int, Int) -> Void
    ) async throws -> FoundMasks {
        // The arithmetic stays off the cooperative pool.
        try await Work(thread: thread).run { [generator, labeling, pool, name, precision] in
            var watch = Stopwatch()
            var masks = try watch.time("everything") {
                try generator.generate(image, pool: pool) {
                    try Task.checkCancellation()
                    progress($0.done, $0.total)
                } found: {
                    try found?($0)
                }
            }
            if let (texts, labels) = labeling {
                let rows = watch.time("look") {
                    texts.matcher.rows(of: masks.map(\.encoding), in: image, pool: pool)
                }
                masks = watch.time("match") { texts.labels(of: labels, among: masks, rows: rows) }
            }
            return FoundMasks(masks: masks, model: name, precision: precision, timings: watch.milliseconds)
        }
    }

    /// Runs on a thread of its own.
    private actor Work {
        private let thread: BlockingExecutor
        nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

        init(thread: BlockingExecutor) { self.thread = thread }

        func run<Value: Sendable>(_ body: @Sendable () throws -> Value) throws -> Value { try body() }
    }
}
