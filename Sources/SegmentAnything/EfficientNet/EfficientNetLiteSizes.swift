import Checkpoints
import NeuralNetworks

extension GeometryReader {
    /// An EfficientNet-Lite's sizes, its embedding's grid, and what tells the image size.
    func efficientNetLiteSizes() throws(CheckpointError) -> (
        EfficientNetLite.Configuration, grid: Int, ImageSizeSource
    ) {
        let names = Names.EfficientNetLite.self
        if let encoder = checkpoint.metadata["kirie.encoder"], encoder != Self.efficientNetLite {
            throw metadataError(
                "kirie.encoder",
                "\(CheckpointError.quoted(encoder)) names another encoder than the tensors, which are those of "
                    + "\(CheckpointError.quoted(Self.efficientNetLite))")
        }
        let stemName = Names.weight(names.stem)
        let stem = try bounded(try shape(stemName, rank: 4)[0], GeometryBounds.width, "channels", stemName)
        let count = try bounded(
            try indices(below: names.blocks), GeometryBounds.depth, "blocks", "\(names.blocks).0.…")
        let strides = try blockStrides(count: count)
        var (channels, blocks) = (stem, [EfficientNetLite.Configuration.Block]())
        for index in 0..<count {
            let block = Names.part(index, of: names.blocks)
            let kernelName = Names.weight(names.depthwise(block))
            let kernel = try shape(kernelName, rank: 4)
            guard DepthwiseReLU6.sizes.contains(kernel[2]) else {
                throw contradiction(
                    kernelName, "has a kernel of \(kernel[2]) × \(kernel[3]), where 3 × 3 or 5 × 5 is expected")
            }
            let isWidened = checkpoint.contains(Names.weight(names.expansion(block)))
            let hidden = isWidened ? try hidden(kernelName, rank: 4) : channels
            let projection = Names.weight(names.projection(block))
            channels = try bounded(try shape(projection, rank: 4)[0], GeometryBounds.width, "channels", projection)
            blocks.append(
                .init(
                    hidden: hidden, isWidened: isWidened, size: kernel[2], stride: strides[index], outputs: channels))
        }
        let lateral = Names.weight(Names.part(1, of: names.laterals))
        let neck = try bounded(try shape(lateral, rank: 4)[0], GeometryBounds.width, "channels", lateral)
        let last = Names.weight(names.lastConvolution)
        let (size, source) = try imageSize(step: 32, of: "an EfficientNet-Lite")
        _ = try bounded(
            size / 4, GeometryBounds.skipGrid, "positions along a side", Names.weight(Names.part(1, of: names.skips)))
        let configuration = EfficientNetLite.Configuration(
            imageSize: size, stem: stem, blocks: blocks, neckWidth: neck, outChannels: try shape(last, rank: 4)[0])
        return (configuration, try bounded(size / 16, GeometryBounds.grid, "tokens along a side", last), source)
    }

    /// Where the trunk halves the picture, which no tensor tells.
    private func blockStrides(count: Int) throws(CheckpointError) -> [Int] {
        let key = "kirie.block_strides"
        guard let text = checkpoint.metadata[key] else {
            throw metadataError(
                key,
                "is missing: the tensors are those of an EfficientNet-Lite and do not tell the strides of its "
                    + "\(count) blocks")
        }
        let strides = try strides(text, count: count, key: key)
        // The stem has the first 2.
        let product = strides.reduce(2) { min($0 * $1, 1 << 20) }
        guard product == 32 else {
            throw metadataError(
                key, "\(CheckpointError.quoted(text)) leads to a stride of \(product), where 32 is expected")
        }
        return strides
    }
}
