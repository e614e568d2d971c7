import Checkpoints
import Foundation
import KirieTesting
import Tensors
import Testing

/// A command that fails leaves every output as it was: none where there was none, the old one where there was one.
@Suite struct OutputTests {
    private static let old = Array("the old file".utf8)

    /// Runs a command that must fail, in a directory whose files must stay as they are.
    private func expectUntouched(
        _ arguments: [String], says words: [String], output: KirieProcess.Sink = .test,
        in directory: TemporaryDirectory,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        func contents() throws -> [String: Data?] {
            Dictionary(
                uniqueKeysWithValues: try directory.files.map {
                    ($0, FileManager.default.contents(atPath: directory.file($0)))
                })
        }
        let before = try contents()
        let run = try KirieProcess(arguments, output: output)
        #expect(run.status == 1, "\(run.status): \(run.complaint)", sourceLocation: sourceLocation)
        for word in words {
            #expect(run.complaint.contains(word), "‘\(word)’ in: \(run.complaint)", sourceLocation: sourceLocation)
        }
        #expect(try contents() == before, sourceLocation: sourceLocation)
    }

    @Test func anOldFileOutlivesAFailure() throws {
        let directory = try TemporaryDirectory()
        let mask = try directory.write(Self.old, to: "mask.png")
        let logits = try directory.write(Self.old, to: "logits.safetensors")
        let text = try directory.write("no picture".utf8, to: "text.jpg")
        let nowhere = directory.file("no/such/directory")
        let segment = ["segment", KirieProcess.landscape, "--point", "5,5", "-o", mask]
        try expectUntouched(["segment", text, "--point", "5,5", "-o", mask], says: [text], in: directory)
        try expectUntouched(
            ["segment", KirieProcess.landscape, "--point", "999,5", "-o", mask], says: [], in: directory)
        // One output of several that cannot be written keeps the others back.
        try expectUntouched(segment + ["--overlay", "\(nowhere)/overlay.png"], says: [nowhere], in: directory)
        try expectUntouched(
            segment + ["--overlay", directory.file("new.png"), "--json"], says: ["standard output"],
            output: .file("/dev/full"), in: directory)
        try expectUntouched(
            ["model", "convert", text, "-o", logits], says: [text], in: directory)

        let embedding = directory.file("photo.kemb")
        #expect(try KirieProcess(["encode", KirieProcess.landscape, "-o", embedding]).status == 0)
        try expectUntouched(
            ["decode", embedding, "--point", "5,5", "--logits", logits, "-o", "\(nowhere)/mask.png"], says: [nowhere],
            in: directory)
        try expectUntouched(
            ["decode", embedding, "--point", "5,5", "--logits", logits, "-o", mask, "--json"],
            says: ["standard output"], output: .file("/dev/full"), in: directory)
    }

    @Test func aDirectoryIsNoOutput() throws {
        let directory = try TemporaryDirectory()
        for name in ["a.png", "a.json", "a.kemb", "a.safetensors"] {
            try FileManager.default.createDirectory(atPath: directory.file(name), withIntermediateDirectories: true)
        }
        let segment = ["segment", KirieProcess.landscape, "--point", "5,5"]
        for (arguments, name) in [
            (segment + ["-o"], "a.png"), (segment + ["-o"], "a.json"), (segment + ["--overlay"], "a.png"),
            (["encode", KirieProcess.landscape, "-o"], "a.kemb"),
            (["encode", KirieProcess.landscape, "-o"], "a.safetensors"),
            (["model", "convert", KirieProcess.nano, "-o"], "a.safetensors"),
        ] {
            try expectUntouched(arguments + [directory.file(name)], says: [directory.file(name)], in: directory)
        }
    }

    /// The superuser may write anything, so only others see this refusal.
    @Test(.enabled(if: geteuid() != 0)) func aWriteProtectedFileIsKept() throws {
        let directory = try TemporaryDirectory()
        let mask = try directory.write(Self.old, to: "mask.png")
        chmod(mask, 0o444)
        try expectUntouched(
            ["segment", KirieProcess.landscape, "--point", "5,5", "-o", mask], says: [mask, "protected"], in: directory)
    }

    @Test func aReaderThatWentAwayIsAnError() throws {
        let directory = try TemporaryDirectory()
        try expectUntouched(
            [
                "segment", KirieProcess.landscape, "--point", "5,5", "--json", "-o", directory.file("mask.png"),
            ], says: ["standard output"], output: .nobody, in: directory)
    }

    @Test func aSymbolicLinkStays() throws {
        let directory = try TemporaryDirectory()
        let target = try directory.write(Self.old, to: "target.png")
        let link = directory.file("link.png")
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: target)
        let run = try KirieProcess(["segment", KirieProcess.landscape, "--point", "5,5", "-o", link])
        #expect(run.status == 0 && run.complaint.contains("wrote \(link)"), "\(run.complaint)")
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == target)
        #expect(FileManager.default.contents(atPath: target)?.starts(with: [0x89, 0x50]) == true)
    }

    /// Embeddings and masks of another model's shape, and files that lack what is asked of them.
    @Test func tensorsOfAnotherShape() throws {
        let directory = try TemporaryDirectory()
        func file(_ name: String, _ tensor: String, _ shape: [Int], metadata: [String: String] = [:]) throws -> String {
            let path = directory.file(name)
            let values = [Float](repeating: 0, count: shape.reduce(1, *))
            try SafetensorsWriter.write([.init(tensor, Tensor(shape: shape, values))], metadata: metadata, to: path)
            return path
        }
        let size = ["kirie.original_width": "301", "kirie.original_height": "227"]
        let mask = directory.file("mask.png")
        for (embedding, word) in [
            (try file("shape.safetensors", "image_embedding", [1, 64, 32, 32], metadata: size), "[1, 32, 16, 16]"),
            (try file("sizeless.safetensors", "image_embedding", [1, 32, 16, 16]), "width and height"),
            (try file("nameless.safetensors", "embedding", [1, 32, 16, 16], metadata: size), "image_embedding"),
        ] {
            try expectUntouched(
                ["decode", embedding, "--point", "5,5", "-o", mask], says: [embedding, word], in: directory)
        }
        for (prior, word) in [
            (try file("two.safetensors", "low_res_logits", [1, 2, 64, 64]), "one mask"),
            (try file("side.safetensors", "low_res_logits", [1, 1, 32, 32]), "64"),
            (try file("other.safetensors", "logits", [1, 1, 64, 64]), "low_res_logits"),
        ] {
            try expectUntouched(
                ["segment", KirieProcess.landscape, "--mask", prior, "-o", mask], says: [prior, word], in: directory)
        }
    }
}
