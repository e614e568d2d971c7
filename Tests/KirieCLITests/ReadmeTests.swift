import Foundation
import Imaging
import Platform
import RedisTesting
import Testing

/// The README's shell examples, run as they stand on the sample picture.
@Suite struct ReadmeTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    /// Words that need what no test has (a published checkpoint, a data set, minutes of a large model), or that do not end
    /// by themselves.
    private static let outOfReach = [
        "vit_b", "model fetch", "kirie eval", "peers.py", "kirie up", "--watch", "bench cluster",
    ]

    private static func examples() throws -> [[String]] {
        let text = try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
        var isShell = false
        var examples: [[String]] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("```") {
                isShell = line == "```sh"
            } else if isShell, line.hasPrefix("kirie "), !outOfReach.contains(where: { line.contains($0) }) {
                let command = line.prefix { $0 != "#" && $0 != ">" && $0 != ";" }
                examples.append(command.split(separator: " ").dropFirst().map(String.init))
            }
        }
        return examples
    }

    @Test func theExamplesWork() async throws {
        let directory = try TemporaryDirectory()
        let sample = Self.root.appendingPathComponent("deploy/sample.jpg").path
        let photo = directory.file("photo.jpg")
        try FileManager.default.copyItem(atPath: sample, toPath: photo)
        // The prior of the refinement example: a white square on the lemon.
        let picture = try ImageDecoder().decode(file: sample)
        let pixels = (0..<picture.width * picture.height).map { index -> UInt8 in
            (860..<980).contains(index % picture.width) && (500..<610).contains(index / picture.width) ? 255 : 0
        }
        try PNGWriter.write(
            GrayImage(width: picture.width, height: picture.height, pixels: pixels), to: directory.file("prior.png"))

        // What `kirie up` is in the README: a cluster that the examples after it use.
        let folder = "/tmp/kirie-readme-\(UInt32.random(in: .min ... .max))"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let up = try ClientRun(["up", "--data", folder, "--threads", "1"], redis: nil)
        try await eventually("the cluster is ready") { up.output.contains("KIRIE_REDIS=") }

        let examples = try Self.examples()
        #expect(examples.count >= 9, "the README lost its examples: \(examples)")
        for example in examples {
            // Files of the examples live in the test's directory, the sample in the project.
            let arguments = example.map { word in
                if word == "deploy/sample.jpg" { return sample }
                if word == "masks" { return directory.file(word) }
                let isFile =
                    !word.hasPrefix("deploy/")
                    && [".jpg", ".png", ".kemb", ".safetensors"].contains { word.hasSuffix($0) }
                return isFile ? directory.file(word) : word
            }
            let run = try KirieProcess(
                arguments,
                environment: [
                    "KIRIE_MODEL": "kirie-tiny", "KIRIE_REDIS": "unix://\(folder)/redis.sock",
                ])
            #expect(run.status == 0, "kirie \(example.joined(separator: " ")): \(run.complaint)")
        }
        // The script that speaks the protocol with redis-py and nothing else, run by Debian's Python.
        let script = Self.root.appendingPathComponent("deploy/examples/submit.py").path
        let python = try ChildProcess.start(
            "/usr/bin/python3",
            [
                script, sample, directory.file("python.png"), "--point", "920,560", "--redis",
                "unix://\(folder)/redis.sock",
            ], .init(output: .file(directory.file("python.txt"))))
        let exit = await python.waitForExit()
        let said = try String(contentsOfFile: directory.file("python.txt"), encoding: .utf8)
        #expect(exit == .status(0), "\(said)")
        let (theirs, ours) = (
            try ImageDecoder().decode(file: directory.file("python.png")).luminance,
            try ImageDecoder().decode(file: directory.file("masks/photo-1.png")).luminance
        )
        #expect(theirs == ours, "the script and the command cut out the same")
        up.child.signal(SIGTERM)
        #expect(try await up.end().status == 0)
        for file in ["masks", "mask.png", "overlay.png", "mask-1.png", "mask-2.png", "refined.png", "photo.kemb"] {
            #expect(try directory.files.contains(file), "\(file) was not written")
        }
    }
}
