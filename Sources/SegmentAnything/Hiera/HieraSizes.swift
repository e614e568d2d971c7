/// The published sizes, and what no tensor tells of a model.
extension HieraConfiguration {
    /// What no tensor tells of a published size, by what tensors tell: <https://github.com/facebookresearch/sam2>,
    /// `sam2/configs/sam2.1`.
    private struct Published {
        let name: String
        let width: Int
        let depths: [Int]
        let heads: Int
        let globalBlocks: Set<Int>
        let windows: [Int]
        let positionGrid: Int

        static let all = [
            Published(
                name: "tiny", width: 96, depths: [1, 2, 7, 2], heads: 1, globalBlocks: [5, 7, 9],
                windows: [8, 4, 14, 7], positionGrid: 7),
            Published(
                name: "small", width: 96, depths: [1, 2, 11, 2], heads: 1, globalBlocks: [7, 10, 13],
                windows: [8, 4, 14, 7], positionGrid: 7),
            Published(
                name: "base_plus", width: 112, depths: [2, 3, 16, 3], heads: 2, globalBlocks: [12, 16, 20],
                windows: [8, 4, 14, 7], positionGrid: 14),
            Published(
                name: "large", width: 144, depths: [2, 6, 36, 4], heads: 2, globalBlocks: [23, 33, 43],
                windows: [8, 4, 16, 8], positionGrid: 7),
        ]
    }

    /// On pictures of what size the published models work.
    static let publishedImageSize = 1024
    /// Stages that pool their queries, beside the first.
    static let pooledStages = stageCount - 1

    /// The published sizes of that name, `sam2.1_tiny`, `…_small`, `…_base_plus` or `…_large`; nil for another name.
    package init?(published name: String) {
        guard let published = Published.all.first(where: { "sam2.1_\($0.name)" == name }) else { return nil }
        let dims = (0..<Self.stageCount).map { published.width << $0 }
        self.init(
            imageSize: Self.publishedImageSize, dims: dims, depths: published.depths,
            headCounts: (0..<Self.stageCount).map { published.heads << $0 }, hiddenDims: dims.map { 4 * $0 },
            windowSizes: published.windows, globalBlocks: published.globalBlocks,
            positionGrid: [published.positionGrid, published.positionGrid], outChannels: 256)
    }

    /// The published values of what no tensor tells; nil for a model of other widths or depths.
    static func unspoken(dims: [Int], depths: [Int]) -> UnspokenSizes? {
        guard
            let published = Published.all.first(where: { published in
                published.depths == depths && dims == (0..<stageCount).map { published.width << $0 }
            })
        else { return nil }
        return UnspokenSizes(
            imageSize: publishedImageSize, windows: published.windows, globalBlocks: published.globalBlocks.sorted(),
            heads: (0..<stageCount).map { published.heads << $0 }, isFused: true, stability: .published)
    }

    /// Whether strides and windows of the first stage divide the image size.
    var fitsImageSize: Bool {
        imageSize % (Self.patchStride << Self.pooledStages) == 0
            && imageSize / Self.patchStride % windowSizes[0] == 0
    }

    private func sizes(_ stability: MaskDecoder.DynamicMultimask?) -> UnspokenSizes {
        UnspokenSizes(
            imageSize: imageSize, windows: windowSizes, globalBlocks: globalBlocks.sorted(), heads: headCounts,
            isFused: isFused, stability: stability)
    }

    /// What no tensor tells of this model, as metadata.
    func metadata(_ stability: MaskDecoder.DynamicMultimask?) -> [String: String] {
        sizes(stability).metadata
    }

    /// What no tensor tells of this model, unless it is as it was published; nil then.
    func unspoken(_ stability: MaskDecoder.DynamicMultimask?) -> String? {
        let sizes = sizes(stability)
        guard sizes != Self.unspoken(dims: dims, depths: depths) else { return nil }
        return sizes.metadata.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    }
}

extension SamGeometry {
    /// SAM 2.1 with that image encoder, its decoder as published.
    package init(hiera: HieraConfiguration) {
        var decoder = Self.publishedDecoder
        decoder.isSegmentAnything2 = true
        decoder.grid = hiera.grids[2]
        self.init(encoder: .hiera(hiera), decoder: decoder, maskChannels: 16)
        prompts.padsBoxes = true
    }
}

/// What no tensor tells of a SAM 2.
struct UnspokenSizes: Hashable {
    var imageSize: Int
    var windows: [Int]
    var globalBlocks: [Int]
    var heads: [Int]
    /// Whether the map of stride 32 is added to that of stride 16.
    var isFused: Bool
    var stability: MaskDecoder.DynamicMultimask?

    enum Key {
        static let imageSize = "kirie.image_size"
        static let windows = "kirie.windows"
        static let globalBlocks = "kirie.global_blocks"
        static let heads = "kirie.heads"
        static let topDownLevels = "kirie.fpn_top_down_levels"
        static let stability = "kirie.dynamic_multimask"
    }

    /// As `kirie model convert` writes it; what is as published in all sizes is left out.
    var metadata: [String: String] {
        var metadata = [
            Key.imageSize: "\(imageSize)", Key.windows: "\(windows)", Key.globalBlocks: "\(globalBlocks)",
            Key.heads: "\(heads)",
        ]
        if !isFused { metadata[Key.topDownLevels] = "[3]" }
        if stability != .published {
            metadata[Key.stability] = stability.map { "[\($0.delta), \($0.threshold)]" } ?? "[]"
        }
        return metadata
    }
}
