import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Testing

/// Scripts' side and workers' side together, all of them real processes.
@Suite struct SubmitEndToEndTests {
    @Test func theClustersMasksAreThoseOfTheProcess() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let url = server.url
        let directory = try TemporaryDirectory()
        let workers = try ["encoder", "decoder"].map {
            try ClientRun([$0, "--model", KirieProcess.nano, "--threads", "1"], redis: url)
        }
        func kirie(_ arguments: [String]) async throws -> ClientRun.Ending {
            try await ClientRun(arguments, redis: url, workingDirectory: directory.path).end()
        }
        try await eventually("both workers are there") {
            try await kirie(["workers", "--json"]).objects.first.flatMap { $0["workers"] as? [Any] }?.count == 2
        }

        let photos = [KirieProcess.landscape, KirieProcess.portrait]
        let warm = try await kirie(["cache", "warm"] + photos + ["--json"])
        #expect(warm.status == 0 && warm.objects.first?["encoded"] as? Int == 2, "\(warm)")
        let lines = photos.enumerated().map { index, photo in
            #"{"id":"\#(index)","image":"\#(photo)","prompts":[{"points":[[60,70],[20,30]],"labels":[1,0]}],"multimask":true}"#
        }
        try directory.write(Array(lines.joined(separator: "\n").utf8), to: "jobs.jsonl")
        let run = try await kirie(["submit", "--jobs", "jobs.jsonl", "--wait", "-o", "masks", "--model", "sam.pth"])
        #expect(run.status == 0, "\(run)")
        #expect(try directory.files.contains("masks") && run.objects.count == 2)

        for (index, photo) in photos.enumerated() {
            let embedding = directory.file("\(index).kemb")
            #expect(try await kirie(["encode", photo, "--model", KirieProcess.nano, "-o", embedding]).status == 0)
            let alone = try await kirie([
                "decode", embedding, "--model", KirieProcess.nano, "--point", "60,70", "--point", "20,30,0",
                "--multimask",
                "--json",
            ])
            let answer = try #require(run.objects.first { $0["id"] as? String == "\(index)" })
            let (ours, theirs) = (try counts(answer), try counts(try #require(alone.objects.first)))
            #expect(ours.count == 3 && ours == theirs)
            let files = try #require(answer["files"] as? [String])
            #expect(files.count == 3 && files[0].hasSuffix("-\(index + 1)-1.png"), "\(files)")
        }

        // A picture whose head is right and whose body is not: the encoder finds out.
        let photo = try Data(contentsOf: URL(fileURLWithPath: KirieProcess.landscape))
        try directory.write(photo.prefix(photo.count / 2), to: "half.jpg")
        let broken = try await kirie(["submit", "half.jpg", "--point", "5,5", "--wait"])
        #expect(broken.status == 1, "\(broken)")
        #expect(broken.objects.first?["state"] as? String == "failed" && broken.objects.first?["error"] is String)
        let failed = try await kirie(["cache", "warm", "half.jpg", photos[0]])
        #expect(failed.status == 1 && failed.complaint.contains("half.jpg: "), "\(failed)")
        #expect(failed.complaint.contains("2 pictures: 1 were there, 0 encoded, 1 failed"))

        for worker in workers { worker.child.signal(SIGTERM) }
        for worker in workers { #expect(try await worker.end().status == 0) }
    }

    private func counts(_ answer: [String: Any]) throws -> [String] {
        let masks = try #require(answer["masks"] as? [[String: Any]])
        return try masks.map { mask in
            let segmentation = try #require(mask["segmentation"] as? [String: Any])
            return try #require(segmentation["counts"] as? String)
        }
    }
}
