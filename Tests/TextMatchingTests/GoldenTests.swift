import Checkpoints
import Foundation
import Imaging
import Tensors
import Testing
import TextMatching

/// Small models against `transformers`: Fixtures/make_clip.py made the models and what is expected of them.
@Suite struct GoldenTests {
    struct Case: Decodable {
        let texts: [String]
        let padded: [[Int32]]
        let tokens: [[Int32]]
        let logit_scale: Float
    }

    static let fixtures = (Bundle.module.resourcePath ?? ".") + "/Fixtures"

    static func golden(_ name: String) throws -> (case: Case, tensors: Checkpoint) {
        let data = try Data(contentsOf: URL(fileURLWithPath: "\(fixtures)/\(name)/case.json"))
        return (
            try JSONDecoder().decode(Case.self, from: data),
            try Checkpoint(path: "\(fixtures)/\(name)/case.safetensors")
        )
    }

    private static func distance(_ found: Tensor, _ golden: Checkpoint, _ name: String) throws -> Float {
        let expected = try #require(golden[name]).tensor()
        #expect(found.shape == expected.shape)
        return zip(found.elements, expected.elements).reduce(0) { max($0, abs($1.0 - $1.1)) }
    }

    @Test(arguments: ["nano", "wide"]) func tokens(name: String) throws {
        let golden = try Self.golden(name).case
        let tokenizer = try CLIPTokenizer(path: "\(Self.fixtures)/\(name)")
        for (index, text) in golden.texts.enumerated() {
            #expect(tokenizer.tokens(text) == golden.tokens[index], "\(text.debugDescription)")
            let padded = golden.padded[index]
            #expect(tokenizer.encodePadded(text, length: padded.count) == padded, "\(text.debugDescription)")
        }
    }

    @Test(arguments: ["nano", "wide"]) func texts(name: String) throws {
        let golden = try Self.golden(name)
        let model = try CLIPModel(path: "\(Self.fixtures)/\(name)")
        #expect(abs(model.logitScale - golden.case.logit_scale) < 1e-4)
        let encoder = try model.textEncoder(precision: .float32)
        let pool = ThreadPool(threadCount: 2)
        let found = encoder.encode(golden.case.padded, pool: pool)
        #expect(try Self.distance(found, golden.tensors, "text_embeds") < 1e-4)
        // What fills a text up does not count.
        let bare = golden.case.texts.map { model.tokenizer.encode($0, length: model.geometry.contextLength) }
        #expect(encoder.encode(bare, pool: .inline).elements == found.elements)
    }

    @Test(arguments: ["nano", "wide"]) func pictures(name: String) throws {
        let golden = try Self.golden(name)
        let model = try CLIPModel(path: "\(Self.fixtures)/\(name)")
        let encoder = try model.imageEncoder(precision: .float32)
        let pictures = try (0..<3).map {
            try ImageDecoder().decode(file: "\(Self.fixtures)/\(name)/picture\($0).png")
        }
        let side = model.geometry.imageSize
        let pixels = pictures.flatMap { encoder.preprocessing.input($0).elements }
        let input = Tensor(shape: [3, 3, side, side], pixels)
        #expect(try Self.distance(input, golden.tensors, "pixel_values") < 1e-6)
        let pool = ThreadPool(threadCount: 2)
        let found = encoder.encode(input: input, pool: pool)
        #expect(try Self.distance(found, golden.tensors, "image_embeds") < 1e-4)
        #expect(encoder.encode(pictures, pool: pool).elements == found.elements)
        #expect(
            encoder.encode([pictures[1]], pool: .inline).elements
                == Array(found.elements[found.shape[1]..<2 * found.shape[1]]))
    }

    /// The same weights under OpenAI's names give the same numbers.
    @Test(arguments: ["state.pt", "script.pt"]) func openAI(file: String) throws {
        let golden = try Self.golden("nano")
        let nano = "\(Self.fixtures)/nano"
        let model = try CLIPModel(path: "\(Self.fixtures)/openai/\(file)", tokenizer: nano)
        #expect(model.layout == .openAI)
        #expect(try model.geometry == CLIPModel(path: nano).geometry)
        let texts = try model.textEncoder(precision: .float32).encode(golden.case.padded, pool: .inline)
        #expect(try Self.distance(texts, golden.tensors, "text_embeds") < 1e-4)
        let input = try #require(golden.tensors["pixel_values"]).tensor()
        let pictures = try model.imageEncoder(precision: .float32).encode(input: input, pool: .inline)
        #expect(try Self.distance(pictures, golden.tensors, "image_embeds") < 1e-4)
    }
}
