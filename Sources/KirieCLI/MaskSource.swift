import Cluster
import Imaging
import Platform
import SegmentAnything
import Segmentation
import Tensors

/// Where the masks of everything mode come from: this process, or a cluster.
protocol MaskSource: Sendable {
    /// What, besides the parameters, tells whether another run would find the same masks.
    var settings: String { get }

    /// The masks of a picture that was read; `progress` hears how many of how many points are answered.
    func masks(
        of path: String, _ image: Image, progress: @escaping @Sendable (Int, Int) -> Void
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
    private let pool: ThreadPool
    private let thread = BlockingExecutor()

    init(_ options: ModelOptions, parameters: EverythingParameters) throws {
        let (name, model) = try options.open()
        let precision = options.precision(for: model)
        self.name = name
        self.precision = precision.rawValue
        settings = "\(try model.fingerprint(cache: nil, threads: 2)) \(precision.rawValue)"
        generator = AutomaticMaskGenerator(
            encoder: try model.imageEncoder(precision: precision),
            decoder: try model.promptDecoder(precision: precision), parameters: parameters,
            defaults: model.everythingDefaults)
        pool = options.makePool()
    }

    func masks(
        of path: String, _ image: Image, progress: @escaping @Sendable (Int, Int) -> Void
    ) async throws -> FoundMasks {
        // The arithmetic stays off the cooperative pool.
        try await Work(thread: thread).run { [generator, pool, name, precision] in
            var watch = Stopwatch()
            let masks = try watch.time("everything") {
                try generator.generate(image, pool: pool) {
                    try Task.checkCancellation()
                    progress($0.done, $0.total)
                }
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
