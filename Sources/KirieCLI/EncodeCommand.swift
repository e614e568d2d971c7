import ArgumentParser
import Hashing
import Imaging
import SegmentAnything
import Segmentation
import Tensors
import Terminals

struct EncodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "encode",
        abstract: "Compute a picture's embedding once, to decode many prompts from it later.",
        discussion: "kirie encode photo.jpg -o photo.kemb && kirie decode photo.kemb --point 840,520 -o mask.png")

    @Argument(help: "A PNG, JPEG, WebP or TIFF file.")
    var image: String

    @Option(
        name: .shortAndLong, help: ArgumentHelp("The embedding's file.", valueName: "out.kemb|.safetensors"))
    var output: String

    @Option(name: .long, help: "How a .kemb file stores its numbers: fp16, fp32 or int8.")
    var type: RecordType = .fp16

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

    func validate() throws {
        guard EmbeddingFile.isSupported(output) else {
            throw ValidationError("-o takes a name that ends in .kemb or .safetensors.")
        }
        if debug, !output.hasSuffix(".safetensors") {
            throw ValidationError("--debug writes to a .safetensors file.")
        }
    }

    func run() throws {
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
                features, model: sam, image: ImageDigest(bytes: SHA256.hash(bytes).bytes), precision: type.precision,
                arithmetic: encoder.arithmetic, encodeTime: encodeTime, to: output)
        } else {
            try EmbeddingFile.writeTensors(features, model: sam, picture: debug ? picture : nil, to: output)
        }
        Terminal.complain("wrote \(output)")
    }
}
