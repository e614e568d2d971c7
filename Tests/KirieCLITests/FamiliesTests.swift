import Checkpoints
import Foundation
import KirieTesting
import Testing

/// Every family of models through the commands that a user gives, on a model of a small size.
@Suite struct FamiliesTests {
    private static let models = ["hiera", "hiera_wide", "edgetam", "edgetam_wide", "hq", "hq_light", "lite"]

    private static func path(_ model: String) -> String {
        KirieProcess.fixtures.appendingPathComponent("\(model)/sam.safetensors").path
    }

    private func run(_ arguments: [String]) throws -> KirieProcess {
        let run = try KirieProcess(arguments)
        try #require(run.status == 0, "\(arguments): \(run.complaint)")
        return run
    }

    /// What `--json` says of the masks alone.
    private func masks(_ run: KirieProcess) throws -> NSArray {
        let object = try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any]
        return try #require(object?["masks"] as? NSArray)
    }

    @Test(arguments: models) func aClickOnAPictureIsAClickOnItsEmbedding(_ model: String) throws {
        let directory = try TemporaryDirectory()
        let options = ["--model", Self.path(model), "--precision", "fp32"]
        let prompt = ["--point", "150,110", "--box", "40,30,200,180", "--json"]
        let direct = try masks(try run(["segment", KirieProcess.landscape] + options + prompt))
        for type in ["kemb", "safetensors"] {
            let embedding = directory.file("embedding.\(type)")
            let stored = type == "kemb" ? ["--type", "fp32"] : []
            _ = try run(["encode", KirieProcess.landscape, "-o", embedding] + options + stored)
            #expect(try masks(try run(["decode", embedding] + options + prompt)) == direct)
        }
        #expect(direct.count > 0)
        // SAM 2's decoders ask themselves if there is an object at all.
        let asks = model.hasPrefix("hiera") || model.hasPrefix("edgetam")
        let scores = direct.compactMap { ($0 as? [String: Any])?["object_score"] as? Double }
        #expect(scores.count == (asks ? direct.count : 0))
        // On a tile, too.
        let tiled = try masks(
            try run(
                ["segment", KirieProcess.landscape, "--tile", "auto"] + options + ["--point", "150,110", "--json"]))
        for mask in tiled { #expect(((mask as? [String: Any])?["object_score"] != nil) == asks) }
        #expect(tiled.count > 0)
    }

    @Test(arguments: models) func everythingGoesThroughIt(_ model: String) throws {
        let directory = try TemporaryDirectory()
        let output = directory.file("all.json")
        _ = try run([
            "everything", KirieProcess.landscape, "--model", Self.path(model), "--points-per-side", "6",
            "--pred-iou-thresh", "0", "--stability-score-thresh", "0", "-o", output,
        ])
        let object = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: output)))
        #expect(((object as? [String: Any])?["annotations"] as? NSArray)?.count ?? 0 > 0)
    }

    /// What is written says what tensors do not, whatever lay beside the file that was read.
    @Test(arguments: models) func aConvertedModelIsTheSameModel(_ model: String) throws {
        let directory = try TemporaryDirectory()
        let output = directory.file("converted.safetensors")
        _ = try run(["model", "convert", Self.path(model), "-o", output])
        let prompt = ["--point", "150,110", "--json", "--precision", "fp32"]
        let before = try masks(try run(["segment", KirieProcess.landscape, "--model", Self.path(model)] + prompt))
        let after = try masks(try run(["segment", KirieProcess.landscape, "--model", output] + prompt))
        #expect(before == after)
        let info = try run(["model", "info", output])
        // A ViT's position embedding tells the image size, whatever is written.
        let source = model == "hq" ? "from the tensors" : "from the file's metadata"
        #expect(info.output.contains(source), "\(info.output)")
    }
}
