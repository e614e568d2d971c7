import Cluster
import ClusterTesting
import Embeddings
import Foundation
import Hashing
import Platform
import Redis
import RedisTesting
import Segmentation
import Testing

/// Bad input gets an error that says what is wrong, and disturbs nothing else.
@Suite(.serialized) struct BadInputTests {
    /// Entries that nobody's function wrote.
    private static let garbage: [(what: String, fields: [RedisArgument])] = [
        ("wrong names", ["no", "ticket"]),
        ("empty names and values", ["", ""]),
        ("binary", [.array([0, 255, 254, 10, 13]), .array((0..<200).map { UInt8(truncatingIfNeeded: $0 &* 37) })]),
        ("huge", ["job", .array([UInt8](repeating: 0x78, count: 3 << 20))]),
        ("many fields", (0..<2000).map { .string("f\($0)") }),
        ("an unknown job", ["job", "nobody-knows-me", "try", "0"]),
        ("an unknown job, tried before", ["job", "nobody-knows-me", "try", "3"]),
        ("a try that is no number", ["job", "x", "try", "often"]),
        ("a key that is none", ["key", "abc", "try", "0"]),
        ("a job name that is a key of another kind", ["job", "../clock", "try", "0"]),
    ]

    @Test(.timeLimit(.minutes(30)))
    func entriesWrittenByHandGoToTheDeadLettersAndTheWorkersLive() async throws {
        try await LiveCluster.run { cluster in
            let workers = [try cluster.start(.encoder, "encoder"), try cluster.start(.decoder, "decoder")]
            try await cluster.ready("encoder", "decoder")
            let pictures = try TestPicture.draw(6, in: cluster.folder)
            var written = 0
            for stage in Stage.allCases {
                for lane in Lane.allCases {
                    for (index, garbage) in Self.garbage.enumerated() {
                        let line = cluster.broker.keys.stream(stage, lane, in: Partition(index % 4))
                        _ = try await cluster.broker.redis.send(
                            RedisCommand("XADD", [.string(line), "*"] + garbage.fields))
                        written += 1
                    }
                }
            }
            let lines = pictures.enumerated().map { $1.line("ok-\($0)", points: [(2, 3)]) }
            let run = try await cluster.kirie("submit", "--jobs", try cluster.write(lines, to: "jobs.jsonl"), "--wait")
            #expect(run.exit == .status(0), "\(run.complaint)")
            try await eventually("all garbage was found") {
                try await cluster.total("malformed") == written
            }
            let letters = try await cluster.broker.deadLetters()
            #expect(letters.count == written && letters.allSatisfy { !$0.reason.isEmpty && $0.job == nil })
            #expect(workers.allSatisfy { $0.isRunning })
            let shown = try await cluster.kirie("dead", "list", "--json")
            #expect(shown.exit == .status(0) && shown.lines.count == written)
            let purged = try await cluster.kirie("dead", "purge", "--all")
            #expect(purged.exit == .status(0))
            #expect(try await cluster.broker.deadLetters().isEmpty)
            try await cluster.expectNothingLeft()
            print("bad input: \(written) entries of \(Self.garbage.count) kinds in 4 lines: all among the dead letters")
        }
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
            func flipped(_ place: Int) -> [UInt8] {
                var bytes = good
                bytes[place] ^= 0x10
                return bytes
            }
            let damages: [(String, [UInt8])] = [
                ("header", flipped(20)), ("payload", flipped(9000)), ("last byte", flipped(good.count - 1)),
                ("cut off", Array(good.prefix(4000))), ("too long", good + [0]), ("empty", []),
                ("text", Array("hello".utf8)),
                ("of another picture", try reference.record(other).withUnsafeBytes { Array($0) }),
            ]
            let key = cluster.broker.keys.embedding(
                EmbeddingKey(image: picture.digest, model: reference.model),
                in: cluster.broker.partition(of: picture.digest))
            for (round, (what, bytes)) in ([("none", good)] + damages).enumerated() {
                if round > 0 { try await cluster.broker.redis.set(key, .array(bytes), expiry: .seconds(600)) }
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

    @Test(.timeLimit(.minutes(30)))
    func brokenPicturesFailWithAReasonAndNothingElseDoes() async throws {
        try await LiveCluster.run { cluster in
            let model = try InProcessMasks().model
            let picture = try TestPicture(1, in: cluster.folder)
            let good = picture.bytes
            func changed(_ place: Int) -> [UInt8] {
                var bytes = good
                bytes[place] ^= 0x55
                return bytes
            }
            var bomb = good
            bomb.replaceSubrange(16..<24, with: [0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF])
            let jpeg = try Data(
                contentsOf: URL(fileURLWithPath: LiveCluster.nano).deletingLastPathComponent().appendingPathComponent(
                    "landscape.jpg"))
            let broken: [(what: String, bytes: [UInt8])] = [
                ("cut off", Array(good.prefix(good.count / 2))), ("only its head", Array(good.prefix(40))),
                ("a damaged chunk", changed(good.count - 30)), ("a damaged signature", changed(1)),
                ("a damaged head", changed(25)), ("a bomb", bomb), ("text", Array("this is no picture".utf8)),
                ("zeros", [UInt8](repeating: 0, count: 5000)), ("half a JPEG", Array(jpeg.prefix(300))),
                ("a reference to nowhere", Array("ref:nowhere/a.png".utf8)),
            ]
            var jobs: [Job] = []
            func job(_ id: String, _ digest: ImageDigest) -> Job {
                let line = "{\"image\":{\"sha256\":\"\(digest)\"},\"prompts\":[{\"points\":[[3,3]]}]}"
                return Job(id: id, lane: .bulk, image: digest, model: model, line: RedisBytes(line))
            }
            for (index, (_, bytes)) in broken.enumerated() {
                let digest = ImageDigest(bytes: SHA256.hash(bytes).bytes)
                try await cluster.broker.putImage(digest, .array(bytes))
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
            for (index, (what, _)) in broken.enumerated() {
                print("bad input: \(what): \(statuses[2 * index].error ?? "")")
            }
        }
    }

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
            let run = try await cluster.kirie("submit", "--jobs", try cluster.write(lines, to: "bad.jsonl"), "--wait")
            #expect(run.exit == .status(1))
            #expect(Set(run.lines.filter { $0.state == "done" }.compactMap(\.id)) == ["first", "last"])
            let bad = run.lines.filter { $0.error != nil }
            #expect(bad.compactMap(\.line).sorted() == [2, 3, 4, 5, 6, 7])
            let fields = Dictionary(uniqueKeysWithValues: bad.map { ($0.line ?? 0, $0.field ?? "") })
            #expect(fields[2] == "image" && fields[4] == "lane" && fields[5] == "prompts[0]" && fields[6] == "image")
            #expect(fields[7] == "id")
            try await cluster.expectNothingLeft()
        }
    }
}
