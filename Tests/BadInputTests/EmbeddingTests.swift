import Cluster
import Embeddings
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

extension BadInputTests {
    /// Records of embeddings that were damaged: as files and in the cache.
    @Suite struct EmbeddingTests {
        @Test func aBrokenRecordIsNamed() throws {
            let directory = try TemporaryDirectory()
            let good = directory.file("good.kemb")
            #expect(try KirieProcess(["encode", KirieProcess.landscape, "-o", good]).status == 0)
            var files = try Damage.records(try bytes(good)).enumerated().map {
                try directory.write($1.bytes, to: "\($0).kemb")
            }
            files.append(directory.file("missing.kemb"))
            for file in files {
                try expectFailure(
                    ["decode", file, "--point", "5,5", "-o", directory.file("m.png")], says: [file], in: directory)
            }
            try expectFailure(
                ["decode", good, "--point", "5,5", "--model", KirieProcess.wide],
                says: [good, "made by another model", "encode"], in: directory)
        }

        @Test(.timeLimit(.minutes(30)))
        func aDamagedEmbeddingIsDroppedCountedAndEncodedAgain() async throws {
            try await LiveCluster.run { cluster in
                try cluster.start(.encoder, "encoder")
                // No memory of its own: every batch fetches.
                try cluster.start(.decoder, "decoder", ["--cache-bytes", "0"])
                try await cluster.ready("encoder", "decoder")
                let reference = try InProcessMasks()
                let picture = try TestPicture(1, in: cluster.folder)
                let other = try TestPicture(2, in: cluster.folder)
                let wanted = try reference.masks(
                    [Prompt(points: [LabeledPoint(x: 5, y: 6)])], on: try reference.prepare(picture))
                let good = try reference.record(picture).withUnsafeBytes { Array($0) }
                let damages =
                    Damage.records(good) + [
                        Damage("of another picture", try reference.record(other).withUnsafeBytes { Array($0) })
                    ]
                let key = cluster.broker.keys.embedding(
                    EmbeddingKey(image: picture.digest, model: reference.model),
                    in: cluster.broker.partition(of: picture.digest))
                for (round, damage) in ([Damage("none", good)] + damages).enumerated() {
                    if round > 0 {
                        try await cluster.broker.redis.set(key, .array(damage.bytes), expiry: .seconds(600))
                    }
                    let what = damage.what
                    let file = try cluster.write([picture.line("d-\(round)", points: [(5, 6)])], to: "d.jsonl")
                    let run = try await cluster.kirie("submit", "--jobs", file, "--wait")
                    #expect(run.exit == .status(0), "\(what): \(run.complaint) \(run.lines.map(\.error))")
                    #expect(try InProcessMasks.text(run.lines.first?.masks ?? []) == wanted, "\(what)")
                    #expect(try await cluster.total("encode_finished") == round + 1, "\(what)")
                }
                let counted = try await cluster.broker.redis.fields("kirie:embeddings", ["corrupt"])[0]?.string
                #expect(counted == "\(damages.count)")
                try await cluster.expectNothingLeft()
                print("bad input: \(damages.count) kinds of damaged embeddings: dropped, counted, encoded again")
            }
        }
    }
}
