import Checkpoints
import Foundation
import KirieTesting
import Tensors
import Testing

/// Models by folder, by shards, and those that do not tell on pictures of what size they work.
@Suite struct ModelFileTests {
    private static let tiny = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("weights/kirie-tiny.safetensors").path

    private func info(_ arguments: String...) throws -> KirieProcess {
        try KirieProcess(["model", "info"] + arguments)
    }

    /// The line of `model info` that begins so.
    private func line(_ start: String, _ arguments: String...) throws -> String {
        let run = try KirieProcess(["model", "info"] + arguments)
        try #require(run.status == 0, "\(run.complaint)")
        return String(try #require(run.output.split(separator: "\n").first { $0.hasPrefix(start) }))
    }

    @Test func anImageSizeThatNothingTellsIsAskedForAndKept() throws {
        let directory = try TemporaryDirectory()
        let shipped = try Checkpoint(path: Self.tiny)
        let size = try #require(shipped.metadata["kirie.image_size"])
        var metadata = shipped.metadata
        metadata["kirie.image_size"] = nil
        let silent = directory.file("silent.safetensors")
        try SafetensorsWriter.write(shipped.tensors.map { .init($0) }, metadata: metadata, to: silent)

        for arguments in [
            ["model", "info", silent], ["segment", KirieProcess.landscape, "--model", silent, "--point", "9,9"],
            ["model", "convert", silent, "-o", directory.file("no.safetensors")],
        ] {
            let asked = try KirieProcess(arguments)
            #expect(asked.status == 1 && asked.output.isEmpty)
            #expect(asked.complaint.contains("--image-size"), "\(asked.complaint)")
        }
        #expect(!FileManager.default.fileExists(atPath: directory.file("no.safetensors")))

        // With the size it is the model that it was, and with another it is another.
        let fingerprint = try line("fingerprint", Self.tiny)
        #expect(try line("fingerprint", silent, "--image-size", size) == fingerprint)
        #expect(try line("image size", silent, "--image-size", size) == "image size: \(size), as asked for")
        #expect(try line("image size", Self.tiny) == "image size: \(size), from the file's metadata")
        #expect(try line("image size", KirieProcess.nano) == "image size: 256, from the tensors")
        #expect(try line("fingerprint", silent, "--image-size", "256") != fingerprint)

        // What is written keeps it, and is what the shipped file becomes.
        let (told, same) = (directory.file("told.safetensors"), directory.file("same.safetensors"))
        for (arguments, output) in [([silent, "--image-size", size], told), ([Self.tiny], same)] {
            let convert = try KirieProcess(["model", "convert"] + arguments + ["-o", output])
            #expect(convert.status == 0, "\(convert.complaint)")
        }
        #expect(try line("image size", told) == "image size: \(size), from the file's metadata")
        #expect(try line("fingerprint", told) == line("fingerprint", same))
        let segment = try KirieProcess([
            "segment", KirieProcess.landscape, "--model", silent, "--image-size", size, "--point", "9,9", "--json",
        ])
        #expect(segment.status == 0, "\(segment.complaint)")

        let misfit = try info(silent, "--image-size", "1001")
        #expect(misfit.status == 1 && misfit.complaint.contains("pictures of 1001"), "\(misfit.complaint)")
        let contradiction = try info(KirieProcess.nano, "--image-size", "512")
        #expect(contradiction.complaint.contains("as its tensors tell"), "\(contradiction.complaint)")
    }

    @Test func aFolderAndShardsAreTheModelThatTheyHold() throws {
        let directory = try TemporaryDirectory()
        let whole = try Checkpoint(path: KirieProcess.nano)
        let fingerprint = try line("fingerprint", KirieProcess.nano)
        var map: [String: String] = [:]
        for (index, part) in [whole.tensors.prefix(40), whole.tensors.dropFirst(40)].enumerated() {
            let file = "model-0000\(index + 1)-of-00002.safetensors"
            try SafetensorsWriter.write(part.map { .init($0) }, to: directory.file(file))
            for tensor in part { map[tensor.name] = file }
        }
        try JSONSerialization.data(withJSONObject: ["weight_map": map])
            .write(to: URL(fileURLWithPath: directory.file("model.safetensors.index.json")))
        for path in [directory.path, directory.file("model.safetensors.index.json")] {
            #expect(try line("fingerprint", path) == fingerprint)
        }
        try FileManager.default.removeItem(atPath: directory.file("model.safetensors.index.json"))
        let asked = try info(directory.path)
        #expect(asked.status == 1 && asked.complaint.contains("2 checkpoints"), "\(asked.complaint)")
    }

    /// That what is folded in equals PEFT's own merge is in ``AdapterTests``.
    @Test(arguments: ["published", "hugging_face", "apart"]) func anAdapterIsFoldedIn(_ name: String) throws {
        let directory = try TemporaryDirectory()
        let folder = KirieProcess.fixtures.appendingPathComponent("lora/\(name)").path
        let (plain, folded) = (directory.file("plain.safetensors"), directory.file("folded.safetensors"))
        let convert = try KirieProcess(["model", "convert", KirieProcess.nano, "-o", plain])
        #expect(convert.status == 0, "\(convert.complaint)")
        for adapter in [folder, "\(folder)/adapter_model.safetensors"] {
            let folding = try KirieProcess(["model", "convert", KirieProcess.nano, "--lora", adapter, "-o", folded])
            #expect(folding.status == 0 && folding.output.isEmpty, "\(folding.complaint)")
            #expect(folding.complaint.contains("folded \(adapter) into "), "\(folding.complaint)")
            // The layers that the adapter names are others, and no other layer is.
            let (before, after) = (try Checkpoint(path: plain), try Checkpoint(path: folded))
            #expect(before.names == after.names)
            let expected = try Checkpoint(
                path: KirieProcess.fixtures.appendingPathComponent("lora/expected.safetensors").path)
            let named = expected.names.filter { $0.hasPrefix("\(name).") }.map { $0.dropFirst(name.count + 1) }
            let changed = try before.names.filter {
                try before.stored($0).tensor().elements != after.stored($0).tensor().elements
            }
            #expect(changed.sorted() == named.map(String.init).sorted())
            #expect(folding.complaint.contains(" into \(changed.count) tensors"), "\(folding.complaint)")
        }
        // It is another model, and its masks are others.
        #expect(try line("fingerprint", plain) != line("fingerprint", folded))
        let prompt = ["segment", KirieProcess.landscape, "--point", "150,110", "--json", "--model"]
        let answers = try [plain, folded].map { try KirieProcess(prompt + [$0]) }
        #expect(answers.allSatisfy { $0.status == 0 } && answers[0].output != answers[1].output)
    }

    @Test func anAdapterThatIsNoneIsNamedAndNothingIsWritten() throws {
        let directory = try TemporaryDirectory()
        let output = directory.file("no.safetensors")
        let lora = KirieProcess.fixtures.appendingPathComponent("lora/published")
        let alone = directory.file("adapter_model.safetensors")
        try FileManager.default.copyItem(
            atPath: lora.appendingPathComponent("adapter_model.safetensors").path, toPath: alone)
        for (model, adapter, words) in [
            (KirieProcess.nano, "/nowhere/adapter", "/nowhere/adapter"),
            (KirieProcess.nano, alone, "adapter_config.json"),
            // Layers that another model has not got.
            (Self.tiny, lora.path, "adapter_model.safetensors"),
        ] {
            let run = try KirieProcess(["model", "convert", model, "--lora", adapter, "-o", output])
            #expect(run.status == 1 && run.output.isEmpty, "\(run.complaint)")
            #expect(run.complaint.contains(words), "\(run.complaint)")
            #expect(!FileManager.default.fileExists(atPath: output))
        }
    }
}
