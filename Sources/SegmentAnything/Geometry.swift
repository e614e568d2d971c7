public import Checkpoints

/// The sizes of a model, read off its tensors: nothing here is looked up by a model's name.
public struct SAMGeometry: Sendable {
    /// Which image encoder.
    package enum ImageEncoder: Sendable {
        case vit(ImageEncoderViT.Configuration)
        case tinyViT(TinyViT.Configuration)
    }

    package let imageEncoder: ImageEncoder
    package let maskDecoder: MaskDecoder.Configuration
    /// Channels inside the prompt encoder's mask downscaling.
    package let maskChannels: Int

    /// S: the longest side of the model's input.
    public var imageSize: Int {
        switch imageEncoder {
        case .vit(let configuration): configuration.imageSize
        case .tinyViT(let configuration): configuration.imageSize
        }
    }
    /// g: rows and columns of the embedding.
    public var grid: Int { maskDecoder.grid }
    /// C: channels of the embedding.
    public var channels: Int { maskDecoder.channels }
    /// Rows and columns of low-resolution logits: 4g.
    public var maskSide: Int { 4 * grid }

    package init(imageEncoder: ImageEncoder, maskDecoder: MaskDecoder.Configuration, maskChannels: Int) {
        self.imageEncoder = imageEncoder
        self.maskDecoder = maskDecoder
        self.maskChannels = maskChannels
    }

    /// Reads the geometry of a checkpoint under the published names.
    ///
    /// - Throws: `.unknownLayout`, which says what was found and what was expected; `.missingTensor`;
    ///   `.misshapenTensor`.
    public init(_ checkpoint: Checkpoint) throws(CheckpointError) {
        let reader = GeometryReader(checkpoint)
        if checkpoint.contains("image_encoder.pos_embed") {
            let configuration = try reader.vit()
            imageEncoder = .vit(configuration)
            maskDecoder = try reader.maskDecoder(grid: configuration.imageSize / configuration.patchSize)
        } else if checkpoint.contains("image_encoder.patch_embed.seq.0.c.weight") {
            let configuration = try reader.tinyViT()
            imageEncoder = .tinyViT(configuration)
            maskDecoder = try reader.maskDecoder(grid: configuration.grids.last ?? 0)
        } else {
            throw CheckpointError(
                .unknownLayout, file: checkpoint.path,
                "has \(checkpoint.names.count) tensors, such as \(checkpoint.names.prefix(3).joined(separator: ", ")), "
                    + "but neither image_encoder.pos_embed (a ViT) nor image_encoder.patch_embed.seq.0.c.weight (a TinyViT)",
                remedy: "Give a Segment Anything or MobileSAM checkpoint")
        }
        maskChannels = try reader.shape("prompt_encoder.mask_downscaling.3.weight", rank: 4)[0]
    }
}

/// Reads sizes off the shapes of a checkpoint's tensors.
struct GeometryReader {
    private let checkpoint: Checkpoint

    init(_ checkpoint: Checkpoint) { self.checkpoint = checkpoint }

    func shape(_ name: String, rank: Int) throws(CheckpointError) -> [Int] {
        let shape = try checkpoint.stored(name).shape
        guard shape.count == rank, shape.allSatisfy({ $0 > 0 && $0 < 1 << 20 }) else {
            throw problem(name, "has the shape \(shape) where \(rank) axes are expected")
        }
        return shape
    }

    func problem(_ name: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .misshapenTensor, file: checkpoint.path, at: "tensor \"\(name)\"", reason,
            remedy: "Use a checkpoint of a published layout")
    }

    /// How many consecutive numbers, from 0, name something that is there.
    private func count(_ name: (Int) -> String) -> Int {
        var index = 0
        while checkpoint.contains(name(index)) { index += 1 }
        return index
    }

    func vit() throws(CheckpointError) -> ImageEncoderViT.Configuration {
        let position = try shape("image_encoder.pos_embed", rank: 4)
        let patch = try shape("image_encoder.patch_embed.proj.weight", rank: 4)
        let (grid, dim, patchSize) = (position[1], position[3], patch[3])
        let depth = count { "image_encoder.blocks.\($0).attn.qkv.weight" }
        guard depth > 0 else {
            throw CheckpointError(
                .missingTensor, file: checkpoint.path, at: "tensor \"image_encoder.blocks.0.attn.qkv.weight\"",
                "is missing", remedy: "Use a complete checkpoint of the model")
        }
        var globalBlocks: Set<Int> = []
        var windowSize = grid
        var headSize = 0
        for block in 0..<depth {
            let name = "image_encoder.blocks.\(block).attn.rel_pos_h"
            let relative = try shape(name, rank: 2)
            let side = (relative[0] + 1) / 2
            guard relative[0] % 2 == 1, side <= grid, headSize == 0 || headSize == relative[1] else {
                throw problem(name, "has the shape \(relative), which fits no window of a grid of \(grid)")
            }
            headSize = relative[1]
            if side == grid { globalBlocks.insert(block) } else { windowSize = side }
        }
        guard headSize > 0, dim % headSize == 0, headSize <= 512 else {
            throw problem("image_encoder.blocks.0.attn.rel_pos_h", "has heads of \(headSize) in a width of \(dim)")
        }
        return ImageEncoderViT.Configuration(
            imageSize: grid * patchSize, patchSize: patchSize, embedDim: dim, depth: depth, headCount: dim / headSize,
            mlpDim: try shape("image_encoder.blocks.0.mlp.lin1.weight", rank: 2)[0], windowSize: windowSize,
            globalBlocks: globalBlocks, outChannels: try shape("image_encoder.neck.0.weight", rank: 4)[0])
    }

    func tinyViT() throws(CheckpointError) -> TinyViT.Configuration {
        let stages = count { "image_encoder.layers.\($0).blocks.0.\($0 == 0 ? "conv1.c.weight" : "attn.qkv.weight")" }
        var configuration = TinyViT.Configuration(
            imageSize: 1024, embedDims: [], depths: [], headCounts: [], windowSizes: [], strides: [], hiddenDims: [],
            outChannels: try shape("image_encoder.neck.0.weight", rank: 4)[0])
        for stage in 0..<stages {
            let name = "image_encoder.layers.\(stage)"
            if stage == 0 {
                let widen = try shape("\(name).blocks.0.conv1.c.weight", rank: 4)
                configuration.embedDims.append(widen[1])
                configuration.hiddenDims.append(widen[0])
                configuration.depths.append(count { "\(name).blocks.\($0).conv1.c.weight" })
                configuration.headCounts.append(0)
                configuration.windowSizes.append(0)
            } else {
                let biases = try shape("\(name).blocks.0.attn.attention_biases", rank: 2)
                let window = Int(Double(biases[1]).squareRoot().rounded())
                guard window * window == biases[1] else {
                    throw problem(
                        "\(name).blocks.0.attn.attention_biases", "has \(biases[1]) offsets, which no window has")
                }
                let dim = try shape("\(name).blocks.0.attn.qkv.weight", rank: 2)[1]
                guard dim % biases[0] == 0 else {
                    throw problem("\(name).blocks.0.attn.attention_biases", "has \(biases[0]) heads in a width of \(dim)")
                }
                configuration.embedDims.append(dim)
                configuration.hiddenDims.append(try shape("\(name).blocks.0.mlp.fc1.weight", rank: 2)[0])
                configuration.depths.append(count { "\(name).blocks.\($0).attn.qkv.weight" })
                configuration.headCounts.append(biases[0])
                configuration.windowSizes.append(window)
            }
        }
        // What no tensor tells: the metadata says it, else it is as published, where the merging into the widths 320,
        // 448 and 576 keeps the resolution.
        configuration.strides = try list("kirie.strides", count: max(0, stages - 1))
            ?? configuration.embedDims.dropFirst().map { [320, 448, 576].contains($0) ? 1 : 2 }
        if let size = checkpoint.metadata["kirie.image_size"] {
            guard let size = Int(size), (32...8192).contains(size) else {
                throw CheckpointError(
                    .unknownLayout, file: checkpoint.path, at: "metadata kirie.image_size", "is no size from 32 to 8192",
                    remedy: "Write the side of the model's input there")
            }
            configuration.imageSize = size
        }
        return configuration
    }

    /// A metadata entry such as `[2,2,1]`.
    private func list(_ key: String, count: Int) throws(CheckpointError) -> [Int]? {
        guard let text = checkpoint.metadata[key] else { return nil }
        let numbers = text.filter { $0 != "[" && $0 != "]" && $0 != " " }.split(separator: ",").compactMap { Int($0) }
        guard numbers.count == count, numbers.allSatisfy({ $0 == 1 || $0 == 2 }) else {
            throw CheckpointError(
                .unknownLayout, file: checkpoint.path, at: "metadata \(key)", "is no list of \(count) strides of 1 or 2",
                remedy: "Write the stride of every merging there, such as [2,2,1]")
        }
        return numbers
    }

    func maskDecoder(grid: Int) throws(CheckpointError) -> MaskDecoder.Configuration {
        let tokens = try shape("mask_decoder.mask_tokens.weight", rank: 2)
        let channels = tokens[1]
        guard channels % 32 == 0 else {
            throw problem("mask_decoder.mask_tokens.weight", "has a width of \(channels), which is no multiple of 32")
        }
        guard tokens[0] == 4 else {
            throw problem("mask_decoder.mask_tokens.weight", "has \(tokens[0]) mask tokens where 4 are expected")
        }
        let layer = "mask_decoder.transformer.layers.0"
        let inner = try shape("\(layer).cross_attn_token_to_image.k_proj.weight", rank: 2)[0]
        guard inner % 16 == 0 else {
            throw problem("\(layer).cross_attn_token_to_image.k_proj.weight", "projects to \(inner), no multiple of 16")
        }
        return MaskDecoder.Configuration(
            channels: channels, grid: grid, crossAttentionDim: inner,
            mlpDim: try shape("\(layer).mlp.lin1.weight", rank: 2)[0],
            depth: count { "mask_decoder.transformer.layers.\($0).norm1.weight" }, maskTokenCount: tokens[0],
            iouHeadDepth: count { "mask_decoder.iou_prediction_head.layers.\($0).weight" },
            iouHeadHidden: try shape("mask_decoder.iou_prediction_head.layers.0.weight", rank: 2)[0])
    }
}
