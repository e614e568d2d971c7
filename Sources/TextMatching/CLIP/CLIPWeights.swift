import Checkpoints
import NeuralNetworks
import Tensors

/// How a file names the tensors of a CLIP model.
public enum CLIPLayout: String, Sendable, Hashable, CaseIterable {
    /// `text_model.*`, `vision_model.*`: the `transformers` library.
    case huggingFace = "Hugging Face"
    /// `transformer.*`, `visual.*`: OpenAI's own, and OpenCLIP's.
    case openAI = "OpenAI"
}

/// A checkpoint in either layout as a source of weights under the names of `transformers`, with queries, keys and values in
/// one tensor, `self_attn.in_proj`.
struct CLIPWeights: WeightSource {
    let checkpoint: Checkpoint
    let layout: CLIPLayout

    func tensor(_ name: String, shape: [Int]) throws -> Tensor {
        switch layout {
        case .huggingFace: try huggingFaceTensor(name, shape: shape)
        case .openAI: try openAITensor(name, shape: shape)
        }
    }

    func release(_ name: String) {
        let names = layout == .openAI ? [Self.openAIName(name)] : Self.parts(of: name) ?? [name]
        for name in names { checkpoint[name]?.releasePages() }
    }

    /// The tensors that the joint projection is made of, where they are apart.
    static func parts(of name: String) -> [String]? {
        let joint = ".self_attn.in_proj."
        guard name.contains(joint) else { return nil }
        return ["q", "k", "v"].map { name.replacing(joint, with: ".self_attn.\($0)_proj.") }
    }

    private func huggingFaceTensor(_ name: String, shape: [Int]) throws -> Tensor {
        guard let parts = Self.parts(of: name) else { return try checkpoint.tensor(named: name, shape: shape) }
        let partShape = [shape[0] / 3] + shape.dropFirst()
        let tensors = try parts.map { try checkpoint.tensor(named: $0, shape: partShape) }
        return Tensor(shape: shape) { memory in
            var start = 0
            for tensor in tensors {
                tensor.withUnsafeBufferPointer { from in
                    guard let from = from.baseAddress, let to = memory.baseAddress else { return }
                    (to + start).update(from: from, count: tensor.count)
                }
                start += tensor.count
            }
        }
    }

    private func openAITensor(_ name: String, shape: [Int]) throws -> Tensor {
        let own = Self.openAIName(name)
        // The projections are multiplied from the other side there.
        guard name == "text_projection.weight" || name == "visual_projection.weight" else {
            return try checkpoint.tensor(named: own, shape: shape)
        }
        let (rows, columns) = (shape[0], shape[1])
        let tensor = try checkpoint.tensor(named: own, shape: [columns, rows])
        return Tensor(shape: shape, packing: tensor) { memory in
            tensor.withUnsafeBufferPointer { from in
                for row in 0..<rows {
                    for column in 0..<columns { memory[row * columns + column] = from[column * rows + row] }
                }
            }
        }
    }

    /// What OpenAI calls a tensor of `transformers`.
    static func openAIName(_ name: String) -> String {
        if let known = wholeNames[name] { return known }
        var name = name
        for (theirs, ours) in beginnings where name.hasPrefix(theirs) {
            name = ours + name.dropFirst(theirs.count)
            break
        }
        for (theirs, ours) in middles { name = name.replacing(theirs, with: ours) }
        return name
    }

    private static let wholeNames = [
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_projection.weight": "text_projection",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "visual_projection.weight": "visual.proj",
    ]
    private static let beginnings = [
        ("text_model.encoder.layers.", "transformer.resblocks."), ("text_model.final_layer_norm.", "ln_final."),
        ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
        ("vision_model.pre_layrnorm.", "visual.ln_pre."), ("vision_model.post_layernorm.", "visual.ln_post."),
    ]
    private static let middles = [
        (".self_attn.in_proj.", ".attn.in_proj_"), (".self_attn.out_proj.", ".attn.out_proj."),
        (".layer_norm1.", ".ln_1."), (".layer_norm2.", ".ln_2."), (".mlp.fc1.", ".mlp.c_fc."),
        (".mlp.fc2.", ".mlp.c_proj."),
    ]
}
