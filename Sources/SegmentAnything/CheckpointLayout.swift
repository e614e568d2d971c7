import Checkpoints

/// How a checkpoint names the tensors of a Segment Anything model.
public enum CheckpointLayout: String, Sendable, Hashable {
    /// The names of the segment_anything package: `image_encoder.…`, `prompt_encoder.…`, `mask_decoder.…`; MobileSAM's
    /// too (<https://github.com/facebookresearch/segment-anything>, <https://github.com/ChaoningZhang/MobileSAM>).
    case published = "segment-anything"
    /// The names of Hugging Face's SamModel: `vision_encoder.…`, `shared_image_embedding.…`
    /// (<https://github.com/huggingface/transformers>, models/sam/modeling_sam.py).
    case huggingFace = "Hugging Face"
    /// The names of SAM 2 and SAM 2.1 as published: `image_encoder.trunk.…`, `sam_prompt_encoder.…`, `sam_mask_decoder.…`
    /// (<https://github.com/facebookresearch/sam2>).
    case segmentAnything2 = "SAM 2"
    /// The names of Hugging Face's Sam2Model and Sam2VideoModel: `vision_encoder.backbone.…`
    /// (<https://github.com/huggingface/transformers>, models/sam2/modeling_sam2.py).
    case huggingFaceSAM2 = "Hugging Face, SAM 2"

    /// Tells the layout by the names of the tensors, without what a training framework put before them.
    ///
    /// - Throws: `.unsupportedModel` for a model that is known and not read; `.unknownLayout`, naming what was found
    ///   and what was expected.
    init(_ checkpoint: Checkpoint, in wrapping: CheckpointWrapping) throws(CheckpointError) {
        let names = checkpoint.names.compactMap(wrapping.inner)
        try RelatedModel.refuse(names, file: checkpoint.path)
        // Another model's parts may have what is taken for a Segment Anything among them.
        try RelatedModel.refuse(checkpoint.names.map(CheckpointWrapping.withoutWrappers), file: checkpoint.path)
        let roots = Set(names.map { String($0.prefix { $0 != "." }) })
        if names.contains(where: { $0.hasPrefix("image_encoder.trunk.") }) {
            self = .segmentAnything2
        } else if names.contains(where: { $0.hasPrefix("vision_encoder.backbone.") }) {
            self = .huggingFaceSAM2
        } else if roots.contains("image_encoder") {
            self = .published
        } else if roots.contains("vision_encoder") {
            self = .huggingFace
        } else {
            let found = roots.sorted().prefix(6).map { CheckpointError.quoted("\($0).…") }.joined(separator: ", ")
            throw CheckpointError(
                .unknownLayout, file: checkpoint.path,
                "holds no Segment Anything model: found \(checkpoint.names.count) tensors named \(found); expected "
                    + "‘image_encoder.…’ (segment-anything, MobileSAM) or ‘vision_encoder.…’ (Hugging Face), with "
                    + "‘prompt_encoder.…’ and ‘mask_decoder.…’",
                remedy: "Give a checkpoint of Segment Anything; kirie model list names the published ones")
        }
    }

    /// Tells the layout of a checkpoint, whatever a training framework put before the names of its tensors.
    ///
    /// - Throws: as for the names alone, and where they are wrapped in no way that is known.
    init(of checkpoint: Checkpoint) throws(CheckpointError) {
        try self.init(checkpoint, in: try CheckpointWrapping(checkpoint))
    }

    /// The checkpoint with its tensors under Segment Anything's published names, SAM 2's parts under those that are theirs
    /// alone.
    func published(_ checkpoint: Checkpoint, in wrapping: CheckpointWrapping) throws(CheckpointError) -> Checkpoint {
        switch self {
        case .published:
            return try checkpoint.renamed { wrapping.inner($0).flatMap { Self.isIgnored($0) ? nil : $0 } }
        case .huggingFace:
            let names = HuggingFaceNames(checkpoint.names.compactMap(wrapping.inner))
            return try checkpoint.renamed { wrapping.inner($0).flatMap { names.published($0) } }
        case .segmentAnything2:
            return try checkpoint.renamed { wrapping.inner($0).flatMap(SegmentAnything2Names.canonical) }
        case .huggingFaceSAM2:
            let names = HuggingFaceNames(checkpoint.names.compactMap(wrapping.inner))
            return try checkpoint.renamed { name in
                wrapping.inner(name).flatMap { inner in
                    SegmentAnything2Names.fromHuggingFace(inner).flatMap { names.published($0) }
                }
            }
        }
    }

    /// Whether a tensor of that published name is known to be of no use here: counters of the training, tables that
    /// are computed anew, the head that classified images in TinyViT's first training.
    private static func isIgnored(_ name: String) -> Bool {
        name.hasSuffix(".num_batches_tracked") || name.hasSuffix(".attention_bias_idxs")
            || name.hasPrefix("image_encoder.norm_head.") || name.hasPrefix("image_encoder.head.")
            || name == "pixel_mean" || name == "pixel_std"
    }
}

/// Translates the names of Hugging Face's SamModel into the published ones; the tensors are the same.
struct HuggingFaceNames {
    /// Hidden layers of each perceptron, by its name: there `proj_in`, `layers.0…`, `proj_out`; here `layers.0…`.
    private var hiddenLayers: [Substring: Int] = [:]
    private let hasSharedEmbedding: Bool

    private static let sharedEmbedding = "shared_image_embedding.positional_embedding"
    private static let tiedEmbedding = "prompt_encoder.shared_embedding.positional_embedding"

    /// - Parameter names: all names of the checkpoint.
    init(_ names: [String]) {
        hasSharedEmbedding = names.contains(Self.sharedEmbedding)
        for name in names where name.hasPrefix("mask_decoder.") && name.hasSuffix(".weight") {
            let parts = name.split(separator: ".")
            guard parts.count > 3, parts[parts.count - 3] == "layers", let layer = Int(parts[parts.count - 2]),
                (0..<names.count).contains(layer)
            else { continue }
            let perceptron = name.prefix(name.count - ".layers.\(layer).weight".count)
            hiddenLayers[perceptron] = max(hiddenLayers[perceptron] ?? 0, layer + 1)
        }
    }

    /// The published name; nil for a copy of a tensor that has another name as well; a name that is not known stays.
    func published(_ name: String) -> String? {
        if name == Self.sharedEmbedding || name == Self.tiedEmbedding {
            if name == Self.tiedEmbedding && hasSharedEmbedding { return nil }
            return "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
        }
        for (prefix, translation) in Self.translations where name.hasPrefix(prefix) {
            return translation + name.dropFirst(prefix.count)
        }
        if let rest = Self.rest(of: name, after: "vision_encoder.layers.") {
            let renamed = rest.replacing(".layer_norm1.", with: ".norm1.").replacing(".layer_norm2.", with: ".norm2.")
            return "image_encoder.blocks.\(renamed)"
        }
        if let rest = Self.rest(of: name, after: "mask_decoder.transformer.") {
            let renamed = rest.replacing("layer_norm_final_attn.", with: "norm_final_attn.")
                .replacing(".layer_norm", with: ".norm")
            return "mask_decoder.transformer.\(renamed)"
        }
        return (perceptron(name) ?? name).replacing("mask_decoder.hq_mask_mlp.", with: "mask_decoder.hf_mlp.")
    }

    private static let translations = [
        ("vision_encoder.pos_embed", "image_encoder.pos_embed"),
        ("vision_encoder.patch_embed.projection.", "image_encoder.patch_embed.proj."),
        ("vision_encoder.neck.conv1.", "image_encoder.neck.0."),
        ("vision_encoder.neck.layer_norm1.", "image_encoder.neck.1."),
        ("vision_encoder.neck.conv2.", "image_encoder.neck.2."),
        ("vision_encoder.neck.layer_norm2.", "image_encoder.neck.3."),
        ("prompt_encoder.point_embed.", "prompt_encoder.point_embeddings."),
        ("prompt_encoder.mask_embed.conv1.", "prompt_encoder.mask_downscaling.0."),
        ("prompt_encoder.mask_embed.layer_norm1.", "prompt_encoder.mask_downscaling.1."),
        ("prompt_encoder.mask_embed.conv2.", "prompt_encoder.mask_downscaling.3."),
        ("prompt_encoder.mask_embed.layer_norm2.", "prompt_encoder.mask_downscaling.4."),
        ("prompt_encoder.mask_embed.conv3.", "prompt_encoder.mask_downscaling.6."),
        ("mask_decoder.upscale_conv1.", "mask_decoder.output_upscaling.0."),
        ("mask_decoder.upscale_layer_norm.", "mask_decoder.output_upscaling.1."),
        ("mask_decoder.upscale_conv2.", "mask_decoder.output_upscaling.3."),
        ("mask_decoder.hq_token.", "mask_decoder.hf_token."),
        ("mask_decoder.compress_vit_conv1.", "mask_decoder.compress_vit_feat.0."),
        ("mask_decoder.compress_vit_norm.", "mask_decoder.compress_vit_feat.1."),
        ("mask_decoder.compress_vit_conv2.", "mask_decoder.compress_vit_feat.3."),
        ("mask_decoder.encoder_conv1.", "mask_decoder.embedding_encoder.0."),
        ("mask_decoder.encoder_norm.", "mask_decoder.embedding_encoder.1."),
        ("mask_decoder.encoder_conv2.", "mask_decoder.embedding_encoder.3."),
        ("mask_decoder.mask_conv1.", "mask_decoder.embedding_maskfeature.0."),
        ("mask_decoder.mask_norm.", "mask_decoder.embedding_maskfeature.1."),
        ("mask_decoder.mask_conv2.", "mask_decoder.embedding_maskfeature.3."),
    ]

    private static func rest(of name: String, after prefix: String) -> Substring? {
        name.hasPrefix(prefix) ? name.dropFirst(prefix.count) : nil
    }

    /// `X.proj_in.p` → `X.layers.0.p`, `X.layers.i.p` → `X.layers.(i+1).p`, `X.proj_out.p` → the last layer.
    private func perceptron(_ name: String) -> String? {
        let parts = name.split(separator: ".")
        guard parts.count >= 4, parts[0] == "mask_decoder" else { return nil }
        let (part, parameter) = (parts[parts.count - 2], parts[parts.count - 1])
        func renamed(_ dropped: Int, _ layer: Int) -> String {
            "\(parts.dropLast(dropped).joined(separator: ".")).layers.\(layer).\(parameter)"
        }
        if part == "proj_in" { return renamed(2, 0) }
        if part == "proj_out" {
            let perceptron = parts.dropLast(2).joined(separator: ".")
            return renamed(2, (hiddenLayers[perceptron[...]] ?? 0) + 1)
        }
        if parts.count >= 5, parts[parts.count - 3] == "layers", let layer = Int(part), layer < Int.max {
            return renamed(3, layer + 1)
        }
        return nil
    }
}
