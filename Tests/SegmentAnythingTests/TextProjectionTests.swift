import Checkpoints
import Foundation
import SegmentAnything
import Segmentation
import Tensors
import Testing

/// A text as a token of the prompt encoder, as the paper has it, beside the published code with such a projection; see
/// Fixtures/make_text.py.
@Suite struct TextProjectionTests {
    private let golden = GoldenCase(name: "text", weights: "")

    /// The model of nano/ with the projection, in a file of its own.
    private func withModel<Result>(
        _ changes: [String: Tensor?] = [:], _ body: (SamModel) throws -> Result
    ) throws -> Result {
        let nano = try Checkpoint(path: try GoldenCase(name: "nano", weights: "").file("sam.pth"))
        var tensors: [String: Tensor] = [:]
        for name in nano.names { tensors[name] = try nano.stored(name).tensor() }
        for name in ["prompt_encoder.text_proj.weight", "prompt_encoder.text_proj.bias"] {
            tensors[name] = try golden.tensor(name)
        }
        for (name, tensor) in changes { tensors[name] = tensor }
        let path = NSTemporaryDirectory() + "kirie-text-\(UUID().uuidString).safetensors"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try SafetensorsWriter.write(
            tensors.map { SafetensorsWriter.Entry($0.key, $0.value) }, to: path)
        return try body(try SamModel(path: path))
    }

    private func prompts() throws -> [Prompt] {
        let text = try golden.tensor("text_embedding").elements
        return try golden.prompts().map { prompt in
            var prompt = prompt
            prompt.textEmbedding = text
            return prompt
        }
    }

    @Test func logitsAndIoUMatch() throws {
        try withModel { model in
            let decoder = try model.decoder(precision: .float32)
            #expect(decoder.textWidth == 48)
            #expect("\(model.geometry)".hasSuffix("texts by a CLIP of 48 numbers"))
            let image = try golden.preparedImage(decoder)
            for (index, prompt) in try prompts().enumerated() {
                let decoded = try decoder.decode(prompt, on: image, selection: .all, pool: ThreadPool(threadCount: 2))
                let logits = Difference(
                    decoded.logits.flatMap(\.values), try golden.tensor("p\(index).low_res_logits_all").elements)
                let predicted = Difference(decoded.predictedIoU, try golden.tensor("p\(index).iou_all").elements)
                #expect(logits.largest <= 1e-4 && predicted.largest <= 1e-5, "prompt \(index): \(logits), \(predicted)")
                var without = prompt
                without.textEmbedding = prompt.textEmbedding?.map { -$0 }
                let other = try decoder.decode(without, on: image, selection: .all, pool: .inline)
                #expect(Difference(other.logits.flatMap(\.values), decoded.logits.flatMap(\.values)).largest > 0.01)
            }
        }
    }

    @Test func aProjectionNeedsNoBias() throws {
        try withModel(["prompt_encoder.text_proj.bias": nil]) { model in
            let decoder = try model.decoder(precision: .float32)
            let image = try golden.preparedImage(decoder)
            _ = try decoder.decode(try prompts()[0], on: image, selection: .single, pool: .inline)
        }
    }

    /// A CLIP of another width, numbers that are none, and a model without a projection, each have a word.
    @Test func whatDoesNotFitIsSaid() throws {
        try withModel { model in
            let decoder = try model.decoder(precision: .float32)
            let image = try golden.preparedImage(decoder)
            let narrow = Prompt(textEmbedding: [Float](repeating: 0.1, count: 32))
            #expect(throws: PromptError.textWidth(found: 32, expected: 48)) {
                try decoder.decode(narrow, on: image, selection: .single, pool: .inline)
            }
            let odd = Prompt(textEmbedding: [Float](repeating: .nan, count: 48))
            #expect(throws: PromptError.notFinite(part: "the text's embedding")) {
                try decoder.decode(odd, on: image, selection: .single, pool: .inline)
            }
        }
        let nano = GoldenCase(name: "nano", weights: "sam.pth")
        let decoder = try nano.model().decoder(precision: .float32)
        #expect(throws: PromptError.textUnsupported) {
            try decoder.decode(
                try prompts()[0], on: try nano.preparedImage(decoder), selection: .single, pool: .inline)
        }
    }

    @Test func aMisshapenProjectionIsRefused() throws {
        let wide = Tensor(shape: [16, 48], [Float](repeating: 0, count: 16 * 48))
        #expect(throws: CheckpointError.self) {
            try withModel(["prompt_encoder.text_proj.weight": wide]) { _ in }
        }
    }
}
