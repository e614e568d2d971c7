import Checkpoints
import SegmentAnything
import Testing

/// Sizes that no model may have: refused when the file is opened, with the tensor, what it stands for, and what is allowed.
@Suite struct GeometryBoundsTests {
    private static let decoder = MaskDecoder.Configuration(
        channels: 32, grid: 4, crossAttentionDim: 16, mlpDim: 16, depth: 1, maskTokenCount: 4, iouHeadDepth: 2,
        iouHeadHidden: 8)

    private static func vit(
        _ change: (inout ImageEncoderViT.Configuration, inout SamGeometry) -> Void
    ) -> SamGeometry {
        var vit = ImageEncoderViT.Configuration(
            imageSize: 32, patchSize: 8, embedDim: 16, depth: 1, headCount: 2, mlpDim: 16, windowSize: 3,
            globalBlocks: [], outChannels: 32)
        var geometry = SamGeometry(encoder: .vit(vit), decoder: decoder, maskChannels: 4)
        change(&vit, &geometry)
        geometry.encoder = .vit(vit)
        return geometry
    }

    private static func tiny(_ change: (inout TinyViT.Configuration, inout SamGeometry) -> Void) -> SamGeometry {
        var tiny = TinyViT.Configuration(
            imageSize: 32, embedDims: [8, 16], depths: [1, 1], headCounts: [0, 2], windowSizes: [0, 3], strides: [2],
            hiddenDims: [12, 20], outChannels: 32)
        var geometry = SamGeometry(encoder: .tinyViT(tiny), decoder: decoder, maskChannels: 4)
        change(&tiny, &geometry)
        geometry.encoder = .tinyViT(tiny)
        return geometry
    }

    private static func refusal(
        of geometry: SamGeometry, _ code: CheckpointError.Code, _ texts: String...,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let shapes = Dictionary(uniqueKeysWithValues: PublishedTensors(geometry).shapes.map { ($0.name, $0.shape) })
        let checkpoint = try GeometryTests.checkpoint(shapes, metadata: RandomCheckpoint.metadata(of: geometry))
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
            try SamCheckpoint(checkpoint)
        }
        #expect(error?.code == code, "\(error as Any)", sourceLocation: sourceLocation)
        for text in texts {
            #expect(
                error?.description.contains(text) == true, "\(error as Any)", sourceLocation: sourceLocation)
        }
    }

    @Test func bothModelsAreGoodBeforeTheyAreChanged() throws {
        for geometry in [Self.vit { _, _ in }, Self.tiny { _, _ in }] {
            let shapes = Dictionary(uniqueKeysWithValues: PublishedTensors(geometry).shapes.map { ($0.name, $0.shape) })
            let checkpoint = try GeometryTests.checkpoint(shapes, metadata: RandomCheckpoint.metadata(of: geometry))
            #expect(try SamCheckpoint(checkpoint).geometry.description == geometry.description)
        }
    }

    @Test func aViTsSizesAreBounded() throws {
        try Self.refusal(
            of: Self.vit { vit, _ in (vit.embedDim, vit.headCount) = (1025, 1) }, .overLimit,
            "‘image_encoder.blocks.0.attn.rel_pos_h’", "1025 numbers per head", "1 to 1024")
        try Self.refusal(
            of: Self.vit { vit, _ in (vit.embedDim, vit.headCount) = (8194, 2) }, .overLimit,
            "‘image_encoder.patch_embed.proj.weight’", "8194 features per token", "1 to 8192")
        try Self.refusal(
            of: Self.vit { vit, _ in vit.mlpDim = 32_769 }, .overLimit, "‘image_encoder.blocks.0.mlp.lin1.weight’",
            "32769 hidden features", "1 to 32768")
        try Self.refusal(
            of: Self.vit { vit, _ in vit.imageSize = 24 }, .overLimit, "‘image_encoder.pos_embed’", "24 pixels",
            "32 to 8192")
        try Self.refusal(
            of: Self.vit { vit, _ in (vit.imageSize, vit.patchSize) = (513, 1) }, .overLimit,
            "‘image_encoder.pos_embed’", "513 tokens along a side", "1 to 512")
        try Self.refusal(
            of: Self.vit { vit, _ in (vit.imageSize, vit.patchSize) = (1028, 257) }, .overLimit,
            "‘image_encoder.patch_embed.proj.weight’", "257 pixels along a patch", "1 to 256")
        try Self.refusal(of: Self.vit { vit, _ in vit.depth = 257 }, .overLimit, "257 blocks", "1 to 256")
    }

    @Test func aTinyViTsSizesAreBounded() throws {
        let biases = "‘image_encoder.layers.1.blocks.0.attn.attention_biases’"
        try Self.refusal(
            of: Self.tiny { tiny, _ in tiny.windowSizes[1] = 65 }, .overLimit, biases, "65 tokens along an attention",
            "1 to 64")
        try Self.refusal(
            of: Self.tiny { tiny, _ in (tiny.windowSizes[1], tiny.embedDims[1], tiny.headCounts[1]) = (64, 40, 5) },
            .overLimit, biases, "83886080 biases", "67108864 are allowed")
        try Self.refusal(
            of: Self.tiny { tiny, _ in (tiny.embedDims[1], tiny.headCounts[1]) = (1040, 1) }, .overLimit, biases,
            "1040 numbers per head")
        try Self.refusal(
            of: Self.tiny { tiny, _ in tiny.embedDims[0] = 8194 }, .overLimit,
            "‘image_encoder.layers.0.blocks.0.conv1.c.weight’", "8194 features per token")
        try Self.refusal(
            of: Self.tiny { tiny, _ in tiny.hiddenDims[1] = 32_769 }, .overLimit,
            "‘image_encoder.layers.1.blocks.0.mlp.fc1.weight’", "32769 hidden features")
        // Maps of the pictures' size, which no tensor's size bounds.
        try Self.refusal(
            of: Self.tiny { tiny, _ in (tiny.imageSize, tiny.embedDims[0]) = (4096, 2048) }, .overLimit,
            "largest feature map has", "1073741824 are allowed")
        // One stage, and so many that the product of their strides overflows.
        try Self.refusal(of: Self.stages(1), .overLimit, "1 stages", "2 to 8")
        try Self.refusal(of: Self.stages(70), .overLimit, "70 stages", "2 to 8")
    }

    private static func stages(_ count: Int) -> SamGeometry {
        tiny { tiny, _ in
            tiny.embedDims = [8] + [Int](repeating: 16, count: count - 1)
            tiny.depths = [Int](repeating: 1, count: count)
            tiny.headCounts = [0] + [Int](repeating: 2, count: count - 1)
            tiny.windowSizes = [0] + [Int](repeating: 3, count: count - 1)
            tiny.strides = [Int](repeating: 2, count: count - 1)
            tiny.hiddenDims = [Int](repeating: 12, count: count)
        }
    }

    @Test func theDecodersSizesAreBounded() throws {
        func refusal(
            _ code: CheckpointError.Code, _ texts: String, _ more: String, _ change: (inout SamGeometry) -> Void
        ) throws {
            try Self.refusal(of: Self.vit { _, geometry in change(&geometry) }, code, texts, more)
        }
        // A quarter of these channels is made first: of three that is none.
        for count in 0...3 {
            try refusal(
                .misshapenTensor, "‘prompt_encoder.mask_downscaling.3.weight’", "an axis without elements"
            ) { $0.maskChannels = count }
        }
        try refusal(
            .overLimit, "‘prompt_encoder.mask_downscaling.3.weight’", "1025 channels for mask prompts, where 4 to 1024"
        ) { $0.maskChannels = 1025 }
        try refusal(.overLimit, "mask_decoder.transformer.layers.0.…", "9 layers, where 1 to 8") {
            $0.decoder.depth = 9
        }
        try refusal(.overLimit, "mask_decoder.iou_prediction_head.layers.0.…", "17 layers, where 1 to 16") {
            $0.decoder.iouHeadDepth = 17
        }
        for count in [1, 3, 5] {
            try refusal(.overLimit, "‘mask_decoder.mask_tokens.weight’", "\(count) masks, where 4 are") {
                $0.decoder.maskTokenCount = count
            }
        }
        try refusal(.misshapenTensor, "cross_attn_token_to_image.q_proj.weight", "24, which is no multiple of 16") {
            $0.decoder.crossAttentionDim = 24
        }
        try refusal(.overLimit, "cross_attn_token_to_image.q_proj.weight", "8 features of its attention, where 16") {
            $0.decoder.crossAttentionDim = 8
        }
        let wide = Self.vit { vit, geometry in
            (vit.outChannels, geometry.decoder.channels) = (4128, 4128)
        }
        try Self.refusal(of: wide, .overLimit, "‘mask_decoder.iou_token.weight’", "4128 channels", "32 to 4096")
        // Each within its bounds, and together more than an image may take.
        let large = Self.vit { vit, geometry in
            (vit.imageSize, vit.patchSize) = (512, 1)
            (geometry.decoder.depth, geometry.decoder.crossAttentionDim) = (8, 256)
        }
        try Self.refusal(of: large, .overLimit, "keeps", "536870912 are allowed")
    }
}
