import Checkpoints
import Foundation
import SegmentAnything
import Testing

/// Names that training frameworks put around a model's, and models that are taken for Segment Anything.
@Suite struct WrappingTests {
    private static func failure(
        _ shapes: GeometryTests.Shapes, _ code: CheckpointError.Code, _ texts: String...,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let checkpoint = try GeometryTests.checkpoint(shapes)
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
            try SamCheckpoint(checkpoint)
        }
        #expect(error?.code == code, "\(error as Any)", sourceLocation: sourceLocation)
        for text in texts {
            #expect(
                error?.description.contains(text) == true, "\(error as Any)", sourceLocation: sourceLocation)
        }
    }

    private static func prefixed(_ model: String, _ prefix: String) throws -> GeometryTests.Shapes {
        Dictionary(uniqueKeysWithValues: try GeometryTests.shapes(model).map { (prefix + $0.key, $0.value) })
    }

    @Test(arguments: [
        "module.", "model.", "sam.", "net.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.sam.",
        "net.module.", "module.model._orig_mod.sam.", "student.", "lightning_module.model.module.",
    ])
    func whatStandsBeforeTheNamesIsTakenOff(prefix: String) throws {
        for model in ["small", "hugging_face"] {
            let plain = try SamCheckpoint(GeometryTests.checkpoint(GeometryTests.shapes(model)))
            let wrapped = try SamCheckpoint(GeometryTests.checkpoint(Self.prefixed(model, prefix)))
            #expect(wrapped.layout == plain.layout)
            #expect(wrapped.geometry.description == plain.geometry.description)
            #expect(wrapped.checkpoint.names.sorted() == plain.checkpoint.names.sorted())
        }
    }

    /// Those of SAM 2 too, whose parts have other names and one tensor that stands alone.
    @Test(arguments: ["model.", "module.", "sam.module.", "net._orig_mod."])
    func whatStandsBeforeTheNamesOfSAM2IsTakenOff(prefix: String) throws {
        for golden in GoldenCase.sam2 + GoldenCase.edgeTAM {
            let plain = try Checkpoint(path: try golden.file(golden.weights))
            let entries = try plain.names.map { SafetensorsWriter.Entry(try plain.stored($0), named: prefix + $0) }
            let folder = NSTemporaryDirectory() + "kirie-wrapped-\(UUID().uuidString)"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(atPath: folder) }
            let configuration = try golden.file("config.json")
            if FileManager.default.fileExists(atPath: configuration) {
                try FileManager.default.copyItem(atPath: configuration, toPath: "\(folder)/config.json")
            }
            try SafetensorsWriter.write(entries, metadata: plain.metadata, to: "\(folder)/sam.safetensors")
            let (found, expected) = (try SamModel(path: folder), try golden.model())
            #expect(found.layout == expected.layout)
            #expect(found.summary == expected.summary)
            #expect(found.checkpoint.names.sorted() == expected.checkpoint.names.sorted())
        }
    }

    @Test func wrappersInTheMiddleAreTakenOff() throws {
        var shapes: GeometryTests.Shapes = [:]
        for (name, shape) in try GeometryTests.shapes("small") {
            // Only the encoder was compiled, and one block of it is recomputed in training.
            let compiled = name.replacingOccurrences(of: "image_encoder.", with: "image_encoder._orig_mod.")
            shapes[compiled.replacingOccurrences(of: "blocks.1.", with: "blocks.1._checkpoint_wrapped_module.")] = shape
        }
        #expect(throws: Never.self) { try SamCheckpoint(GeometryTests.checkpoint(shapes)) }
    }

    @Test func whatStandsBesideAWrappedModelIsLeftOut() throws {
        var shapes = try Self.prefixed("small", "model.")
        shapes["criterion.weight"] = [7]
        shapes["metric.total"] = [1]
        #expect(throws: Never.self) { try SamCheckpoint(GeometryTests.checkpoint(shapes)) }
        // Not what stands inside it.
        shapes["model.adapter.weight"] = [7]
        try Self.failure(shapes, .extraTensor, "‘model.adapter.weight’", "no place in this model")
    }

    @Test func severalModelsAreAskedFor() throws {
        let student = try Self.prefixed("small", "student.")
        let shapes = try student.merging(Self.prefixed("small", "teacher.")) { first, _ in first }
        try Self.failure(shapes, .unknownLayout, "several models: ‘student.…’, ‘teacher.…’", "alone")
        let both = try Self.prefixed("small", "").merging(Self.prefixed("small", "ema.")) { first, _ in first }
        try Self.failure(both, .unknownLayout, "several models: ‘…’, ‘ema.…’")
        // An image encoder alone, such as a teacher's, is no model beside one.
        var distilled = try Self.prefixed("small", "student.")
        distilled["teacher.image_encoder.pos_embed"] = [1, 8, 8, 24]
        #expect(throws: Never.self) { try SamCheckpoint(GeometryTests.checkpoint(distilled)) }
    }

    @Test func aMissingTensorIsMissedBehindAPrefixToo() throws {
        var shapes = try Self.prefixed("small", "module.")
        shapes["module.image_encoder.neck.3.bias"] = nil
        try Self.failure(shapes, .missingTensor, "‘image_encoder.neck.3.bias’")
        shapes["module.image_encoder.neck.3.bias"] = [31]
        try Self.failure(shapes, .misshapenTensor, "‘module.image_encoder.neck.3.bias’")
        let parts: GeometryTests.Shapes = ["sam.image_encoder.pos_embed": [1, 4, 4, 8], "sam.mask_decoder.x": [1]]
        try Self.failure(parts, .missingTensor, "image_encoder.patch_embed.proj.weight")
    }

    @Test(arguments: [
        ("HQ-SAM 2", ["image_encoder.trunk.pos_embed", "sam_mask_decoder.hf_token.weight"]),
        ("SAM 3", ["detector.backbone.vision_backbone.trunk.pos_embed", "tracker.sam_mask_decoder.x.weight"]),
        ("SAM 3", ["detector_model.vision_encoder.backbone.x.weight", "tracker_model.mask_decoder.x.weight"]),
        ("a YOLO model", ["model.0.conv.weight", "model.1.conv.weight", "model.22.cv2.0.0.conv.weight"]),
        ("EfficientSAM", ["image_encoder.pos_embed", "mask_decoder.final_output_upscaling_layers.0.0.weight"]),
        ("SAM with adapters", ["image_encoder.pos_embed", "image_encoder.blocks.0.Adapter.channel.0.weight"]),
    ])
    func otherModelsAreCalledWhatTheyAre(name: String, tensors: [String]) throws {
        for prefix in ["", "module.", "model.module."] {
            let shapes = Dictionary(uniqueKeysWithValues: tensors.map { (prefix + $0, [2]) })
            try Self.failure(shapes, .unsupportedModel, "is \(name)", "cannot be read yet", "Kirie reads", "MobileSAM")
        }
    }
}
