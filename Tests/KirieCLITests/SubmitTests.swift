import Cluster
import Foundation
import Imaging
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Synchronization
import Testing

/// `submit`, `wait`, `status` and `cancel` as scripts use them.
@Suite struct SubmitTests {
    private let photo = KirieProcess.landscape

    @Test func aJobIsQueuedThenDoneThenFound() async throws {
        let cluster = try await ClientCluster.start()
        let first = try await cluster.kirie(["submit", photo, "--point", "150,110"])
        #expect(first.status == 0 && first.complaint.isEmpty, "\(first)")
        let queued = try #require(first.objects.first)
        let id = try #require(queued["id"] as? String)
        #expect(queued["state"] as? String == "waiting_embedding" && queued["partition"] is Int)
        #expect(first.output.filter { $0 == "\n" }.count == 1)
        let statistics = try await cluster.broker.statistics()
        #expect(statistics.stream(.encode, .interactive).parked == 1, "one picture by hand is interactive")

        let before = try await cluster.kirie(["status", id])
        #expect(before.objects.first?["state"] as? String == "waiting_embedding" && before.status == 0)
        try await cluster.working {
            let waited = try await cluster.kirie(["wait", id, "--timeout", "3600"])
            #expect(waited.status == 0, "\(waited)")
            let answer = try #require(waited.objects.first)
            #expect(answer["id"] as? String == id && answer["state"] as? String == "done")
            #expect((answer["masks"] as? [Any])?.count == 1 && answer["model"] as? String == "tiny")
        }
        let after = try await cluster.kirie(["status", id, "nobody"])
        #expect(after.status == 1)
        let objects = after.objects
        #expect(objects.map { $0["state"] as? String } == ["done", "unknown"])
        #expect(objects[0]["worker"] as? String == "decoder" && objects[0]["total_ms"] is Double)
    }

    @Test func waitWritesMasksOfEveryPictureAndPrompt() async throws {
        let cluster = try await ClientCluster.start()
        let directory = try TemporaryDirectory()
        let folder = directory.file("new/masks")
        for name in ["d1", "d2"] {
            try FileManager.default.createDirectory(
                atPath: directory.file(name), withIntermediateDirectories: true)
        }
        let pictures = ["d1/landscape.jpg", "d2/landscape.png"].map { directory.file($0) }
        try FileManager.default.copyItem(atPath: photo, toPath: pictures[0])
        try FileManager.default.copyItem(atPath: KirieProcess.portrait, toPath: pictures[1])
        try await cluster.working {
            let run = try await cluster.kirie(
                ["submit"] + pictures + ["--box", "1,1,9,9", "--box", "2,2,8,8", "--wait", "-o", folder])
            #expect(run.status == 0, "\(run)")
            let objects = run.objects
            #expect(objects.count == 2 && objects.allSatisfy { $0["state"] as? String == "done" })
            let files = objects.flatMap { $0["files"] as? [String] ?? [] }.sorted()
            #expect(files == [1, 2].flatMap { set in (1...2).map { "\(folder)/d\(set)/landscape-\($0).png" } })
            #expect(Set(objects.compactMap { $0["path"] as? String }) == Set(pictures))
            #expect(run.complaint.contains("2 submitted, 2 done, 4 mask files"))
        }
        for (set, prompt) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
            let picture = try ImageDecoder().decode(file: "\(folder)/d\(set)/landscape-\(prompt + 1).png").luminance
            #expect(picture.pixels == ClientCluster.mask(prompt).pixels.map { $0 * 255 })
        }
        let lanes = try await cluster.broker.statistics()
        #expect(lanes.total("done:bulk") == 2, "several pictures are bulk")
    }

    @Test func jobsFileGoesOnAfterBadLines() async throws {
        let cluster = try await ClientCluster.start()
        let directory = try TemporaryDirectory()
        try directory.write([], to: "empty.jpg")
        try directory.write(Array("no picture".utf8), to: "text.jpg")
        try FileManager.default.copyItem(atPath: photo, toPath: directory.file("a.jpg"))
        let picture = try Data(contentsOf: URL(fileURLWithPath: photo)).base64EncodedString()
        let lines: [(text: String, field: String?)] = [
            (#"{"id":"a","image":"a.jpg","prompts":[{"points":[[5,5]]}]}"#, nil),
            (#"{"id":"b","image":"a.jpg","prompts":"#, ""),
            (#"{"id":"c","image":"a.jpg","prompt":[]}"#, "prompt"),
            (#"{"id":"d","image":7}"#, "image"),
            (#"{"image":"a.jpg","prompts":[{"points":[["x",5]]}]}"#, "prompts[0].points[0][0]"),
            (#"{"image":"missing.jpg","prompts":[{"points":[[5,5]]}]}"#, "image"),
            (#"{"image":".","prompts":[{"points":[[5,5]]}]}"#, "image"),
            (#"{"image":"empty.jpg","prompts":[{"points":[[5,5]]}]}"#, "image"),
            (#"{"image":"text.jpg","prompts":[{"points":[[5,5]]}]}"#, "image"),
            (#"{"image":"a.jpg","prompts":[{"points":[[5000,5]]}]}"#, "prompts[0]"),
            (#"{"image":"a.jpg","prompts":[{"points":[[5,5]]}],"lane":"fast"}"#, "lane"),
            (#"{"id":"a","image":"a.jpg","prompts":[{"points":[[6,6]]}]}"#, "id"),
            (#"{"id":"bad id","image":"a.jpg"}"#, "id"),
            (#"{"image":{"sha256":"00"},"prompts":[{"points":[[5,5]]}]}"#, "image.sha256"),
            (#"{"image":{"sha256":"\#(String(repeating: "0", count: 64))"},"prompts":[{"points":[[5,5]]}]}"#, "image"),
            (#"[1,2]"#, ""),
            ("", nil),
            (#"{"id":"e","image":{"base64":"\#(picture)"},"prompts":[{"box":[1,1,9,9]}],"lane":"interactive"}"#, nil),
            (#"{"id":"f","image":"a.jpg"}"#, nil),
            (#"{"id":"g","image":"a.jpg","prompts":[{"points":[[13,5]]}]}"#, nil),
        ]
        var text = Data([0xEF, 0xBB, 0xBF])
        text.append(contentsOf: lines.map { $0.text + "\r\n" }.joined().utf8)
        text.append(contentsOf: Array(#"{"id":""#.utf8) + [0xFF, 0xFE] + Array(#"","image":"a.jpg"}"#.utf8))
        try directory.write(text, to: "jobs.jsonl")

        let path = directory.path
        try await cluster.working {
            let run = try await cluster.kirie(
                ["submit", "--jobs", "jobs.jsonl", "--wait"], workingDirectory: path)
            #expect(run.status == 1, "\(run.complaint)")
            let objects = run.objects
            let faults = objects.filter { $0["field"] != nil }
            var found: [Int: [String: Any]] = [:]
            for fault in faults { found[try #require(fault["line"] as? Int)] = fault }
            for (index, line) in lines.enumerated() {
                let fault = found[index + 1]
                #expect((fault == nil) == (line.field == nil), "line \(index + 1): \(line.text.prefix(80))")
                if let fault, let field = line.field {
                    #expect(fault["field"] as? String == field, "\(fault)")
                    let reason = try #require(fault["error"] as? String)
                    let place = "jobs.jsonl: line \(index + 1): \(field.isEmpty ? "" : "\(field): ")"
                    #expect(run.complaint.contains("kirie: \(place)\(reason)"), "\(fault)")
                }
            }
            #expect(found[lines.count + 1] != nil, "what is no UTF-8 is no JSON")
            #expect(faults.count == lines.filter { $0.field != nil }.count + 1)
            let states = Dictionary(
                objects.compactMap { object in
                    (object["state"] as? String).flatMap { state in (object["id"] as? String).map { ($0, state) } }
                }, uniquingKeysWith: { "\($0) and \($1)" })
            #expect(states == ["a": "done", "e": "done", "f": "done", "g": "failed"])
            let failure = objects.first { $0["id"] as? String == "g" }
            #expect(failure?["error"] as? String == "thirteen is no place")
            #expect(failure?["path"] as? String == "a.jpg" && failure?["line"] as? Int == lines.count)
            #expect(objects.allSatisfy { $0["line"] is Int }, "every line of output says to which line it belongs")
            #expect(objects.first { $0["id"] as? String == "f" }?["embedding"] is String)
        }
        #expect(cluster.encodes.value == 1, "the picture came by path and in base64 and is one")
        #expect(try await cluster.broker.statistics().total("done:interactive") == 1)
    }

    @Test func thousandsOfLinesComeFromAPipeAndMayBeRepeated() async throws {
        let cluster = try await ClientCluster.start()
        let directory = try TemporaryDirectory()
        let count = 3000
        let lines = (0..<count).map {
            #"{"id":"j\#($0)","image":"\#($0 % 3 == 0 ? photo : KirieProcess.portrait)","prompts":[{"box":[1,1,\#($0 % 40 + 3),9]}]}"#
        }
        let file = try directory.write(Array(lines.joined(separator: "\n").utf8), to: "jobs.jsonl")
        try await cluster.working {
            let run = try await cluster.kirie(["submit", "--jobs", "-", "--wait"], input: file)
            #expect(run.status == 0, "\(run.complaint)")
            let ids = run.objects.compactMap { $0["id"] as? String }
            #expect(ids.count == count && Set(ids).count == count)
            #expect(run.complaint.contains("3,000 submitted, 3,000 done"))
            let again = try await cluster.kirie(["submit", "--jobs", file, "--wait"])
            #expect(again.status == 0 && (again.objects.count == count))
            let third = try await cluster.kirie(["submit", "--jobs", file])
            #expect(third.objects.allSatisfy { $0["state"] as? String == "done" && $0["known"] as? Bool == true })
        }
        let statistics = try await cluster.broker.statistics()
        #expect(statistics.total("done:bulk") == count && cluster.encodes.value == 2)
    }

    @Test func hugeLineEmptyFileAndMissingFile() async throws {
        let cluster = try await ClientCluster.start()
        let directory = try TemporaryDirectory()
        let empty = try directory.write([], to: "empty.jsonl")
        let none = try await cluster.kirie(["submit", "--jobs", empty])
        #expect(none.status == 0 && none.output.isEmpty && none.complaint.contains("holds no jobs"))

        // Zeros to the end of the file, which takes no room on the disk.
        let huge = try directory.write([], to: "huge.jsonl")
        #expect(truncate(huge, off_t(JobLineReader.longestLine + 5)) == 0)
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: huge))
        try handle.seekToEnd()
        try handle.write(contentsOf: Data("\n{\"image\":\"\(photo)\",\"prompts\":[{\"points\":[[5,5]]}]}\n".utf8))
        try handle.close()
        let run = try await cluster.kirie(["submit", "--jobs", huge])
        #expect(run.status == 1 && run.complaint.contains("line 1: a line of 134217733 bytes"), "\(run)")
        let objects = run.objects
        #expect(objects.count == 2 && objects.contains { $0["state"] as? String == "waiting_embedding" })

        for arguments in [["submit", "--jobs", "/nowhere.jsonl"], ["submit", "--jobs", "/tmp"]] {
            let run = try await cluster.kirie(arguments)
            #expect(run.status == 1 && run.output.isEmpty && run.complaint.contains(arguments[2]), "\(run)")
        }
        let missing = try await cluster.kirie(["submit", "/nowhere.jpg", photo, "--point", "5,5"])
        #expect(missing.status == 1 && (missing.objects.count == 2))
        #expect(missing.objects.contains { $0["image"] as? String == "/nowhere.jpg" && $0["error"] is String })
    }

    @Test func aFullClusterRefusesWith75OrIsWaitedFor() async throws {
        let cluster = try await ClientCluster.start(settings: ["jobs:bulk": 5])
        let directory = try TemporaryDirectory()
        let lines = (0..<20).map { #"{"id":"j\#($0)","image":"\#(photo)","prompts":[{"points":[[5,5]]}]}"# }
        let file = try directory.write(Array(lines.joined(separator: "\n").utf8), to: "jobs.jsonl")
        let run = try await cluster.kirie(["submit", "--jobs", file])
        #expect(run.status == 75)
        #expect(run.complaint.contains("the cluster is full: the jobs of lane bulk"), "\(run.complaint)")
        let objects = run.objects
        #expect(objects.count == 20)
        let refused = objects.filter { $0["state"] as? String == "refused" }
        #expect(refused.count == 15 && refused.allSatisfy { ($0["retry_after_ms"] as? Int ?? 0) > 0 })
        #expect(refused.allSatisfy { $0["line"] is Int && $0["id"] is String })

        try await cluster.working {
            let patient = try await cluster.kirie(["submit", "--jobs", file, "--wait", "--when-full", "wait"])
            #expect(patient.status == 0, "\(patient.complaint)")
            #expect(Set(patient.objects.compactMap { $0["id"] as? String }).count == 20)
            #expect(patient.complaint.contains("going on in"))
        }
        #expect(try await cluster.broker.statistics().total("done:bulk") == 20)
    }

    @Test func anInterruptedWaitSaysHowToGoOn() async throws {
        let cluster = try await ClientCluster.start()
        let run = try cluster.start(["submit", photo, "--point", "5,5", "--wait"])
        try await eventually("the job is there") { try await cluster.broker.statistics().unfinished == 1 }
        // The signal is caught from the moment on that the run begins, which is before the job is there.
        run.child.signal(SIGINT)
        let end = try await run.end()
        #expect(end.status == 130, "\(end)")
        let open = try #require(end.objects.first)
        let id = try #require(open["id"] as? String)
        #expect(open["state"] as? String == "open" && end.complaint.contains("kirie wait \(id)"))
        try await cluster.working {
            let run = try await cluster.kirie(["wait", id])
            #expect(run.status == 0, "\(run)")
        }
    }

    @Test func waitTellsOfFailuresTimeoutsAndStrangers() async throws {
        let cluster = try await ClientCluster.start()
        let directory = try TemporaryDirectory()
        let slow = try #require(
            try await cluster.kirie(["submit", photo, "--point", "5,5"]).objects.first?["id"] as? String)
        let late = try await cluster.kirie(["wait", slow, "--timeout", "0.3"])
        #expect(late.status == 1 && late.complaint.contains("1 jobs did not end within"), "\(late)")
        #expect(late.objects.first?["state"] as? String == "open")

        let ids = try directory.write(Array("\(slow)\nstranger\n\n\(slow)\n".utf8), to: "ids.txt")
        try await cluster.working {
            let run = try await cluster.kirie(["wait", "-"], input: ids)
            #expect(run.status == 1)
            #expect(Set(run.objects.compactMap { $0["state"] as? String }) == ["done", "unknown"])
            #expect(run.objects.count == 2, "an id that comes twice is one")
        }
    }

    @Test func cancelEndsAJobAndExpiryToo() async throws {
        let cluster = try await ClientCluster.start()
        let id = try #require(
            try await cluster.kirie(["submit", photo, "--point", "5,5"]).objects.first?["id"] as? String)
        let cancelled = try await cluster.kirie(["cancel", id])
        #expect(cancelled.status == 0 && (cancelled.objects.first?["state"] as? String == "cancelled"))
        #expect(try await cluster.kirie(["cancel", id, "nobody"]).status == 1)
        let waited = try await cluster.kirie(["wait", id])
        #expect(waited.status == 1 && (waited.objects.first?["error"] is String))

        let expired = try await cluster.kirie(["submit", photo, "--point", "6,6", "--ttl", "0.05", "--wait"])
        #expect(expired.status == 1 && (expired.objects.first?["state"] as? String == "expired"), "\(expired)")
    }

    @Test func redisGoneInTheMiddleIsAnErrorThatSaysWhatGoesOn() async throws {
        let cluster = try await ClientCluster.start()
        let run = try cluster.start(["submit", photo, "--point", "5,5", "--wait"])
        try await eventually("the job is there") { try await cluster.broker.statistics().unfinished == 1 }
        await cluster.server.kill()
        let end = try await run.end()
        #expect(end.status == 75 && end.complaint.contains("cannot connect to"), "\(end)")
        #expect(end.complaint.contains("kirie wait"))
    }

    @Test func errorsNameTheServerAndNeverThePassword() async throws {
        let server = try await RedisServerProcess.start(.init(password: "s3cret"))
        defer { withExtendedLifetime(server) {} }
        guard case .unixSocket(let path) = server.url.endpoint else { return }
        for url in ["unix://:wr0ng@\(path)", "unix://\(path)", "redis://127.0.0.1:1"] {
            for command in [["queues"], ["submit", photo, "--point", "5,5"], ["status", "a"], ["cache", "stats"]] {
                let run = try await ClientRun(command + ["--redis", url], redis: nil).end()
                // What may pass is to be tried again later; a password does not come right by itself.
                let status: Int32 = url.hasPrefix("redis://127") ? 75 : 1
                #expect(run.status == status && run.output.isEmpty && run.complaint.hasPrefix("kirie: "), "\(run)")
                #expect(!run.complaint.contains("wr0ng") && !run.complaint.contains("s3cret"))
            }
        }
        let none = try await ClientRun(["queues"], redis: nil, environment: ["HOME": "/nowhere"]).end()
        #expect(none.status == 1 && none.complaint.contains("kirie up"))
        let right = try await ClientRun(
            ["submit", photo, "--point", "5,5", "--redis", "unix://\(path)"], redis: nil,
            environment: ["KIRIE_REDIS_PASSWORD": "s3cret"]
        ).end()
        #expect(right.status == 75 && right.complaint.contains("no worker has ever announced a model"), "\(right)")
    }

    @Test func modelsAreNamedByIdentifierOrName() async throws {
        let cluster = try await ClientCluster.start()
        for model in ["tiny", ClientCluster.model.text] {
            #expect(try await cluster.kirie(["submit", photo, "--point", "5,5", "--model", model]).status == 0)
        }
        let unknown = try await cluster.kirie(["submit", photo, "--point", "5,5", "--model", "huge"])
        #expect(unknown.status == 1 && unknown.complaint.contains("served are: tiny"), "\(unknown)")
        let other = ModelIdentifier(fingerprint: [UInt8](repeating: 9, count: 32))
        try await cluster.announce { heartbeat in
            heartbeat.name = "far:2"
            heartbeat.model = other.text
        }
        let ambiguous = try await cluster.kirie(["submit", photo, "--point", "5,5", "--model", "tiny"])
        #expect(ambiguous.status == 2 && ambiguous.complaint.contains(other.text))
        let early = try await cluster.kirie(["submit", photo, "--point", "5,5", "--model", "new:1:fp16"])
        #expect(early.status == 0 && early.complaint.contains("no worker serves the model"))
    }

    @Test func closedOutputIsAFailureAndLosesNothing() async throws {
        let cluster = try await ClientCluster.start()
        let run = try await ClientRun(
            ["submit", photo, "--point", "5,5"], redis: cluster.server.url, closesOutput: true
        ).end()
        #expect(run.status == 1 && run.complaint.contains("standard output: cannot be written"), "\(run)")
        #expect(try await cluster.broker.statistics().unfinished == 1)
    }

    @Test(arguments: [
        ["submit"], ["submit", "a.jpg"], ["submit", "a.jpg", "--jobs", "x"], ["submit", "a.jpg", "--point", "x"],
        ["submit", "--jobs", "x", "--point", "1,1"], ["submit", "a.jpg", "--point", "1,1", "-o", "x"],
        ["submit", "a.jpg", "--point", "1,1", "--wait", "-o", "x", "--output", "polygon"],
        ["submit", "a.jpg", "--point", "1,1", "--lane", "slow"], ["submit", "a.jpg", "--point", "1,1", "--ttl", "-1"],
        ["submit", "a.jpg", "--point", "1,1", "--ttl", "nan"], ["submit", "--jobs", "x", "--redis", "http://x"],
        ["submit", "--jobs", "x", "--when-full", "never"], ["submit", "--jobs", "x", "--namespace", "a b"],
        ["wait"], ["wait", "a", "--timeout", "-1"], ["status"], ["cancel"], ["dead", "retry"],
        ["dead", "purge", "a", "--all"],
        ["queues", "--interval", "0"], ["cache", "warm"], ["cache", "drop"], ["cache", "drop", "a", "--all"],
        ["cache", "stats", "--cache-redis", "x"], ["cache", "warm", "x", "--in-flight", "0"],
    ]) func wrongUsageExitsWith2(arguments: [String]) async throws {
        let run = try await ClientRun(arguments, redis: nil).end()
        #expect(run.status == 2 && run.output.isEmpty && run.complaint.contains("Usage:"), "\(run)")
    }

    @Test(arguments: [
        ["submit"], ["wait"], ["status"], ["cancel"], ["dead"], ["dead", "list"], ["dead", "show"], ["dead", "retry"],
        ["dead", "purge"], ["queues"], ["workers"], ["cache"], ["cache", "stats"], ["cache", "warm"],
        ["cache", "drop"], ["tenants"], ["tenants", "list"], ["tenants", "set"], ["tenants", "drop"],
    ]) func helpHasAnExample(command: [String]) async throws {
        let run = try await ClientRun(command + ["--help"], redis: nil).end()
        let overview = run.output.components(separatedBy: "USAGE:")[0]
        #expect(run.status == 0 && overview.contains("kirie \(command.joined(separator: " "))"), "\(run.output)")
    }
}
