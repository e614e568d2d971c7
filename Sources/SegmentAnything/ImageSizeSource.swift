import Checkpoints
import NeuralNetworks

/// What tells on pictures of what size a model works.
public enum ImageSizeSource: String, Sendable, Hashable {
    /// A ViT's position embedding.
    case tensors = "from the tensors"
    /// The metadata of the file.
    case metadata = "from the file's metadata"
    /// The file is one that was published, with that size.
    case published = "as MobileSAM was published"
    /// The model is a SAM-HQ with a TinyViT, of which there is one size.
    case publishedHighQuality = "as SAM-HQ was published"
    /// The `config.json` beside the file.
    case configuration = "from the config.json beside the file"
    /// The model is of one of the sizes in which SAM 2 was published.
    case publishedSizes = "as SAM 2 was published"
    /// The model has the sizes in which EdgeTAM was published.
    case publishedEdgeTAM = "as EdgeTAM was published"
    /// The caller.
    case asked = "as asked for"
}

/// MobileSAM's own file, whose image size is known and stands nowhere in it
/// (<https://github.com/ChaoningZhang/MobileSAM>, weights/mobile_sam.pt).
enum PublishedMobileSAM {
    static let imageSize = 1024
    private static let byteCount = 40_728_226
    private static let sha256 = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"

    /// Whether a checkpoint is that file, byte for byte; one of another size is not read.
    static func isFile(of checkpoint: Checkpoint) throws(CheckpointError) -> Bool {
        guard checkpoint.byteCount == byteCount else { return false }
        return try checkpoint.contentDigest() == sha256
    }
}

extension TinyViT.Configuration {
    /// Widths into which TinyViT's published code merges with stride 1.
    private static let widthsThatKeepResolution: Set = [320, 448, 576]

    /// The stride of the merging after each stage but the last, as the published code has it.
    static func publishedStrides(between dims: [Int]) -> [Int] {
        dims.dropFirst().map { widthsThatKeepResolution.contains($0) ? 1 : 2 }
    }
}

extension SamGeometry {
    /// What no tensor tells of this model, as metadata.
    var metadata: [String: String] {
        switch encoder {
        case .vit: [:]
        case .tinyViT(let tiny): ["kirie.image_size": "\(tiny.imageSize)", "kirie.strides": "\(tiny.strides)"]
        case .efficientNetLite(let lite):
            [
                "kirie.encoder": GeometryReader.efficientNetLite, "kirie.image_size": "\(lite.imageSize)",
                "kirie.block_strides": "\(lite.blocks.map(\.stride))",
            ]
        case .hiera(let hiera): hiera.metadata(decoder.stability)
        case .repViT(let repViT): repViT.metadata(decoder.stability)
        }
    }

    /// What everything mode asks of masks, where that was published with the model and is not Segment Anything's.
    var everything: String? {
        // SAM 2's SAM2AutomaticMaskGenerator.
        if encoder.isOfSegmentAnything2 { return #"{"pred_iou_thresh": 0.8}"# }
        return nil
    }

    /// What no tensor tells of this model, unless it is as MobileSAM was published; nil where tensors tell all.
    var unspoken: String? {
        if case .efficientNetLite(let lite) = encoder {
            return "image size \(lite.imageSize), strides \(lite.blocks.map(\.stride))"
        }
        if case .repViT(let repViT) = encoder { return repViT.unspoken(decoder.stability) }
        if case .hiera(let hiera) = encoder { return hiera.unspoken(decoder.stability) }
        guard case .tinyViT(let tiny) = encoder else { return nil }
        let isPublished =
            tiny.imageSize == PublishedMobileSAM.imageSize
            && tiny.strides == TinyViT.Configuration.publishedStrides(between: tiny.embedDims)
        return isPublished ? nil : "image size \(tiny.imageSize), strides \(tiny.strides)"
    }
}
