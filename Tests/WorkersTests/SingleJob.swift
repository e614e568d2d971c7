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
        try await broker.putImage(digest, .bytes(RedisBytes(file)))
        let submitted = try await broker.submit([
            Job(id: "a", lane: .interactive, image: digest, model: pictures.model, line: RedisBytes(line))
        ])
        let reference = try #require(submitted[0].reference)
        let encodes = EncodeSource(broker, worker: "e", model: pictures.model) { await pictures.encode($0) }
        let decodes = DecodeSource(
            broker, worker: "d", model: pictures.model.family, serving: pictures.model.variants
        ) { await prompts.decode($0) }
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
        var endings: [JobEnding] = []
        for try await ending in JobWaiter(broker).endings(of: [reference]) { endings.append(ending) }
        let result = try #require(endings.first?.result)
        return (batch, try JSONDecoder().decode(Answer.self, from: Data(result.array)))
    }

    private struct NothingTaken: Error {}
}
