public import Checkpoints

/// A checkpoint that was found to hold a complete Segment Anything model and nothing else, in any known layout.
///
/// ```swift
/// let model = try SamCheckpoint(Checkpoint(path: "sam_vit_b_01ec64.pth"))
/// print(model.geometry)
/// ```
public struct SamCheckpoint: Sendable {
    /// The file, its tensors found under the published names, such as `image_encoder.blocks.0.attn.qkv.weight`.
    public let checkpoint: Checkpoint
    /// How the file names them.
    public let layout: CheckpointLayout
    /// The model's sizes.
    public let geometry: SamGeometry
    /// What tells the image size.
    public let imageSizeSource: ImageSizeSource

    /// Tells the layout, reads the geometry, and checks that the model is complete.
    ///
    /// Every tensor of a model of that geometry must be there in its shape, and no other. Reads names and shapes only,
    /// unless the file has the size of MobileSAM's.
    ///
    /// - Parameters:
    ///   - checkpoint: of either layout, with or without what training frameworks put before the names.
    ///   - imageSize: rows and columns of the pictures, for a TinyViT or an EfficientNet-Lite, whose tensors fit many
    ///     sizes; nil for what the file says.
    /// - Throws: `.unknownLayout`; `.unsupportedModel`; `.missingTensor`, `.extraTensor`, `.misshapenTensor`,
    ///   `.overLimit`, each naming the tensor; `.corrupt` for metadata that contradicts the tensors; `.imageSize` where
    ///   nothing says it, or it does not fit.
    public init(_ checkpoint: Checkpoint, imageSize: Int? = nil) throws(CheckpointError) {
        let wrapping = try CheckpointWrapping(checkpoint)
        layout = try CheckpointLayout(checkpoint, in: wrapping)
        self.checkpoint = try layout.published(checkpoint, in: wrapping)
        (geometry, imageSizeSource) = try GeometryReader(checkpoint: self.checkpoint, asked: imageSize).geometry()
        try Self.check(self.checkpoint, against: SamTensors(geometry))
    }

    private static func check(_ checkpoint: Checkpoint, against tensors: SamTensors) throws(CheckpointError) {
        var names: Set<String> = []
        for (name, shape) in tensors.shapes {
            let stored = try checkpoint.stored(name)
            names.insert(name)
            guard stored.shape == shape else {
                throw CheckpointError(
                    .misshapenTensor, file: checkpoint.path, at: "tensor \(CheckpointError.quoted(stored.name))",
                    "has the shape \(stored.shape) where \(shape) is expected",
                    remedy: "The checkpoint is damaged or not of a Segment Anything model: fetch or save it again")
            }
            guard stored.elementType != nil else {
                throw CheckpointError(
                    .elementType, file: checkpoint.path, at: "tensor \(CheckpointError.quoted(stored.name))",
                    "holds \(stored.storedType.rawValue) where weights are expected",
                    remedy: "Save the weights as F32, F16 or BF16")
            }
        }
        for name in checkpoint.names where !names.contains(name) {
            throw CheckpointError(
                .extraTensor, file: checkpoint.path,
                at: "tensor \(CheckpointError.quoted(checkpoint[name]?.name ?? name))",
                "has no place in this model",
                remedy: "Remove it, or use a checkpoint of Segment Anything as published")
        }
    }
}
