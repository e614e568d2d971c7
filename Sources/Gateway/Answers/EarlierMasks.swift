import Cluster
import FoundationEssentials
import HTTPTypes
import JSON
import Platform
import Redis
import Segmentation

/// The masks of earlier answers, as prompts take them.
struct EarlierMasks: Sendable {
    let broker: Broker

    /// What stands in the prompts' `mask`.
    ///
    /// They are the low-resolution logits that a job keeps which was asked with `refine`.
    ///
    /// - Throws: ``Problem`` where the job has no result, no such mask or no logits.
    func prompts(_ masks: [Int: SegmentRequest.EarlierMask]) async throws -> [Int: JSONText] {
        var prompts: [Int: JSONText] = [:]
        for (place, mask) in masks {
            let field = "prompts[\(place)].mask"
            let statuses = try await broker.find([mask.job])[mask.job] ?? []
            guard let reference = statuses.first(where: { $0.state == .done })?.reference,
                let result = try await broker.results([reference])[0]
            else {
                throw Problem(
                    .unprocessableContent, "no-such-mask",
                    "\(field): the job \(Quotation.of(mask.job)) has no result, or no longer: leave the mask out",
                    field: field)
            }
            prompts[place] = try Self.prompt(result, mask, field)
        }
        return prompts
    }

    private static func prompt(
        _ result: RedisBytes, _ mask: SegmentRequest.EarlierMask, _ field: String
    ) throws -> JSONText {
        let answer: Answer
        do { answer = try JSONDecoder().decode(Answer.self, from: Data(result.array)) } catch {
            throw Problem(.unprocessableContent, "no-such-mask", "\(field): that job has no masks", field: field)
        }
        guard mask.index < answer.masks.count else {
            throw Problem(
                .unprocessableContent, "no-such-mask",
                "\(field): the job \(Quotation.of(mask.job)) has \(answer.masks.count) masks, counted from 0",
                field: field)
        }
        let cutout = answer.masks[mask.index]
        if let logits = cutout.logits {
            return JSONText(
                JSONValue.object([("side", .integer(logits.side)), ("logits", .string(logits.logits))]).bytes)
                ?? .quoting("")
        }
        throw Problem(
            .unprocessableContent, "no-such-mask",
            "\(field): the job \(Quotation.of(mask.job)) kept no logits: ask it with \"refine\": true", field: field)
    }
}
