import Foundation
import KirieTesting
import RedisTesting
import Testing

/// What answers say of their jobs, with real workers: whose they are, what was wrong with a prompt, and what came along.
@Suite struct SubmitAnswersTests {
    private static let sample = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("deploy/sample.jpg").path

    private func counts(_ answer: [String: Any]) -> [String] {
        let masks = answer["masks"] as? [[String: Any]] ?? []
        return masks.compactMap { ($0["segmentation"] as? [String: Any])?["counts"] as? String }
    }

    @Test func answersSayWhoseTheyAre() async throws {
        let cluster = try await RealCluster.start()
        let directory = try TemporaryDirectory()
        for folder in ["d1", "d2"] {
            try FileManager.default.createDirectory(
                atPath: directory.file(folder), withIntermediateDirectories: true)
            try FileManager.default.copyItem(
                atPath: folder == "d1" ? KirieProcess.landscape : KirieProcess.portrait,
                toPath: directory.file("\(folder)/x.jpg"))
        }
        // Numbers and spaces that no reader of JSON would write back so.
        let meta = #"{ "n":1.0, "big" :12345678901234567890, "a":["\u00e9\/"] }"#
        let lines = [
            #"{"id":"one","image":"d1/x.jpg","prompts":[{"box":[2,2,60,60]}],"meta":\#(meta)}"#, "",
            #"{"id":"two","image":"d2/x.jpg","prompts":[{"box":[2,2,60,60]}],"meta":7}"#,
            #"{"image":"d2/none.jpg","prompts":[{"box":[2,2,60,60]}],"meta":\#(meta)}"#,
            #"{"id":"three","image":"d1/x.jpg","prompts":[{"box":[2,2,60,60]}],"mata":1,"meta":\#(meta)}"#,
        ]
        let file = try directory.write(Array(lines.joined(separator: "\n").utf8), to: "jobs.jsonl")
        func check(_ run: ClientRun.Ending) throws {
            let byLine = Dictionary(grouping: run.objects) { $0["line"] as? Int }
            #expect(Set(byLine.keys) == [1, 3, 4, 5], "\(run)")
            #expect(byLine[1]?[0]["path"] as? String == "d1/x.jpg" && byLine[3]?[0]["path"] as? String == "d2/x.jpg")
            #expect(byLine[4]?[0]["path"] as? String == "d2/none.jpg" && byLine[4]?[0]["field"] as? String == "image")
            #expect(byLine[5]?[0]["id"] as? String == "three" && byLine[5]?[0]["field"] as? String == "mata")
            #expect(byLine[3]?[0]["meta"] as? Int == 7)
            #expect(run.output.components(separatedBy: "\"meta\":\(meta)").count == 4, "to the byte, in failures too")
        }
        let queued = try await cluster.kirie(["submit", "--jobs", file], workingDirectory: directory.path)
        #expect(queued.status == 1)
        try check(queued)
        let answered = try await cluster.kirie(["submit", "--jobs", file, "--wait"], workingDirectory: directory.path)
        #expect(answered.status == 1)
        try check(answered)
        // Somebody else waits for them.
        let waited = try await cluster.kirie(["wait", "one", "two"])
        #expect(waited.status == 0 && waited.objects.allSatisfy { counts($0).count == 1 }, "\(waited)")
        #expect(Set(waited.objects.compactMap { $0["path"] as? String }) == ["d1/x.jpg", "d2/x.jpg"])
        #expect(Set(waited.objects.compactMap { $0["line"] as? Int }) == [1, 3])
        #expect(waited.output.contains("\"meta\":\(meta)") && waited.output.contains("\"meta\":7"))

        // A failure that only the encoder finds, and a job without prompts.
        let photo = try Data(contentsOf: URL(fileURLWithPath: KirieProcess.landscape))
        try directory.write(photo.prefix(photo.count / 2), to: "half.jpg")
        let others = [
            #"{"id":"half","image":"half.jpg","prompts":[{"box":[2,2,60,60]}],"meta":\#(meta)}"#,
            #"{"id":"embedding","image":"d1/x.jpg","meta":\#(meta)}"#,
        ]
        let second = try directory.write(Array(others.joined(separator: "\n").utf8), to: "others.jsonl")
        #expect(try await cluster.kirie(["submit", "--jobs", second], workingDirectory: directory.path).status == 0)
        let told = try await cluster.kirie(["wait", "half", "embedding"])
        #expect(told.status == 1 && Set(told.objects.compactMap { $0["line"] as? Int }) == [1, 2], "\(told)")
        #expect(Set(told.objects.compactMap { $0["path"] as? String }) == ["half.jpg", "d1/x.jpg"])
        #expect(told.output.components(separatedBy: "\"meta\":\(meta)").count == 3)
        #expect(told.objects.contains { $0["embedding"] is String && $0["state"] as? String == "done" }, "\(told)")
        // The same line again is the same job, wherever it stands now.
        let moved = try directory.write(Array("\n\n\(lines[0])".utf8), to: "moved.jsonl")
        let again = try await cluster.kirie(["submit", "--jobs", moved, "--wait"], workingDirectory: directory.path)
        #expect(again.status == 0 && again.objects.first?["line"] as? Int == 3, "\(again)")

        // Named by hand, from inside and from outside.
        for (folder, names) in [
            (directory.path, ["d1/x.jpg", "d2/x.jpg"]), (directory.file("d1"), ["x.jpg", "../d2/./x.jpg"]),
        ] {
            let masks = directory.file("masks-\(names[0].count)")
            let run = try await cluster.kirie(
                ["submit"] + names + ["--box", "2,2,60,60", "--wait", "-o", masks], workingDirectory: folder)
            #expect(run.status == 0 && Set(run.objects.compactMap { $0["path"] as? String }) == Set(names), "\(run)")
            for object in run.objects {
                let set =
                    (object["path"] as? String)?.contains("d2") == true
                    || folder.hasSuffix("d1") && object["path"] as? String != "x.jpg"
                #expect(object["files"] as? [String] == ["\(masks)/\(set ? "d2" : "d1")/x-1.png"])
            }
        }
        // Of two that differ by their ending alone each keeps it; a long name is cut.
        try FileManager.default.copyItem(atPath: directory.file("d2/x.jpg"), toPath: directory.file("d1/x.png"))
        let long = String(repeating: "n", count: 251) + ".jpg"
        try FileManager.default.copyItem(atPath: directory.file("d2/x.jpg"), toPath: directory.file("d1/\(long)"))
        let run = try await cluster.kirie(
            ["submit", "x.jpg", "x.png", long, "--box", "2,2,60,60", "--wait", "-o", "m"],
            workingDirectory: directory.file("d1"))
        #expect(run.status == 0, "\(run)")
        let files = Set(run.objects.flatMap { $0["files"] as? [String] ?? [] })
        #expect(files.isSuperset(of: ["m/x.jpg-1.png", "m/x.png-1.png"]) && files.count == 3, "\(files)")
        try await cluster.stop()
    }

    @Test func oneWrongPromptLeavesTheOthersOfItsJob() async throws {
        let cluster = try await RealCluster.start()
        let directory = try TemporaryDirectory()
        let photo = KirieProcess.landscape
        let good = #"{"box":[20,15,255,160]}"#
        let lines = [
            #"{"id":"mixed","image":"\#(photo)","prompts":[{"box":[400,0,500,9]},\#(good),{"points":[["x",1]]},{"box":[-3,2,60,227.4]}]}"#,
            #"{"id":"good","image":"\#(photo)","prompts":[\#(good),{"box":[0,2,60,227]}]}"#,
            #"{"id":"text","image":"\#(photo)","prompts":[{"text":"xylotomy"},\#(good)]}"#,
            #"{"id":"words","image":"\#(photo)","prompts":[{"text":"xylotomy"}]}"#,
            #"{"id":"none","image":"\#(photo)","prompts":[{"box":[400,0,500,9]},{}]}"#,
        ]
        let file = try directory.write(Array(lines.joined(separator: "\n").utf8), to: "jobs.jsonl")
        let run = try await cluster.kirie(["submit", "--jobs", file, "--wait", "-o", directory.file("m")])
        #expect(run.status == 1, "\(run)")
        let byLine = Dictionary(grouping: run.objects) { $0["line"] as? Int }.compactMapValues(\.first)
        let (mixed, alone) = (try #require(byLine[1]), try #require(byLine[2]))
        #expect(mixed["state"] as? String == "done" && counts(mixed) == counts(alone), "the good ones are answered")
        let errors = try #require(mixed["errors"] as? [[String: Any]])
        #expect(errors.map { $0["prompt"] as? Int } == [0, 2])
        #expect((errors[0]["error"] as? String)?.contains("wholly outside") == true)
        #expect((errors[1]["error"] as? String)?.contains("points[0][0]: a number is expected") == true)
        let notes = try #require(mixed["notes"] as? [[String: Any]])
        #expect(notes.count == 1 && notes[0]["prompt"] as? Int == 3)
        let files = (mixed["files"] as? [String] ?? []).map { ($0 as NSString).lastPathComponent }
        #expect(files == ["landscape-1-2.png", "landscape-1-4.png"], "\(files)")
        #expect(alone["errors"] == nil)
        #expect(byLine[3]?["state"] as? String == "done" && (byLine[3]?["errors"] as? [Any])?.count == 1)
        #expect(byLine[4]?["state"] as? String == "failed" && byLine[4]?["error"] is String)
        #expect(byLine[5]?["state"] == nil && byLine[5]?["field"] as? String == "prompts[0]")
        #expect(run.complaint.contains("3 done") && run.complaint.contains("2 with prompts that have errors"), "\(run)")
        let waited = try await cluster.kirie(["wait", "mixed"])
        #expect(waited.status == 1 && (waited.objects.first?["errors"] as? [Any])?.count == 2, "\(waited)")

        let hand = ["submit", photo, "--box", "400,0,500,9", "--box", "20,15,255,160"]
        let waiting = try await cluster.kirie(hand + ["--wait"])
        #expect(waiting.status == 1, "\(waiting)")
        #expect(counts(try #require(waiting.objects.first)) == [counts(alone)[0]])
        let queued = try await cluster.kirie(hand)
        #expect(queued.status == 1 && (queued.objects.first?["errors"] as? [Any])?.count == 1, "\(queued)")
        let hopeless = try await cluster.kirie(["submit", photo, "--box", "400,0,500,9"])
        #expect(hopeless.status == 1 && hopeless.objects.first?["state"] == nil, "\(hopeless)")
        try await cluster.stop()
    }

    @Test func allFormsOfBase64AreOnePicture() async throws {
        let cluster = try await RealCluster.start()
        let directory = try TemporaryDirectory()
        let plain = try Data(contentsOf: URL(fileURLWithPath: KirieProcess.landscape)).base64EncodedString()
        let wrapped = stride(from: 0, to: plain.count, by: 76).map { plain.dropFirst($0).prefix(76) }
            .joined(separator: "\\n")
        let forms = [
            plain, wrapped, "data:image/jpeg;base64,\(plain)",
            plain.replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_"),
            plain.replacingOccurrences(of: "=", with: ""),
        ]
        let lines = (forms + ["\(plain.prefix(99))!"]).map {
            #"{"image":{"base64":"\#($0)"},"prompts":[{"points":[[50,50]]}]}"#
        }
        let file = try directory.write(Array(lines.joined(separator: "\n").utf8), to: "jobs.jsonl")
        let run = try await cluster.kirie(["submit", "--jobs", file, "--wait"])
        let done = run.objects.filter { $0["state"] as? String == "done" }
        #expect(done.count == forms.count && Set(done.map { counts($0) }).count == 1, "\(run.complaint)")
        let fault = try #require(run.objects.first { $0["field"] != nil })
        #expect(fault["line"] as? Int == 6 && fault["field"] as? String == "image.base64")
        #expect((fault["error"] as? String)?.contains("character 100, \"!\"") == true, "\(fault)")
        try await cluster.stop()
    }

    /// The recipes of the help, as they are printed, in a folder whose names are as users have them.
    @Test func theRecipesOfTheHelpRunAsWritten() async throws {
        let cluster = try await RealCluster.start()
        let directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(atPath: directory.file("photos"), withIntermediateDirectories: true)
        for name in ["photo.jpg", "a.jpg", "b.jpg", "photos/a.jpg", "photos/my photo é.jpg", "photos/it's \"b\".jpg"] {
            try FileManager.default.copyItem(atPath: Self.sample, toPath: directory.file(name))
        }
        let help = try KirieProcess(["submit", "--help"]).output.components(separatedBy: "USAGE:")[0]
        let lines = help.components(separatedBy: "\n")
        func recipe(after heading: String) throws -> String {
            let start = try #require(lines.firstIndex { $0.contains(heading) }) + 1
            let indent = lines[start].prefix { $0 == " " }.count
            return lines[start...].prefix { $0.prefix(indent).allSatisfy { $0 == " " } && $0.count > indent }
                .map { String($0.dropFirst(indent)) }.joined(separator: "\n")
        }
        func shell(_ script: String) async throws -> ClientRun.Ending {
            try directory.write(Array(script.utf8), to: "script.sh")
            // `kirie` as the user calls it.
            let bin = directory.file("bin")
            if !FileManager.default.fileExists(atPath: bin) {
                try FileManager.default.createDirectory(atPath: bin, withIntermediateDirectories: true)
                try FileManager.default.createSymbolicLink(
                    atPath: "\(bin)/kirie", withDestinationPath: KirieProcess.executable.path)
            }
            return try await ClientRun(
                [directory.file("script.sh"), bin], redis: cluster.server.url,
                environment: ["KIRIE_MODEL": KirieProcess.nano], workingDirectory: directory.path,
                program: "/bin/sh", path: bin
            ).end()
        }
        let jobs = try recipe(after: "A jobs file holds")
        try directory.write(Array((jobs + "\n").utf8), to: "jobs.jsonl")
        try directory.write(Array(try recipe(after: "From Python:").utf8), to: "recipe.py")
        let python = try await shell("python3 recipe.py | kirie submit --jobs - --wait")
        #expect(python.status == 0 && python.objects.count == 3, "\(python)")
        #expect(
            Set(python.objects.compactMap { $0["path"] as? String })
                == ["photos/a.jpg", "photos/my photo é.jpg", "photos/it's \"b\".jpg"])
        let jq = try await shell(try recipe(after: "From a shell:"))
        #expect(jq.status == 0 && jq.objects.count == 3, "\(jq)")

        // Every line of every help that can be run here.
        let outOfReach = ["--watch", "--follow", "old-model", "sam2.1_tiny", "3f2a", "2026", "pictures.txt", "data"]
        var count = 0
        for command in [
            "submit", "segment", "encode", "decode", "status", "wait", "cancel", "cache", "cache warm", "queues",
            "workers", "tenants", "tenants list", "tenants set",
        ] {
            let help = try KirieProcess(command.components(separatedBy: " ") + ["--help"]).output
            let overview = help.components(separatedBy: "USAGE:")[0].components(separatedBy: "\n")
            for line in overview.map({ $0.trimmingCharacters(in: .whitespaces) }) {
                guard let start = line.range(of: "kirie \(command) "),
                    line.hasPrefix("kirie") || line.contains(": kirie"),
                    !outOfReach.contains(where: { line.contains($0) })
                else { continue }
                if command == "decode" {
                    #expect(try await shell("kirie encode photo.jpg -o photo.kemb").status == 0)
                }
                let run = try await shell(line.hasPrefix("kirie") ? line : String(line[start.lowerBound...]))
                #expect(run.status == 0, "\(line): \(run)")
                count += 1
            }
        }
        #expect(count >= 10, "the help lost its examples")
        try await cluster.stop()
    }
}
