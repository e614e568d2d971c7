import Checkpoints
import Foundation
import SegmentAnything
import Tensors
import Testing

/// Adapters as PEFT saves them, against PEFT's own merge; see Fixtures/make_lora.py.
@Suite struct AdapterTests {
    private static func url(_ path: String) throws -> URL {
        try #require(Bundle.module.url(forResource: "Fixtures/\(path)", withExtension: nil))
    }

    private static func model() throws -> SamModel { try SamModel(path: url("nano/sam.pth").path) }

    /// A folder of a test's own with the files of an adapter in it.
    private static func withCopy<Answer>(
        of name: String, settings: [String: Any] = [:], hasSettings: Bool = true, _ body: (String) throws -> Answer
    ) throws -> Answer {
        let folder = NSTemporaryDirectory() + "kirie-adapter-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try Data(contentsOf: url("lora/\(name)/adapter_model.safetensors"))
            .write(to: URL(fileURLWithPath: "\(folder)/adapter_model.safetensors"))
        let document = try JSONSerialization.jsonObject(
            with: try Data(contentsOf: url("lora/\(name)/adapter_config.json")))
        let members = try #require(document as? [String: Any]).merging(settings) { $1 }
        if hasSettings {
            try JSONSerialization.data(withJSONObject: members)
                .write(to: URL(fileURLWithPath: "\(folder)/adapter_config.json"))
        }
        return try body(folder)
    }

    @Test(arguments: ["published", "hugging_face", "apart"]) func foldingIsThatOfPEFT(_ name: String) throws {
        let model = try Self.model()
        let folding = try AdapterFolding(LowRankAdapter(path: Self.url("lora/\(name)").path), into: model)
        let expected = try Checkpoint(path: Self.url("lora/expected.safetensors").path)
            .renamed { $0.hasPrefix("\(name).") ? String($0.dropFirst(name.count + 1)) : nil }
        #expect(folding.count == expected.names.count)
        let path = NSTemporaryDirectory() + "kirie-folded-\(UUID().uuidString).safetensors"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try SafetensorsWriter.write(
            try model.checkpoint.names.map { name in
                try folding.entry(name, as: .float32) ?? .init(model.checkpoint.stored(name), named: name)
            }, metadata: model.metadata, to: path)
        let folded = try SamModel(path: path)
        #expect(folded.geometry.description == model.geometry.description)
        for name in folded.checkpoint.names {
            let found = try folded.checkpoint.stored(name).tensor().elements
            guard let golden = expected[name] else {
                #expect(try found == model.checkpoint.stored(name).tensor().elements, "\(name)")
                continue
            }
            let wanted = try golden.tensor().elements
            let largest = zip(found, wanted).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
            #expect(found.count == wanted.count && largest <= 2e-6, "\(name): \(largest)")
        }
    }

    @Test(
        arguments: [
            (["use_dora": true], "use_dora"), (["peft_type": "LOHA"], "not LORA"), (["fan_in_fan_out": true], "is set"),
            (["init_lora_weights": "pissa_niter_4"], "changed the model's own weights"),
            (["alpha_pattern": [".*qkv": 3]], "the expression ‘.*qkv’"), (["target_parameters": ["x"]], "is set"),
        ] as [([String: any Sendable], String)])
    func whatCannotBeFoldedIsSaid(settings: [String: any Sendable], reason: String) throws {
        let error = #expect(throws: CheckpointError.self) {
            try Self.withCopy(of: "apart", settings: settings) { try LowRankAdapter(path: $0) }
        }
        #expect(error?.code == .unsupportedModel)
        for text in [reason, "adapter_config.json", "merge_and_unload()"] {
            #expect(error?.description.contains(text) == true, "\(error as Any)")
        }
    }

    @Test func settingsThatContradictTheMatricesAreRefused() throws {
        for (settings, reason) in [
            (["r": 7], "‘r’: is 7, where the matrices of ‘blocks.1.attn.q_proj’ have 2"),
            (["lora_alpha": "much"], "‘lora_alpha’: is missing or no number"), (["peft_type": 3], "‘peft_type’"),
        ] as [([String: Any], String)] {
            let error = #expect(throws: CheckpointError.self) {
                try Self.withCopy(of: "apart", settings: settings) { try LowRankAdapter(path: $0) }
            }
            #expect(error?.code == .corrupt && error?.description.contains(reason) == true, "\(error as Any)")
        }
        let silent = #expect(throws: CheckpointError.self) {
            try Self.withCopy(of: "apart", hasSettings: false) {
                try LowRankAdapter(path: "\($0)/adapter_model.safetensors")
            }
        }
        #expect(silent?.description.contains("no adapter_config.json beside it") == true, "\(silent as Any)")
    }

    private static func failure(
        _ tensors: [String: [Int]], _ code: CheckpointError.Code, _ texts: String...,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
            try withCopy(of: "apart") { folder in
                try SafetensorsWriter.write(
                    tensors.map { name, shape in
                        .init(
                            "base_model.model.\(name)",
                            Tensor(shape: shape, [Float](repeating: 1, count: shape.reduce(1, *))))
                    }, to: "\(folder)/adapter_model.safetensors")
                _ = try AdapterFolding(LowRankAdapter(path: folder), into: model())
            }
        }
        #expect(error?.code == code, "\(error as Any)", sourceLocation: sourceLocation)
        for text in texts {
            #expect(error?.description.contains(text) == true, "\(error as Any)", sourceLocation: sourceLocation)
        }
    }

    @Test func anAdapterOfAnotherModelIsRefused() throws {
        let head = "mask_decoder.iou_prediction_head.layers.2"
        let (a, b) = ("\(head).lora_A.weight", "\(head).lora_B.weight")
        try Self.failure([a: [2, 32]], .missingTensor, "only one of its two")
        try Self.failure([a: [2, 32], b: [4, 3]], .misshapenTensor, "(outputs, r) are expected")
        try Self.failure([a: [2, 9], b: [4, 2]], .misshapenTensor, "changes 36 numbers in 4 rows", "was fine-tuned")
        let elsewhere = "text_encoder.layers.0"
        try Self.failure(
            ["\(elsewhere).lora_A.weight": [2, 4], "\(elsewhere).lora_B.weight": [4, 2]], .missingTensor,
            "‘text_encoder.layers.0.weight’", "the model has not")
        try Self.failure(["\(head).lora_magnitude_vector.weight": [4]], .unsupportedModel, "DoRA")
        try Self.failure(["\(head).lora_B.bias": [4]], .unsupportedModel, "lora_bias")
        try Self.failure(["\(head).lora_fa.weight": [4]], .unsupportedModel, "not known")
        // The first layer of a perceptron here, the second one there, and nothing else tells which.
        let layer = "mask_decoder.iou_prediction_head.layers.0"
        try Self.failure(
            ["\(layer).lora_A.weight": [2, 32], "\(layer).lora_B.weight": [32, 2]], .missingTensor,
            "may stand for several")
    }
}
