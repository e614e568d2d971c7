import Cluster
import Foundation
import KirieTesting
import Platform
import RedisTesting
import Testing

extension BadInputTests {
    /// Lines of `kirie submit --jobs`: the wrong ones are named, the others are done.
    @Suite struct JobLineTests {
        @Test(.timeLimit(.minutes(30)))
        func badJobLinesAreNamedAndTheOthersGoOn() async throws {
            try await LiveCluster.run { cluster in
                try cluster.start(.encoder, "encoder")
                try cluster.start(.decoder, "decoder")
                try await cluster.ready("encoder", "decoder")
                let picture = try TestPicture(1, in: cluster.folder)
                let lines = [
                    picture.line("first", points: [(2, 2)]), "{\"id\":\"a\"}", "not json",
                    picture.line("b", points: [(2, 2)], ",\"lane\":\"fast\""), picture.line("c", points: [(99_999, 2)]),
                    "{\"id\":\"d\",\"image\":\"\(cluster.folder)/missing.png\",\"prompts\":[{\"points\":[[1,1]]}]}",
                    picture.line("first", points: [(2, 2)]), picture.line("last", points: [(4, 4)]),
                ]
                let run = try await cluster.kirie(
                    "submit", "--jobs", try cluster.write(lines, to: "bad.jsonl"), "--wait")
                #expect(run.exit == .status(1))
                #expect(Set(run.lines.filter { $0.state == "done" }.compactMap(\.id)) == ["first", "last"])
                let bad = run.lines.filter { $0.error != nil }
                #expect(bad.compactMap(\.line).sorted() == [2, 3, 4, 5, 6, 7])
                let fields = Dictionary(uniqueKeysWithValues: bad.map { ($0.line ?? 0, $0.field ?? "") })
                #expect(
                    fields[2] == "image" && fields[4] == "lane" && fields[5] == "prompts[0]" && fields[6] == "image")
                #expect(fields[7] == "id")
                try await cluster.expectNothingLeft()
            }
        }
    }
}
