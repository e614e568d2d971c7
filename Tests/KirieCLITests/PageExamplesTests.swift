import Foundation
import Imaging
import KirieTesting
import Platform
import Redis
import RedisTesting
import Testing

/// The shell examples of the documents, run by a shell as they stand, a page in one folder beside a cluster of its own.
@Suite struct PageExamplesTests {
    private static let pages = Page.all.filter { !$0.blocks(in: "sh").isEmpty }

    @Test func noPageLostItsExamples() {
        #expect(Self.pages.count >= 5, "\(Self.pages)")
        let commands = Self.pages.flatMap { $0.blocks(in: "sh").flatMap(\.lines) }.filter { $0.contains("kirie ") }
        #expect(commands.count >= 40, "\(commands)")
    }

    @Test(arguments: pages) func theExamplesWork(page: Page) async throws {
        let empty = try ExamplePlace()
        defer { try? FileManager.default.removeItem(atPath: empty.cluster) }
        let up = try ClientRun(["up", "--data", empty.cluster, "--threads", "1"], redis: nil)
        try await eventually("the cluster is ready") {
            up.output.contains("KIRIE_GATEWAY=") && up.output.hasSuffix("\n")
        }
        let place = empty.beside(gateway: up.output)

        // The lines of a jobs file that the page shows are one.
        let jobs = page.blocks(in: "json").filter { block in
            block.lines.allSatisfy { $0.contains("\"image\"") && $0.contains("\"prompts\"") }
        }
        for block in jobs {
            try place.write(block.text + "\n", to: "jobs.jsonl")
            let run = try await place.shell("kirie submit --jobs jobs.jsonl --wait")
            #expect(run.status == 0 && run.objects.count == block.lines.count, "\(page): \(run)")
        }
        for block in page.blocks(in: "sh") {
            for command in block.lines where ExamplePlace.runsOn(command) { try await place.serve(command) }
            let script = block.lines.filter { !ExamplePlace.runsOn($0) && !ExamplePlace.isOutOfReach($0) }
            let run = try await place.shell(script.joined(separator: "\n"))
            #expect(run.status == 0, "\(page): \(block.text)\n\(run.output.suffix(500))\(run.complaint.suffix(2000))")
        }
        if page.path == "README.md" { try place.checkWhatTheReadmeMakes() }
        up.child.signal(SIGTERM)
        #expect(try await up.end().status == 0)
    }

    /// The answers that the documents show have the members of a real one.
    @Test func theAnswersShownAreThoseOfTheProgram() throws {
        let sample = Page.root.appending(path: "deploy/sample.jpg").path
        let run = try KirieProcess(
            ["segment", sample, "--point", "920,560", "--json"], environment: ["KIRIE_MODEL": "kirie-tiny"])
        func members(_ text: String) -> Set<String> {
            var names: Set<String> = []
            func collect(_ value: Any, _ path: String) {
                switch value {
                case let object as [String: Any]:
                    for (name, value) in object {
                        names.insert("\(path)/\(name)")
                        collect(value, "\(path)/\(name)")
                    }
                case let list as [Any]: for value in list { collect(value, path) }
                default: break
                }
            }
            collect((try? JSONSerialization.jsonObject(with: Data(text.utf8))) ?? [], "")
            return names
        }
        let real = members(run.output)
        let remarks = ["/errors", "/notes", "/image/notes"]
        var count = 0
        for page in Page.all {
            for block in page.blocks(in: "json") where members(block.text).contains("/masks") {
                let shown = members(block.text).filter { name in !remarks.contains { name.hasPrefix($0) } }
                #expect(shown == real, "\(page): \(shown.symmetricDifference(real))")
                count += 1
            }
        }
        #expect(count >= 2)
    }
}

/// A folder with all that the examples speak of, and a shell in it.
private struct ExamplePlace {
    private let directory: TemporaryDirectory
    /// The data of the cluster that `kirie up` starts; a Unix socket's path has to be short.
    let cluster = "/tmp/kirie-pages-\(UInt32.random(in: .min ... .max))"

    private var address: String { "unix://\(cluster)/redis.sock" }
    /// Where the cluster's gateway listens.
    private var gateway = ""

    /// The same place, with what `kirie up` said of its gateway.
    func beside(gateway output: String) -> ExamplePlace {
        var place = self
        let line = output.split(separator: "\n").first { $0.hasPrefix("KIRIE_GATEWAY=") } ?? ""
        place.gateway = String(line.dropFirst("KIRIE_GATEWAY=".count))
        return place
    }

    init() throws {
        directory = try TemporaryDirectory()
        let files = FileManager.default
        let sample = Page.root.appending(path: "deploy/sample.jpg").path
        for folder in ["bin", "models", "photos", "data", "data/images", "data/masks"] {
            try files.createDirectory(atPath: directory.file(folder), withIntermediateDirectories: true)
        }
        for name in ["photo.jpg", "photos/a.jpg", "photos/b.jpg", "data/images/a.jpg"] {
            try files.copyItem(atPath: sample, toPath: directory.file(name))
        }
        // Labels: a square on the lemon.
        let picture = try ImageDecoder().decode(file: sample)
        let labels = (0..<picture.width * picture.height).map { index -> UInt8 in
            (860..<980).contains(index % picture.width) && (500..<610).contains(index / picture.width) ? 1 : 0
        }
        try PNGWriter.write(
            GrayImage(width: picture.width, height: picture.height, pixels: labels),
            to: directory.file("data/masks/a.png"))
        // What was fetched as ViT-B is the smallest model that there is.
        for name in ["models/sam_vit_b_01ec64.pth", "sam_vit_b_01ec64.pth"] {
            try files.copyItem(atPath: KirieProcess.nano, toPath: directory.file(name))
        }
        try files.createSymbolicLink(
            atPath: directory.file("deploy"), withDestinationPath: Page.root.appending(path: "deploy").path)
        try files.createSymbolicLink(
            atPath: directory.file("bin/kirie"), withDestinationPath: KirieProcess.executable.path)
        // `redis-cli` as a user has it whose Redis is the usual one, and who wants to know of errors.
        try write("#!/bin/sh\nexec /usr/bin/redis-cli -e -s \(cluster)/redis.sock \"$@\"\n", to: "bin/redis-cli")
        try files.setAttributes([.posixPermissions: 0o755], ofItemAtPath: directory.file("bin/redis-cli"))
    }

    /// Lines that this test leaves out: they download, or they build and run this test among others.
    static func isOutOfReach(_ line: String) -> Bool {
        line.contains("kirie model fetch") || line.firstMatch(of: #/(^| )deploy/[a-z0-9]+( |$)/#) != nil
    }

    /// Whether a command goes on until it is told to end.
    static func runsOn(_ line: String) -> Bool {
        ["kirie up", "kirie encoder", "kirie decoder", "kirie gateway --"].contains { line.hasPrefix($0) }
            || line.contains(" --watch")
    }

    /// What an example says of a machine that is not there, or of minutes of work, in terms of a test.
    private func brought(_ text: String) -> String {
        [
            ("redis://queue.example:6379 KIRIE_REDIS_PASSWORD=…", address),
            ("redis-cli -h queue.example --user operator", "redis-cli"),
            ("--metrics-port 9100", "--metrics-port 0"), ("--metrics-port 9101", "--metrics-port 0"),
            ("http://127.0.0.1:8080/", gateway), ("127.0.0.1:8090", "127.0.0.1:0"),
            ("--random vit_b", "--random mobile --runs 1"),
            ("bench cluster", "bench cluster --only click --rounds 1 --clicks 20"),
        ].reduce(text) { $0.replacingOccurrences(of: $1.0, with: $1.1) }
    }

    func write(_ text: String, to name: String) throws {
        var text = text
        if text.contains("\"base64\":\"…\"") {
            let picture = try Data(contentsOf: URL(fileURLWithPath: KirieProcess.landscape))
            text = text.replacingOccurrences(of: "\"…\"", with: "\"\(picture.base64EncodedString())\"")
        }
        // No job may expire because this machine is busy.
        text = text.replacingOccurrences(of: "\"ttl_ms\":60000", with: "\"ttl_ms\":86400000")
        try directory.write(Array(text.utf8), to: name)
    }

    private var environment: [String: String] {
        ["KIRIE_REDIS": address, "KIRIE_GATEWAY": gateway, "KIRIE_MODELS": directory.file("models")]
    }

    func shell(_ script: String) async throws -> ClientRun.Ending {
        try await ClientRun(
            ["-euo", "pipefail", "-xc", brought(script)], redis: nil, environment: environment,
            workingDirectory: directory.path, program: "/bin/bash", path: directory.file("bin")
        ).end()
    }

    /// Runs a command that does not end by itself until it was seen to work.
    func serve(_ command: String) async throws {
        let words = brought(String(command.prefix { $0 != "#" })).split(separator: " ").dropFirst().map(String.init)
        // That is what the test did already.
        guard words != ["up"] else { return }
        let run = try ClientRun(
            words, redis: nil, environment: environment, workingDirectory: directory.path)
        if words[0] == "gateway" {
            try await eventually("\(command) is there") { run.output.contains("KIRIE_GATEWAY=") }
            run.child.signal(SIGTERM)
        } else if words.contains("--watch") {
            try await eventually("the first look of \(command)") { !run.output.isEmpty }
            run.child.signal(SIGINT)
        } else {
            try await eventually("\(command) is there") {
                try await shell("kirie workers --json").objects.contains { look in
                    (look["workers"] as? [[String: Any]] ?? []).contains {
                        $0["role"] as? String == words[0] && $0["model_name"] as? String == "vit_b"
                    }
                }
            }
            run.child.signal(SIGTERM)
        }
        let end = try await run.end()
        #expect(end.status == 0, "\(command): \(end)")
    }

    func checkWhatTheReadmeMakes() throws {
        for file in [
            "mask.png", "overlay.png", "refined.png", "box.png", "both-1.png", "both-2.png", "masks.json", "photo.kemb",
            "answers.jsonl", "answer.json", "cutout.png", "box.json", "masks/photo-1.png", "redis.png",
            "everything/photo/metadata.csv", "dataset.json", "like-this.json", "lemon.png", "lemon-overlay.png",
        ] {
            #expect(FileManager.default.fileExists(atPath: directory.file(file)), "\(file) was not written")
        }
        // The script that speaks the protocol with redis-py and nothing else cuts out what the command does.
        let (theirs, ours) = (
            try ImageDecoder().decode(file: directory.file("redis.png")).luminance,
            try ImageDecoder().decode(file: directory.file("masks/photo-1.png")).luminance
        )
        #expect(theirs == ours)
    }
}
