import Checkpoints
import Foundation
import Imaging
import Tensors
import Testing

/// Every bad input: exit status 1, a message that names the file, and no file left behind.
@Suite struct BadInputTests {
    /// Runs a command that must fail and leave the directory as it was.
    private func expectFailure(
        _ arguments: [String], says words: [String], in directory: TemporaryDirectory,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let before = try directory.files
        let run = try KirieProcess(arguments)
        #expect(run.status == 1, "\(run.status): \(run.complaint)", sourceLocation: sourceLocation)
        #expect(run.output.isEmpty, sourceLocation: sourceLocation)
        for word in words {
            #expect(run.complaint.contains(word), "‘\(word)’ in: \(run.complaint)", sourceLocation: sourceLocation)
        }
        #expect(try directory.files == before, sourceLocation: sourceLocation)
    }

    private func bytes(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

    @Test func pictures() throws {
        let directory = try TemporaryDirectory()
        let mask = directory.file("mask.png")
        let (png, jpeg) = (try bytes(KirieProcess.portrait), try bytes(KirieProcess.landscape))
        // A header that claims 60,000 x 60,000 pixels, with its checksum left wrong or the limit seen first.
        var bomb = png
        bomb.replaceSubrange(16..<24, with: [0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60])
        var corrupt = png
        for index in stride(from: 60, to: png.count - 60, by: 97) { corrupt[index] ^= 0x55 }
        let pictures = [
            try directory.write(png.prefix(2000), to: "cut.png"),
            try directory.write(jpeg.prefix(2000), to: "cut.jpg"),
            try directory.write(bomb, to: "bomb.png"), try directory.write(corrupt, to: "corrupt.png"),
            try directory.write("no picture".utf8, to: "text.jpg"), try directory.write([], to: "empty.png"),
            directory.file("missing.jpg"), directory.path,
        ]
        for picture in pictures {
            try expectFailure(
                ["segment", picture, "--point", "5,5", "-o", mask], says: ["kirie: ", picture], in: directory)
        }
    }

    @Test func prompts() throws {
        let directory = try TemporaryDirectory()
        let small = directory.file("small.png")
        try PNGWriter.write(GrayImage(width: 4, height: 4, pixels: [UInt8](repeating: 255, count: 16)), to: small)
        let cases: [([String], [String])] = [
            (["--point", "302,5"], [KirieProcess.landscape, "point 1", "outside the picture of 301 x 227"]),
            (["--point", "5,5", "--point", "5,-1"], ["point 2"]),
            (["--point", "nan,5"], ["point 1", "finite"]), (["--box", "0,0,inf,5"], ["the box", "finite"]),
            (["--box", "400,0,900,90", "--box", "9,9,5,20"], ["box 1: ", "wholly outside", "box 2: ", "inverted"]),
            (["--box", "50,50,10,90"], ["empty or inverted"]), (["--box", "50,50,50,90"], ["empty or inverted"]),
            (["--box", "400,0,900,90"], ["wholly outside the picture of 301 x 227"]), (["--text", "a dog"], ["text"]),
            (["--point", "5,5", "--mask", small], [small, "4 x 4", "301 x 227"]),
            (["--point", "5,5", "--mask", directory.file("none.png")], [directory.file("none.png")]),
        ]
        for (arguments, words) in cases {
            try expectFailure(
                ["segment", KirieProcess.landscape, "-o", directory.file("mask.png")] + arguments,
                says: words,
                in: directory)
        }
    }

    @Test func checkpoints() throws {
        let directory = try TemporaryDirectory()
        let (zip, safetensors) = (try bytes(KirieProcess.nano), try bytes(KirieProcess.wide))
        var names = [(String, String)]()
        names.append((try directory.write(zip.prefix(zip.count / 2), to: "cut.pth"), ""))
        names.append((try directory.write(safetensors.prefix(5000), to: "cut.safetensors"), ""))
        names.append((try directory.write([0xFF] + safetensors.dropFirst(), to: "header.safetensors"), ""))
        names.append((try directory.write("GIF89a".utf8, to: "picture.pth"), "safetensors"))
        names.append((directory.file("missing.pth"), "missing.pth"))

        // A complete model with one tensor missing, one too many, or one of another shape.
        let nano = try Checkpoint(path: KirieProcess.nano)
        let bias = "image_encoder.blocks.0.attn.qkv.bias"
        func model(_ name: String, _ entries: [SafetensorsWriter.Entry]) throws -> String {
            let path = directory.file(name)
            try SafetensorsWriter.write(entries, to: path)
            return path
        }
        let all = nano.tensors.map { SafetensorsWriter.Entry($0) }
        let others = nano.tensors.filter { $0.name != bias }.map { SafetensorsWriter.Entry($0) }
        names.append((try model("less.safetensors", others), bias))
        names.append((try model("more.safetensors", all + [.init("extra.weight", Tensor(shape: [1], [1]))]), "extra"))
        names.append((try model("other.safetensors", others + [.init(bias, Tensor(shape: [2], [1, 2]))]), bias))
        for (name, word) in names {
            try expectFailure(
                ["segment", KirieProcess.landscape, "--point", "5,5", "--model", name, "-o", directory.file("m.png")],
                says: ["kirie: ", name, word].filter { !$0.isEmpty }, in: directory)
            try expectFailure(
                ["model", "convert", name, "-o", directory.file("new.safetensors")], says: [name], in: directory)
        }
    }

    /// A pickle that would run a program is refused by the name of what it asks for, and nothing runs.
    @Test func aPickleThatRunsSomething() throws {
        let directory = try TemporaryDirectory()
        let marker = directory.file("ran")
        var body: [UInt8] = [0x80, 2] + Array("cos\nsystem\n".utf8)
        let command = Array("touch \(marker)".utf8)
        body += [0x58] + withUnsafeBytes(of: UInt32(command.count).littleEndian) { Array($0) } + command
        body += [0x85, 0x52, 0x2E]
        let file = try directory.write(ZipArchiveBytes.stored(name: "archive/data.pkl", body), to: "evil.pth")
        try expectFailure(
            ["segment", KirieProcess.landscape, "--point", "5,5", "--model", file], says: [file, "os.system"],
            in: directory)
        #expect(!FileManager.default.fileExists(atPath: marker))
    }

    @Test func embeddings() throws {
        let directory = try TemporaryDirectory()
        let good = directory.file("good.kemb")
        #expect(try KirieProcess(["encode", KirieProcess.landscape, "-o", good]).status == 0)
        let record = try bytes(good)
        var damaged = record
        damaged[record.count - 5] ^= 1
        let files = [
            try directory.write(record.prefix(100), to: "cut.kemb"), try directory.write(damaged, to: "damaged.kemb"),
            try directory.write("nothing".utf8, to: "text.kemb"), directory.file("missing.kemb"),
        ]
        for file in files {
            try expectFailure(
                ["decode", file, "--point", "5,5", "-o", directory.file("m.png")], says: [file], in: directory)
        }
        try expectFailure(
            ["decode", good, "--point", "5,5", "--model", KirieProcess.wide],
            says: [good, "made by another model", "encode"], in: directory)
    }

    @Test func outputsThatCannotBeWritten() throws {
        let directory = try TemporaryDirectory()
        let segment = ["segment", KirieProcess.landscape, "--point", "5,5"]
        let nowhere = directory.file("no/such/directory/mask")
        for arguments in [
            segment + ["-o", "\(nowhere).png"], segment + ["-o", "\(nowhere).json"],
            segment + ["--overlay", "\(nowhere).png"],
            ["encode", KirieProcess.landscape, "-o", "\(nowhere).kemb"],
            ["encode", KirieProcess.landscape, "-o", "\(nowhere).safetensors"],
        ] { try expectFailure(arguments, says: [nowhere], in: directory) }
        try FileManager.default.createDirectory(
            atPath: directory.file("folder.png"), withIntermediateDirectories: true)
        try expectFailure(
            segment + ["-o", directory.file("folder.png")], says: [directory.file("folder.png")], in: directory)

        let full = try KirieProcess(segment + ["--json"], output: .file("/dev/full"))
        #expect(full.status == 1 && full.complaint.contains("standard output"))
    }
}

/// A zip archive with one stored entry, as small as torch.save's reader accepts.
enum ZipArchiveBytes {
    static func stored(name: String, _ body: [UInt8]) -> [UInt8] {
        func two(_ value: Int) -> [UInt8] { [UInt8(value & 0xFF), UInt8(value >> 8 & 0xFF)] }
        func four(_ value: Int) -> [UInt8] { two(value & 0xFFFF) + two(value >> 16) }
        let name = Array(name.utf8)
        // Checksums are not what is tested here; the reader goes by sizes.
        let common =
            two(0) + two(0) + two(0) + two(0) + four(0) + four(body.count) + four(body.count) + two(name.count) + two(0)
        let local = [0x50, 0x4B, 3, 4] + two(20) + common + name + body
        let central =
            [0x50, 0x4B, 1, 2] + two(20) + two(20) + common + two(0) + two(0) + two(0) + four(0) + four(0) + name
        let end =
            [0x50, 0x4B, 5, 6] + two(0) + two(0) + two(1) + two(1) + four(central.count) + four(local.count) + two(0)
        return local + central + end
    }
}
