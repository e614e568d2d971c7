import Cluster
import ClusterTesting
import Foundation
import Hashing
import KirieTesting
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

extension BadInputTests {
    /// Pictures that are none, in a command and in the cluster.
    @Suite struct PictureTests {
        @Test func aBrokenPictureIsNamed() throws {
            let directory = try TemporaryDirectory()
            let mask = directory.file("mask.png")
            let damages = Damage.pictures(
                png: try bytes(KirieProcess.portrait), jpeg: try bytes(KirieProcess.landscape))
            var pictures = try damages.enumerated().map { try directory.write($1.bytes, to: "\($0).png") }
            pictures += [try directory.write([], to: "empty.png"), directory.file("missing.jpg"), directory.path]
            for picture in pictures {
                try expectFailure(
                    ["segment", picture, "--point", "5,5", "-o", mask], says: ["kirie: ", picture], in: directory)
            }
        }

        @Test(.timeLimit(.minutes(30)))
        func brokenPicturesFailWithAReasonAndNothingElseDoes() async throws {
            try await LiveCluster.run { cluster in
                let model = try InProcessMasks().model
                let picture = try TestPicture(1, in: cluster.folder)
                let good = picture.bytes
                let broken =
                    Damage.pictures(png: good, jpeg: try bytes(KirieProcess.landscape)) + [
                        Damage("a reference to nowhere", Array("ref:nowhere/a.png".utf8))
                    ]
                var jobs: [Job] = []
                func job(_ id: String, _ digest: ImageDigest) -> Job {
                    let line = "{\"image\":{\"sha256\":\"\(digest)\"},\"prompts\":[{\"points\":[[3,3]]}]}"
                    return Job(id: id, lane: .bulk, image: digest, model: model, line: RedisBytes(line))
                }
                for (index, damage) in broken.enumerated() {
                    let digest = ImageDigest(bytes: SHA256.hash(damage.bytes).bytes)
                    try await cluster.broker.putImage(digest, .array(damage.bytes))
                    // Two jobs, which fail together.
                    jobs += (0..<2).map { job("broken-\(index)-\($0)", digest) }
                }
                // A good picture under the name of another.
                let other = try TestPicture(2, in: cluster.folder)
                try await cluster.broker.putImage(other.digest, .array(good))
                jobs.append(job("misnamed", other.digest))
                try await cluster.broker.putImage(picture.digest, .array(good))
                let fine = (0..<20).map { job("fine-\($0)", picture.digest) }
                for outcome in try await cluster.broker.submit(jobs + fine) {
                    guard case .accepted = outcome else { throw UnexpectedAnswer(description: "\(outcome)") }
                }
                let encoder = try cluster.start(.encoder, "encoder")
                try cluster.start(.decoder, "decoder")
                let references = jobs.map { cluster.reference($0.id, $0.image) }
                try await cluster.reach(.failed, references)
                try await cluster.reach(.done, fine.map { cluster.reference($0.id, $0.image) })
                let statuses = try await cluster.broker.status(references).compactMap(\.self)
                #expect(statuses.allSatisfy { ($0.error ?? "").count > 10 }, "a failure without a reason")
                #expect(statuses.last?.error?.contains("SHA-256") == true, "\(statuses.last?.error ?? "")")
                #expect(try await cluster.total("encode_retries") == 0, "bad input is not tried again")
                #expect(try await cluster.broker.deadLetters().isEmpty, "bad input is no dead letter")
                #expect(encoder.isRunning)
                // The rightful bytes, once the wrong ones are gone, make it work.
                let audit = try await cluster.expectNothingLeft()
                #expect(audit.states.count == jobs.count + 20)
                for (index, damage) in broken.enumerated() {
                    print("bad input: \(damage.what): \(statuses[2 * index].error ?? "")")
                }
            }
        }
    }
}
