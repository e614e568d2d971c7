import ArgumentParser
import Clients
import Exporting
import Hashing
import Imaging
import JSON
import Platform
import SegmentAnything
import Segmentation
import Tensors
import Terminals

struct EverythingCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "everything",
        abstract: "Cut everything out of pictures, without a prompt.",
        discussion: """
            kirie everything photo.jpg -o masks                      masks/photo/0.png … and metadata.csv
            kirie everything photos -o masks --convert-to-rle        masks/photo.json, COCO run lengths
            kirie everything photos -o dataset.json                  one COCO dataset
            kirie everything photo.jpg -o out --write overlay,labels,yolo
            kirie everything photos -o named.json --label dog --label bowl

            The flags and the files are those of segment-anything's scripts/amg.py, and so are the masks. A folder that was
            begun is gone on with by --resume.
            """)

    @Argument(help: "PNG, JPEG, WebP or TIFF files, or folders of them.")
    var images: [String] = []

    @Option(name: .long, help: ArgumentHelp("One more picture or folder, as amg.py takes it.", valueName: "path"))
    var input: String?

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "A folder, or a COCO dataset's file. Without it only --json says what was found.",
            valueName: "dir|file.json"))
    var output: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "What is written, any of masks, rle, coco, labels, classes, yolo, overlay. Default: masks, or coco into a file.",
            valueName: "kinds"),
        transform: OutputKind.list)
    var write: [OutputKind] = []

    @Flag(name: .long, help: "The masks as COCO run lengths, a JSON file for each picture: --write rle.")
    var convertToRle = false

    @Flag(name: .long, help: "Leave out what a run before this one has written.")
    var resume = false

    @Flag(name: .long, help: "Print a JSON object for each picture, as soon as it is done, and nothing else.")
    var json = false

    @Flag(
        name: .long,
        help: ArgumentHelp(
            "With --json: before a picture's object, its masks as they come, in objects that begin with "
                + "\"provisional\": true. The last one says which of them stay."))
    var stream = false

    @OptionGroup var pictures: PictureOptions
    @OptionGroup var model: ModelOptions

    @Option(name: .long, help: ArgumentHelp("--model by amg.py's name.", visibility: .hidden))
    var checkpoint: String?

    @Option(name: .long, help: ArgumentHelp("Is read off the checkpoint.", visibility: .hidden))
    var modelType: String?

    @Option(name: .long, help: ArgumentHelp("The processor, whatever is said.", visibility: .hidden))
    var device: String?

    @OptionGroup var options: EverythingOptions
    @OptionGroup var textModel: TextModelOption
    @OptionGroup var cluster: ClusterChoice

    /// What can be written.
    enum OutputKind: String, CaseIterable {
        case masks, rle, coco, labels, classes, yolo, overlay

        @Sendable static func list(_ text: String) throws -> [OutputKind] {
            try text.split(separator: ",").map { word in
                guard let kind = OutputKind(rawValue: String(word)) else {
                    throw ValidationError("any of \(allCases.map(\.rawValue).joined(separator: ", ")) is expected.")
                }
                return kind
            }
        }
    }

    func validate() throws {
        guard !images.isEmpty || input != nil else { throw ValidationError("Give a picture or a folder.") }
        guard output != nil || json else { throw ValidationError("Give -o, or --json.") }
        guard checkpoint == nil || model.model == nil else {
            throw ValidationError("--checkpoint is another name of --model: give one of the two.")
        }
        if isDataset, convertToRle || !write.isEmpty && write != [.coco] {
            throw ValidationError("-o FILE.json is a COCO dataset: give a folder for other files.")
        }
        if output == nil, !write.isEmpty || convertToRle || resume {
            throw ValidationError("--write, --convert-to-rle and --resume go with -o.")
        }
        if write.contains(.classes), !options.isLabeled {
            throw ValidationError("--write classes goes with --label or --labels.")
        }
        if stream, !json { throw ValidationError("--stream goes with --json.") }
        try textModel.check(isUsed: options.isLabeled, goesWith: "--label or --labels", cluster)
        try cluster.check(model)
    }

    private var isDataset: Bool { output?.hasSuffix(".json") ?? false }

    private var kinds: Set<OutputKind> {
        if isDataset { return [.coco] }
        let kinds = write + (convertToRle ? [.rle] : [])
        return Set(kinds.isEmpty ? [.masks] : kinds)
    }

    func run() async throws {
        if let device, device != "cpu" {
            Terminal.complain("kirie: --device \(device): the work is done on the processor")
        }
        let parameters = try options.parameters()
        let paths = try await PictureSearch().pictures(named: images + (input.map { [$0] } ?? []))
        var model = model
        model.model = checkpoint ?? model.model
        let source: any MaskSource
        if let call = try await cluster.call(model: model.model, pictures: pictures) {
            source = ClusterMasks(call: call, parameters: parameters)
        } else {
            source = try LocalMasks(model, parameters: parameters, textModel)
        }
        let files = try output.map {
            try EverythingFiles(
                output: $0, isDataset: isDataset, kinds: kinds, vocabulary: parameters.labels, pictures: paths,
                resumes: resume,
                settings: "\(source.settings), \(parameters.json)")
        }
        let tally = Tally()
        try await Interruption.handling {
            for (index, path) in paths.enumerated() {
                try Task.checkCancellation()
                if let files, try files.hasDone(path) {
                    tally.skipped += 1
                    continue
                }
                do {
                    try await one(path, of: paths.count, number: index + 1, source, files)
                    tally.done += 1
                } catch let error as CancellationError {
                    throw error
                } catch let error as any ReportableError where error.report.errorClass == .input {
                    // One picture's fault is none of the others'.
                    tally.failed += 1
                    Terminal.complain("kirie: \(error)")
                }
            }
            try files?.finish()
        }
        if paths.count > 1 {
            Terminal.complain(
                "\(tally.done) pictures done, \(tally.skipped) were there already, \(tally.failed) failed")
        }
        if tally.failed > 0 { throw ExitCode(1) }
    }

    /// One picture from file to files.
    private func one(
        _ path: String, of count: Int, number: Int, _ source: any MaskSource, _ files: EverythingFiles?
    ) async throws {
        let bytes = try pictures.decoder.contents(ofFile: path)
        let read = try pictures.decoder.read(bytes, named: path)
        PictureOptions.complain(of: read.notes, in: path)
        let bar = Bar(count == 1 ? path : "\(path) (\(number) of \(count))")
        let digest = ImageDigest(bytes: SHA256.hash(bytes).bytes).hexadecimal
        let first = count > 1 ? [(name: "path", value: JSONText.quoting(path))] : []
        let shown = Answer.Picture(
            width: read.image.width, height: read.image.height, sha256: digest,
            notes: read.notes.map(\.description))
        @Sendable func provisional(_ masks: [MaskCandidate]) throws {
            guard !masks.isEmpty else { return }
            let line = try Answer.provisional(masks.map { Answer.Cutout(everything: $0) }, first: first)
            try StandardOutput.print(line + [UInt8(ascii: "\n")])
        }
        let found = try await source.masks(of: path, read.image, found: stream ? provisional : nil) {
            bar.show($0, of: $1)
        }
        try files?.write(path, image: read.image, sha256: digest, masks: found.masks)
        if json {
            let answer = Answer(
                image: shown, model: found.model, precision: found.precision,
                timings_ms: found.timings, masks: found.masks.map { Answer.Cutout(everything: $0) })
            try StandardOutput.print(try answer.encoded(first: first) + [UInt8(ascii: "\n")])
        } else {
            Terminal.complain("\(path): \(found.masks.count) masks")
        }
    }

    /// What became of the pictures; touched by one task at a time.
    private final class Tally: @unchecked Sendable {
        var done = 0
        var skipped = 0
        var failed = 0
    }

    /// The bar of one picture; touched by one task at a time.
    private final class Bar: @unchecked Sendable {
        private let title: String
        private var bar: ProgressBar?

        init(_ title: String) { self.title = title }

        func show(_ done: Int, of total: Int) {
            var bar = self.bar ?? ProgressBar(title, total: total)
            if Terminal.isInteractive { bar.show(done) }
            self.bar = bar
        }
    }
}
