import Checkpoints
import JSON

/// Reads a model's sizes off the names and shapes of its tensors, under the published names.
///
/// What tensors cannot say about a TinyViT comes from the safetensors metadata:
///
/// ```text
/// kirie.image_size    rows and columns of the model's input, a decimal number
/// kirie.strides       the stride of the merging after each stage but the last, a JSON list such as [2, 2, 1];
///                     else 1 into the widths 320, 448 and 576, and 2 into others, as in the published code
/// ```
///
/// about a Hiera, where no `config.json` lies beside the file and the model is of none of the published sizes:
///
/// ```text
/// kirie.image_size     as above
/// kirie.windows        the side of each stage's windows, a JSON list such as [8, 4, 14, 7]
/// kirie.global_blocks  the blocks that look at everything, counted from 0 through all stages, such as [12, 16, 20]
/// kirie.heads          each stage's heads, such as [2, 4, 8, 16]
/// ```
///
/// and about an EfficientNet-Lite:
///
/// ```text
/// kirie.image_size     as above
/// kirie.block_strides  the stride of each block, a JSON list of 1 and 2 that leads from stride 2 to 32
/// kirie.encoder        efficientnet-lite, where it is there
/// ```
///
/// Both fit pictures of any size that their strides divide, so the size is that which the caller asks for, that of the
/// metadata, or 1024 in MobileSAM's file as published; without any of these it is not guessed.
///
/// Its heads and windows are read from `attention_biases`, (heads, window²). A ViT needs no metadata: its patch and
/// width are those of `patch_embed`, its image size is that of `pos_embed`, its head size and windows those of
/// `rel_pos_h`, (2·size − 1, head size).
struct GeometryReader {
    typealias Names = TensorNames

    let checkpoint: Checkpoint
    /// The image size that the caller asks for.
    let asked: Int?

    /// What `kirie.encoder` says of an EfficientNet-Lite.
    static let efficientNetLite = "efficientnet-lite"

    func geometry() throws(CheckpointError) -> (SamGeometry, ImageSizeSource) {
        if checkpoint.contains(Names.weight(Names.Hiera.patches)) {
            let (hiera, stability, source) = try hiera()
            var geometry = try geometry(.hiera(hiera), grid: hiera.grids[2], channels: hiera.outChannels)
            geometry.decoder.stability = stability
            geometry.prompts.hasPointTable = checkpoint.contains(Names.weight(Names.PromptEncoder.pointEmbeddings))
            return (geometry, source)
        }
        if checkpoint.contains(Names.kernel(Names.RepViT.firstConvolution)) {
            let (repViT, stability, source) = try repViT()
            var geometry = try geometry(.repViT(repViT), grid: repViT.grids[2], channels: repViT.outChannels)
            geometry.decoder.stability = stability
            geometry.prompts.hasPointTable = checkpoint.contains(Names.weight(Names.PromptEncoder.pointEmbeddings))
            return (geometry, source)
        }
        if checkpoint.contains(Names.weight(Names.EfficientNetLite.stem)) {
            let (lite, grid, source) = try efficientNetLiteSizes()
            return (try geometry(.efficientNetLite(lite), grid: grid, channels: lite.outChannels), source)
        }
        if checkpoint.contains(Names.kernel(Names.TinyViT.firstConvolution)) {
            let (tiny, grid, source) = try tinyViT()
            return (try geometry(.tinyViT(tiny), grid: grid, channels: tiny.outChannels), source)
        }
        let (vit, grid) = try vit()
        let geometry = try geometry(.vit(vit), grid: grid, channels: vit.outChannels)
        guard asked == nil || asked == vit.imageSize else {
            throw imageSizeError(
                "works on pictures of \(vit.imageSize), as its tensors tell, and not of \(asked ?? 0)",
                remedy: "Leave the image size out")
        }
        return (geometry, .tensors)
    }

    private func geometry(
        _ encoder: SamGeometry.Encoder, grid: Int, channels: Int
    ) throws(CheckpointError) -> SamGeometry {
        var decoder = try decoder(grid: grid)
        if case .efficientNetLite = encoder { decoder.takesSkips = true }
        if encoder.isOfSegmentAnything2 { decoder.isSegmentAnything2 = true }
        decoder.isHighQuality = try isHighQuality(encoder)
        guard decoder.channels == channels else {
            throw contradiction(
                Names.weight(Names.MaskDecoder.iouToken),
                "has \(decoder.channels) channels and the image encoder's neck \(channels)")
        }
        let mask = Names.weight(
            Names.part(Names.PromptEncoder.secondConvolution, of: Names.PromptEncoder.maskDownscaling))
        var geometry = SamGeometry(
            encoder: encoder, decoder: decoder,
            maskChannels: try bounded(
                try shape(mask, rank: 4)[0], GeometryBounds.maskChannels, "channels for mask prompts", mask))
        geometry.prompts.padsBoxes = encoder.isOfSegmentAnything2
        let text = Names.PromptEncoder.textProjection
        if checkpoint.contains(Names.weight(text)) {
            let name = Names.weight(text)
            geometry.prompts.textWidth = try bounded(
                try shape(name, rank: 2)[1], GeometryBounds.width, "numbers of a text's embedding", name)
            geometry.prompts.hasTextBias = checkpoint.contains("\(text).bias")
        }
        try checkMemory(of: geometry)
        return geometry
    }

    /// Whether the tensors have SAM-HQ's token; its early features are those of a ViT's first global block, or of a TinyViT's
    /// third stage, whose grid is the embedding's.
    private func isHighQuality(_ encoder: SamGeometry.Encoder) throws(CheckpointError) -> Bool {
        let token = Names.weight(Names.HighQuality.token)
        guard checkpoint.contains(token) else { return false }
        switch encoder {
        case .vit(let vit) where !vit.globalBlocks.isEmpty: return true
        case .tinyViT(let tiny) where tiny.grids.count > 2 && tiny.grids[2] == tiny.grids.last: return true
        default:
            throw contradiction(token, "stands beside an image encoder that has no early features for it")
        }
    }

    /// Sizes that are each within their bounds may still ask for too much together.
    private func checkMemory(of geometry: SamGeometry) throws(CheckpointError) {
        let largest = geometry.largestFeatureMap
        guard largest <= GeometryBounds.features else {
            var last = Names.neckProjection
            if case .efficientNetLite = geometry.encoder { last = Names.EfficientNetLite.lastConvolution }
            throw overLimit(
                Names.weight(last),
                "belongs to an image encoder whose largest feature map has \(largest) numbers for a picture of "
                    + "\(geometry.imageSize); at most \(GeometryBounds.features) are allowed")
        }
        let prepared = geometry.preparedImageNumbers
        guard prepared <= GeometryBounds.preparedImage else {
            throw overLimit(
                Names.weight(Names.MaskDecoder.iouToken),
                "belongs to a mask decoder that keeps \(prepared) numbers of an image of \(geometry.grid) by "
                    + "\(geometry.grid) tokens; at most \(GeometryBounds.preparedImage) are allowed")
        }
    }

    // MARK: - Image encoders

    private func vit() throws(CheckpointError) -> (ImageEncoderViT.Configuration, grid: Int) {
        let (patchName, positionName) = (Names.weight(Names.ViT.patches), Names.ViT.positions)
        let patches = try shape(patchName, rank: 4)
        let positions = try shape(positionName, rank: 4)
        let dim = try bounded(
            patches[0], GeometryBounds.width, "features per token", patchName)
        let patch = try bounded(
            patches[2], GeometryBounds.patchSize, "pixels along a patch", patchName)
        let grid = try bounded(positions[1], GeometryBounds.grid, "tokens along a side", positionName)
        let size = try bounded(
            grid * patch, GeometryBounds.imageSize, "pixels along the picture's side", positionName)
        let depth = try bounded(
            try indices(below: Names.ViT.blocks), GeometryBounds.depth, "blocks", "\(Names.ViT.blocks).0.…")
        func rows(_ block: Int) -> String { Names.ViT.relativeRows(Names.part(block, of: Names.ViT.blocks)) }
        var globalBlocks: Set<Int> = []
        var windows: [(size: Int, block: Int)] = []
        for block in 0..<depth {
            let name = rows(block)
            let length = try shape(name, rank: 2)[0]
            guard length % 2 == 1 else {
                throw contradiction(name, "has \(length) rows, where 2·window − 1 is odd")
            }
            let window = (length + 1) / 2
            guard window <= grid else {
                throw contradiction(name, "stands for windows of \(window) in a grid of \(grid)")
            }
            if window == grid { globalBlocks.insert(block) } else { windows.append((window, block)) }
        }
        let window = windows.first?.size ?? grid
        if let other = windows.first(where: { $0.size != window }) {
            throw contradiction(
                rows(other.block),
                "stands for windows of \(other.size), where block \(windows[0].block) has \(window)")
        }
        var blocks: [ImageEncoderViT.Configuration.Block] = []
        for block in 0..<depth { blocks.append(try vitBlock(Names.part(block, of: Names.ViT.blocks))) }
        var configuration = ImageEncoderViT.Configuration(
            imageSize: size, patchSize: patch, embedDim: dim, depth: depth, headCount: blocks[0].headCount,
            mlpDim: blocks[0].mlpDim, windowSize: window, globalBlocks: globalBlocks,
            outChannels: try shape(Names.weight(Names.neckProjection), rank: 4)[0])
        if Set(blocks).count > 1 || blocks[0].width != dim || blocks[0].isApart { configuration.prunedBlocks = blocks }
        return (configuration, grid)
    }

    /// The sizes inside a ViT's block: pruning makes them differ.
    private func vitBlock(_ name: String) throws(CheckpointError) -> ImageEncoderViT.Configuration.Block {
        let rows = Names.ViT.relativeRows(name)
        let headSize = try bounded(try shape(rows, rank: 2)[1], GeometryBounds.headSize, "numbers per head", rows)
        let apart = Names.weight("\(name).attn.\(Names.ViT.partsApart[0])")
        let isApart = checkpoint.contains(apart)
        let projection = isApart ? apart : Names.weight(Names.ViT.projection("\(name).attn"))
        let outputs = try shape(projection, rank: 2)[0]
        guard isApart || outputs.isMultiple(of: 3) else {
            throw contradiction(projection, "has \(outputs) rows, where queries, keys and values have as many each")
        }
        let width = try bounded(
            isApart ? outputs : outputs / 3, GeometryBounds.width, "features of its queries", projection)
        guard width.isMultiple(of: headSize) else {
            throw contradiction(rows, "has heads of \(headSize), of which \(width) is no multiple")
        }
        return .init(
            headCount: width / headSize, headSize: headSize,
            mlpDim: try hidden(Names.weight(Names.ViT.expansion(name)), rank: 2), isApart: isApart)
    }

    private func tinyViT() throws(CheckpointError) -> (TinyViT.Configuration, grid: Int, ImageSizeSource) {
        let stages = try bounded(
            try indices(below: Names.TinyViT.stages), GeometryBounds.stages, "stages", "\(Names.TinyViT.stages).0.…")
        var dims: [Int] = []
        var depths: [Int] = []
        var hidden: [Int] = []
        var heads: [Int] = []
        var windows: [Int] = []
        for stage in 0..<stages {
            let blocks = Names.TinyViT.blocks(Names.part(stage, of: Names.TinyViT.stages))
            let first = Names.part(0, of: blocks)
            depths.append(
                try bounded(
                    try indices(below: blocks), GeometryBounds.depth, "blocks", "\(first).…"))
            if stage == 0 {
                let widen = Names.kernel(Names.TinyViT.widening(first))
                dims.append(
                    try bounded(try shape(widen, rank: 4)[1], GeometryBounds.width, "features per token", widen))
                hidden.append(try self.hidden(widen, rank: 4))
                heads.append(0)
                windows.append(0)
            } else {
                let expand = Names.weight(Names.TinyViT.expansion(first))
                dims.append(
                    try bounded(try shape(expand, rank: 2)[1], GeometryBounds.width, "features per token", expand))
                hidden.append(try self.hidden(expand, rank: 2))
                let biases = Names.TinyViT.biases(first)
                let table = try shape(biases, rank: 2)
                let window = Int(Double(table[1]).squareRoot())
                guard dims[stage].isMultiple(of: table[0]), window * window == table[1] else {
                    throw contradiction(
                        biases, "is \(table), where (heads, window²) with heads that divide \(dims[stage]) is expected")
                }
                heads.append(table[0])
                windows.append(
                    try bounded(window, GeometryBounds.window, "tokens along an attention window", biases))
                _ = try bounded(dims[stage] / table[0], GeometryBounds.headSize, "numbers per head", biases)
                let numbers = table[0] * table[1] * table[1]
                guard numbers <= GeometryBounds.attentionBiases else {
                    throw overLimit(
                        biases,
                        "is \(table), which stands for \(numbers) biases of pairs of tokens; at most "
                            + "\(GeometryBounds.attentionBiases) are allowed")
                }
            }
        }
        guard dims[0].isMultiple(of: 2) else {
            throw contradiction(
                Names.kernel(Names.TinyViT.secondConvolution), "has an odd number of channels")
        }
        let strides = try strides(between: dims)
        // At most 4 · 2⁷: the number of stages is bounded.
        let step = strides.reduce(4, *)
        let (size, source) = try imageSize(step: step, of: "a TinyViT")
        let configuration = TinyViT.Configuration(
            imageSize: size, embedDims: dims, depths: depths, headCounts: heads, windowSizes: windows,
            strides: strides, hiddenDims: hidden, outChannels: try shape(Names.weight(Names.neckProjection), rank: 4)[0]
        )
        let grid = try bounded(
            size / step, GeometryBounds.grid, "tokens along a side", Names.weight(Names.neckProjection))
        return (configuration, grid, source)
    }

    /// The image size that was asked for, else that of the metadata, else that of the file as it was published.
    ///
    /// It is a multiple of `step`, the pixels along a side of one cell of the embedding.
    func imageSize(step: Int, of encoder: String) throws(CheckpointError) -> (Int, ImageSizeSource) {
        let bounds = GeometryBounds.imageSize
        if let asked {
            guard bounds.contains(asked), asked.isMultiple(of: step) else {
                throw imageSizeError(
                    "cannot work on pictures of \(asked): the size is a multiple of \(step) from \(bounds.lowerBound) to "
                        + "\(bounds.upperBound)", remedy: "Give the size that the model was trained on")
            }
            return (asked, .asked)
        }
        guard let text = checkpoint.metadata["kirie.image_size"] else {
            if try PublishedMobileSAM.isFile(of: checkpoint) { return (PublishedMobileSAM.imageSize, .published) }
            if checkpoint.contains(Names.weight(Names.HighQuality.token)) {
                return (PublishedMobileSAM.imageSize, .publishedHighQuality)
            }
            throw imageSizeError(
                "does not say on pictures of what size it works: its tensors are those of \(encoder) and fit every "
                    + "multiple of \(step), and no metadata says more",
                remedy: "Give the size that the model was trained on, such as 1024 for what comes from MobileSAM or "
                    + "256 for LiteMedSAM: --image-size 1024, or once and for all kirie model convert "
                    + "\(checkpoint.path) --image-size 1024 -o model.safetensors")
        }
        guard let size = Int(text), bounds.contains(size) else {
            throw metadataError(
                "kirie.image_size",
                "\(CheckpointError.quoted(text)) is no number from \(bounds.lowerBound) to \(bounds.upperBound)")
        }
        guard size.isMultiple(of: step) else {
            throw metadataError("kirie.image_size", "\(size) is no multiple of \(step), the product of the strides")
        }
        return (size, .metadata)
    }

    private func strides(between dims: [Int]) throws(CheckpointError) -> [Int] {
        guard let text = checkpoint.metadata["kirie.strides"] else {
            return TinyViT.Configuration.publishedStrides(between: dims)
        }
        return try strides(text, count: dims.count - 1, key: "kirie.strides")
    }

    /// A list of `count` strides from the metadata.
    func strides(_ text: String, count: Int, key: String) throws(CheckpointError) -> [Int] {
        guard let strides = Self.integers(text), strides.count == count, strides.allSatisfy((1...2).contains) else {
            throw metadataError(key, "\(CheckpointError.quoted(text)) is no list of \(count) strides of 1 or 2")
        }
        return strides
    }

    /// A JSON list of whole numbers; nil for anything else.
    static func integers(_ text: String) -> [Int]? {
        guard let list = (try? JSONValue(parsing: Array(text.utf8)))?.elements else { return nil }
        let integers = list.compactMap(\.integer)
        return integers.count == list.count ? integers : nil
    }

    // MARK: - Decoder

    private func decoder(grid: Int) throws(CheckpointError) -> MaskDecoder.Configuration {
        let iouToken = Names.weight(Names.MaskDecoder.iouToken)
        let channels = try bounded(
            try shape(iouToken, rank: 2)[1], GeometryBounds.channels, "channels", iouToken)
        guard channels.isMultiple(of: GeometryBounds.channelStep) else {
            throw contradiction(
                iouToken, "has \(channels) channels, which is no multiple of \(GeometryBounds.channelStep)")
        }
        let layers = Names.MaskDecoder.layers(Names.MaskDecoder.transformer)
        let layer = Names.part(0, of: layers)
        let projection = Names.weight(Names.MaskDecoder.queries(Names.MaskDecoder.tokenToImage(layer)))
        let inner = try bounded(
            try shape(projection, rank: 2)[0], GeometryBounds.crossAttention, "features of its attention", projection)
        guard inner.isMultiple(of: GeometryBounds.crossAttentionStep) else {
            throw contradiction(
                projection, "projects to \(inner), which is no multiple of \(GeometryBounds.crossAttentionStep)")
        }
        let maskTokens = Names.weight(Names.MaskDecoder.maskTokens)
        let iouHead = Names.MaskDecoder.layers(Names.MaskDecoder.iouHead)
        return MaskDecoder.Configuration(
            channels: channels, grid: grid, crossAttentionDim: inner,
            mlpDim: try hidden(Names.weight(Names.MaskDecoder.expansion(layer)), rank: 2),
            depth: try bounded(
                try indices(below: layers), GeometryBounds.decoderDepth, "layers", "\(layer).…"),
            maskTokenCount: try bounded(
                try shape(maskTokens, rank: 2)[0], GeometryBounds.maskTokens, "masks", maskTokens),
            iouHeadDepth: try bounded(
                try indices(below: iouHead), GeometryBounds.iouHeadDepth, "layers", "\(iouHead).0.…"),
            iouHeadHidden: try hidden(Names.weight(Names.part(0, of: iouHead)), rank: 2))
    }

    // MARK: - Names and shapes

    /// Extents of the tensors that sizes are read from: none is zero, and sums and small multiples do not overflow.
    private static let extents = 1...1 << 24

    func shape(_ name: String, rank: Int) throws(CheckpointError) -> [Int] {
        let stored = try checkpoint.stored(name)
        guard stored.shape.count == rank else {
            throw contradiction(name, "has the shape \(stored.shape), where \(rank) axes are expected")
        }
        guard stored.shape.allSatisfy(Self.extents.contains) else {
            throw contradiction(name, "has the shape \(stored.shape), and an axis without elements or with too many")
        }
        return stored.shape
    }

    /// The outputs of the first layer of a perceptron or bottleneck.
    func hidden(_ name: String, rank: Int) throws(CheckpointError) -> Int {
        try bounded(try shape(name, rank: rank)[0], GeometryBounds.hidden, "hidden features", name)
    }

    /// A number that is within its bounds.
    func bounded(
        _ value: Int, _ allowed: ClosedRange<Int>, _ what: String, _ name: String
    ) throws(CheckpointError) -> Int {
        guard !allowed.contains(value) else { return value }
        let range =
            allowed.count == 1 ? "\(allowed.lowerBound)" : "\(allowed.lowerBound) to \(allowed.upperBound)"
        throw overLimit(name, "stands for \(value) \(what), where \(range) are allowed")
    }

    /// How many numbered parts there are below `prefix`: the largest number and one.
    func indices(below prefix: String) throws(CheckpointError) -> Int {
        var count = 0
        for name in checkpoint.names where name.hasPrefix("\(prefix).") {
            guard let number = Int(name.dropFirst(prefix.count + 1).prefix { $0 != "." }), number >= 0 else { continue }
            guard number < checkpoint.names.count else {
                throw contradiction(name, "has a number larger than the number of tensors")
            }
            count = max(count, number + 1)
        }
        guard count > 0 else {
            throw CheckpointError(
                .missingTensor, file: checkpoint.path, at: "tensors \(CheckpointError.quoted("\(prefix).0.…"))",
                "are missing", remedy: "Use a complete checkpoint of the model")
        }
        return count
    }

    func contradiction(_ name: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .misshapenTensor, file: checkpoint.path,
            at: "tensor \(CheckpointError.quoted(checkpoint[name]?.name ?? name))", reason,
            remedy: "The checkpoint is not of a Segment Anything model, or damaged: fetch or save it again")
    }

    func imageSizeError(_ reason: String, remedy: String) -> CheckpointError {
        CheckpointError(.imageSize, file: checkpoint.path, reason, remedy: remedy)
    }

    func overLimit(_ name: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .overLimit, file: checkpoint.path,
            at: "tensor \(CheckpointError.quoted(checkpoint[name]?.name ?? name))", reason,
            remedy: "Kirie computes no model of that size: use a smaller one")
    }

    func metadataError(_ key: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .corrupt, file: checkpoint.path, at: "metadata \(key)", reason,
            remedy: "Write the metadata that fits the model's tensors")
    }
}
