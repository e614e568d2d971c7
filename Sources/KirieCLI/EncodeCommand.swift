import ArgumentParser
import Checkpoints
import Imaging
import SegmentAnything
import Tensors

struct EncodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "encode",
        abstract: "Compute a picture's embedding once, to decode many prompts from it later.",
        discussion: "kirie encode photo.jpg -o photo.kemb && kirie decode photo.kemb --point 840,520 -o mask.png")

    @Argument(help: "A PNG or JPEG file.")
    var image: String

    @Option(
        name: .shortAndLong, help: ArgumentHelp("The embedding's file.", valueName: "out.kemb|.safetensors"))
    var output: String

    @Flag(name: .long, help: "Also write input_image (1,3,S,S), the model's input; to .safetensors only.")
    var debug = false

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
        let picture = try ImageDecoder().decode(file: image)
        let sam = try model.open().model
        let pool = model.makePool()
        let embedding = try sam.encoder(precision: model.precision.precision).encode(picture, pool: pool)
        try EmbeddingFile.write(
            embedding, model: sam, image: debug ? picture : nil, to: output)
    }
}
