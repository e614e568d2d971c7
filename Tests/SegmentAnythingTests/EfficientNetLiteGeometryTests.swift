import Checkpoints
import NeuralNetworks
import SegmentAnything
import Segmentation
import Testing

/// An EfficientNet-Lite's sizes are read off its tensors and its metadata, within bounds, and an error names what is found
/// otherwise.
@Suite struct EfficientNetLiteGeometryTests {
    /// Of lite0's kind: stages of kernel, expansion, stride, channels and blocks.
    private static func lite(
        _ stages: [(size: Int, expansion: Int, stride: Int, width: Int, depth: Int)], imageSize: Int = 384
    ) -> SamGeometry {
        var (inputs, blocks) = (32, [EfficientNetLite.Configuration.Block]())
        for stage in stages {
            for index in 0..<stage.depth {
                blocks.append(
                    .init(
                        hidden: inputs * stage.expansion, isWidened: stage.expansion > 1, size: stage.size,
                        stride: index == 0 ? stage.stride : 1, outputs: stage.width))
                inputs = stage.width
            }
        }
        var decoder = MaskDecoder.Configuration(
            channels: 128, grid: imageSize / 16, crossAttentionDim: 64, mlpDim: 512, depth: 2, maskTokenCount: 4,
            iouHeadDepth: 3, iouHeadHidden: 128)
        decoder.takesSkips = true
        return SamGeometry(
            encoder: .efficientNetLite(
                EfficientNetLite.Configuration(
                    imageSize: imageSize, stem: 32, blocks: blocks, neckWidth: 192, outChannels: 128)),
            decoder: decoder, maskChannels: 16)
    }

    /// lite0 to lite4: Tan and Le's widths and depths, scaled.
    private static func lite(_ widths: [Int], _ depths: [Int]) -> SamGeometry {
        lite(
            zip(zip([3, 3, 5, 3, 5, 5, 3], [1, 6, 6, 6, 6, 6, 6]), zip([1, 2, 2, 2, 1, 2, 1], zip(widths, depths))).map
            {
                ($0.0, $0.1, $1.0, $1.1.0, $1.1.1)
            })
    }

    private static let published = [
        lite([16, 24, 40, 80, 112, 192, 320], [1, 2, 2, 3, 3, 4, 1]),
        lite([16, 24, 40, 80, 112, 192, 320], [1, 3, 3, 4, 4, 5, 1]),
        lite([16, 24, 48, 88, 120, 208, 352], [1, 3, 3, 4, 4, 5, 1]),
        lite([24, 32, 48, 96, 136, 232, 384], [1, 3, 3, 5, 5, 6, 1]),
        lite([24, 32, 56, 112, 160, 272, 448], [1, 4, 4, 6, 6, 8, 1]),
    ]

    private static func read(
        _ geometry: SamGeometry, without name: String? = nil, metadata: [String: String] = [:],
        withoutKey key: String? = nil, imageSize: Int? = nil
    ) throws -> SamCheckpoint {
        var shapes = Dictionary(uniqueKeysWithValues: PublishedTensors(geometry).shapes.map { ($0.name, $0.shape) })
        if let name { shapes[name] = nil }
        let all = RandomCheckpoint.metadata(of: geometry).merging(metadata) { $1 }.filter { $0.key != key }
        return try SamCheckpoint(try GeometryTests.checkpoint(shapes, metadata: all), imageSize: imageSize)
    }

    private static func refusal(
        _ code: CheckpointError.Code, _ texts: String..., sourceLocation: SourceLocation = #_sourceLocation,
        _ body: () throws -> SamCheckpoint
    ) {
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) { try body() }
        #expect(error?.code == code, "\(error as Any)", sourceLocation: sourceLocation)
        for text in texts {
            #expect(error?.description.contains(text) == true, "\(error as Any)", sourceLocation: sourceLocation)
        }
    }

    @Test(arguments: 0..<5) func publishedSizesAreReadOffTheTensors(index: Int) throws {
        let geometry = Self.published[index]
        let found = try Self.read(geometry)
        #expect(found.geometry.description == geometry.description)
        #expect(found.geometry.decoder.takesSkips && found.imageSizeSource == .metadata)
        #expect(found.geometry.description.contains("EfficientNet-Lite"))
        guard case .efficientNetLite(let sizes) = found.geometry.encoder,
            case .efficientNetLite(let expected) = geometry.encoder
        else {
            Issue.record("another encoder")
            return
        }
        #expect(sizes.blocks == expected.blocks && sizes.neckWidth == 192)
        #expect(
            found.geometry.decoder.featureShapes == [
                FeatureShape("image_embedding", [1, 128, 24, 24]), FeatureShape("skips.0", [1, 32, 48, 48]),
                FeatureShape("skips.1", [1, 16, 96, 96]),
            ])
    }

    @Test func whatTensorsDoNotTellIsAskedOfTheMetadata() throws {
        let geometry = Self.published[0]
        #expect(try Self.read(geometry, imageSize: 512).geometry.grid == 32)
        Self.refusal(.imageSize, "those of an EfficientNet-Lite", "every multiple of 32") {
            try Self.read(geometry, withoutKey: "kirie.image_size")
        }
        Self.refusal(.imageSize, "pictures of 400", "multiple of 32") { try Self.read(geometry, imageSize: 400) }
        Self.refusal(.corrupt, "metadata kirie.block_strides", "is missing", "16 blocks") {
            try Self.read(geometry, withoutKey: "kirie.block_strides")
        }
        for text in ["[1, 2]", "2", "{}", "[1,2,1,2,1,2,1,1,1,1,1,3,1,1,1,1]"] {
            Self.refusal(.corrupt, "metadata kirie.block_strides", "no list of 16 strides") {
                try Self.read(geometry, metadata: ["kirie.block_strides": text])
            }
        }
        Self.refusal(.corrupt, "leads to a stride of 64, where 32 is expected") {
            try Self.read(geometry, metadata: ["kirie.block_strides": "[2,2,1,2,1,2,1,1,1,1,1,2,1,1,1,1]"])
        }
        Self.refusal(.corrupt, "metadata kirie.encoder", "‘hiera’") {
            try Self.read(geometry, metadata: ["kirie.encoder": "hiera"])
        }
        // The tensors decide; the word is not needed.
        #expect(try Self.read(geometry, withoutKey: "kirie.encoder").geometry.imageSize == 384)
    }

    @Test func sizesAreBounded() throws {
        let plain: [(size: Int, expansion: Int, stride: Int, width: Int, depth: Int)] = [
            (3, 1, 2, 16, 1), (3, 2, 2, 16, 1), (5, 2, 2, 16, 1), (3, 2, 2, 16, 1),
        ]
        func changed(_ change: (inout (size: Int, expansion: Int, stride: Int, width: Int, depth: Int)) -> Void)
            -> SamGeometry
        {
            var stages = plain
            change(&stages[3])
            return Self.lite(stages, imageSize: 64)
        }
        #expect(try Self.read(changed { _ in }).geometry.grid == 4)
        let kernel = "‘image_encoder.blocks.3.depthwise.weight’"
        for size in [1, 2, 4, 7] {
            Self.refusal(.misshapenTensor, kernel, "\(size) × \(size), where 3 × 3 or 5 × 5") {
                try Self.read(changed { $0.size = size })
            }
        }
        Self.refusal(.overLimit, "‘image_encoder.blocks.3.project.weight’", "8193 channels, where 1 to 8192") {
            try Self.read(changed { $0.width = 8193 })
        }
        Self.refusal(.overLimit, kernel, "32784 hidden features") { try Self.read(changed { $0.expansion = 2049 }) }
        Self.refusal(.overLimit, "257 blocks, where 1 to 256") { try Self.read(changed { $0.depth = 254 }) }
        Self.refusal(.overLimit, "‘image_encoder.skips.1.weight’", "1032 positions along a side, where 1 to 1024") {
            try Self.read(Self.lite(plain, imageSize: 4128))
        }
        var wide = plain
        (wide[0].width, wide[1].expansion) = (4096, 8)
        Self.refusal(.overLimit, "largest feature map has", "‘image_encoder.neck.conv2.weight’") {
            try Self.read(Self.lite(wide, imageSize: 2048))
        }
    }

    @Test(arguments: [
        "image_encoder.skips.1.bias", "image_encoder.blocks.3.project.weight", "image_encoder.neck.laterals.2.weight",
    ])
    func aPartThatIsMissingIsNamed(name: String) {
        Self.refusal(.missingTensor, name) { try Self.read(Self.published[0], without: name) }
    }

    @Test func theFamilyIsToldByItsNames() throws {
        let golden = GoldenCase.all[2]
        let checkpoint = try Checkpoint(path: try golden.file(golden.weights))
        #expect(ModelFamily.efficientNetLite.recognises(checkpoint))
        for other in GoldenCase.withLevels {
            #expect(!ModelFamily.efficientNetLite.recognises(try Checkpoint(path: try other.file(other.weights))))
        }
        let model = try ModelFamilies.open(path: checkpoint.path)
        #expect(model.featureShapes.map(\.name) == ["image_embedding", "skips.0", "skips.1"])
        #expect(model.summary.contains("EfficientNet-Lite"))
        // What a converted file says of itself is enough to be the same model.
        #expect(model.metadata["kirie.block_strides"] == checkpoint.metadata["kirie.block_strides"])
        #expect(model.metadata["kirie.encoder"] == "efficientnet-lite")
    }
}
