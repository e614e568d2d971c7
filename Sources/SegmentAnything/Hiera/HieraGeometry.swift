import Checkpoints
import JSON

extension GeometryReader {
    /// A Hiera's sizes, when its one mask is given up, and what tells the image size.
    func hiera() throws(CheckpointError) -> (
        HieraConfiguration, MaskDecoder.DynamicMultimask?, ImageSizeSource
    ) {
        let names = Names.Hiera.self
        let patches = Names.weight(names.patches)
        let kernel = try shape(patches, rank: 4)
        guard kernel[2] == HieraConfiguration.patchSize, kernel[3] == HieraConfiguration.patchSize else {
            throw contradiction(patches, "has patches of \(kernel[2]) × \(kernel[3]), where 7 × 7 is expected")
        }
        let width = try bounded(kernel[0], GeometryBounds.width, "features per token", patches)
        let (dims, depths, hidden) = try stages(width: width)
        let lateral = Names.weight(names.lateral(0))
        let channels = try bounded(try shape(lateral, rank: 4)[0], GeometryBounds.channels, "channels", lateral)
        let positions = try shape(names.positions, rank: 4)
        for extent in positions[2...] {
            _ = try bounded(extent, GeometryBounds.positionGrid, "positions along a side", names.positions)
        }
        let window = try shape(names.windowPositions, rank: 4)[3]
        let (sizes, source) = try unspoken(dims: dims, depths: depths, window: window)
        try check(sizes, dims: dims, depths: depths, window: window)
        let configuration = HieraConfiguration(
            imageSize: sizes.imageSize, dims: dims, depths: depths, headCounts: sizes.heads, hiddenDims: hidden,
            windowSizes: sizes.windows, globalBlocks: Set(sizes.globalBlocks), positionGrid: Array(positions[2...]),
            isFused: sizes.isFused, outChannels: channels)
        guard configuration.fitsImageSize else {
            throw imageSizeError(
                "cannot work on pictures of \(sizes.imageSize): the size is a multiple of 32, and of 4 times the first "
                    + "stage's windows of \(window)", remedy: "Give the size that the model was trained on")
        }
        _ = try bounded(configuration.grids[2], GeometryBounds.grid, "tokens along a side", lateral)
        _ = try bounded(configuration.grids[0], GeometryBounds.skipGrid, "positions along a side", names.positions)
        return (configuration, sizes.stability, source)
    }

    /// Features per token, blocks, and hidden features of each stage: a stage begins where a block widens its tokens.
    private func stages(width: Int) throws(CheckpointError) -> (dims: [Int], depths: [Int], hidden: [Int]) {
        let names = Names.Hiera.self
        let count = try bounded(
            try indices(below: names.blocks), GeometryBounds.depth, "blocks", "\(names.blocks).0.…")
        var (dims, depths, hidden): ([Int], [Int], [Int]) = ([width], [0], [])
        for index in 0..<count {
            let block = Names.part(index, of: names.blocks)
            let shortcut = Names.weight(names.shortcut(block))
            if checkpoint.contains(shortcut) {
                dims.append(
                    try bounded(try shape(shortcut, rank: 2)[0], GeometryBounds.width, "features per token", shortcut))
                depths.append(0)
            }
            depths[depths.count - 1] += 1
            let expansion = Names.weight(names.expansion(block))
            let features = try self.hidden(expansion, rank: 2)
            if hidden.count < dims.count { hidden.append(features) }
        }
        guard dims.count == HieraConfiguration.stageCount, depths[0] > 0 else {
            throw contradiction(
                "\(names.blocks).0.…",
                "belongs to an encoder of \(dims.count) stages, where \(HieraConfiguration.stageCount) are expected")
        }
        return (dims, depths, hidden)
    }

    /// What no tensor tells: from the metadata, else from `config.json` beside the file, else as published.
    private func unspoken(
        dims: [Int], depths: [Int], window: Int
    ) throws(CheckpointError) -> (UnspokenSizes, ImageSizeSource) {
        var (sizes, source): (UnspokenSizes, ImageSizeSource)
        if let found = try metadataSizes() {
            (sizes, source) = (found, .metadata)
        } else if let found = try configurationSizes(depths: depths) {
            (sizes, source) = (found, .configuration)
        } else if let found = HieraConfiguration.unspoken(dims: dims, depths: depths) {
            (sizes, source) = (found, .publishedSizes)
        } else {
            throw CheckpointError(
                .unknownLayout, file: checkpoint.path,
                "is a SAM 2 of no published size: widths \(dims), blocks \(depths). Its tensors do not tell its windows, "
                    + "its heads, which blocks look at everything, and on pictures of what size it works",
                remedy: "Put the config.json that it was saved with beside it, or write "
                    + "\(UnspokenSizes.Key.imageSize), "
                    + "\(UnspokenSizes.Key.windows), \(UnspokenSizes.Key.globalBlocks) and \(UnspokenSizes.Key.heads) "
                    + "into its safetensors metadata")
        }
        if let text = checkpoint.metadata[UnspokenSizes.Key.imageSize], source != .metadata {
            guard let size = Int(text), GeometryBounds.imageSize.contains(size) else {
                throw metadataError(
                    UnspokenSizes.Key.imageSize, "\(CheckpointError.quoted(text)) is no size of pictures")
            }
            (sizes.imageSize, source) = (size, .metadata)
        }
        if let asked { (sizes.imageSize, source) = (asked, .asked) }
        return (sizes, source)
    }

    /// What the metadata says; nil where it says nothing of windows, blocks and heads.
    private func metadataSizes() throws(CheckpointError) -> UnspokenSizes? {
        typealias Key = UnspokenSizes.Key
        let keys = [Key.windows, Key.globalBlocks, Key.heads]
        guard keys.contains(where: { checkpoint.metadata[$0] != nil }) else { return nil }
        func list(_ key: String) throws(CheckpointError) -> [Int] {
            guard let text = checkpoint.metadata[key] else {
                throw metadataError(key, "is missing, where others of \(keys.joined(separator: ", ")) are there")
            }
            guard let list = Self.integers(text) else {
                throw metadataError(key, "\(CheckpointError.quoted(text)) is no list of whole numbers")
            }
            return list
        }
        let text = checkpoint.metadata[Key.imageSize] ?? "\(HieraConfiguration.publishedImageSize)"
        guard let size = Int(text) else {
            throw metadataError(Key.imageSize, "\(CheckpointError.quoted(text)) is no size of pictures")
        }
        var sizes = UnspokenSizes(
            imageSize: size, windows: try list(Key.windows), globalBlocks: try list(Key.globalBlocks),
            heads: try list(Key.heads), isFused: true, stability: .published)
        try readMetadata(into: &sizes)
        return sizes
    }

    /// What `config.json` beside the file says; nil where there is none or it is another model's.
    ///
    /// As Hugging Face's `Sam2Config` and `Sam2VideoConfig` are saved; what it leaves out is as in their own defaults.
    private func configurationSizes(depths: [Int]) throws(CheckpointError) -> UnspokenSizes? {
        guard let file = try checkpoint.configuration(), let kind = file.value["model_type"]?.string,
            ["sam2", "sam2_video"].contains(kind)
        else { return nil }
        let trunk = file.value["vision_config"]?["backbone_config"]
        func error(_ member: String, _ reason: String) -> CheckpointError {
            CheckpointError(
                .corrupt, file: file.path, at: CheckpointError.quoted(member), reason,
                remedy: "Take the config.json that was saved with the model")
        }
        func list(_ member: String, _ otherwise: [Int]) throws(CheckpointError) -> [Int] {
            guard let value = trunk?[member] else { return otherwise }
            guard let list = value.elements?.compactMap(\.integer), list.count == value.elements?.count else {
                throw error(member, "is no list of whole numbers")
            }
            return list
        }
        let blocks = try list("blocks_per_stage", [1, 2, 7, 2])
        guard blocks == depths else {
            throw error("blocks_per_stage", "is \(blocks), where the tensors have stages of \(depths) blocks")
        }
        for (member, expected) in [("patch_stride", 4), ("query_stride", 2), ("num_query_pool_stages", 3)] {
            guard let value = trunk?[member] else { continue }
            let numbers = value.elements?.map(\.integer) ?? [value.integer]
            guard numbers.allSatisfy({ $0 == expected }) else {
                throw error(member, "is not \(expected), with which alone this is computed")
            }
        }
        let image = file.value["prompt_encoder_config"]?["image_size"] ?? file.value["image_size"]
        guard
            let size = image.map({ $0.integer ?? $0.elements?.first?.integer }) ?? HieraConfiguration.publishedImageSize
        else { throw error("image_size", "is no size of pictures") }
        var sizes = UnspokenSizes(
            imageSize: size, windows: try list("window_size_per_stage", [8, 4, 14, 7]),
            globalBlocks: try list("global_attention_blocks", [5, 7, 9]),
            heads: try list("num_attention_heads_per_stage", [1, 2, 4, 8]), isFused: true, stability: .published)
        try read(file, into: &sizes)
        return sizes
    }

    /// What a `config.json` says of the pyramid and of the mask decoder.
    func read(_ file: ModelConfiguration, into sizes: inout UnspokenSizes) throws(CheckpointError) {
        let (vision, decoder) = (file.value["vision_config"], file.value["mask_decoder_config"])
        if let levels = vision?["fpn_top_down_levels"]?.elements {
            sizes.isFused = try isFused(levels.compactMap(\.integer), said: "\(file.path), fpn_top_down_levels")
        }
        if case .bool(false)? = decoder?["dynamic_multimask_via_stability"] { sizes.stability = nil }
        if let delta = decoder?["dynamic_multimask_stability_delta"]?.double { sizes.stability?.delta = Float(delta) }
        if let threshold = decoder?["dynamic_multimask_stability_thresh"]?.double {
            sizes.stability?.threshold = Float(threshold)
        }
    }

    /// What the metadata says of the pyramid and of the mask decoder.
    func readMetadata(into sizes: inout UnspokenSizes) throws(CheckpointError) {
        typealias Key = UnspokenSizes.Key
        if let text = checkpoint.metadata[Key.topDownLevels] {
            guard let levels = Self.integers(text) else {
                throw metadataError(
                    Key.topDownLevels, "\(CheckpointError.quoted(text)) is no list of whole numbers")
            }
            sizes.isFused = try isFused(levels, said: "metadata \(Key.topDownLevels)")
        }
        if let text = checkpoint.metadata[Key.stability] {
            let numbers = (try? JSONValue(parsing: Array(text.utf8)))?.elements?.compactMap(\.double)
            guard let numbers, numbers.isEmpty || numbers.count == 2 else {
                throw metadataError(
                    Key.stability, "\(CheckpointError.quoted(text)) is neither [] nor [delta, threshold]")
            }
            sizes.stability =
                numbers.isEmpty
                ? nil : .init(delta: Float(numbers[0]), threshold: Float(numbers[1]))
        }
    }

    /// Whether the map of stride 32 is added to that of stride 16, by the levels that others are added to.
    private func isFused(_ levels: [Int], said where: String) throws(CheckpointError) -> Bool {
        guard Set(levels).isSubset(of: [2, 3]) else {
            throw CheckpointError(
                .unsupportedModel, file: checkpoint.path, at: `where`,
                "has coarser maps added at the levels \(levels), where those of strides 16 and 32, [2, 3], can be read",
                remedy: "Use a SAM 2 whose pyramid is as published")
        }
        return levels.contains(2)
    }

    /// What was read holds together and is within bounds.
    private func check(_ sizes: UnspokenSizes, dims: [Int], depths: [Int], window: Int) throws(CheckpointError) {
        typealias Key = UnspokenSizes.Key
        let count = HieraConfiguration.stageCount
        guard GeometryBounds.imageSize.contains(sizes.imageSize) else {
            throw metadataError(
                Key.imageSize,
                "\(sizes.imageSize) is no number from \(GeometryBounds.imageSize.lowerBound) to "
                    + "\(GeometryBounds.imageSize.upperBound)")
        }
        guard sizes.windows.count == count, sizes.windows.allSatisfy(GeometryBounds.window.contains),
            sizes.windows[0] == window, sizes.windows.dropLast().allSatisfy({ $0.isMultiple(of: 2) })
        else {
            throw metadataError(
                Key.windows,
                "\(sizes.windows) is no list of \(count) sides of windows, of which the first is \(window), as the tensors "
                    + "tell, and all but the last are even")
        }
        let blocks = depths.reduce(0, +)
        guard sizes.globalBlocks.allSatisfy((0..<blocks).contains) else {
            throw metadataError(Key.globalBlocks, "\(sizes.globalBlocks) are not blocks of \(blocks)")
        }
        guard sizes.heads.count == count,
            zip(sizes.heads, dims).allSatisfy({
                $0 > 0 && $1.isMultiple(of: $0) && GeometryBounds.headSize.contains($1 / $0)
            })
        else {
            throw metadataError(Key.heads, "\(sizes.heads) are no heads of \(dims) features")
        }
    }
}
