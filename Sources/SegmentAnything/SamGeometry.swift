public import Segmentation
public import Tensors

/// The sizes of a Segment Anything model: everything about it that is not a weight.
///
/// Read off a checkpoint's tensors by ``SamCheckpoint``, never looked up in a table, so that a SAM of any size loads.
/// The published sizes are here for models with random weights.
public struct SamGeometry: Sendable, CustomStringConvertible {
    /// The image encoder's kind and sizes.
    package enum Encoder: Sendable {
        case vit(ImageEncoderViT.Configuration)
        case tinyViT(TinyViT.Configuration)
        case efficientNetLite(EfficientNetLite.Configuration)
        case hiera(HieraConfiguration)
        case repViT(RepViT.Configuration)

        /// Whether it is the encoder of a SAM 2, whose decoder, prompts and pictures differ from Segment Anything's.
        var isOfSegmentAnything2: Bool {
            switch self {
            case .hiera, .repViT: true
            case .vit, .tinyViT, .efficientNetLite: false
            }
        }
    }

    package var encoder: Encoder
    package var decoder: MaskDecoder.Configuration
    /// Channels between the convolutions that take in a mask prompt.
    package var maskChannels: Int
    /// What is particular about its prompt encoder.
    package var prompts: PromptConventions

    package init(
        encoder: Encoder, decoder: MaskDecoder.Configuration, maskChannels: Int,
        prompts: PromptConventions = PromptConventions()
    ) {
        self.encoder = encoder
        self.decoder = decoder
        self.maskChannels = maskChannels
        self.prompts = prompts
    }

    /// S: rows and columns of the picture that the image encoder sees.
    public var imageSize: Int {
        switch encoder {
        case .vit(let vit): vit.imageSize
        case .tinyViT(let tiny): tiny.imageSize
        case .efficientNetLite(let lite): lite.imageSize
        case .hiera(let hiera): hiera.imageSize
        case .repViT(let repViT): repViT.imageSize
        }
    }

    /// How pictures are brought to the image encoder: as published.
    public var preprocessing: ImagePreprocessing {
        if encoder.isOfSegmentAnything2 { return .segmentAnything2(size: imageSize) }
        return .segmentAnything(size: imageSize)
    }

    /// g: rows and columns of the image embedding.
    public var grid: Int { decoder.grid }

    /// C: channels of the image embedding.
    public var channels: Int { decoder.channels }

    /// The precision that suits this model on this processor: bf16 for models as wide as the published ones (C = 256).
    ///
    /// A narrow model gains next to nothing by it, since its products are small, and its masks suffer more, since its
    /// sums are short: `kirie bench encode`, `decode` and `quality` show both.
    public var automaticPrecision: Precision { channels < 256 ? .float32 : .automatic }

    /// Rows and columns of low-resolution logits and of a mask prompt: 4g.
    public var maskSide: Int { 4 * grid }

    /// One line for each part.
    public var description: String {
        "\(encoderDescription)\n"
            + "image embedding: \(channels) × \(grid) × \(grid)\n"
            + "mask decoder: \(decoder.depth) layers, MLP \(decoder.mlpDim), cross-attention "
            + "\(decoder.crossAttentionDim), \(decoder.maskTokenCount) mask tokens"
            + (decoder.isHighQuality ? ", a token for masks of high quality" : "")
            + (prompts.textWidth.map { ", texts by a CLIP of \($0) numbers" } ?? "")
    }

    private var encoderDescription: String {
        func list(_ values: [Int]) -> String { values.map(String.init).joined(separator: ", ") }
        func range(_ values: [Int]) -> String {
            let (least, most) = (values.min() ?? 0, values.max() ?? 0)
            return least == most ? "\(least)" : "\(least) to \(most)"
        }
        switch encoder {
        case .vit(let vit):
            return "image encoder: ViT, image \(vit.imageSize), patch \(vit.patchSize), width \(vit.embedDim), "
                + "\(vit.depth) blocks, \(range(vit.blocks.map(\.headCount))) heads"
                + (vit.prunedBlocks.isEmpty ? "" : " of \(range(vit.blocks.map(\.headSize)))")
                + ", MLP \(range(vit.blocks.map(\.mlpDim))), window \(vit.windowSize), "
                + "global blocks \(list(vit.globalBlocks.sorted()))"
        case .tinyViT(let tiny):
            return "image encoder: TinyViT, image \(tiny.imageSize), widths \(list(tiny.embedDims)), "
                + "depths \(list(tiny.depths)), heads \(list(Array(tiny.headCounts.dropFirst()))), "
                + "windows \(list(Array(tiny.windowSizes.dropFirst()))), strides \(list(tiny.strides))"
        case .efficientNetLite(let lite):
            let used = EfficientNetLite.usedStrides
            return "image encoder: EfficientNet-Lite, image \(lite.imageSize), \(lite.blocks.count) blocks, "
                + "widths \(list(used.map(lite.channels(atStride:)))) at strides \(list(used)), "
                + "neck \(lite.neckWidth), skips of \(lite.outChannels / 4) and \(lite.outChannels / 8) channels"
        case .repViT(let repViT):
            return "image encoder: RepViT (EdgeTAM), image \(repViT.imageSize), widths \(list(repViT.dims)), "
                + "blocks \(list(repViT.blocks.map(\.count)))"
        case .hiera(let hiera):
            return "image encoder: Hiera, image \(hiera.imageSize), widths \(list(hiera.dims)), "
                + "depths \(list(hiera.depths)), heads \(list(hiera.headCounts)), windows \(list(hiera.windowSizes)), "
                + "global blocks \(list(hiera.globalBlocks.sorted())), skips of \(hiera.outChannels / 4) and "
                + "\(hiera.outChannels / 8) channels"
        }
    }
}

// MARK: - The published sizes

extension SamGeometry {
    /// The published sizes of that name, `vit_b`, `vit_l`, `vit_h`, `mobile`, or one of ``HieraConfiguration``'s such as
    /// `sam2.1_tiny`; nil for another name.
    public init?(published name: String) {
        switch name {
        case "vit_b": self.init(embedDim: 768, depth: 12, headCount: 12, globalBlocks: [2, 5, 8, 11])
        case "vit_l": self.init(embedDim: 1024, depth: 24, headCount: 16, globalBlocks: [5, 11, 17, 23])
        case "vit_h": self.init(embedDim: 1280, depth: 32, headCount: 16, globalBlocks: [7, 15, 23, 31])
        case "hq_vit_b", "hq_vit_l", "hq_vit_h":
            self.init(published: String(name.dropFirst("hq_".count)))
            decoder.isHighQuality = true
        case "mobile":
            let tiny = TinyViT.Configuration(
                imageSize: 1024, embedDims: [64, 128, 160, 320], depths: [2, 2, 6, 2], headCounts: [0, 4, 5, 10],
                windowSizes: [0, 7, 14, 7], strides: [2, 2, 1], hiddenDims: [256, 512, 640, 1280],
                outChannels: 256)
            self.init(encoder: .tinyViT(tiny), decoder: Self.publishedDecoder, maskChannels: 16)
        case "edgetam": self.init(repViT: .published)
        default:
            guard let hiera = HieraConfiguration(published: name) else { return nil }
            self.init(hiera: hiera)
        }
    }

    /// The same for pictures of another size; nil for a size that the patches or strides do not divide.
    package func resized(to imageSize: Int) -> SamGeometry? {
        guard imageSize >= 64, imageSize % 16 == 0 else { return nil }
        var geometry = self
        switch encoder {
        case .repViT(var repViT):
            guard imageSize % 32 == 0 else { return nil }
            repViT.imageSize = imageSize
            geometry.encoder = .repViT(repViT)
        case .hiera(var hiera):
            hiera.imageSize = imageSize
            guard hiera.fitsImageSize else { return nil }
            geometry.encoder = .hiera(hiera)
        case .efficientNetLite(var lite):
            guard imageSize % 32 == 0 else { return nil }
            lite.imageSize = imageSize
            geometry.encoder = .efficientNetLite(lite)
        case .vit(var vit):
            vit.imageSize = imageSize
            geometry.encoder = .vit(vit)
        case .tinyViT(var tiny):
            tiny.imageSize = imageSize
            geometry.encoder = .tinyViT(tiny)
        }
        geometry.decoder.grid = imageSize / 16
        return geometry
    }

    /// A ViT of the published kind: image 1024, patch 16, window 14, MLP four times the width.
    private init(embedDim: Int, depth: Int, headCount: Int, globalBlocks: Set<Int>) {
        let vit = ImageEncoderViT.Configuration(
            imageSize: 1024, patchSize: 16, embedDim: embedDim, depth: depth, headCount: headCount,
            mlpDim: 4 * embedDim, windowSize: 14, globalBlocks: globalBlocks, outChannels: 256)
        self.init(encoder: .vit(vit), decoder: Self.publishedDecoder, maskChannels: 16)
    }

    static var publishedDecoder: MaskDecoder.Configuration {
        MaskDecoder.Configuration(
            channels: 256, grid: 64, crossAttentionDim: 128, mlpDim: 2048, depth: 2, maskTokenCount: 4,
            iouHeadDepth: 3, iouHeadHidden: 256)
    }
}
