/// Translates the names of SAM 2's tensors, as published and as Hugging Face has them.
///
/// What a picture does not need, the memory of a video's earlier frames and what points to its objects, is left out.
enum SegmentAnything2Names {
    /// Beginnings of names that belong to videos alone.
    private static let ofVideos = [
        "memory_attention.", "memory_encoder.", "mask_downsample.", "maskmem_tpos_enc", "no_mem_pos_enc", "no_obj_ptr",
        "no_obj_embed_spatial", "obj_ptr_proj.", "obj_ptr_tpos_proj.", "memory_temporal_positional_encoding",
        "no_memory_positional_encoding", "no_object_pointer", "occlusion_spatial_embedding_parameter",
        "object_pointer_proj.", "temporal_positional_encoding_projection_layer.", "spatial_perceiver.",
    ]
    /// An end of names that counts steps of the training.
    private static let counter = ".num_batches_tracked"

    /// The name under which a published tensor is read; nil for one that is not needed.
    static func canonical(_ name: String) -> String? {
        guard !ofVideos.contains(where: name.hasPrefix), !name.hasSuffix(counter) else { return nil }
        for prefix in ["sam_prompt_encoder.", "sam_mask_decoder."] where name.hasPrefix(prefix) {
            return withDecoderMLP(String(name.dropFirst("sam_".count)))
        }
        return name
    }

    /// The name in Hugging Face's layout of Segment Anything, or the one under which it is read where that has no such part;
    /// nil for one that is not needed.
    static func fromHuggingFace(_ name: String) -> String? {
        guard !ofVideos.contains(where: name.hasPrefix), !name.hasSuffix(counter) else { return nil }
        if let rest = rest(of: name, after: "vision_encoder.backbone.timm_model.") {
            return "\(TensorNames.RepViT.trunk).\(rest)"
        }
        if name == "no_memory_embedding" { return TensorNames.Hiera.noMemory }
        if name == "prompt_encoder.point_embed.weight" {
            return TensorNames.weight(TensorNames.PromptEncoder.pointEmbeddings)
        }
        if let rest = rest(of: name, after: "vision_encoder.neck.convs."), let dot = rest.firstIndex(of: ".") {
            return "image_encoder.neck.convs.\(rest[..<dot]).conv\(rest[dot...])"
        }
        if let rest = rest(of: name, after: "vision_encoder.backbone.") {
            return "image_encoder.trunk."
                + rest.replacing("patch_embed.projection.", with: "patch_embed.proj.")
                .replacing(".layer_norm", with: ".norm").replacing(".mlp.proj_in.", with: ".mlp.layers.0.")
                .replacing(".mlp.proj_out.", with: ".mlp.layers.1.")
        }
        guard let rest = rest(of: name, after: "mask_decoder.transformer.") else { return name }
        return "mask_decoder.transformer."
            + rest.replacing(".o_proj.", with: ".out_proj.").replacing(".mlp.proj_in.", with: ".mlp.lin1.")
            .replacing(".mlp.proj_out.", with: ".mlp.lin2.")
    }

    /// The MLPs of the decoder's layers have the names of Segment Anything's.
    private static func withDecoderMLP(_ name: String) -> String {
        guard name.hasPrefix("mask_decoder.transformer.") else { return name }
        return name.replacing(".mlp.layers.0.", with: ".mlp.lin1.").replacing(".mlp.layers.1.", with: ".mlp.lin2.")
    }

    private static func rest(of name: String, after prefix: String) -> Substring? {
        name.hasPrefix(prefix) ? name.dropFirst(prefix.count) : nil
    }
}
