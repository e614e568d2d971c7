import ArgumentParser
import Checkpoints
import Glibc
import Platform
import SegmentAnything
import Tensors

/// Which model runs, and on how many threads.
struct ModelOptions: ParsableArguments {
    @Option(
        name: .long,
        help: "A checkpoint file, or a model's name (see `kirie model list`). Default: $KIRIE_MODEL, else kirie-tiny.")
    var model: String?

    @OptionGroup var imageSize: ImageSizeOption

    @Option(
        name: .customLong("hq"), help: "Whether a SAM-HQ corrects its masks: on, or off for plain Segment Anything.")
    var highQuality = HighQualityChoice.on

    @Option(
        name: .long,
        help:
            """
            How products are computed: fp32, bf16, int8 (experimental), or auto (bf16 where it pays: large models, \
            processors that have it).
            """
    )
    var precision: PrecisionChoice = .auto

    @Option(name: .long, help: "Threads that share the work. Default: every processor.")
    var threads: Int?

    @Flag(
        name: .long, help: "Keep each of those threads on a processor of its own; for machines with several sockets.")
    var pin = false

    func validate() throws {
        if let threads, !(1...1024).contains(threads) {
            throw ValidationError("--threads takes a number from 1 to 1024.")
        }
        guard precision.precision?.isSupported ?? true else {
            throw ValidationError("This processor has no \(precision.rawValue) products: use --precision auto or fp32.")
        }
    }

    /// The model that was named, or that of the environment, or the shipped one.
    var name: String { model ?? Environment["KIRIE_MODEL"] ?? ModelLocation.shipped }

    /// Opens the model.
    func open() throws -> (name: String, model: any SegmentationModel) {
        let model = try ModelFamilies.open(path: try ModelLocation.path(of: name), imageSize: imageSize.pixels)
        guard highQuality == .off else { return (ModelLocation.displayName(name), model) }
        guard let plain = (model as? SamModel)?.withoutHighQuality else {
            throw ValidationError(
                "--hq off is for a SAM-HQ, and \(ModelLocation.displayName(name)) is none: leave it out.")
        }
        return (ModelLocation.displayName(name), plain)
    }

    /// How a worker of this process's own is told which model to serve.
    var workerArguments: [String] {
        var words: [String] = []
        if let name = model ?? Environment["KIRIE_MODEL"] { words += ["--model", name] }
        if let pixels = imageSize.pixels { words += ["--image-size", "\(pixels)"] }
        if highQuality == .off { words += ["--hq", "off"] }
        return words + ["--precision", precision.rawValue]
    }

    /// The precision in which that model computes.
    func precision(for model: any SegmentationModel) -> Precision { precision.precision ?? model.automaticPrecision }

    /// The precision in which a model of drawn weights computes.
    func precision(for geometry: SamGeometry) -> Precision { precision.precision ?? geometry.automaticPrecision }

    func makePool() -> ThreadPool {
        ThreadPool(threadCount: threads ?? ThreadPool.availableProcessors, isPinned: pin)
    }
}

/// On pictures of what size a model works that does not say it.
struct ImageSizeOption: ParsableArguments {
    @Option(
        name: .customLong("image-size"),
        help: ArgumentHelp(
            "The size of the pictures that the model was trained on; asked for where its file does not tell.",
            valueName: "pixels"))
    var pixels: Int?
}

/// What `--precision` takes.
enum PrecisionChoice: String, ExpressibleByArgument, CaseIterable {
    case auto, fp32, bf16, int8

    /// The precision that was chosen; nil leaves it to the model.
    var precision: Precision? {
        switch self {
        case .auto: nil
        case .fp32: .float32
        case .bf16: .bfloat16
        case .int8: .int8
        }
    }
}

/// Where models lie.
enum ModelLocation {
    /// The model that comes with Kirie.
    static let shipped = "kirie-tiny"

    /// The file of a model that was named or given as a path.
    static func path(of name: String) throws -> String {
        if name.contains("/") || access(name, R_OK) == 0 { return name }
        guard let manifest = manifest else { throw MissingModel(name: name, remedy: "give the path of a checkpoint") }
        let weights = manifest.dropLast("/manifest.json".count)
        let beside = "\(weights)/\(name).safetensors"
        if access(beside, R_OK) == 0 { return beside }
        let model = try ModelCatalog(manifest: manifest).model(named: name)
        if let directory = ModelCatalog.directory(environment: Environment.all) {
            if model.isThere(in: directory) { return model.path(in: directory) }
        }
        throw MissingModel(name: name, remedy: "fetch it with `kirie model fetch \(model.name)`")
    }

    static var manifest: String? {
        ModelCatalog.manifest(environment: Environment.all, executable: "/proc/self/exe")
    }

    /// `sam_vit_b_01ec64.pth` for `/models/sam_vit_b_01ec64.pth`.
    static func displayName(_ name: String) -> String {
        String(name.split(separator: "/").last ?? Substring(name))
    }
}

/// A model that is not on this machine.
struct MissingModel: ReportableError {
    let name: String
    let remedy: String
    var report: ErrorReport { ErrorReport(.notFound, "no-model", "the model \(name) is not here", remedy: remedy) }

    /// The report in one line.
    var description: String { report.text }
}

/// Whether a SAM-HQ's masks are corrected.
enum HighQualityChoice: String, ExpressibleByArgument, CaseIterable {
    case on, off
}
