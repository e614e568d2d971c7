import ArgumentParser
import Checkpoints
import Imaging
import JSON
import Platform
import Tensors
import Terminals
import TextMatching

struct EmbedCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "embed",
        abstract: "Embeddings of texts and whole pictures by a CLIP model, which are compared by their cosine.",
        discussion: """
            kirie embed --model clip-vit-base-patch32 photo.jpg --text "a photo of a dog" -o embeddings.safetensors

            text_embeds and image_embeds are (texts, width) and (pictures, width), as the model projects them: not
            normalized, and without the templates that --text of `kirie segment` puts a text into.
            """)

    @Argument(help: "PNG, JPEG, WebP or TIFF files.")
    var images: [String] = []

    @Option(name: .long, help: "A text; several are embedded in their order.")
    var text: [String] = []

    @Option(
        name: .long, help: ArgumentHelp("A file with a JSON list of texts, after those of --text.", valueName: "file"))
    var texts: String?

    @Option(name: .shortAndLong, help: ArgumentHelp("The new file.", valueName: "out.safetensors"))
    var output: String?

    @Flag(name: .long, help: "Print each text's tokens instead, a JSON list a line, cut off where the model ends.")
    var tokens = false

    @OptionGroup var clip: ClipOptions
    @OptionGroup var pictures: PictureOptions

    func validate() throws {
        if images.isEmpty, text.isEmpty, texts == nil { throw ValidationError("Give a picture or a --text.") }
        guard tokens || output?.hasSuffix(".safetensors") == true else {
            throw ValidationError("-o takes a name that ends in .safetensors.")
        }
        if tokens, output != nil { throw ValidationError("--tokens prints, and -o writes: give one of them.") }
    }

    func run() throws {
        let all = text + (try texts.map(Self.list) ?? [])
        let model = try clip.open()
        let encoded = all.map { model.tokenizer.encode($0, length: model.geometry.contextLength) }
        if tokens {
            let lines = encoded.flatMap { JSONValue.array($0.map { .integer(Int($0)) }).line }
            return try StandardOutput.print(lines)
        }
        guard let output else { return }
        try StagedFiles.check(output)
        let pool = clip.makePool()
        var entries: [SafetensorsWriter.Entry] = []
        if !encoded.isEmpty {
            let encoder = try model.textEncoder(precision: clip.precision)
            entries.append(.init("text_embeds", encoder.encode(encoded, pool: pool)))
        }
        if !images.isEmpty {
            let read = try images.map { path in
                let picture = try pictures.decoder.read(try pictures.decoder.contents(ofFile: path), named: path)
                PictureOptions.complain(of: picture.notes, in: path)
                return picture.image
            }
            let encoder = try model.imageEncoder(precision: clip.precision)
            entries.append(.init("image_embeds", encoder.encode(read, pool: pool)))
        }
        try SafetensorsWriter.write(entries, metadata: ["logit_scale": "\(model.logitScale)"], to: output)
        Terminal.complain("wrote \(output)")
    }

    /// The texts of a file.
    private static func list(_ path: String) throws -> [String] {
        let file = try CheckpointFile(path: path)
        func fault(_ reason: String) -> CheckpointError {
            CheckpointError(.corrupt, file: path, reason, remedy: "Give a JSON list of texts")
        }
        let document: JSONValue
        do throws(JSONValue.Fault) { document = try JSONValue(file.bytes) } catch {
            throw fault("the JSON \(error.reason) at byte \(error.offset)")
        }
        guard let elements = document.elements else { throw fault("is no list") }
        let texts = elements.compactMap(\.string)
        guard texts.count == elements.count else { throw fault("has something in it that is no text") }
        return texts
    }
}
