import Checkpoints
import Foundation
import JSON
import SegmentAnything
import Testing

/// The sizes and names that Fixtures/make_layouts.py took from real models, read back from files with such tensors.
@Suite struct GeometryTests {
    typealias Shapes = [String: [Int]]

    private static func document() throws -> JSONValue {
        let url = try #require(Bundle.module.url(forResource: "Fixtures/layouts", withExtension: "json"))
        return try Data(contentsOf: url).withUnsafeBytes { try JSONValue($0) }
    }

    static func shapes(_ model: String) throws -> Shapes {
        let members = try #require(try document()[model]?.members)
        return Dictionary(members.map { ($0.name, $0.value.elements?.compactMap(\.integer) ?? []) }) { first, _ in first
        }
    }

    /// A safetensors file with those tensors, all zero; sparse, so that a ViT-B takes no room.
    static func checkpoint(_ shapes: Shapes, metadata: [String: String] = [:], integers extra: Set<String> = []) throws
        -> Checkpoint
    {
        let integers = Set(try Self.shapes("integers").keys).union(extra)
        var members =
            metadata.isEmpty
            ? [] : ["\"__metadata__\":{\(metadata.map { "\"\($0)\":\"\($1)\"" }.joined(separator: ","))}"]
        var end = 0
        for (name, shape) in shapes.sorted(by: { $0.key < $1.key }) {
            let isInteger = integers.contains(name)
            let start = end
            end += shape.reduce(isInteger ? 8 : 4, *)
            members.append(
                "\"\(name)\":{\"dtype\":\"\(isInteger ? "I64" : "F32")\",\"shape\":\(shape),"
                    + "\"data_offsets\":[\(start),\(end)]}")
        }
        let header = Array("{\(members.joined(separator: ","))}".utf8)
        let path = NSTemporaryDirectory() + "kirie-test-\(UInt64.random(in: .min ... .max)).safetensors"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) }
        try (length + header).write(to: URL(fileURLWithPath: path))
        let handle = try #require(FileHandle(forWritingAtPath: path))
        try handle.truncate(atOffset: UInt64(8 + header.count + end))
        try handle.close()
        return try Checkpoint(path: path)
    }

    /// Reads a model; one that does not tell the size of its pictures is asked for the published one.
    private func read(_ shapes: Shapes, metadata: [String: String] = [:]) throws -> SamCheckpoint {
        let isTiny = shapes.keys.contains { $0.hasSuffix("patch_embed.seq.0.c.weight") }
        return try SamCheckpoint(
            Self.checkpoint(shapes, metadata: metadata),
            imageSize: isTiny && metadata["kirie.image_size"] == nil ? 1024 : nil)
    }

    /// Changes a good model and expects the error that names the tensor.
    private func failure(
        of model: String = "small", metadata: [String: String] = [:], _ code: CheckpointError.Code, _ texts: String...,
        sourceLocation: SourceLocation = #_sourceLocation, change: (inout Shapes) -> Void = { _ in }
    ) throws {
        var shapes = try Self.shapes(model)
        change(&shapes)
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
            try read(shapes, metadata: metadata)
        }
        #expect(error?.code == code, "\(String(describing: error))", sourceLocation: sourceLocation)
        for text in texts {
            #expect(
                error?.description.contains(text) == true, "\(String(describing: error))",
                sourceLocation: sourceLocation)
        }
    }

    // MARK: - Geometry

    @Test func aSmallViTIsReadOffItsTensors() throws {
        let model = try read(Self.shapes("small"))
        #expect(model.layout == .published)
        guard case .vit(let vit) = model.geometry.encoder else { throw UnexpectedEncoder() }
        #expect(vit.imageSize == 64 && vit.patchSize == 8 && vit.embedDim == 24 && vit.depth == 3)
        #expect(vit.headCount == 3 && vit.mlpDim == 48 && vit.windowSize == 5 && vit.globalBlocks == [1])
        #expect(vit.outChannels == 32)
        let decoder = model.geometry.decoder
        #expect(decoder.channels == 32 && decoder.grid == 8 && decoder.crossAttentionDim == 16 && decoder.mlpDim == 40)
        #expect(decoder.depth == 2 && decoder.maskTokenCount == 4)
        #expect(decoder.iouHeadDepth == 3 && decoder.iouHeadHidden == 32)
        #expect(model.geometry.maskChannels == 16)
    }

    @Test(arguments: ["vit_b", "mobile"]) func thePublishedModelsHaveThePublishedGeometry(name: String) throws {
        let geometry = try read(Self.shapes(name)).geometry
        #expect(geometry.description == SamGeometry(published: name)?.description)
        #expect(geometry.imageSize == 1024 && geometry.grid == 64 && geometry.channels == 256)
    }

    @Test func theMobileModelHasItsStagesReadOff() throws {
        guard case .tinyViT(let tiny) = try read(Self.shapes("mobile")).geometry.encoder else {
            throw UnexpectedEncoder()
        }
        #expect(tiny.embedDims == [64, 128, 160, 320] && tiny.depths == [2, 2, 6, 2])
        #expect(tiny.headCounts.dropFirst() == [4, 5, 10] && tiny.windowSizes.dropFirst() == [7, 14, 7])
        #expect(tiny.hiddenDims == [256, 512, 640, 1280] && tiny.strides == [2, 2, 1] && tiny.outChannels == 256)
    }

    @Test func aTinyViTOfOtherWidthsTakesItsImageSizeFromTheMetadata() throws {
        let shapes = try Self.shapes("narrow_tiny")
        let model = try read(shapes, metadata: ["kirie.image_size": "512", "kirie.strides": "[2, 2, 1]"])
        guard case .tinyViT(let tiny) = model.geometry.encoder else { throw UnexpectedEncoder() }
        #expect(tiny.imageSize == 512 && model.geometry.grid == 32)
        #expect(tiny.embedDims == [32, 48, 96, 320] && tiny.depths == [1, 2, 3, 1])
        #expect(tiny.headCounts.dropFirst() == [2, 3, 4] && tiny.windowSizes.dropFirst() == [8, 8, 4])
        #expect(tiny.hiddenDims == [96, 144, 288, 960])
        let coarse = try read(shapes, metadata: ["kirie.image_size": "512", "kirie.strides": "[2,2,2]"])
        #expect(coarse.geometry.grid == 16)
    }

    @Test func thePublishedSizesCanBeAskedForByName() {
        for name in ["vit_b", "vit_l", "vit_h", "mobile"] { #expect(SamGeometry(published: name)?.grid == 64) }
        #expect(SamGeometry(published: "vit_x") == nil)
    }

    // MARK: - Layouts

    @Test func theHuggingFaceNamesAreTranslated() throws {
        let published = try Self.shapes("small")
        let theirs = try Self.shapes("hugging_face")
        let pairs = try #require(try Self.document()["pairs"]?.members)
        #expect(pairs.count == published.count)
        for withCopy in [true, false] {
            var shapes = theirs
            if !withCopy { shapes["prompt_encoder.shared_embedding.positional_embedding"] = nil }
            let model = try read(shapes)
            #expect(model.layout == .huggingFace)
            for (name, value) in pairs {
                let wanted = try #require(value.string)
                #expect(model.checkpoint[wanted]?.name == name)
                #expect(model.checkpoint[wanted]?.shape == published[wanted])
            }
        }
        var only = theirs
        only["shared_image_embedding.positional_embedding"] = nil
        let name = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
        #expect(try read(only).checkpoint.contains(name))
    }

    @Test func bothLayoutsHaveTheSameGeometry() throws {
        let published = try read(Self.shapes("small")).geometry.description
        #expect(try read(Self.shapes("hugging_face")).geometry.description == published)
    }

    @Test func anUnknownLayoutNamesWhatWasFoundAndExpected() throws {
        try failure(.unknownLayout, "‘backbone.…’", "image_encoder", "vision_encoder", "2 tensors") { shapes in
            shapes = ["backbone.conv.weight": [1], "backbone.conv.bias": [1]]
        }
    }

    @Test func knownBuffersAreIgnored() throws {
        var shapes = try Self.shapes("mobile")
        shapes["image_encoder.head.weight"] = [1000, 320]
        shapes["image_encoder.layers.1.blocks.0.attn.attention_bias_idxs"] = [49, 49]
        shapes["pixel_mean"] = [3, 1, 1]
        #expect(throws: Never.self) { try read(shapes) }
    }

    // MARK: - Damage

    @Test func aMissingTensorIsNamed() throws {
        for name in ["image_encoder.neck.3.bias", "mask_decoder.iou_token.weight", "image_encoder.pos_embed"] {
            try failure(.missingTensor, "‘\(name)’") { $0[name] = nil }
        }
        // A block in the middle is missed, not counted away.
        try failure(.missingTensor, "‘image_encoder.blocks.1.attn.rel_pos_h’") { shapes in
            for name in shapes.keys where name.hasPrefix("image_encoder.blocks.1.") { shapes[name] = nil }
        }
        try failure(.missingTensor, "mask_decoder.transformer.layers") { shapes in
            for name in shapes.keys where name.hasPrefix("mask_decoder.transformer.layers") { shapes[name] = nil }
        }
        try failure(of: "mobile", .missingTensor, "‘image_encoder.layers.0.blocks.0.conv1.bn.running_var’") {
            $0["image_encoder.layers.0.blocks.0.conv1.bn.running_var"] = nil
        }
    }

    @Test func anExtraTensorIsNamed() throws {
        try failure(.extraTensor, "‘mask_decoder.my_token.weight’") { $0["mask_decoder.my_token.weight"] = [1, 32] }
        try failure(of: "hugging_face", .extraTensor, "‘vision_encoder.adapter.weight’") {
            $0["vision_encoder.adapter.weight"] = [4]
        }
        try failure(of: "hugging_face", .extraTensor, "there already") {
            $0["mask_decoder.output_upscaling.0.bias"] = [4]
        }
    }

    @Test func aMisshapenTensorIsNamedAsTheFileNamesIt() throws {
        try failure(.misshapenTensor, "‘image_encoder.blocks.0.mlp.lin2.weight’", "[24, 47]", "[24, 48]") {
            $0["image_encoder.blocks.0.mlp.lin2.weight"] = [24, 47]
        }
        try failure(of: "hugging_face", .misshapenTensor, "‘vision_encoder.layers.2.layer_norm1.bias’") {
            $0["vision_encoder.layers.2.layer_norm1.bias"] = [25]
        }
        try failure(.misshapenTensor, "rel_pos_h", "is odd") { $0["image_encoder.blocks.0.attn.rel_pos_h"] = [8, 8] }
        try failure(.misshapenTensor, "windows of 4", "block 0 has 5") {
            $0["image_encoder.blocks.2.attn.rel_pos_h"] = [7, 8]
        }
        try failure(.misshapenTensor, "heads of 7") { $0["image_encoder.blocks.0.attn.rel_pos_h"] = [9, 7] }
        try failure(.misshapenTensor, "32 channels and the image encoder's neck 24") {
            $0["image_encoder.neck.0.weight"] = [24, 24, 1, 1]
        }
        try failure(.misshapenTensor, "40 channels, which is no multiple of 32") {
            $0["mask_decoder.iou_token.weight"] = [1, 40]
        }
        try failure(.misshapenTensor, "windows of 9 in a grid of 8") {
            $0["image_encoder.blocks.0.attn.rel_pos_h"] = [17, 8]
        }
        try failure(.misshapenTensor, "where 4 axes are expected") { $0["image_encoder.pos_embed"] = [8, 8, 24] }
        try failure(.misshapenTensor, "an axis without elements") {
            $0["mask_decoder.iou_token.weight"] = [0, 4_611_686_018_427_387_904]
        }
        try failure(.overLimit, "200 masks", "4 are allowed") { $0["mask_decoder.mask_tokens.weight"] = [200, 32] }
        try failure(.misshapenTensor, "larger than the number of tensors") {
            $0["image_encoder.blocks.999999999999.norm1.bias"] = [24]
        }
        try failure(of: "mobile", .misshapenTensor, "(heads, window²)") {
            $0["image_encoder.layers.1.blocks.0.attn.attention_biases"] = [4, 50]
        }
    }

    @Test func integersInThePlaceOfWeightsAreNamed() throws {
        let name = "image_encoder.neck.0.weight"
        let checkpoint = try Self.checkpoint(Self.shapes("small"), integers: [name])
        let error = #expect(throws: CheckpointError.self) { try SamCheckpoint(checkpoint) }
        #expect(error?.code == .elementType)
        #expect(error?.description.contains("‘\(name)’: holds I64") == true)
    }

    @Test(arguments: [
        ("kirie.image_size", "huge"), ("kirie.image_size", "-1"), ("kirie.image_size", "1000000000000"),
        ("kirie.image_size", "1000"), ("kirie.strides", "[2, 2]"), ("kirie.strides", "[2, 2, 0]"),
        ("kirie.strides", "[2, 2, \\\"1\\\"]"), ("kirie.strides", "2"),
    ])
    func metadataThatMakesNoSenseIsNamed(key: String, value: String) throws {
        try failure(of: "mobile", metadata: [key: value], .corrupt, "metadata \(key)")
    }
}

struct UnexpectedEncoder: Error {}
