import Checkpoints
import Foundation
import KirieTesting
import Platform
import RedisTesting
import Segmentation
import Tensors
import Testing

/// A model of masks that takes a text as a token, and a CLIP, both of a small size, through the commands that a user gives.
@Suite(.serialized) struct TextProjectionTests {
    private static let clip = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "TextMatchingTests/Fixtures/nano").path

    /// The smallest model with a projection of so many numbers, drawn from a seed.
    private func model(width: Int, in directory: TemporaryDirectory) throws -> String {
        let nano = try Checkpoint(path: KirieProcess.nano)
        var entries = try nano.names.map { SafetensorsWriter.Entry($0, try nano.stored($0).tensor()) }
        var random = SplitMix64(seed: 17)
        func numbers(_ shape: [Int]) -> Tensor {
            Tensor(shape: shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -2...2, using: &random) })
        }
        entries.append(.init("prompt_encoder.text_proj.weight", numbers([32, width])))
        entries.append(.init("prompt_encoder.text_proj.bias", numbers([32])))
        let path = directory.file("text-\(width).safetensors")
        try SafetensorsWriter.write(entries, to: path)
        return path
    }

    /// The run lengths of the masks, and which prompts could not be answered.
    private func masks(_ json: String) throws -> [String] {
        let answer = try JSONDecoder().decode(Answer.self, from: Data(json.utf8))
        return answer.masks.compactMap(\.segmentation?.counts)
    }

    @Test(.timeLimit(.minutes(30))) func aTextIsAToken() async throws {
        let directory = try TemporaryDirectory()
        let model = try model(width: 24, in: directory)
        func words(_ text: String, _ more: [String]) -> [String] {
            ["segment", KirieProcess.landscape, "--text", text, "--json", "--model", model] + more
        }
        let here = ["--text-model", Self.clip, "--precision", "fp32"]
        func run(_ text: String, _ more: [String]) throws -> [String] {
            let run = try KirieProcess(words(text, here + more))
            try #require(run.status == 0, "\(run.complaint)")
            return try masks(run.output)
        }
        let dog = try run("a dog", [])
        #expect(dog.count == 1)
        #expect(try run("a dog", ["--multimask"]).count == 3)
        #expect(try run("a house", []) != dog)
        let pointed = try run("a dog", ["--point", "150,110"])
        #expect(pointed.count == 1 && pointed != dog)
        let info = try KirieProcess(["model", "info", model])
        #expect(info.output.contains("texts by a CLIP of 24 numbers"), "\(info.output)")

        let cluster = try await RealCluster.start(
            model: model, encoder: ["--precision", "fp32", "--embedding", "fp32"],
            decoder: ["--precision", "fp32", "--embedding", "fp32", "--text-model", Self.clip])
        for (more, expected) in [([], dog), (["--point", "150,110"], pointed)] {
            let ending = try await cluster.kirie(
                ["segment", KirieProcess.landscape, "--text", "a dog", "--json", "--redis", "\(cluster.server.url)"]
                    + more)
            try #require(ending.status == 0, "\(ending.complaint)")
            #expect(try masks(ending.output) == expected)
        }
        try await cluster.stop()
    }

    /// A CLIP of another width is refused before any mask is made, and says what would fit.
    @Test func aClipOfAnotherWidthIsRefused() throws {
        let directory = try TemporaryDirectory()
        let model = try model(width: 40, in: directory)
        let run = try KirieProcess([
            "segment", KirieProcess.landscape, "--text", "a dog", "--json", "--model", model, "--text-model", Self.clip,
        ])
        #expect(run.status == 1 && run.output.isEmpty)
        for word in ["24 numbers", "takes 40", "--text-model"] {
            #expect(run.complaint.contains(word), "\(run.complaint)")
        }
        // Words that are matched with candidates need no projection.
        let candidates = try KirieProcess([
            "segment", KirieProcess.landscape, "--text", "a dog", "--json", "--model", model, "--instances", "all",
            "--text-model", Self.clip,
        ])
        #expect(candidates.complaint.contains("24 numbers") == false, "\(candidates.complaint)")
    }
}
