import Checkpoints
import Clients
import Foundation
import Imaging
import KirieTesting
import Segmentation
import Testing

/// `segment`, `encode` and `decode` as a user runs them.
@Suite struct SegmentTests {
    private struct Answer: Decodable {
        struct Picture: Decodable {
            var width: Int
            var height: Int
            var sha256: String?
        }
        struct Cutout: Decodable {
            var prompt: Int
            var score: Double
            var stability_score: Double
            var area: Int
            var bbox: [Int]
            var segmentation: RunLengthEncoding
            var crop_box: [Int]?
        }
        var image: Picture
        var model: String
        var precision: String
        var timings_ms: [String: Double]
        var masks: [Cutout]
    }

    private func answer(_ run: KirieProcess) throws -> Answer {
        try #require(run.status == 0, "\(run.complaint)")
        // One object and one newline: nothing else on standard output.
        #expect(run.output.filter { $0 == "\n" }.count == 1 && run.output.hasSuffix("}\n"))
        return try JSONDecoder().decode(Answer.self, from: Data(run.output.utf8))
    }

    @Test func jsonIsOneObjectThatAgreesWithTheMaskFile() throws {
        let directory = try TemporaryDirectory()
        let run = try KirieProcess([
            "segment", KirieProcess.landscape, "--point", "150,110", "--point", "20,20,0", "--json", "-o",
            directory.file("mask.png"), "--overlay", directory.file("overlay.png"), "--precision", "fp32",
        ])
        let answer = try answer(run)
        #expect(run.complaint.isEmpty)
        #expect(answer.image.width == 301 && answer.image.height == 227 && answer.image.sha256?.count == 64)
        #expect(answer.model == "sam.pth" && answer.precision == "fp32" && answer.masks.count == 1)
        #expect(["read", "load", "encode", "decode"].allSatisfy { answer.timings_ms[$0] != nil })
        let cutout = answer.masks[0]
        #expect(cutout.area == cutout.segmentation.area && cutout.bbox == cutout.segmentation.boundingBox)
        let mask = try ImageDecoder().decode(file: directory.file("mask.png")).luminance
        #expect(mask.pixels == cutout.segmentation.mask.pixels.map { $0 * 255 })
        let overlay = try ImageDecoder().decode(file: directory.file("overlay.png"))
        #expect(overlay.width == 301 && overlay.height == 227)
    }

    /// A disc of 28 pixels in a picture of 3,000: the model sees four of them, or ten on a tile.
    @Test func aTileShowsWhatIsSmall() throws {
        let directory = try TemporaryDirectory()
        let (width, height, x0, y0, radius) = (3000, 2000, 2200, 1400, 14)
        var pixels = [UInt8](repeating: 0, count: width * height * 3)
        var disc = [UInt8](repeating: 0, count: width * height)
        for y in 0..<height {
            for x in 0..<width {
                let isDisc = (x - x0) * (x - x0) + (y - y0) * (y - y0) <= radius * radius
                disc[y * width + x] = isDisc ? 1 : 0
                let color: [Int] = isDisc ? [220, 60, 40] : [80 + x / 40, 110 + y / 50, 100 + (x + y) / 80]
                for channel in 0..<3 {
                    pixels[(y * width + x) * 3 + channel] = UInt8(color[channel] + (x * 7 + y * 13) % 5)
                }
            }
        }
        let picture = directory.file("large.png")
        try Data(PNGWriter.encode(Image(width: width, height: height, pixels: pixels)))
            .write(to: URL(fileURLWithPath: picture))
        func overlap(_ more: [String]) throws -> (Double, [Int]?) {
            let run = try KirieProcess(
                ["segment", picture, "--point", "\(x0),\(y0)", "--json"] + more,
                environment: ["KIRIE_MODEL": "kirie-tiny"])
            let cutout = try answer(run).masks[0]
            let mask = cutout.segmentation.mask.pixels
            let (both, either) = zip(mask, disc).reduce(into: (0, 0)) {
                $0.0 += Int($1.0 & $1.1)
                $0.1 += Int($1.0 | $1.1)
            }
            return (Double(both) / Double(either), cutout.crop_box)
        }
        let (whole, tile) = (try overlap([]), try overlap(["--tile", "auto"]))
        #expect(whole.1 == nil && tile.1 == [x0 - 512, 1400 - 512, 1024, 1024], "\(tile)")
        #expect(tile.0 >= 0.85 && tile.0 > whole.0 + 0.2, "\(whole.0), on a tile \(tile.0)")
    }

    /// What an older processor computes, and what this one does: the same mask but for single pixels on its edge.
    @Test(arguments: ["baseline", "avx2", "avx512", "amx"]) func instructionSetsAgree(limit: String) throws {
        func cutout(_ limit: String) throws -> Answer.Cutout {
            let run = try KirieProcess(
                ["segment", KirieProcess.landscape, "--point", "150,110", "--json", "--precision", "fp32"],
                environment: ["KIRIE_MAX_ISA": limit, "KIRIE_MODEL": "kirie-tiny"])
            return try answer(run).masks[0]
        }
        let (limited, plain) = (try cutout(limit), try cutout("baseline"))
        #expect(abs(limited.score - plain.score) < 1e-4)
        let pairs = zip(limited.segmentation.mask.pixels, plain.segmentation.mask.pixels)
        #expect(pairs.filter { $0 != $1 }.count <= max(2, plain.area / 1000))
    }

    @Test func severalMasksBecomeNumberedFiles() throws {
        let directory = try TemporaryDirectory()
        let boxes = ["--box", "10,10,100,100", "--box", "120,50,280,200"]
        let two = try answer(
            try KirieProcess(
                ["segment", KirieProcess.landscape] + boxes + ["--json", "-o", directory.file("box.png")]))
        #expect(two.masks.map(\.prompt) == [0, 1])
        let three = try answer(
            try KirieProcess([
                "segment", KirieProcess.landscape, "--point", "150,110", "--multimask", "--json", "-o",
                directory.file("point.png"),
            ]))
        #expect(three.masks.map(\.score) == three.masks.map(\.score).sorted(by: >))
        #expect(try directory.files == ["box-1.png", "box-2.png", "point-1.png", "point-2.png", "point-3.png"])
    }

    @Test(arguments: ["photo.safetensors", "photo.kemb"]) func decodeAnswersAsSegmentDoes(file: String) throws {
        let directory = try TemporaryDirectory()
        let embedding = directory.file(file)
        let encode = try KirieProcess(
            ["encode", KirieProcess.landscape, "-o", embedding] + (file.hasSuffix("kemb") ? ["--type", "fp32"] : []))
        try #require(encode.status == 0, "\(encode.complaint)")
        let prompt = ["--point", "150,110", "--multimask", "--json"]
        let whole = try answer(try KirieProcess(["segment", KirieProcess.landscape] + prompt))
        let halves = try answer(try KirieProcess(["decode", embedding] + prompt))
        #expect(whole.masks.map(\.segmentation) == halves.masks.map(\.segmentation))
        #expect(whole.masks.map(\.score) == halves.masks.map(\.score))
    }

    @Test func encodeAndDecodeWriteTheAgreedTensors() throws {
        let directory = try TemporaryDirectory()
        let embedding = directory.file("photo.safetensors")
        let encode = try KirieProcess(["encode", KirieProcess.landscape, "-o", embedding, "--debug"])
        try #require(encode.status == 0, "\(encode.complaint)")
        let tensors = try Checkpoint(path: embedding)
        #expect(try tensors.stored("image_embedding").shape == [1, 32, 16, 16])
        #expect(try tensors.stored("input_image").shape == [1, 3, 256, 256])

        let logits = directory.file("logits.safetensors")
        let decode = try KirieProcess([
            "decode", embedding, "--box", "10,10,100,100", "--box", "120,50,280,200", "--multimask", "--logits", logits,
            "--full-size",
        ])
        try #require(decode.status == 0, "\(decode.complaint)")
        let found = try Checkpoint(path: logits)
        #expect(try found.stored("low_res_logits").shape == [2, 3, 64, 64])
        #expect(try found.stored("iou").shape == [2, 3])
        #expect(try found.stored("logits").shape == [2, 3, 227, 301])
    }

    @Test func anEarlierMaskCanBeRefined() throws {
        let directory = try TemporaryDirectory()
        let (embedding, logits) = (directory.file("photo.kemb"), directory.file("logits.safetensors"))
        #expect(try KirieProcess(["encode", KirieProcess.landscape, "-o", embedding]).status == 0)
        let first = try KirieProcess([
            "decode", embedding, "--point", "150,110", "--logits", logits, "-o", directory.file("mask.png"),
        ])
        #expect(first.status == 0)
        let plain = try answer(try KirieProcess(["decode", embedding, "--point", "90,60", "--json"]))
        for prior in [logits, directory.file("mask.png")] {
            let refined = try answer(
                try KirieProcess(["decode", embedding, "--point", "90,60", "--mask", prior, "--json"]))
            #expect(refined.masks.map(\.score) != plain.masks.map(\.score), "the prior \(prior) changed nothing")
        }
    }

    @Test func jsonCanBeAFile() throws {
        let directory = try TemporaryDirectory()
        let run = try KirieProcess([
            "segment", KirieProcess.portrait, "--box", "10,10,100,100", "-o", directory.file("masks.json"),
        ])
        #expect(run.status == 0 && run.output.hasPrefix("prompt 0  score "))
        _ = try JSONDecoder().decode(
            Answer.self, from: Data(contentsOf: URL(fileURLWithPath: directory.file("masks.json"))))
    }
}
