import Checkpoints

/// Reads a model's sizes off the names and shapes of its tensors, under the published names.
///
/// What tensors cannot say about a TinyViT comes from the safetensors metadata:
///
///     kirie.image_size    rows and columns of the model's input, a decimal number; else 1024
///     kirie.strides       the stride of the merging after each stage but the last, a JSON list such as [2, 2, 1];
///                         else 1 into the widths 320, 448 and 576, and 2 into others, as in the published code
///
/// Its heads and windows are read from `attention_biases`, (heads, window²). A ViT needs no metadata: its patch and
/// width are those of `patch_embed`, its image size is that of `pos_embed`, its head size and windows those of
/// `rel_pos_h`, (2·size − 1, head size).
struct GeometryReader {
    let checkpoint: Checkpoint

    func geometry() throws(CheckpointError) -> SamGeometry {
        if checkpoint.contains("image_encoder.patch_embed.seq.0.c.weight") {
            let (tiny, grid) = try tinyViT()
            return try geometry(.tinyViT(tiny), grid: grid, channels: tiny.outChannels)
        }
        let (vit, grid) = try vit()
        return try geometry(.vit(vit), grid: grid, channels: vit.outChannels)
    }

    private func geometry(
        _ encoder: SamGeometry.Encoder, grid: Int, channels: Int
    ) throws(CheckpointError) -> SamGeometry {
        let decoder = try decoder(grid: grid)
        guard decoder.channels == channels else {
            throw contradiction(
                "mask_decoder.iou_token.weight",
                "has \(decoder.channels) channels and the image encoder's neck \(channels)")
        }
        let mask = try shape("prompt_encoder.mask_downscaling.3.weight", rank: 4)
        return SamGeometry(encoder: encoder, decoder: decoder, maskChannels: mask[0])
    }

    // MARK: - Image encoders

    private func vit() throws(CheckpointError) -> (ImageEncoderViT.Configuration, grid: Int) {
        let patches = try shape("image_encoder.patch_embed.proj.weight", rank: 4)
        let positions = try shape("image_encoder.pos_embed", rank: 4)
        let (dim, patch, grid) = (patches[0], patches[2], positions[1])
        let (size, overflow) = grid.multipliedReportingOverflow(by: patch)
        guard !overflow, Self.imageSizes.contains(size) else {
            throw contradiction("image_encoder.pos_embed", "stands for a picture of \(grid) patches of \(patch) pixels")
        }
        let depth = try indices(below: "image_encoder.blocks")
        var globalBlocks: Set<Int> = []
        var windows: [(size: Int, block: Int)] = []
        for block in 0..<depth {
            let name = "image_encoder.blocks.\(block).attn.rel_pos_h"
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
                "image_encoder.blocks.\(other.block).attn.rel_pos_h",
                "stands for windows of \(other.size), where block \(windows[0].block) has \(window)")
        }
        let headSize = try shape("image_encoder.blocks.0.attn.rel_pos_h", rank: 2)[1]
        guard headSize <= Self.headSizeLimit, dim.isMultiple(of: headSize) else {
            throw contradiction(
                "image_encoder.blocks.0.attn.rel_pos_h", "has heads of \(headSize), of which \(dim) is no multiple")
        }
        let configuration = ImageEncoderViT.Configuration(
            imageSize: size, patchSize: patch, embedDim: dim, depth: depth, headCount: dim / headSize,
            mlpDim: try shape("image_encoder.blocks.0.mlp.lin1.weight", rank: 2)[0], windowSize: window,
            globalBlocks: globalBlocks, outChannels: try shape("image_encoder.neck.0.weight", rank: 4)[0])
        return (configuration, grid)
    }

    private func tinyViT() throws(CheckpointError) -> (TinyViT.Configuration, grid: Int) {
        let stages = try indices(below: "image_encoder.layers")
        var dims: [Int] = []
        var depths: [Int] = []
        var hidden: [Int] = []
        var heads: [Int] = []
        var windows: [Int] = []
        for stage in 0..<stages {
            let name = "image_encoder.layers.\(stage)"
            depths.append(try indices(below: "\(name).blocks"))
            if stage == 0 {
                let widen = try shape("\(name).blocks.0.conv1.c.weight", rank: 4)
                dims.append(widen[1])
                hidden.append(widen[0])
                heads.append(0)
                windows.append(0)
            } else {
                let expand = try shape("\(name).blocks.0.mlp.fc1.weight", rank: 2)
                dims.append(expand[1])
                hidden.append(expand[0])
                let biases = "\(name).blocks.0.attn.attention_biases"
                let table = try shape(biases, rank: 2)
                let window = Int(Double(table[1]).squareRoot())
                guard dims[stage].isMultiple(of: table[0]), Self.windows.contains(window),
                    window * window == table[1]
                else {
                    throw contradiction(
                        biases, "is \(table), where (heads, window²) with heads that divide \(dims[stage]) is expected")
                }
                heads.append(table[0])
                windows.append(window)
            }
        }
        guard dims[0].isMultiple(of: 2) else {
            throw contradiction("image_encoder.patch_embed.seq.2.c.weight", "has an odd number of channels")
        }
        let strides = try strides(between: dims)
        let size = try imageSize()
        let step = strides.reduce(4, *)
        guard size.isMultiple(of: step) else {
            throw metadataError("kirie.image_size", "\(size) is no multiple of \(step), the product of the strides")
        }
        let configuration = TinyViT.Configuration(
            imageSize: size, embedDims: dims, depths: depths, headCounts: heads, windowSizes: windows,
            strides: strides, hiddenDims: hidden, outChannels: try shape("image_encoder.neck.0.weight", rank: 4)[0])
        return (configuration, size / step)
    }

    private func imageSize() throws(CheckpointError) -> Int {
        guard let text = checkpoint.metadata["kirie.image_size"] else { return Self.publishedImageSize }
        guard let size = Int(text), Self.imageSizes.contains(size) else {
            throw metadataError(
                "kirie.image_size",
                "\(CheckpointError.quoted(text)) is no number from \(Self.imageSizes.lowerBound) to "
                    + "\(Self.imageSizes.upperBound)")
        }
        return size
    }

    private func strides(between dims: [Int]) throws(CheckpointError) -> [Int] {
        guard let text = checkpoint.metadata["kirie.strides"] else {
            return dims.dropFirst().map { Self.widthsThatKeepResolution.contains($0) ? 1 : 2 }
        }
        let bytes = Array(text.utf8)
        let list = bytes.withUnsafeBytes { try? JSONValue($0) }?.elements ?? []
        let strides = list.compactMap(\.integer)
        guard strides.count == list.count, strides.count == dims.count - 1, strides.allSatisfy((1...2).contains) else {
            throw metadataError(
                "kirie.strides", "\(CheckpointError.quoted(text)) is no list of \(dims.count - 1) strides of 1 or 2")
        }
        return strides
    }

    // MARK: - Decoder

    private func decoder(grid: Int) throws(CheckpointError) -> MaskDecoder.Configuration {
        let channels = try shape("mask_decoder.iou_token.weight", rank: 2)[1]
        let layer = "mask_decoder.transformer.layers.0"
        let inner = try shape("\(layer).cross_attn_token_to_image.q_proj.weight", rank: 2)[0]
        guard channels.isMultiple(of: 32) else {
            throw contradiction("mask_decoder.iou_token.weight", "has \(channels) channels, which is no multiple of 32")
        }
        guard inner.isMultiple(of: 16) else {
            throw contradiction(
                "\(layer).cross_attn_token_to_image.q_proj.weight", "projects to \(inner), which is no multiple of 16")
        }
        let maskTokenCount = try shape("mask_decoder.mask_tokens.weight", rank: 2)[0]
        guard maskTokenCount == Self.maskTokenCount else {
            throw contradiction(
                "mask_decoder.mask_tokens.weight",
                "stands for \(maskTokenCount) masks, where \(Self.maskTokenCount) are expected")
        }
        return MaskDecoder.Configuration(
            channels: channels, grid: grid, crossAttentionDim: inner,
            mlpDim: try shape("\(layer).mlp.lin1.weight", rank: 2)[0],
            depth: try indices(below: "mask_decoder.transformer.layers"),
            maskTokenCount: maskTokenCount,
            iouHeadDepth: try indices(below: "mask_decoder.iou_prediction_head.layers"),
            iouHeadHidden: try shape("mask_decoder.iou_prediction_head.layers.0.weight", rank: 2)[0])
    }

    // MARK: - Names and shapes

    /// Sizes of pictures that an image encoder may see.
    private static let imageSizes = 32...8192
    /// Extents of the tensors that sizes are read from: none is zero, and sums and small multiples do not overflow.
    private static let extents = 1...1 << 24
    /// Sides of TinyViT's attention windows.
    private static let windows = 1...128
    /// Channels of an attention head in the image encoder.
    private static let headSizeLimit = 512
    /// One mask for a clear prompt, three for an ambiguous one.
    private static let maskTokenCount = 4
    /// Widths into which TinyViT's published code merges with stride 1.
    private static let widthsThatKeepResolution: Set = [320, 448, 576]
    /// The image size that MobileSAM was published with.
    private static let publishedImageSize = 1024

    private func shape(_ name: String, rank: Int) throws(CheckpointError) -> [Int] {
        let stored = try checkpoint.stored(name)
        guard stored.shape.count == rank else {
            throw contradiction(name, "has the shape \(stored.shape), where \(rank) axes are expected")
        }
        guard stored.shape.allSatisfy(Self.extents.contains) else {
            throw contradiction(name, "has the shape \(stored.shape), and an axis without elements or with too many")
        }
        return stored.shape
    }

    /// How many numbered parts there are below `prefix`: the largest number and one.
    private func indices(below prefix: String) throws(CheckpointError) -> Int {
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

    private func contradiction(_ name: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .misshapenTensor, file: checkpoint.path,
            at: "tensor \(CheckpointError.quoted(checkpoint[name]?.name ?? name))", reason,
            remedy: "The checkpoint is not of a Segment Anything model, or damaged: fetch or save it again")
    }

    private func metadataError(_ key: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .corrupt, file: checkpoint.path, at: "metadata \(key)", reason,
            remedy: "Write the metadata that fits the model's tensors")
    }
}
