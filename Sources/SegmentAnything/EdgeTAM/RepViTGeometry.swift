import Checkpoints
import JSON
import NeuralNetworks

extension GeometryReader {
    /// A RepViT's sizes, when its one mask is given up, and what tells the image size.
    func repViT() throws(CheckpointError) -> (
        RepViT.Configuration, MaskDecoder.DynamicMultimask?, ImageSizeSource
    ) {
        let names = Names.RepViT.self
        let first = Names.kernel(names.secondConvolution)
        let width = try bounded(try shape(first, rank: 4)[0], GeometryBounds.width, "channels", first)
        guard width.isMultiple(of: 2) else { throw contradiction(first, "has an odd number of channels") }
        var (dims, blocks): ([Int], [[RepViT.Configuration.Block]]) = ([width], [])
        var halvings: [(before: Int, after: Int)] = []
        for stage in 0..<SegmentAnything2Pyramid.stageCount {
            let name = names.stage(stage)
            if stage > 0 {
                let halving = names.halving(name)
                let widening = Names.kernel(names.widening(halving))
                dims.append(
                    try bounded(try shape(widening, rank: 4)[0], GeometryBounds.width, "channels", widening))
                halvings.append(
                    (
                        before: try perceptron(names.perceptron(names.firstBlock(halving))),
                        after: try perceptron(names.lastPerceptron(halving))
                    ))
            }
            let list = names.blocks(name)
            let count = try bounded(try indices(below: list), GeometryBounds.depth, "blocks", "\(list).0.…")
            var found: [RepViT.Configuration.Block] = []
            for index in 0..<count {
                let block = Names.part(index, of: list)
                let squeeze = Names.weight(names.squeeze(block))
                found.append(
                    .init(
                        hidden: try perceptron(names.perceptron(block)),
                        squeezed: checkpoint.contains(squeeze) ? try hidden(squeeze, rank: 4) : nil))
            }
            blocks.append(found)
        }
        let lateral = Names.weight(Names.Hiera.lateral(0))
        let channels = try bounded(try shape(lateral, rank: 4)[0], GeometryBounds.channels, "channels", lateral)
        let (sizes, source) = try repViTUnspoken()
        guard GeometryBounds.imageSize.contains(sizes.imageSize), sizes.imageSize.isMultiple(of: 32) else {
            throw imageSizeError(
                "cannot work on pictures of \(sizes.imageSize): the size is a multiple of 32 from 32 to "
                    + "\(GeometryBounds.imageSize.upperBound)", remedy: "Give the size that the model was trained on")
        }
        let configuration = RepViT.Configuration(
            imageSize: sizes.imageSize, dims: dims, blocks: blocks, halvings: halvings, isFused: sizes.isFused,
            outChannels: channels)
        _ = try bounded(configuration.grids[2], GeometryBounds.grid, "tokens along a side", lateral)
        _ = try bounded(configuration.grids[0], GeometryBounds.skipGrid, "positions along a side", first)
        return (configuration, sizes.stability, source)
    }

    private func perceptron(_ name: String) throws(CheckpointError) -> Int {
        try hidden(Names.kernel(Names.RepViT.expansion(name)), rank: 4)
    }

    /// What no tensor tells: as published, unless `config.json` beside the file, the metadata or the caller say otherwise.
    private func repViTUnspoken() throws(CheckpointError) -> (UnspokenSizes, ImageSizeSource) {
        var sizes = UnspokenSizes(
            imageSize: HieraConfiguration.publishedImageSize, windows: [], globalBlocks: [], heads: [], isFused: true,
            stability: .published)
        var source = ImageSizeSource.publishedEdgeTAM
        if let file = try checkpoint.configuration(), let kind = file.value["model_type"]?.string,
            ["edgetam", "edgetam_video"].contains(kind)
        {
            try read(file, into: &sizes)
            let image = file.value["prompt_encoder_config"]?["image_size"]
            if let image, let size = image.integer ?? image.elements?.first?.integer {
                (sizes.imageSize, source) = (size, .configuration)
            }
        }
        try readMetadata(into: &sizes)
        let key = UnspokenSizes.Key.imageSize
        if let text = checkpoint.metadata[key] {
            guard let size = Int(text) else {
                throw metadataError(key, "\(CheckpointError.quoted(text)) is no size of pictures")
            }
            (sizes.imageSize, source) = (size, .metadata)
        }
        if let asked { (sizes.imageSize, source) = (asked, .asked) }
        return (sizes, source)
    }
}

extension RepViT.Configuration {
    /// What no tensor tells of this model, as metadata.
    func metadata(_ stability: MaskDecoder.DynamicMultimask?) -> [String: String] {
        let key = UnspokenSizes.Key.self
        let sizes = UnspokenSizes(
            imageSize: imageSize, windows: [], globalBlocks: [], heads: [], isFused: isFused, stability: stability)
        return sizes.metadata.filter { [key.imageSize, key.topDownLevels, key.stability].contains($0.key) }
    }

    /// What no tensor tells of this model, unless it is as it was published; nil then.
    func unspoken(_ stability: MaskDecoder.DynamicMultimask?) -> String? {
        guard imageSize != HieraConfiguration.publishedImageSize || !isFused || stability != .published else {
            return nil
        }
        return metadata(stability).sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
    }
}

extension SamGeometry {
    /// EdgeTAM with that image encoder, its decoder as published.
    package init(repViT: RepViT.Configuration) {
        var decoder = Self.publishedDecoder
        decoder.isSegmentAnything2 = true
        decoder.grid = repViT.grids[2]
        self.init(encoder: .repViT(repViT), decoder: decoder, maskChannels: 16)
        prompts.padsBoxes = true
    }
}
