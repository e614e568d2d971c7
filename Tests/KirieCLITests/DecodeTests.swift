import Checkpoints
import Foundation
import KirieTesting
import Segmentation
import Tensors
import Testing

/// `decode` against the published code's own numbers, and how fast and small it is.
@Suite struct DecodeTests {
    private struct Case: Decodable {
        struct Prompt: Decodable {
            var points: [[Double]]?
            var labels: [Int]?
            var box: [Double]?
        }
        var width: Int
        var height: Int
        var prompts: [Prompt]
    }

    /// Every prompt of the golden case, from the published code's embedding, by the command line alone.
    @Test(arguments: [("nano", "sam.pth"), ("wide", "sam.safetensors")])
    func logitsAreThoseOfThePublishedCode(name: String, weights: String) throws {
        let directory = try TemporaryDirectory()
        let fixtures = KirieProcess.fixtures.appendingPathComponent(name)
        let golden = try Checkpoint(path: fixtures.appendingPathComponent("case.safetensors").path)
        let description = try JSONDecoder().decode(
            Case.self, from: Data(contentsOf: fixtures.appendingPathComponent("case.json")))
        let embedding = directory.file("embedding.safetensors")
        try SafetensorsWriter.write(
            [.init("image_embedding", try golden.stored("image_embedding").tensor())],
            metadata: [
                "kirie.original_width": "\(description.width)", "kirie.original_height": "\(description.height)",
            ], to: embedding)
        for (index, prompt) in description.prompts.enumerated() {
            var arguments: [String] = []
            for (point, label) in zip(prompt.points ?? [], prompt.labels ?? []) {
                arguments += ["--point", "\(point[0]),\(point[1]),\(label)"]
            }
            if let box = prompt.box { arguments += ["--box", box.map { "\($0)" }.joined(separator: ",")] }
            if let prior = golden["p\(index).mask_input"] {
                let file = directory.file("prior.safetensors")
                try SafetensorsWriter.write([.init("low_res_logits", try prior.tensor())], to: file)
                arguments += ["--mask", file]
            }
            let all = try golden.stored("p\(index).low_res_logits_all").tensor()
            let iou = try golden.stored("p\(index).iou_all").tensor().elements
            let side = try #require(all.shape.last)
            let selections: [([String], Range<Int>)] = [([], 0..<1), (["--multimask"], 1..<4)]
            for (flags, outputs) in selections {
                let file = directory.file("logits.safetensors")
                let run = try KirieProcess(
                    [
                        "decode", embedding, "--model", fixtures.appendingPathComponent(weights).path, "--logits", file,
                        "--precision", "fp32",
                    ]
                        + arguments + flags)
                try #require(run.status == 0, "\(run.complaint)")
                let found = try Checkpoint(path: file)
                let expected = Array(
                    all.elements[(outputs.lowerBound * side * side)..<(outputs.upperBound * side * side)])
                let logits = try found.tensor(named: "low_res_logits", shape: [1, outputs.count, side, side]).elements
                let scores = try found.tensor(named: "iou", shape: [1, outputs.count]).elements
                #expect(largest(logits, expected) <= 5e-4, "prompt \(index)")
                #expect(largest(scores, Array(iou[outputs])) <= 5e-4, "prompt \(index)")
            }
        }
    }

    private func largest(_ a: [Float], _ b: [Float]) -> Float {
        zip(a, b).reduce(0) { $1.0.isFinite ? max($0, abs($1.0 - $1.1)) : .infinity }
    }

    /// The mask file is the full-size logits cut at 0.
    @Test func fullSizeLogitsAreTheMask() throws {
        let directory = try TemporaryDirectory()
        let (embedding, logits) = (directory.file("photo.safetensors"), directory.file("logits.safetensors"))
        #expect(try KirieProcess(["encode", KirieProcess.landscape, "-o", embedding]).status == 0)
        let run = try KirieProcess([
            "decode", embedding, "--point", "150,110", "--logits", logits, "--full-size", "--json",
        ])
        try #require(run.status == 0, "\(run.complaint)")
        let values = try Checkpoint(path: logits).tensor(named: "logits", shape: [1, 1, 227, 301]).elements
        let mask = Mask(width: 301, height: 227, pixels: values.map { $0 > 0 ? 1 : 0 })
        #expect(run.output.contains("\"area\":\(RunLengthEncoding(mask).area)"))
    }

    /// What a start costs, on a checkpoint that is in the page cache: in the processor's time, to which others that run at
    /// the same moment add nothing.
    @Test func decodeStartsAtOnce() throws {
        let directory = try TemporaryDirectory()
        let embedding = directory.file("photo.kemb")
        #expect(try KirieProcess(["encode", KirieProcess.landscape, "-o", embedding]).status == 0)
        let script = """
            import resource, subprocess, sys
            status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            print(int((usage.ru_utime + usage.ru_stime) * 1000))
            sys.exit(status)
            """
        var best = Int.max
        // Threads of one core share its units: the figure is that of the least disturbed of some runs.
        for _ in 0..<20 where best >= 100 {
            let run = try KirieProcess(
                ["decode", embedding, "--point", "150,110", "--json"], wrapper: ["/usr/bin/python3", "-c", script])
            try #require(run.status == 0, "\(run.complaint)")
            best = min(best, try #require(Int(run.output.split(separator: "\n")[0])))
        }
        print("kirie decode on nano, process start to end: \(best) ms of the processor's time")
        #expect(best < 400)
    }

    @Test func decodeStaysSmall() throws {
        let directory = try TemporaryDirectory()
        let embedding = directory.file("photo.kemb")
        #expect(try KirieProcess(["encode", KirieProcess.landscape, "-o", embedding]).status == 0)
        // A child's peak counts from that of the process which started it, so a small one stands between.
        let script = """
            import resource, subprocess, sys
            status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
            print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
            sys.exit(status)
            """
        let run = try KirieProcess(
            ["decode", embedding, "--point", "150,110", "--json"], wrapper: ["/usr/bin/python3", "-c", script])
        try #require(run.status == 0, "\(run.complaint)")
        let kibibytes = try #require(Int(run.output.split(separator: "\n")[0]))
        print("kirie decode on nano, peak resident: \(kibibytes / 1024) MB")
        #expect(kibibytes < 200 * 1024)
    }
}
