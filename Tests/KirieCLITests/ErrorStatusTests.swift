import Foundation
import KirieTesting
import RedisTesting
import Testing

/// What a command ends with says whose turn it is: 2 the command line, 1 what it was given, 75 nobody's, later.
@Suite struct ErrorStatusTests {
    @Test(arguments: [
        (["segment", "/nowhere/photo.jpg", "--point", "5,5"], 1, "/nowhere/photo.jpg"),
        (["segment", "PHOTO", "--point", "5,5", "--model", "no-such-model"], 1, "no-such-model"),
        (["segment", "PHOTO", "--point", "99999,5"], 1, "outside the picture"),
        (["segment", "PHOTO", "--point", "5,5", "-o", "/nowhere/mask.png"], 1, "/nowhere"),
        (["segment", "PHOTO", "--point", "5,5", "--redis", "redis://h:notaport"], 2, "the port is no number"),
        (["queues", "--redis", "redis://127.0.0.1:1"], 75, "cannot connect"),
        (["eval", "/nowhere"], 1, "/nowhere"),
        (["decode", "/nowhere/a.kemb", "--point", "5,5"], 1, "/nowhere/a.kemb"),
        (["segment", "PHOTO"], 2, "Usage"),
    ]) func theStatusTellsWhoseTurnItIs(words: [String], status: Int, text: String) throws {
        let run = try KirieProcess(words.map { $0 == "PHOTO" ? KirieProcess.landscape : $0 })
        #expect(run.status == Int32(status) && run.complaint.contains(text), "\(run)")
        #expect(run.output.isEmpty)
    }

    @Test func aClusterWithoutWorkersIsToBeTriedLater() async throws {
        let server = try await RedisServerProcess.start()
        defer { withExtendedLifetime(server) {} }
        let run = try await ClientRun(["submit", KirieProcess.landscape, "--point", "5,5"], redis: server.url).end()
        #expect(run.status == 75 && run.complaint.contains("kirie encoder"), "\(run)")
    }
}
