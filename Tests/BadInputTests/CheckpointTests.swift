import Checkpoints
import Foundation
import KirieTesting
import Tensors
import Testing

extension BadInputTests {
    /// Checkpoints that are cut off, of another layout, or not data alone.
    @Suite struct CheckpointTests {
        @Test func aBrokenCheckpointIsNamed() throws {
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
            names.append(
                (try model("more.safetensors", all + [.init("extra.weight", Tensor(shape: [1], [1]))]), "extra"))
            names.append((try model("other.safetensors", others + [.init(bias, Tensor(shape: [2], [1, 2]))]), bias))
            for (name, word) in names {
                try expectFailure(
                    [
                        "segment", KirieProcess.landscape, "--point", "5,5", "--model", name, "-o",
                        directory.file("m.png"),
                    ],
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
