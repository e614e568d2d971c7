extension SAMGeometry {
    /// The geometries of the published models, for measuring without their checkpoints.
    package enum Published: String, Sendable, CaseIterable {
        case vit_b
        case vit_l
        case vit_h
        case mobile

        /// The sizes of Kirillov et al., 2023, and Zhang et al., 2023.
        package var geometry: SAMGeometry {
            SAMGeometry(
                imageEncoder: imageEncoder,
                maskDecoder: MaskDecoder.Configuration(
                    channels: 256, grid: 64, crossAttentionDim: 128, mlpDim: 2048, depth: 2, maskTokenCount: 4,
                    iouHeadDepth: 3, iouHeadHidden: 256),
                maskChannels: 16)
        }

        private var imageEncoder: ImageEncoder {
            func vit(_ dim: Int, _ depth: Int, _ heads: Int, _ globalBlocks: Set<Int>) -> ImageEncoder {
                .vit(
                    ImageEncoderViT.Configuration(
                        imageSize: 1024, patchSize: 16, embedDim: dim, depth: depth, headCount: heads, mlpDim: 4 * dim,
                        windowSize: 14, globalBlocks: globalBlocks, outChannels: 256))
            }
            switch self {
            case .vit_b: return vit(768, 12, 12, [2, 5, 8, 11])
            case .vit_l: return vit(1024, 24, 16, [5, 11, 17, 23])
            case .vit_h: return vit(1280, 32, 16, [7, 15, 23, 31])
            case .mobile:
                return .tinyViT(
                    TinyViT.Configuration(
                        imageSize: 1024, embedDims: [64, 128, 160, 320], depths: [2, 2, 6, 2],
                        headCounts: [0, 4, 5, 10], windowSizes: [0, 7, 14, 7], strides: [2, 2, 1],
                        hiddenDims: [256, 512, 640, 1280], outChannels: 256))
            }
        }
    }
}
