import Checkpoints
import Foundation
import KirieTesting
import Tensors
import Testing

/// `embed` against what transformers makes of the same texts and pictures, by the command line alone.
@Suite struct EmbedTests {
    private static let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "TextMatchingTests/Fixtures")

    private struct Case: Decodable {
        let texts: [String]
        let tokens: [[Int]]
    }

    @Test(arguments: ["nano", "wide"]) func embeddingsAreThoseOfTransformers(name: String) throws {
        let directory = try TemporaryDirectory()
        let folder = Self.fixtures.appending(path: name)
        let golden = try Checkpoint(path: folder.appending(path: "case.safetensors").path)
        let described = try JSONDecoder().decode(
            Case.self, from: Data(contentsOf: folder.appending(path: "case.json")))
        let texts = try directory.write(JSONEncoder().encode(described.texts), to: "texts.json")
        let output = directory.file("embeddings.safetensors")
        let pictures = (0..<3).map { folder.appending(path: "picture\($0).png").path }
        let run = try KirieProcess(
            ["embed", "--model", folder.path, "--precision", "fp32", "--texts", texts, "-o", output] + pictures)
        try #require(run.status == 0, "\(run.complaint)")
        let found = try Checkpoint(path: output)
        for tensor in ["text_embeds", "image_embeds"] {
            let expected = try golden.stored(tensor).tensor()
            let mine = try found.tensor(named: tensor, shape: expected.shape)
            #expect(zip(mine.elements, expected.elements).allSatisfy { abs($0 - $1) < 1e-4 })
        }
    }

    @Test func whatCannotBeEmbeddedIsSaid() throws {
        let directory = try TemporaryDirectory()
        let nano = Self.fixtures.appending(path: "nano").path
        let output = directory.file("out.safetensors")
        #expect(try KirieProcess(["embed", "--model", nano, "-o", output]).status == 2)
        #expect(try KirieProcess(["embed", "--model", nano, "--text", "dog"]).status == 2)
        #expect(try KirieProcess(["embed", "--model", nano, "--text", "dog", "-o", "out.npy"]).status == 2)
        let list = try directory.write(Array(#"["dog", 7]"#.utf8), to: "list.json")
        let run = try KirieProcess(["embed", "--model", nano, "--texts", list, "-o", output])
        #expect(run.status == 1 && run.complaint.contains("has something in it that is no text"))
        let other = try KirieProcess(["embed", "--model", directory.path, "--text", "dog", "-o", output])
        #expect(other.status == 1 && other.complaint.contains("is a folder without a checkpoint"))
        #expect(!FileManager.default.fileExists(atPath: output))
    }
}
