import NeuralNetworks

/// What sizes a model may have: everything that the arithmetic was made, and is tested, for.
///
/// A checkpoint is outside input, and a few bytes of it can claim any size. Kernels take their lengths as they come, but
/// some of their steps want whole vectors, sums in int8 overflow beyond some 60,000 products, and memory is not endless:
/// each number is bounded here, one by one and then by the memory that they ask for together. The published models are far
/// within: ViT-H has widths of 1280 and 5120, 16 heads of 80, a grid of 64 and windows of 14.
enum GeometryBounds {
    /// Rows and columns of the picture that an image encoder sees.
    static let imageSize = 32...8192
    /// Rows and columns of the image embedding.
    static let grid = 1...512
    /// Rows and columns of a patch.
    static let patchSize = 1...256
    /// Blocks of a ViT or an EfficientNet-Lite, or of one stage of a TinyViT.
    static let depth = 1...256
    /// Features of the image encoder's tokens.
    static let width = 1...8192
    /// Features inside an MLP or an inverted bottleneck.
    static let hidden = 1...32_768
    /// Numbers of an attention head in the image encoder.
    static let headSize = 1...1024
    /// Stages of a TinyViT, the convolutional one and those with attention.
    static let stages = 2...8
    /// Sides of TinyViT's attention windows.
    static let window = 1...64
    /// Numbers in one block's table of attention biases, heads · window⁴: 256 MiB.
    static let attentionBiases = 1 << 26
    /// Rows and columns of a position embedding that is scaled to the grid.
    static let positionGrid = 1...256
    /// Rows and columns of the finest map that the mask decoder takes: as many as a record of an embedding holds.
    static let skipGrid = 1...1024
    /// Numbers in the largest of an encoder's feature maps: 4 GiB.
    static let features = 1 << 30

    /// C: channels of the image embedding; whole vectors after both transposed convolutions and in each of the 8 heads.
    static let channels = 32...4096
    static let channelStep = 32
    /// Features inside the attentions between tokens and image: 8 heads, each of an even number.
    static let crossAttention = 16...4096
    static let crossAttentionStep = 16
    /// Layers of the two-way transformer: what one image keeps for its prompts grows with their square.
    static let decoderDepth = 1...8
    /// Masks: one for a clear prompt, three for an ambiguous one.
    static let maskTokens = 4...4
    /// Layers of the perceptron that predicts the masks' quality.
    static let iouHeadDepth = 1...16
    /// Channels between the convolutions that take in a mask prompt, of which a quarter is made first.
    static let maskChannels = 4...1024
    /// Numbers that one prepared image keeps: 2 GiB.
    static let preparedImage = 1 << 29
}

extension SamGeometry {
    /// Numbers in the largest of the image encoder's feature maps.
    ///
    /// Does not overflow for sizes within ``GeometryBounds``.
    var largestFeatureMap: Int {
        switch encoder {
        case .vit(let vit):
            let grid = vit.imageSize / vit.patchSize
            return grid * grid * 3 * max(vit.embedDim, vit.attentionWidth)
        case .tinyViT(let tiny):
            let half = (tiny.imageSize + 1) / 2
            let first = half * half * max(3, tiny.embedDims[0] / 2)
            // A stage projects to queries, keys and values at once.
            return zip(tiny.grids, tiny.embedDims).reduce(first) { max($0, $1.0 * $1.0 * 3 * $1.1) }
        case .efficientNetLite(let lite):
            let half = lite.imageSize / 2
            var (largest, grid) = (half * half * lite.stem, half)
            for block in lite.blocks {
                largest = max(largest, grid * grid * block.hidden)
                grid /= block.stride
                largest = max(largest, grid * grid * block.outputs)
            }
            return largest
        case .repViT(let repViT):
            let half = repViT.imageSize / 2
            let fine = max(3 * repViT.imageSize * repViT.imageSize, half * half * (repViT.dims[0] / 2))
            return zip(repViT.grids, repViT.dims).reduce(fine) { max($0, $1.0 * $1.0 * $1.1) }
        case .hiera(let hiera):
            // A block that looks at everything projects all tokens to queries, keys and values at once.
            return hiera.blocks.reduce(hiera.imageSize * hiera.imageSize * 3) {
                max($0, $1.grid * $1.grid * 3 * max($1.inputs, $1.outputs))
            }
        }
    }

    /// Numbers that one prepared image keeps: see ``ImageProjections``.
    var preparedImageNumbers: Int {
        let depth = decoder.depth
        let padded = (decoder.crossAttentionDim / 8 + 15) / 16 * 16 * 8
        let rows =
            (2 * depth + 1 + depth * (depth + 1) / 2) * decoder.crossAttentionDim + (depth + 1) * padded
            + decoder.channels + depth + depth * (depth + 1) / 2
        // Skips of C / 4 channels at four positions a token, and of C / 8 at sixteen.
        let skips = decoder.takesSkips ? 3 * decoder.channels : 0
        // Of SAM-HQ C / 8 channels at sixteen positions a token.
        let fused = decoder.isHighQuality ? 2 * decoder.channels : 0
        return (decoder.grid * decoder.grid + 63) / 64 * 64 * (rows + skips + fused)
    }
}
