import Checkpoints

/// Models that are taken for Segment Anything and are none, told by the names of their tensors, so that a file is called what
/// it is and not an incomplete checkpoint.
struct RelatedModel {
    /// What it is called.
    let name: String
    /// Beginnings of names: each stands for at least one tensor.
    let marks: [String]

    /// In the order in which they are tried: a name that is part of another's comes after it.
    private static let all = [
        RelatedModel(name: "SAM 3", marks: ["detector.", "tracker."]),
        RelatedModel(name: "SAM 3", marks: ["detector_model.", "tracker_model."]),
        RelatedModel(name: "SAM 3", marks: ["detector.backbone.vision_backbone."]),
        RelatedModel(name: "HQ-SAM 2", marks: ["image_encoder.trunk.", "sam_mask_decoder.hf_token."]),
        RelatedModel(name: "EfficientSAM", marks: ["mask_decoder.final_output_upscaling_layers."]),
        RelatedModel(name: "EfficientViT-SAM", marks: ["image_encoder.backbone."]),
        RelatedModel(name: "RepViT-SAM or EdgeSAM", marks: ["image_encoder.features."]),
        RelatedModel(name: "SAM with adapters (SAM-Med2D)", marks: ["image_encoder.blocks.0.Adapter."]),
        RelatedModel(name: "a YOLO model", marks: ["0.conv.weight", "1.conv.weight"]),
    ]

    /// Modules that often hold such a model.
    private static let holders: Set<Substring> = ["model", "net", "network", "sam"]

    /// Refuses a checkpoint of one of these models by the names of its tensors, whatever stands before them.
    ///
    /// - Throws: `.unsupportedModel`.
    static func refuse(_ names: [String], file: String) throws(CheckpointError) {
        let names = names.map { name in
            name.split(separator: ".", omittingEmptySubsequences: false).drop(while: holders.contains)
                .joined(separator: ".")
        }
        for model in all {
            let found = model.marks.compactMap { mark in names.first { $0.hasPrefix(mark) } }
            guard found.count == model.marks.count, let sign = found.last else { continue }
            throw CheckpointError(
                .unsupportedModel, file: file,
                "is \(model.name), as its tensor \(CheckpointError.quoted(sign)) tells, and cannot be read yet",
                remedy: "Kirie reads Segment Anything (ViT-B, ViT-L, ViT-H), SAM-HQ, SAM 2 and 2.1, EdgeTAM, Hugging "
                    + "Face's layouts of them too, and MobileSAM: kirie model list names the published ones")
        }
    }
}
