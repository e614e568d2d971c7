import NeuralNetworks

/// The published names of the tensors that tell a model's sizes.
///
/// ``GeometryReader`` looks at their shapes before any loader can run, and the loaders read them: here is what both go by.
/// Every other name is spelled by its loader alone; ``SamTensors`` has them all.
enum TensorNames {
    /// The matrix or kernel of a layer of that name.
    static func weight(_ layer: String) -> String { "\(layer).weight" }

    /// The kernel of a convolution with a batch normalisation.
    static func kernel(_ convolution: String) -> String { FoldedConvolution.kernel(convolution) }

    /// Part `index` of a list of modules.
    static func part(_ index: Int, of list: String) -> String { "\(list).\(index)" }

    /// An image encoder's last convolutions; (C, width, 1, 1) is the shape of the first one's kernel.
    static let neck = "image_encoder.neck"
    static let neckProjection = part(0, of: neck)

    enum ViT {
        /// (width, 3, patch, patch).
        static let patches = "image_encoder.patch_embed.proj"
        /// (1, grid, grid, width).
        static let positions = "image_encoder.pos_embed"
        static let blocks = "image_encoder.blocks"

        /// (2 · window − 1, head size), for the rows.
        static func relativeRows(_ block: String) -> String { "\(block).attn.rel_pos_h" }
        /// (hidden, width).
        static func expansion(_ block: String) -> String { "\(block).mlp.lin1" }
        /// (3 · heads · head size, width), of a block's attention.
        static func projection(_ attention: String) -> String { "\(attention).qkv" }
        /// (heads · head size, width) each, where a block's attention has these instead.
        static let partsApart = ["q", "k", "v"]
    }

    enum TinyViT {
        /// (width / 2, 3, 3, 3).
        static let firstConvolution = "image_encoder.patch_embed.seq.0"
        /// (width, width / 2, 3, 3).
        static let secondConvolution = "image_encoder.patch_embed.seq.2"
        static let stages = "image_encoder.layers"

        static func blocks(_ stage: String) -> String { "\(stage).blocks" }
        /// (hidden, width, 1, 1), of a block of convolutions.
        static func widening(_ block: String) -> String { "\(block).conv1" }
        /// (hidden, width), of a block with attention.
        static func expansion(_ block: String) -> String { "\(block).mlp.fc1" }
        /// (heads, window²).
        static func biases(_ block: String) -> String { "\(block).attn.attention_biases" }
    }

    enum EfficientNetLite {
        static let encoder = "image_encoder"
        /// (channels, 3, 3, 3).
        static let stem = EfficientNetTrunk.Names.stem(of: encoder)
        static let blocks = EfficientNetTrunk.Names.blocks(of: encoder)
        /// (width, channels, 1, 1) each, from strides 8, 16 and 32.
        static let laterals = "\(neck).laterals"
        /// (C, width, 3, 3).
        static let lastConvolution = "\(neck).conv2"
        /// From strides 8 and 4, (C / 4, channels, 1, 1) and (C / 8, channels, 1, 1).
        static let skips = "image_encoder.skips"

        /// (hidden, inputs, 1, 1), of a block that widens.
        static func expansion(_ block: String) -> String { EfficientNetTrunk.Names.expansion(block) }
        /// (hidden, 1, size, size).
        static func depthwise(_ block: String) -> String { EfficientNetTrunk.Names.depthwise(block) }
        /// (outputs, hidden, 1, 1).
        static func projection(_ block: String) -> String { EfficientNetTrunk.Names.projection(block) }
    }

    enum Hiera {
        /// (width, 3, 7, 7).
        static let patches = "image_encoder.trunk.patch_embed.proj"
        /// (1, width, rows, columns), of a map that is scaled to the grid.
        static let positions = "image_encoder.trunk.pos_embed"
        /// (1, width, window, window).
        static let windowPositions = "image_encoder.trunk.pos_embed_window"
        static let blocks = "image_encoder.trunk.blocks"
        /// (1, 1, C).
        static let noMemory = "no_mem_embed"

        /// (3 · outputs, inputs).
        static func projection(_ block: String) -> String { "\(block).attn.qkv" }
        /// (outputs, inputs), of a stage's first block.
        static func shortcut(_ block: String) -> String { "\(block).proj" }
        /// (hidden, outputs).
        static func expansion(_ block: String) -> String { "\(block).mlp.layers.0" }
        /// (C, width, 1, 1), the coarsest map's first.
        static func lateral(_ index: Int) -> String { "\(part(index, of: "\(neck).convs")).conv" }
    }

    enum RepViT {
        static let trunk = "image_encoder.trunk.body"
        /// (width / 2, 3, 3, 3).
        static let firstConvolution = "\(trunk).stem.conv1"
        /// (width, width / 2, 3, 3).
        static let secondConvolution = "\(trunk).stem.conv2"

        static func stage(_ index: Int) -> String { "\(trunk).stages_\(index)" }
        static func blocks(_ stage: String) -> String { "\(stage).blocks" }
        static func halving(_ stage: String) -> String { "\(stage).downsample" }
        static func firstBlock(_ halving: String) -> String { "\(halving).pre_block" }
        /// (outputs, inputs, 1, 1).
        static func widening(_ halving: String) -> String { "\(halving).channel_downsample" }
        static func lastPerceptron(_ halving: String) -> String { "\(halving).ffn" }
        static func mixer(_ block: String) -> String { "\(block).token_mixer" }
        /// (squeezed, width, 1, 1).
        static func squeeze(_ block: String) -> String { "\(block).se.fc1" }
        static func perceptron(_ block: String) -> String { "\(block).channel_mixer" }
        /// (hidden, width, 1, 1).
        static func expansion(_ perceptron: String) -> String { "\(perceptron).conv1" }
    }

    enum HighQuality {
        /// (1, C).
        static let token = "mask_decoder.hf_token"
        static let perceptron = "mask_decoder.hf_mlp"
        /// Two transposed convolutions each, of early tokens, (width, C, 2, 2) and (C, C / 8, 2, 2), and of the embedding.
        static let early = "mask_decoder.compress_vit_feat"
        static let last = "mask_decoder.embedding_encoder"
        /// Two convolutions of what masks are made of.
        static let mask = "mask_decoder.embedding_maskfeature"
    }

    enum PromptEncoder {
        /// (1, C) each, for the labels background, foreground, upper left corner, lower right corner.
        static let pointEmbeddings = "prompt_encoder.point_embeddings"
        static let maskDownscaling = "prompt_encoder.mask_downscaling"
        /// (C, D), of an embedding by CLIP of D numbers.
        static let textProjection = "prompt_encoder.text_proj"
        /// The index of the convolution whose outputs are the mask's channels: (channels, channels / 4, 2, 2).
        static let secondConvolution = 3
    }

    enum MaskDecoder {
        /// (1, C).
        static let iouToken = "mask_decoder.iou_token"
        /// (masks, C).
        static let maskTokens = "mask_decoder.mask_tokens"
        static let iouHead = "mask_decoder.iou_prediction_head"
        static let transformer = "mask_decoder.transformer"
        /// (1, C).
        static let objectScoreToken = "mask_decoder.obj_score_token"
        static let objectScoreHead = "mask_decoder.pred_obj_score_head"
        /// What brings the maps of strides 4 and 8 to what is added while a mask is scaled up: (C / 8, C, 1, 1) and
        /// (C / 4, C, 1, 1).
        static let skips = ["mask_decoder.conv_s0", "mask_decoder.conv_s1"]

        /// The layers of a perceptron or of the transformer.
        static func layers(_ name: String) -> String { "\(name).layers" }
        static func tokenToImage(_ layer: String) -> String { "\(layer).cross_attn_token_to_image" }
        /// (inner, C), of an attention.
        static func queries(_ attention: String) -> String { "\(attention).q_proj" }
        /// (hidden, C), of a layer of the transformer.
        static func expansion(_ layer: String) -> String { "\(layer).mlp.lin1" }
    }
}
