import Checkpoints
import Foundation
import Tensors
import Testing
import TextMatching

/// CLIP models whose files are damaged, or do not belong together.
@Suite struct ModelTests {
    private static let nano = "\(GoldenTests.fixtures)/nano"

    /// A folder with nano's files, of which `change` damages some.
    private static func damaged(_ change: (String) throws -> Void, _ body: (String) throws -> Void) throws {
        try TokenizerTests.withFolder { folder in
            for name in ["config.json", "preprocessor_config.json", "model.safetensors", "vocab.json", "merges.txt"] {
                try FileManager.default.copyItem(atPath: "\(nano)/\(name)", toPath: "\(folder)/\(name)")
            }
            try change(folder)
            try body(folder)
        }
    }

    private func failure(
        _ code: CheckpointError.Code, _ text: String, sourceLocation: SourceLocation = #_sourceLocation,
        after change: (String) throws -> Void
    ) throws {
        try Self.damaged(change) { folder in
            let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
                let model = try CLIPModel(path: folder)
                _ = try model.textEncoder(precision: .float32)
                _ = try model.imageEncoder(precision: .float32)
            }
            #expect(
                error?.code == code && error?.description.contains(text) == true, "\(String(describing: error))",
                sourceLocation: sourceLocation)
        }
    }

    /// Replaces a part of the configuration.
    private static func configure(_ from: String, _ to: String) -> (String) throws -> Void {
        { folder in
            let path = "\(folder)/config.json"
            let text = try String(contentsOfFile: path, encoding: .utf8)
            #expect(text.contains(from))
            try TokenizerTests.write(text.replacingOccurrences(of: from, with: to), to: path)
        }
    }

    /// Writes the weights anew without a tensor, or with another in its place.
    private static func replace(_ name: String, with tensor: Tensor?) -> (String) throws -> Void {
        { folder in
            let path = "\(folder)/model.safetensors"
            let whole = try Checkpoint(path: path)
            let entries = whole.names.compactMap { each -> SafetensorsWriter.Entry? in
                guard each == name else { return whole[each].map { .init($0) } }
                return tensor.map { .init(name, $0) }
            }
            try SafetensorsWriter.write(entries, metadata: [:], to: "\(folder)/new.safetensors")
            try FileManager.default.removeItem(atPath: path)
            try FileManager.default.moveItem(atPath: "\(folder)/new.safetensors", toPath: path)
        }
    }

    @Test func malformedConfigurationsAreErrors() throws {
        try failure(.corrupt, "config.json: byte 0: the JSON") { try TokenizerTests.write("", to: "\($0)/config.json") }
        try failure(.corrupt, "config.json: is no object") { try TokenizerTests.write("[]", to: "\($0)/config.json") }
        try failure(.unsupportedModel, "model_type: is ‘siglip’", after: Self.configure(#""clip""#, #""siglip""#))
        try failure(
            .unsupportedModel, "hidden_act of its config.json: is ‘gelu_new’",
            after: Self.configure(#""quick_gelu""#, #""gelu_new""#))
        try failure(
            .misshapenTensor, "text_config.hidden_size is 64 there, and the tensors have 32",
            after: Self.configure(#""hidden_size": 32"#, #""hidden_size": 64"#))
        try failure(
            .misshapenTensor, "projection_dim is 25",
            after: Self.configure(#""projection_dim": 24"#, #""projection_dim": 25"#))
        try failure(
            .misshapenTensor, "which 5 heads do not share evenly",
            after: Self.configure(#""num_attention_heads": 3"#, #""num_attention_heads": 5"#))
        try failure(
            .corrupt, "num_attention_heads: is no whole number",
            after: Self.configure(#""num_attention_heads": 3"#, #""num_attention_heads": -3"#))
        try failure(
            .corrupt, "layer_norm_eps: is no number between 0 and 1",
            after: Self.configure(#""layer_norm_eps": 1e-05"#, #""layer_norm_eps": 7"#))
        try failure(
            .corrupt, "eos_token_id: is -2, which is no token",
            after: Self.configure(#""eos_token_id": 2"#, #""eos_token_id": -2"#))
        try failure(.corrupt, "image_std: has a number that is not above 0") {
            try TokenizerTests.write(
                #"{"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}"#, to: "\($0)/preprocessor_config.json")
        }
        try failure(.corrupt, "image_mean: is no list of three numbers") {
            try TokenizerTests.write(#"{"image_mean": [0, 0]}"#, to: "\($0)/preprocessor_config.json")
        }
    }

    @Test func missingAndMisshapenTensorsAreNamed() throws {
        for name in [
            "logit_scale", "text_projection.weight", "text_model.final_layer_norm.bias",
            "text_model.encoder.layers.1.self_attn.k_proj.bias", "vision_model.encoder.layers.2.mlp.fc2.weight",
        ] { try failure(.missingTensor, name, after: Self.replace(name, with: nil)) }
        func zeros(_ shape: [Int]) -> Tensor { .placeholder(shape: shape) }
        for (name, shape) in [
            ("text_model.encoder.layers.0.self_attn.q_proj.weight", [32, 31]),
            ("vision_model.embeddings.position_embedding.weight", [16, 48]),
            ("vision_model.embeddings.patch_embedding.weight", [48, 4, 8, 8]),
            ("text_projection.weight", [24]), ("visual_projection.weight", [23, 48]), ("logit_scale", [2]),
        ] { try failure(.misshapenTensor, name, after: Self.replace(name, with: zeros(shape))) }
        try failure(
            .misshapenTensor, "logarithm of a scale",
            after: Self.replace("logit_scale", with: Tensor(shape: [], [Float.nan])))
    }

    @Test func otherModelsAreToldApart() throws {
        try failure(
            .unknownLayout, "holds no CLIP model"
        ) { folder in
            try SafetensorsWriter.write(
                [.init("image_encoder.weight", .placeholder(shape: [2]))], metadata: [:],
                to: "\(folder)/model.safetensors")
        }
        try failure(.unsupportedModel, "is a CLIP with a ResNet") { folder in
            try SafetensorsWriter.write(
                [.init("visual.layer1.0.conv1.weight", .placeholder(shape: [2]))], metadata: [:],
                to: "\(folder)/model.safetensors")
        }
        try failure(.unsupportedModel, "it is not CLIP's") { folder in
            try SafetensorsWriter.write(
                [.init("vision_model.embeddings.patch_embedding.weight", .placeholder(shape: [2]))], metadata: [:],
                to: "\(folder)/model.safetensors")
        }
        // A larger vocabulary than the model has rows for.
        try failure(.misshapenTensor, "and its tokenizer") { folder in
            try FileManager.default.copyItem(
                atPath: "\(Self.nano)/vocab.json", toPath: "\(folder)/more.json")
            let text = try String(contentsOfFile: "\(folder)/more.json", encoding: .utf8)
            try TokenizerTests.write(
                text.replacingOccurrences(of: "{\"!\": 0", with: "{\"more\": 99999, \"!\": 0"),
                to: "\(folder)/vocab.json")
        }
    }
}
