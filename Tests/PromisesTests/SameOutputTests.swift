import Cluster
import Embeddings
import Foundation
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Tensors
import Testing

/// `segment`, `encode` and `decode` say the same whether a cluster does the work or the process itself.
@Suite(.serialized) struct SameOutputTests {
    @Test(.timeLimit(.minutes(30)))
    func aClusterAnswersAsTheProcessDoes() async throws {
        try await LiveCluster.run { cluster in
            // Numbers of 32 bits, as they are where nothing is stored.
            try cluster.start(.encoder, "encoder", ["--embedding", "fp32"])
            try cluster.start(.decoder, "decoder", ["--embedding", "fp32"])
            try await cluster.ready("encoder", "decoder")
            let picture = try TestPicture(4, in: cluster.folder)
            let redis = cluster.address(as: "submitter")
            func answer(_ command: String, _ file: String, _ more: [String]) async throws -> (Answer, Data) {
                let png = "\(cluster.folder)/\(UUID()).png"
                let words = [command, file, "--box", "2,3,15,14", "--box", "-4,1,9,9", "--json", "-o", png]
                let run = try await cluster.kirie(words + more)
                #expect(run.exit == .status(0), "\(words + more): \(run.complaint)")
                let answer = try JSONDecoder().decode(Answer.self, from: Data(run.json.utf8))
                let files = try ["-1", "-2"].map {
                    try Data(contentsOf: URL(filePath: png.replacing(".png", with: "\($0).png")))
                }
                return (answer, files[0] + files[1])
            }
            let here = try await answer("segment", picture.path, [])
            let there = try await answer("segment", picture.path, ["--redis", redis])
            expectSame(here.0, there.0)
            #expect(here.1 == there.1 && there.0.image.sha256 == picture.digest.hexadecimal)

            // The picture goes; its embedding stays, and so nothing is sent again.
            let image =
                "\(cluster.broker.keys.prefix(cluster.broker.partition(of: picture.digest)))image:\(picture.digest)"
            _ = try await cluster.broker.redis.send(RedisCommand("DEL", .string(image)))
            let again = try await answer("segment", picture.path, ["--redis", redis])
            expectSame(here.0, again.0)
            #expect(try await cluster.broker.redis.send(RedisCommand("EXISTS", .string(image))).integer == 0)

            let (mine, theirs) = ("\(cluster.folder)/mine.kemb", "\(cluster.folder)/theirs.kemb")
            let encoded = try await cluster.kirie("encode", picture.path, "-o", mine, "--type", "fp32")
            let fetched = try await cluster.kirie("encode", picture.path, "-o", theirs, "--redis", redis)
            #expect(
                encoded.exit == .status(0) && fetched.exit == .status(0), "\(encoded.complaint) \(fetched.complaint)")
            let records = try [mine, theirs].map {
                try EmbeddingRecord(copying: Array(Data(contentsOf: URL(filePath: $0))))
            }
            #expect(records[0].key == records[1].key)
            #expect(records[0].maps().map(\.tensor.elements) == records[1].maps().map(\.tensor.elements))

            // An embedding that the cluster has not got, nor its picture.
            _ = try await cluster.kirie("cache", "drop", "--all")
            let decoded = try await answer("decode", mine, [])
            let byDecoder = try await answer("decode", mine, ["--redis", redis])
            expectSame(decoded.0, byDecoder.0)
            #expect(decoded.1 == byDecoder.1)

            // Logits too: the tokens in order, at both sizes, and nothing where a box is none.
            var tensors: [Data] = []
            for more in [[], ["--redis", redis]] {
                let file = "\(cluster.folder)/\(UUID()).safetensors"
                let words = [
                    "decode", mine, "--box", "2,3,15,14", "--box", "90,90,99,99", "--multimask", "--logits", file,
                    "--full-size", "--json",
                ]
                let run = try await cluster.kirie(words + more)
                // One of the two boxes lies beside the picture.
                #expect(run.exit == .status(1), "\(run.complaint)")
                #expect(!run.json.contains("logits"))
                tensors.append(try Data(contentsOf: URL(filePath: file)))
            }
            #expect(tensors[0] == tensors[1] && tensors[0].count > 2 * 3 * 16 * 15 * 4)
            // A large picture, each prompt on the part around it.
            let large = try TestPicture(5, width: 2300, height: 1500, in: cluster.folder)
            let tiled = try await answer("segment", large.path, ["--tile", "auto"])
            let tiledThere = try await answer("segment", large.path, ["--tile", "auto", "--redis", redis])
            expectSame(tiled.0, tiledThere.0)
            #expect(tiled.1 == tiledThere.1)
            #expect(tiled.0.masks.map(\.crop_box) == tiledThere.0.masks.map(\.crop_box))
            // These weights' masks are cut off by every tile, so that tiles are asked for until there is none.
            #expect(tiled.0.masks.allSatisfy { $0.crop_box == [0, 0, 2300, 1500] })
            try await cluster.expectNothingLeft()
        }
    }

    private func expectSame(_ one: Answer, _ other: Answer) {
        #expect(one.masks.map(\.segmentation?.counts) == other.masks.map(\.segmentation?.counts))
        #expect(one.masks.map(\.score) == other.masks.map(\.score))
        #expect(one.masks.map(\.stability_score) == other.masks.map(\.stability_score))
        #expect(one.masks.map(\.prompt) == other.masks.map(\.prompt))
        #expect(one.image.width == other.image.width && one.image.height == other.image.height)
        #expect(one.precision == other.precision && one.model == other.model)
        #expect(one.notes?.map(\.note) == other.notes?.map(\.note))
    }
}
