import NeuralNetworks
import SegmentAnything

/// The names and shapes of every tensor that a published model of a geometry has, written out: what files of tests are made
/// of, sound or not, and what the loaders' own demands are held against.
struct PublishedTensors {
    private(set) var shapes: [(name: String, shape: [Int])] = []

    init(_ geometry: SamGeometry) {
        switch geometry.encoder {
        case .vit(let vit): add(vit)
        case .tinyViT(let tiny): add(tiny)
        case .efficientNetLite(let lite): add(lite)
        case .hiera(let hiera): add(hiera)
        case .repViT(let repViT): add(repViT)
        }
        addPromptEncoder(geometry)
        add(geometry.decoder)
        guard geometry.decoder.isHighQuality else { return }
        switch geometry.encoder {
        case .vit(let vit): addHighQuality(geometry.channels, early: vit.embedDim)
        case .tinyViT(let tiny): addHighQuality(geometry.channels, early: tiny.embedDims[2])
        default: break
        }
    }

    private mutating func add(_ name: String, _ shape: Int...) { shapes.append((name, shape)) }

    private mutating func addLinear(_ name: String, _ inputs: Int, _ outputs: Int) {
        add("\(name).weight", outputs, inputs)
        add("\(name).bias", outputs)
    }

    private mutating func addNorm(_ name: String, _ features: Int) {
        add("\(name).weight", features)
        add("\(name).bias", features)
    }

    private mutating func addConvolution(_ name: String, _ shape: [Int], outputs: Int) {
        shapes.append(("\(name).weight", shape))
        add("\(name).bias", outputs)
    }

    /// A convolution without bias and its batch normalisation.
    private mutating func addNormalised(_ name: String, _ shape: Int...) {
        shapes.append(("\(name).c.weight", shape))
        for part in ["weight", "bias", "running_mean", "running_var"] { add("\(name).bn.\(part)", shape[0]) }
    }

    private mutating func addNeck(inputs: Int, outputs: Int) {
        add("image_encoder.neck.0.weight", outputs, inputs, 1, 1)
        addNorm("image_encoder.neck.1", outputs)
        add("image_encoder.neck.2.weight", outputs, outputs, 3, 3)
        addNorm("image_encoder.neck.3", outputs)
    }

    private mutating func add(_ vit: ImageEncoderViT.Configuration) {
        let (dim, patch, grid) = (vit.embedDim, vit.patchSize, vit.imageSize / vit.patchSize)
        addConvolution("image_encoder.patch_embed.proj", [dim, 3, patch, patch], outputs: dim)
        add("image_encoder.pos_embed", 1, grid, grid, dim)
        for (index, block) in vit.blocks.enumerated() {
            let width = block.headCount * block.headSize
            let name = "image_encoder.blocks.\(index)"
            let window = vit.globalBlocks.contains(index) ? grid : vit.windowSize
            addNorm("\(name).norm1", dim)
            for part in block.isApart ? ["q", "k", "v"] : ["qkv"] {
                addLinear("\(name).attn.\(part)", dim, block.isApart ? width : 3 * width)
            }
            addLinear("\(name).attn.proj", width, dim)
            add("\(name).attn.rel_pos_h", 2 * window - 1, block.headSize)
            add("\(name).attn.rel_pos_w", 2 * window - 1, block.headSize)
            addNorm("\(name).norm2", dim)
            addLinear("\(name).mlp.lin1", dim, block.mlpDim)
            addLinear("\(name).mlp.lin2", block.mlpDim, dim)
        }
        addNeck(inputs: dim, outputs: vit.outChannels)
    }

    private mutating func add(_ repViT: RepViT.Configuration) {
        let (body, dims) = ("image_encoder.trunk.body", repViT.dims)
        addNormalised("\(body).stem.conv1", dims[0] / 2, 3, 3, 3)
        addNormalised("\(body).stem.conv2", dims[0], dims[0] / 2, 3, 3)
        for (stage, dim) in dims.enumerated() {
            let name = "\(body).stages_\(stage)"
            if stage > 0 {
                let (before, halving) = (dims[stage - 1], repViT.halvings[stage - 1])
                addBlock("\(name).downsample.pre_block", before, .init(hidden: halving.before))
                addNormalised("\(name).downsample.spatial_downsample", before, 1, 3, 3)
                addNormalised("\(name).downsample.channel_downsample", dim, before, 1, 1)
                addNormalised("\(name).downsample.ffn.conv1", halving.after, dim, 1, 1)
                addNormalised("\(name).downsample.ffn.conv2", dim, halving.after, 1, 1)
            }
            for (index, block) in repViT.blocks[stage].enumerated() { addBlock("\(name).blocks.\(index)", dim, block) }
        }
        addPyramid(dims, repViT.outChannels)
    }

    private mutating func addBlock(_ name: String, _ dim: Int, _ block: RepViT.Configuration.Block) {
        addNormalised("\(name).token_mixer.conv", dim, 1, 3, 3)
        addNormalised("\(name).token_mixer.conv1", dim, 1, 1, 1)
        if let squeezed = block.squeezed {
            addConvolution("\(name).se.fc1", [squeezed, dim, 1, 1], outputs: squeezed)
            addConvolution("\(name).se.fc2", [dim, squeezed, 1, 1], outputs: dim)
        }
        addNormalised("\(name).channel_mixer.conv1", block.hidden, dim, 1, 1)
        addNormalised("\(name).channel_mixer.conv2", dim, block.hidden, 1, 1)
    }

    private mutating func add(_ tiny: TinyViT.Configuration) {
        let dims = tiny.embedDims
        addNormalised("image_encoder.patch_embed.seq.0", dims[0] / 2, 3, 3, 3)
        addNormalised("image_encoder.patch_embed.seq.2", dims[0], dims[0] / 2, 3, 3)
        for (stage, dim) in dims.enumerated() {
            let hidden = tiny.hiddenDims[stage]
            for block in 0..<tiny.depths[stage] {
                let name = "image_encoder.layers.\(stage).blocks.\(block)"
                if stage == 0 {
                    addNormalised("\(name).conv1", hidden, dim, 1, 1)
                    addNormalised("\(name).conv2", hidden, 1, 3, 3)
                    addNormalised("\(name).conv3", dim, hidden, 1, 1)
                    continue
                }
                let window = tiny.windowSizes[stage]
                addNorm("\(name).attn.norm", dim)
                addLinear("\(name).attn.qkv", dim, 3 * dim)
                addLinear("\(name).attn.proj", dim, dim)
                add("\(name).attn.attention_biases", tiny.headCounts[stage], window * window)
                addNorm("\(name).mlp.norm", dim)
                addLinear("\(name).mlp.fc1", dim, hidden)
                addLinear("\(name).mlp.fc2", hidden, dim)
                addNormalised("\(name).local_conv", dim, 1, 3, 3)
            }
            if stage + 1 < dims.count {
                let (name, next) = ("image_encoder.layers.\(stage).downsample", dims[stage + 1])
                addNormalised("\(name).conv1", next, dim, 1, 1)
                addNormalised("\(name).conv2", next, 1, 3, 3)
                addNormalised("\(name).conv3", next, next, 1, 1)
            }
        }
        addNeck(inputs: dims[dims.count - 1], outputs: tiny.outChannels)
    }

    private mutating func add(_ lite: EfficientNetLite.Configuration) {
        addConvolution("image_encoder.stem", [lite.stem, 3, 3, 3], outputs: lite.stem)
        var (inputs, stride, channels) = (lite.stem, 2, [2: lite.stem])
        for (index, block) in lite.blocks.enumerated() {
            let name = "image_encoder.blocks.\(index)"
            if block.isWidened {
                addConvolution("\(name).expand", [block.hidden, inputs, 1, 1], outputs: block.hidden)
            }
            addConvolution("\(name).depthwise", [block.hidden, 1, block.size, block.size], outputs: block.hidden)
            addConvolution("\(name).project", [block.outputs, block.hidden, 1, 1], outputs: block.outputs)
            (inputs, stride) = (block.outputs, stride * block.stride)
            channels[stride] = inputs
        }
        for (index, stride) in [8, 16, 32].enumerated() {
            add("image_encoder.neck.laterals.\(index).weight", lite.neckWidth, channels[stride] ?? 0, 1, 1)
        }
        add("image_encoder.neck.laterals.1.bias", lite.neckWidth)
        for (index, outputs) in [lite.neckWidth, lite.neckWidth, lite.outChannels].enumerated() {
            addNorm("image_encoder.neck.norm\(index + 1)", outputs)
            guard index > 0 else { continue }
            addConvolution("image_encoder.neck.conv\(index)", [outputs, lite.neckWidth, 3, 3], outputs: outputs)
        }
        for (index, (stride, part)) in [(8, 4), (4, 8)].enumerated() {
            addConvolution(
                "image_encoder.skips.\(index)", [lite.outChannels / part, channels[stride] ?? 0, 1, 1],
                outputs: lite.outChannels / part)
        }
    }

    private mutating func add(_ hiera: HieraConfiguration) {
        let (trunk, channels) = ("image_encoder.trunk", hiera.outChannels)
        addConvolution("\(trunk).patch_embed.proj", [hiera.dims[0], 3, 7, 7], outputs: hiera.dims[0])
        add("\(trunk).pos_embed", 1, hiera.dims[0], hiera.positionGrid[0], hiera.positionGrid[1])
        add("\(trunk).pos_embed_window", 1, hiera.dims[0], hiera.windowSizes[0], hiera.windowSizes[0])
        var (block, inputs) = (0, hiera.dims[0])
        for (stage, dim) in hiera.dims.enumerated() {
            for _ in 0..<hiera.depths[stage] {
                let name = "\(trunk).blocks.\(block)"
                addNorm("\(name).norm1", inputs)
                addLinear("\(name).attn.qkv", inputs, 3 * dim)
                addLinear("\(name).attn.proj", dim, dim)
                addNorm("\(name).norm2", dim)
                addLinear("\(name).mlp.layers.0", dim, hiera.hiddenDims[stage])
                addLinear("\(name).mlp.layers.1", hiera.hiddenDims[stage], dim)
                if inputs != dim { addLinear("\(name).proj", inputs, dim) }
                (block, inputs) = (block + 1, dim)
            }
        }
        addPyramid(hiera.dims, channels)
    }

    private mutating func addPyramid(_ dims: [Int], _ channels: Int) {
        for (index, dim) in dims.reversed().enumerated() {
            addConvolution("image_encoder.neck.convs.\(index).conv", [channels, dim, 1, 1], outputs: channels)
        }
        add("no_mem_embed", 1, 1, channels)
        addConvolution("mask_decoder.conv_s0", [channels / 8, channels, 1, 1], outputs: channels / 8)
        addConvolution("mask_decoder.conv_s1", [channels / 4, channels, 1, 1], outputs: channels / 4)
    }

    private mutating func addHighQuality(_ channels: Int, early: Int) {
        let (middle, fine) = (channels / 4, channels / 8)
        add("mask_decoder.hf_token.weight", 1, channels)
        addPerceptron("mask_decoder.hf_mlp", [channels, channels, channels, fine])
        func addPair(_ name: String, _ first: [Int], _ second: [Int], outputs: (Int, Int)) {
            addConvolution("mask_decoder.\(name).0", first, outputs: outputs.0)
            addNorm("mask_decoder.\(name).1", outputs.0)
            addConvolution("mask_decoder.\(name).3", second, outputs: outputs.1)
        }
        addPair("compress_vit_feat", [early, channels, 2, 2], [channels, fine, 2, 2], outputs: (channels, fine))
        addPair("embedding_encoder", [channels, middle, 2, 2], [middle, fine, 2, 2], outputs: (middle, fine))
        addPair("embedding_maskfeature", [middle, fine, 3, 3], [fine, middle, 3, 3], outputs: (middle, fine))
    }

    private mutating func addPromptEncoder(_ geometry: SamGeometry) {
        let (channels, hidden) = (geometry.channels, geometry.maskChannels)
        add("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", 2, channels / 2)
        if geometry.prompts.hasPointTable {
            add("prompt_encoder.point_embeddings.weight", 4, channels)
        } else {
            for index in 0..<4 { add("prompt_encoder.point_embeddings.\(index).weight", 1, channels) }
        }
        add("prompt_encoder.not_a_point_embed.weight", 1, channels)
        add("prompt_encoder.no_mask_embed.weight", 1, channels)
        let name = "prompt_encoder.mask_downscaling"
        addConvolution("\(name).0", [hidden / 4, 1, 2, 2], outputs: hidden / 4)
        addNorm("\(name).1", hidden / 4)
        addConvolution("\(name).3", [hidden, hidden / 4, 2, 2], outputs: hidden)
        addNorm("\(name).4", hidden)
        addConvolution("\(name).6", [channels, hidden, 1, 1], outputs: channels)
        guard let width = geometry.prompts.textWidth else { return }
        add("prompt_encoder.text_proj.weight", channels, width)
        if geometry.prompts.hasTextBias { add("prompt_encoder.text_proj.bias", channels) }
    }

    private mutating func add(_ decoder: MaskDecoder.Configuration) {
        let channels = decoder.channels
        add("mask_decoder.iou_token.weight", 1, channels)
        if decoder.hasObjectScore {
            add("mask_decoder.obj_score_token.weight", 1, channels)
            addPerceptron("mask_decoder.pred_obj_score_head", [channels, channels, channels, 1])
        }
        add("mask_decoder.mask_tokens.weight", decoder.maskTokenCount, channels)
        for layer in 0..<decoder.depth {
            let name = "mask_decoder.transformer.layers.\(layer)"
            addAttention("\(name).self_attn", channels, inner: channels)
            addAttention("\(name).cross_attn_token_to_image", channels, inner: decoder.crossAttentionDim)
            addAttention("\(name).cross_attn_image_to_token", channels, inner: decoder.crossAttentionDim)
            for index in 1...4 { addNorm("\(name).norm\(index)", channels) }
            addLinear("\(name).mlp.lin1", channels, decoder.mlpDim)
            addLinear("\(name).mlp.lin2", decoder.mlpDim, channels)
        }
        addAttention(
            "mask_decoder.transformer.final_attn_token_to_image", channels, inner: decoder.crossAttentionDim)
        addNorm("mask_decoder.transformer.norm_final_attn", channels)
        addConvolution("mask_decoder.output_upscaling.0", [channels, channels / 4, 2, 2], outputs: channels / 4)
        addNorm("mask_decoder.output_upscaling.1", channels / 4)
        addConvolution("mask_decoder.output_upscaling.3", [channels / 4, channels / 8, 2, 2], outputs: channels / 8)
        for token in 0..<decoder.maskTokenCount {
            addPerceptron(
                "mask_decoder.output_hypernetworks_mlps.\(token)", [channels, channels, channels, channels / 8])
        }
        let hidden = [Int](repeating: decoder.iouHeadHidden, count: decoder.iouHeadDepth - 1)
        addPerceptron("mask_decoder.iou_prediction_head", [channels] + hidden + [decoder.maskTokenCount])
    }

    private mutating func addAttention(_ name: String, _ channels: Int, inner: Int) {
        for part in ["q_proj", "k_proj", "v_proj"] { addLinear("\(name).\(part)", channels, inner) }
        addLinear("\(name).out_proj", inner, channels)
    }

    private mutating func addPerceptron(_ name: String, _ widths: [Int]) {
        for layer in 0..<widths.count - 1 { addLinear("\(name).layers.\(layer)", widths[layer], widths[layer + 1]) }
    }
}
