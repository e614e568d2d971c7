import Foundation
import KirieTesting
import Testing

/// Command lines that are wrong, and what the program says of itself.
@Suite struct UsageTests {
    @Test(arguments: [
        ["segment", "photo.jpg"],
        ["segment", "photo.jpg", "--point", "1"],
        ["segment", "photo.jpg", "--point", "1,2,2"],
        ["segment", "photo.jpg", "--point", "a,b"],
        ["segment", "photo.jpg", "--box", "1,2,3"],
        ["segment", "photo.jpg", "--box", "1,2,x,3,4"],
        ["segment", "photo.jpg", "--point", "1,2,-1"],
        ["segment", "photo.jpg", "--point", "1,2", "-o", "a.png", "--overlay", "a.png"],
        ["segment", "photo.jpg", "--point", "1,2", "--threads", "many"],
        ["decode", "photo.kemb", "--point", "1,2", "--logits", "x.npy"],
        ["bench", "decode", "--prompts", "0"],
        ["bench", "encode", "--runs", "0"],
        ["segment", "photo.jpg", "--point", "1,2", "--no-such-flag"],
        ["segment", "photo.jpg", "--point", "1,2", "-o", "mask.bmp"],
        ["segment", "photo.jpg", "--point", "1,2", "--overlay", "x.jpg"],
        ["segment", "photo.jpg", "--point", "1,2", "--threads", "0"],
        ["segment", "photo.jpg", "--point", "1,2", "--precision", "fp64"],
        ["segment", "photo.jpg", "--point", "1,2", "--box", "1,1,5,5", "--box", "2,2,6,6"],
        ["segment", "--point", "1,2"],
        ["encode", "photo.jpg"],
        ["encode", "photo.jpg", "-o", "x.npy"],
        ["encode", "photo.jpg", "-o", "x.kemb", "--debug"],
        ["decode", "photo.kemb", "--point", "1,2", "--overlay", "x.png"],
        ["decode", "photo.kemb", "--point", "1,2", "--full-size"],
        ["bench", "encode", "--random", "vit_x"],
        ["model", "convert", "x.pth", "-o", "x.pth"],
        ["no-such-command"],
    ]) func wrongUsageExitsWith2(arguments: [String]) throws {
        let run = try KirieProcess(arguments)
        #expect(run.status == 2, "\(arguments): \(run.status)")
        #expect(run.output.isEmpty && run.complaint.contains("Usage:"))
    }

    @Test func anUnknownInstructionSetIsWrongUsage() throws {
        let run = try KirieProcess(["model", "list"], environment: ["KIRIE_MAX_ISA": "avx1024"])
        #expect(run.status == 2 && run.output.isEmpty)
        #expect(run.complaint.contains("KIRIE_MAX_ISA takes one of baseline, avx2, avx512, bf16, amx, not 'avx1024'."))
    }

    @Test(arguments: [
        [], ["segment"], ["encode"], ["decode"], ["model"], ["model", "list"], ["model", "fetch"], ["model", "info"],
        ["model", "convert"], ["model", "draw"], ["plan"], ["bench"], ["bench", "encode"], ["bench", "decode"],
    ]) func helpExitsWith0(command: [String]) throws {
        let run = try KirieProcess(command + ["--help"])
        #expect(run.status == 0 && run.output.contains("USAGE: kirie"))
        // An example stands above the usage line.
        let overview = run.output.components(separatedBy: "USAGE:")[0]
        #expect(overview.contains("kirie \(command.joined(separator: " "))"), "no example in \(run.output)")
    }

    @Test func benchPrintsTheAgreedObject() throws {
        for part in ["encode", "decode"] {
            let run = try KirieProcess(["bench", part, "--runs", "3", "--threads", "1", "--json"])
            try #require(run.status == 0, "\(run.complaint)")
            let object = try #require(try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any])
            #expect(
                object.keys.sorted() == [
                    "max_ms", "median_ms", "min_ms", "model", "part", "peak_rss_mb", "precision", "runs", "threads",
                ])
            #expect(object["part"] as? String == part && object["runs"] as? Int == 3)
        }
    }

    @Test func modelsAreListedInspectedAndConverted() throws {
        let list = try KirieProcess(["model", "list"])
        #expect(list.status == 0)
        for name in ["vit_b", "vit_l", "vit_h", "mobile"] { #expect(list.output.contains(name)) }

        let info = try KirieProcess(["model", "info", KirieProcess.nano])
        for part in ["PyTorch", "ViT, image 256", "width 64", "32 × 16 × 16", "fingerprint: "] {
            #expect(info.output.contains(part), "\(part) in \(info.output)")
        }

        let directory = try TemporaryDirectory()
        let point = ["--point", "150,110", "--json"]
        func fingerprint(_ file: String) throws -> Substring? {
            try KirieProcess(["model", "info", file]).output.split(separator: "\n")
                .first { $0.hasPrefix("fingerprint") }
        }
        func masks(_ model: String) throws -> Substring {
            let run = try KirieProcess(["segment", KirieProcess.landscape, "--model", model] + point)
            return run.output.drop { $0 != "[" }.prefix { $0 != "]" }
        }
        for type in ["fp32", "fp16"] {
            let file = directory.file("\(type).safetensors")
            let run = try KirieProcess(["model", "convert", KirieProcess.nano, "-o", file, "--type", type])
            try #require(run.status == 0, "\(run.complaint)")
            #expect((try fingerprint(file) == fingerprint(KirieProcess.nano)) == (type == "fp32"))
        }
        #expect(try masks(directory.file("fp32.safetensors")) == masks(KirieProcess.nano))
        let size = try FileManager.default.attributesOfItem(atPath: directory.file("fp16.safetensors"))[.size] as? Int
        #expect(try #require(size) < 700_000)
    }
}
