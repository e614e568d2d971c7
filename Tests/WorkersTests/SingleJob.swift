import Cluster
import Foundation
import Redis
import Segmentation
import Testing
import Workers

/// One job on its way through an encoder's and a decoder's worker, each of which takes once.
struct SingleJob {
    let broker: Broker
    let pictures: PictureEncoder
    let prompts: PromptDecoder

    /// Submits the job of a line on the picture in `file`; returns what the decoder took, and the answer.
    func done(file: [UInt8], image digest: ImageDigest, line: String) async throws -> (
        batch: PromptBatch, answer: Answer
    ) {
        let reference = try await submitted(file: file, image: digest, line: line)
        guard
            case .work(let encode, _) = try await encodes.take(
                in: reference.partition, lease: .seconds(60), age: .zero)
        else { throw NothingTaken() }
        try await encodes.perform(encode)
        guard
            case .work(let batch, _) = try await decodes.take(
                in: reference.partition, lease: .seconds(60), age: .zero)
        else { throw NothingTaken() }
        try await decodes.perform(batch)
        let result = try #require(try await ending(of: reference).result)
        return (batch, try JSONDecoder().decode(Answer.self, from: Data(result.array)))
    }

    /// Submits the job of a line on the picture in `file`.
    func submitted(file: [UInt8], image digest: ImageDigest, line: String) async throws -> JobReference {
        try await broker.putImage(digest, .bytes(RedisBytes(file)))
        let submitted = try await broker.submit([
            Job(id: "a", lane: .interactive, image: digest, model: pictures.model, line: RedisBytes(line))
        ])
        return try #require(submitted[0].reference)
    }

    /// What the encoder's worker takes from.
    var encodes: EncodeSource {
        EncodeSource(broker, worker: "e", model: pictures.model) { await pictures.encode($0) }
    }

    /// What the decoder's worker takes from.
    var decodes: DecodeSource {
        DecodeSource(broker, worker: "d", model: pictures.model.family, serving: pictures.model.variants) {
            await prompts.decode($0)
        }
    }

    /// How a job ended.
    func ending(of job: JobReference) async throws -> JobEnding {
        var endings: [JobEnding] = []
        for try await ending in JobWaiter(broker).endings(of: [job]) { endings.append(ending) }
        return try #require(endings.first)
    }

    private struct NothingTaken: Error {}
}
