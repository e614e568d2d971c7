import Cluster
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// `cache stats`, `warm` and `drop`.
@Suite struct CacheCommandTests {
    /// Small pictures that are all different, so that their order says nothing.
    private func dataSet(_ directory: TemporaryDirectory, count: Int) throws {
        let photo = try Data(contentsOf: URL(fileURLWithPath: KirieProcess.landscape))
        try FileManager.default.createDirectory(
            atPath: directory.file("set/below"), withIntermediateDirectories: true)
        for index in 0..<count {
            // What follows the end of a JPEG is not looked at.
            try directory.write(
                Array(photo) + Array("\(index)".utf8), to: "set/\(index % 3 == 0 ? "below/" : "")p\(index).JPG")
        }
        try directory.write(Array("not a picture".utf8), to: "set/notes.txt")
    }

    @Test func warmFillsTheCacheAndGoesOnWhereItWas() async throws {
        let cluster = try await ClientCluster.start(settings: ["jobs:bulk": 2])
        let directory = try TemporaryDirectory()
        try dataSet(directory, count: 40)
        try directory.write(Array("broken".utf8), to: "set/broken.png")
        let folder = directory.file("set")
        let list = try directory.write(
            Array("\(directory.file("set/p1.JPG"))\n\(directory.file("set/p2.JPG"))\n/nowhere.png\n".utf8),
            to: "list.txt")
        try await cluster.working {
            let some = try await cluster.kirie(["cache", "warm", "\(folder)/p*[12].JPG", "--json"])
            #expect(some.status == 0, "\(some)")
            let part = try #require(some.objects.first?["encoded"] as? Int)
            #expect(part > 2 && part < 40)
            let all = try await cluster.kirie(["cache", "warm", folder, "--json"])
            #expect(all.status == 1 && all.complaint.contains("broken.png"), "\(all)")
            let sum = try #require(all.objects.first)
            #expect(sum["pictures"] as? Int == 41 && sum["there"] as? Int == part && sum["failed"] as? Int == 1)
            #expect(sum["encoded"] as? Int == 40 - part && sum["open"] as? Int == 0)
            let listed = try await cluster.kirie(["cache", "warm", list])
            #expect(listed.status == 1 && listed.complaint.contains("/nowhere.png"))
            #expect(listed.complaint.contains("3 pictures: 2 were there, 0 encoded, 1 failed"), "\(listed)")
        }
        #expect(cluster.encodes.value == 40)
        let nothing = try await cluster.kirie(["cache", "warm", "/nowhere", "/nowhere/*.jpg"])
        #expect(
            nothing.status == 1
                && nothing.complaint.contains(
                    "/nowhere/*.jpg: there are no pictures: files that end in .jpg, .jpeg, .png")
        )
    }

    @Test func severalModelsAreWarmedInOnePass() async throws {
        let cluster = try await ClientCluster.start()
        let (first, other) = (ClientCluster.model, ClientCluster.otherModel)
        try await cluster.announce {
            ($0.name, $0.processIdentifier, $0.model, $0.modelName) = ("far:2", 2, other.text, "other")
        }
        let directory = try TemporaryDirectory()
        try dataSet(directory, count: 9)
        try directory.write(Array("broken".utf8), to: "set/broken.png")
        let folder = directory.file("set")
        try await cluster.working(encodingAlso: [other]) {
            let one = try await cluster.kirie(["cache", "warm", "\(folder)/p1.JPG", "--model", "other", "--json"])
            #expect(one.objects.first?["encoded"] as? Int == 1, "\(one)")
            #expect(one.objects.first?["models"] as? [String] == [other.text])
            // A name and an identifier of the same model are one model.
            let both = ["--model", "tiny", "--model", "other", "--model", first.text]
            let all = try await cluster.kirie(["cache", "warm", folder, "--json", "--in-flight", "3"] + both)
            #expect(all.status == 1, "\(all)")
            #expect(all.complaint.components(separatedBy: "broken.png").count == 2, "\(all.complaint)")
            let sum = try #require(all.objects.first)
            #expect(sum["models"] as? [String] == [first.text, other.text])
            #expect(sum["pictures"] as? Int == 10 && sum["there"] as? Int == 1 && sum["encoded"] as? Int == 17)
            #expect(sum["failed"] as? Int == 2 && sum["open"] as? Int == 0)
            let again = try await cluster.kirie(["cache", "warm", "\(folder)/p*.JPG"] + both)
            #expect(again.status == 0 && again.complaint.contains("pictures for 2 models: "), "\(again)")
            #expect(again.complaint.contains(" were there, 0 encoded"), "\(again)")
        }
        #expect(cluster.encodes.value == 18)
        let unknown = try await cluster.kirie(["cache", "warm", folder, "--model", "tiny", "--model", "nobody's"])
        #expect(unknown.status == 1 && unknown.complaint.contains("nobody's"), "\(unknown)")
    }

    @Test func linksInACircleEndAndPipesAreNotWaitedFor() async throws {
        let cluster = try await ClientCluster.start()
        let directory = try TemporaryDirectory()
        try dataSet(directory, count: 3)
        let folder = directory.file("set")
        for link in ["latest", "current", "below/up"] {
            try FileManager.default.createSymbolicLink(
                atPath: "\(folder)/\(link)", withDestinationPath: link.contains("/") ? ".." : ".")
        }
        try FileManager.default.createSymbolicLink(atPath: "\(folder)/again.jpg", withDestinationPath: "p1.JPG")
        let pipe = "\(folder)/x.jpg"
        #expect(mkfifo(pipe, 0o600) == 0)
        try await cluster.working {
            let run = try await cluster.kirie(["cache", "warm", folder, "\(folder)/p*.JPG", "--json"])
            #expect(run.status == 0, "\(run)")
            #expect(
                run.objects.first?["pictures"] as? Int == 3 && run.complaint.contains("skipped: it is a named pipe"))
            // Named itself it is no picture, and nobody waits for a writer.
            let list = try directory.write(Array("\(pipe)\n".utf8), to: "list.txt")
            for source in [pipe, "\(folder)/x.*", list] {
                let run = try await cluster.kirie(["cache", "warm", source, "--json"])
                #expect(run.status == 1 && run.complaint.contains("is a named pipe"), "\(run)")
            }
        }
        #expect(cluster.encodes.value == 3)
        let empty = try await cluster.kirie([
            "cache", "warm", directory.path + "/set/below/..", "/tmp/nothing-\(UUID())",
        ])
        #expect(empty.status == 1 && empty.complaint.contains("No such file"), "\(empty)")
    }

    @Test func warmIsStoppedAndGoesOn() async throws {
        let cluster = try await ClientCluster.start()
        let directory = try TemporaryDirectory()
        try dataSet(directory, count: 10)
        let run = try cluster.start(["cache", "warm", directory.file("set"), "--in-flight", "4"])
        try await eventually("some are on their way") { try await cluster.broker.statistics().unfinished >= 4 }
        run.child.signal(SIGINT)
        let end = try await run.end()
        #expect(end.status == 130 && end.complaint.contains("run the same command again"), "\(end)")
        try await cluster.working {
            let again = try await cluster.kirie(["cache", "warm", directory.file("set"), "--json"])
            #expect(again.status == 0, "\(again)")
        }
        #expect(cluster.encodes.value == 10, "what was asked for before the stop was not encoded twice")
    }

    @Test func statsAndDrop() async throws {
        let cluster = try await ClientCluster.start()
        let directory = try TemporaryDirectory()
        try dataSet(directory, count: 6)
        try await cluster.working {
            let run = try await cluster.kirie(["cache", "warm", directory.file("set")])
            #expect(run.status == 0, "\(run)")
        }
        let stats = try await cluster.kirie(["cache", "stats", "--json"])
        let object = try #require(stats.objects.first)
        #expect(stats.status == 0 && (object["entries"] as? Int ?? 0) >= 6)
        for name in ["bytes", "hits", "misses", "evictions", "corrupt", "encode_seconds_saved"] {
            #expect(object[name] is NSNumber, "\(name)")
        }
        #expect(try await cluster.kirie(["cache", "stats"]).output.contains("of encoding"))

        func removed(_ arguments: [String]) async throws -> Int? {
            try await cluster.kirie(["cache", "drop"] + arguments).objects.first?["removed"] as? Int
        }
        let one = directory.file("set/p1.JPG")
        #expect(try await removed([one]) == 1)
        #expect(try await removed([one]) == 0)
        let digest = ImageDigest(bytes: [UInt8](repeating: 1, count: 32))
        #expect(try await removed(["\(digest):\(ClientCluster.model)", digest.hexadecimal]) == 0)
        #expect(try await removed(["--model", "other:1:fp16"]) == 0)
        #expect(try await removed(["--model", "tiny"]) == 5)
        #expect(try await removed(["--all"]) == 0)
        let missing = try await cluster.kirie(["cache", "drop", "/nowhere.png"])
        #expect(missing.status == 1 && missing.complaint.contains("/nowhere.png"))
    }

    @Test func aMarkWithoutItsEmbeddingIsEncodedAgain() async throws {
        let cluster = try await ClientCluster.start()
        let other = try await RedisServerProcess.start()
        defer { withExtendedLifetime(other) {} }
        guard case .unixSocket(let path) = other.url.endpoint else { return }
        let directory = try TemporaryDirectory()
        try dataSet(directory, count: 3)
        // The far side of this test leaves marks and puts nothing into the other Redis.
        try await cluster.working {
            for _ in 0..<2 {
                let run = try await cluster.kirie([
                    "cache", "warm", directory.file("set"), "--cache-redis", "unix://\(path)", "--json",
                ])
                #expect(run.status == 0 && (run.objects.first?["encoded"] as? Int == 3), "\(run)")
            }
        }
        #expect(cluster.encodes.value == 6)
    }
}
