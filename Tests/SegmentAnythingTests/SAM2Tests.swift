import Checkpoints
import Foundation
import Imaging
import NeuralNetworks
import SegmentAnything
import Segmentation
import Tensors
import Testing

/// What SAM 2 has beyond Segment Anything, against transformers' Sam2Model; feature maps, logits and IoU are in ``GoldenTests``.
@Suite struct SAM2Tests {
    /// Squashed to a square by torchvision's antialiased bilinear, whose sums are not rounded to levels.
    @Test(arguments: GoldenCase.sam2 + GoldenCase.edgeTAM) func pictureIsResizedAsATensor(_ golden: GoldenCase) throws {
        let model = try golden.model()
        let (input, frame) = model.preprocessing.input(try golden.picture())
        let side = model.geometry.imageSize
        #expect(frame.inputWidth == side && frame.inputHeight == side)
        let rows = try golden.tensor("input_rows")
        let values = input.elements
        var found: [Float] = []
        for channel in 0..<3 {
            for row in stride(from: 0, to: side, by: 16) {
                let start = (channel * side + row) * side
                found += values[start..<start + side]
            }
        }
        let difference = Difference(found, rows.elements)
        print("input of \(golden.name): \(difference)")
        #expect(difference.largest <= 2e-6, "\(difference)")
    }

    @Test(arguments: GoldenCase.sam2 + GoldenCase.edgeTAM) func oneMaskIsTheStableOneOrTheBest(_ golden: GoldenCase)
        throws
    {
        let decoder = try golden.model().decoder(precision: .float32)
        let image = try golden.preparedImage(decoder)
        let chosen = try golden.chosen()
        for (index, prompt) in try golden.prompts().enumerated() {
            let one = try decoder.decode(prompt, on: image, selection: .single, pool: ThreadPool(threadCount: 2))
            let all = try decoder.decode(prompt, on: image, selection: .all, pool: .inline)
            let three = try decoder.decode(prompt, on: image, selection: .multiple, pool: .inline)
            #expect(one.logits == [all.logits[chosen[index]]], "prompt \(index)")
            #expect(one.predictedIoU == [all.predictedIoU[chosen[index]]])
            #expect(three.logits == Array(all.logits[1...]) && three.predictedIoU == Array(all.predictedIoU[1...]))
            let score = try golden.tensor("p\(index).object_score").elements
            let found = try #require(one.objectScore)
            #expect(abs(found - score[0]) <= 1e-5 && all.objectScore == one.objectScore, "\(found) for \(score)")
        }
    }

    /// The published predictor hands no logit back that is further from 0 than 32; its masks are made before that.
    @Test func logitsThatAreHandedBackAreBounded() throws {
        for (golden, bound) in [
            (GoldenCase.sam2[1], 32), (GoldenCase.edgeTAM[0], 32), (GoldenCase.all[0], nil as Float?),
        ] {
            let decoder = try golden.model().decoder(precision: .float32)
            let image = try golden.preparedImage(decoder)
            let prompt = try #require(golden.prompts().first)
            let found = try decoder.decode(prompt, on: image, selection: .multiple, pool: .inline)
            #expect(found.logitBound == bound, "\(golden.name)")
            let side = found.side
            let loud = found.logits.indices.map { index in
                (0..<side * side).map { Float(sin(Double($0) / 7 + Double(index)) * 100) }
            }
            let decoded = DecodedMasks(
                side: side, logits: loud.map { LowResolutionLogits(side: side, values: $0) },
                predictedIoU: found.predictedIoU, logitBound: found.logitBound)
            let masks = decoder.masks(decoded, on: image, isRanked: false, pool: .inline)
            for (index, mask) in masks.enumerated() {
                let values = loud[index]
                let expected = bound.map { bound in values.map { min(max($0, -bound), bound) } } ?? values
                #expect(mask.lowResolutionLogits.values == expected)
                #expect(decoded.returnedLogits[index].values == expected)
                let full = decoder.fullSizeLogits(decoded.logits[index], on: image)
                #expect(mask.mask.pixels == full.map { $0 > 0 ? 1 : 0 })
            }
        }
    }

    /// Logits go to the picture in one step: each pixel is the bilinear sample at its own place.
    @Test func logitsAreScaledOnce() throws {
        let golden = GoldenCase.sam2[1]
        let decoder = try golden.model().decoder(precision: .float32)
        let image = try golden.preparedImage(decoder)
        let side = decoder.maskSide
        let values = (0..<side * side).map { Float(sin(Double($0) / 7) * 3) }
        let full = decoder.fullSizeLogits(LowResolutionLogits(side: side, values: values), on: image)
        func sample(_ index: Int, _ size: Int) -> (Int, Int, Double) {
            let place = max(0, Double(side) / Double(size) * (Double(index) + 0.5) - 0.5)
            return (Int(place), min(Int(place) + 1, side - 1), place - place.rounded(.down))
        }
        for y in 0..<image.height {
            for x in 0..<image.width {
                let ((top, bottom, down), (left, right, across)) = (sample(y, image.height), sample(x, image.width))
                func value(_ row: Int, _ column: Int) -> Double { Double(values[row * side + column]) }
                let expected =
                    (value(top, left) * (1 - across) + value(top, right) * across) * (1 - down)
                    + (value(bottom, left) * (1 - across) + value(bottom, right) * across) * down
                #expect(abs(Double(full[y * image.width + x]) - expected) < 1e-4, "row \(y), column \(x)")
            }
        }
    }

    /// That bits depend neither on threads nor on the batch is in ``GoldenTests``.
    @Test(.enabled(if: Precision.bfloat16.isSupported), arguments: GoldenCase.sam2 + GoldenCase.edgeTAM)
    func narrowEncodingIsClose(_ golden: GoldenCase) throws {
        let model = try golden.model()
        let narrow = try model.encoder(precision: .bfloat16).encode(try golden.picture(), pool: .inline)
        for map in narrow.maps {
            let expected = try golden.tensor(map.name).elements
            let scale = (expected.reduce(0) { $0 + $1 * $1 } / Float(expected.count)).squareRoot()
            let difference = Difference(map.tensor.elements, expected)
            #expect(difference.mean <= 0.01 * scale, "\(map.name): \(difference) of \(scale)")
        }
    }

    @Test(arguments: ["sam2.1_tiny", "sam2.1_small", "sam2.1_base_plus", "sam2.1_large", "edgetam"])
    func publishedSizesAreKnown(_ name: String) throws {
        let geometry = try #require(SamGeometry(published: name))
        #expect(geometry.imageSize == 1024 && geometry.grid == 64 && geometry.channels == 256)
        let shapes = geometry.decoder.featureShapes.map(\.shape)
        #expect(shapes == [[1, 256, 64, 64], [1, 64, 128, 128], [1, 32, 256, 256]])
    }

    @Test func whatTensorsDoNotTellIsSaid() throws {
        let first = try GoldenCase.sam2[0].model()
        #expect(first.summary.contains("image size: 128, from the config.json beside the file"), "\(first.summary)")
        #expect(first.layoutName == "Hugging Face, SAM 2")
        let second = try GoldenCase.sam2[1].model()
        #expect(second.summary.contains("image size: 160, from the file's metadata"), "\(second.summary)")
        #expect(second.layoutName == "SAM 2")
        #expect(second.everythingDefaults.predictedIoUThreshold == 0.8)
    }

    /// What Sam2VideoModel and Meta's checkpoints have for videos alone is left alone; what nobody knows is not.
    @Test func whatAVideoNeedsIsLeftOut() throws {
        let golden = GoldenCase.sam2[0]
        let plain = try Checkpoint(path: try golden.file(golden.weights))
        let ofVideos = [
            "memory_attention.layers.0.linear1.weight", "memory_encoder.projection.bias",
            "object_pointer_proj.proj_in.bias",
            "mask_downsample.weight", "temporal_positional_encoding_projection_layer.bias", "no_object_pointer",
            "memory_temporal_positional_encoding", "no_memory_positional_encoding",
            "occlusion_spatial_embedding_parameter", "maskmem_tpos_enc", "no_obj_embed_spatial",
            "obj_ptr_proj.x.weight",
        ]
        func opened(with names: [String]) throws -> SamModel {
            let folder = NSTemporaryDirectory() + "kirie-video-\(UUID().uuidString)"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(atPath: folder) }
            let configuration = try String(contentsOfFile: try golden.file("config.json"), encoding: .utf8)
            try Data(configuration.replacingOccurrences(of: #""sam2""#, with: #""sam2_video""#).utf8)
                .write(to: URL(fileURLWithPath: "\(folder)/config.json"))
            let entries = try plain.names.map { SafetensorsWriter.Entry($0, try plain.stored($0).tensor()) }
            try SafetensorsWriter.write(
                entries + names.map { SafetensorsWriter.Entry($0, Tensor(shape: [1], [0])) },
                to: "\(folder)/model.safetensors")
            return try SamModel(path: folder)
        }
        #expect(try opened(with: ofVideos).summary == golden.model().summary)
        let error = #expect(throws: CheckpointError.self) { try opened(with: ["mask_decoder.adapter.weight"]) }
        #expect(error?.code == .extraTensor, "\(error as Any)")
    }

    /// Without its config.json and with no metadata a SAM 2 of no published size is not guessed at.
    @Test func whatNothingTellsIsAskedFor() throws {
        let golden = GoldenCase.sam2[0]
        let path = NSTemporaryDirectory() + "kirie-silent-\(UUID().uuidString).safetensors"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let plain = try Checkpoint(path: try golden.file(golden.weights))
        try SafetensorsWriter.write(
            try plain.names.map { SafetensorsWriter.Entry($0, try plain.stored($0).tensor()) }, to: path)
        let error = #expect(throws: CheckpointError.self) { try SamModel(path: path) }
        #expect(error?.code == .unknownLayout)
        for text in ["no published size", "config.json", "kirie.windows", "kirie.heads"] {
            #expect(error?.description.contains(text) == true, "\(error as Any)")
        }
    }
}
