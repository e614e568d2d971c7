public import Checkpoints

/// A family of models: how its checkpoints are told from others, and opened.
public struct ModelFamily: Sendable {
    /// What it is called, such as `Segment Anything`.
    public let name: String
    /// Whether a checkpoint is one of the family's, complete or not, by the names of its tensors.
    public let recognises: @Sendable (Checkpoint) -> Bool
    /// Reads a checkpoint's geometry, and no weights; the number is rows and columns of the pictures, where the file does
    /// not say it.
    public let open: @Sendable (Checkpoint, Int?) throws(CheckpointError) -> any SegmentationModel

    /// A family of these answers.
    ///
    /// - Parameters:
    ///   - name: what it is called.
    ///   - recognises: by the names of tensors alone, whether a checkpoint is one of the family's.
    ///   - open: reads the geometry of one that is, or says what it lacks.
    public init(
        name: String, recognises: @escaping @Sendable (Checkpoint) -> Bool,
        open: @escaping @Sendable (Checkpoint, Int?) throws(CheckpointError) -> any SegmentationModel
    ) {
        self.name = name
        self.recognises = recognises
        self.open = open
    }

    /// Kirie's own: an EfficientNet-Lite trunk with skips into the mask decoder, under the names that its training program
    /// writes.
    public static let efficientNetLite = ModelFamily(
        name: "Segment Anything with an EfficientNet-Lite",
        recognises: { checkpoint in
            let stem = TensorNames.weight(TensorNames.EfficientNetLite.stem)
            return checkpoint.names.contains { $0 == stem || $0.hasSuffix(".\(stem)") }
                && (try? CheckpointLayout(of: checkpoint)) != nil
        },
        open: { checkpoint, size throws(CheckpointError) in try SamModel(checkpoint, imageSize: size) })

    /// Segment Anything and MobileSAM, in the published layout or Hugging Face's.
    public static let segmentAnything = ModelFamily(
        name: "Segment Anything",
        recognises: { checkpoint in (try? CheckpointLayout(of: checkpoint)) != nil },
        open: { checkpoint, size throws(CheckpointError) in try SamModel(checkpoint, imageSize: size) })
}

/// The families of models that there are.
public enum ModelFamilies {
    /// In the order in which they are asked; a new family is a line here.
    public static let all: [ModelFamily] = [.efficientNetLite, .segmentAnything]

    /// Opens a checkpoint of whichever family it is and reads its geometry; no weights are read yet.
    ///
    /// - Parameters:
    ///   - path: a checkpoint, a folder that holds one, or an index of shards.
    ///   - imageSize: rows and columns of the pictures, where the file does not say it.
    ///   - families: those that are asked.
    /// - Returns: the model, its two halves not loaded.
    /// - Throws: an error that names the file and the tensor.
    public static func open(
        path: String, imageSize: Int? = nil, among families: [ModelFamily] = all
    ) throws(CheckpointError) -> any SegmentationModel {
        let checkpoint = try Checkpoint(path: path)
        // What nobody recognises is Segment Anything's to refuse: it says what was found and what was expected.
        let family = families.first { $0.recognises(checkpoint) } ?? .segmentAnything
        return try family.open(checkpoint, imageSize)
    }
}
