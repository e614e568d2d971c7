import Checkpoints
import Foundation
import SegmentAnything
import Testing

/// On pictures of what size a model works: told by a ViT's tensors, and by none of a TinyViT's.
@Suite struct ImageSizeTests {
    private static func read(
        _ model: String, metadata: [String: String] = [:], imageSize: Int? = nil
    ) throws -> SamCheckpoint {
        try SamCheckpoint(
            GeometryTests.checkpoint(GeometryTests.shapes(model), metadata: metadata), imageSize: imageSize)
    }

    private static func failure(
        _ model: String, metadata: [String: String] = [:], imageSize: Int? = nil, _ texts: String...,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
            try read(model, metadata: metadata, imageSize: imageSize)
        }
        #expect(error?.code == .imageSize, "\(error as Any)", sourceLocation: sourceLocation)
        for text in texts {
            #expect(
                error?.description.contains(text) == true, "\(error as Any)", sourceLocation: sourceLocation)
        }
    }

    @Test func aTinyViTThatDoesNotSayItIsAsked() {
        // MobileSAM's shapes are LiteMedSAM's too, which works on pictures of 256.
        for model in ["mobile", "narrow_tiny"] {
            Self.failure(model, "every multiple of", "--image-size", "kirie model convert", "1024", "256")
        }
    }

    @Test func whatIsAskedForComesBeforeTheMetadata() throws {
        for (metadata, asked, size, source) in [
            (nil, 256, 256, ImageSizeSource.asked), ("512", nil, 512, .metadata), ("512", 256, 256, .asked),
        ] as [(String?, Int?, Int, ImageSizeSource)] {
            let model = try Self.read(
                "mobile", metadata: metadata.map { ["kirie.image_size": $0] } ?? [:], imageSize: asked)
            #expect(model.geometry.imageSize == size && model.geometry.grid == size / 16)
            #expect(model.imageSizeSource == source)
        }
        let vit = try Self.read("small", imageSize: 64)
        #expect(vit.geometry.imageSize == 64 && vit.imageSizeSource == .tensors)
    }

    @Test(arguments: [0, -16, 31, 100, 1000, 8208, .max, .min]) func aSizeThatDoesNotFitIsRefused(size: Int) {
        Self.failure("mobile", imageSize: size, "pictures of \(size)", "multiple of 16 from 32 to 8192")
        Self.failure("small", imageSize: size, "pictures of 64, as its tensors tell")
    }

    @Test func anotherImageSizeIsAnotherFingerprint() throws {
        let folder = NSTemporaryDirectory() + "kirie-test-\(UInt64.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = "\(folder)/tiny.safetensors"
        let geometry = SamGeometry(
            encoder: .tinyViT(
                TinyViT.Configuration(
                    imageSize: 64, embedDims: [8, 16], depths: [1, 1], headCounts: [0, 2], windowSizes: [0, 3],
                    strides: [2], hiddenDims: [12, 20], outChannels: 32)),
            decoder: MaskDecoder.Configuration(
                channels: 32, grid: 8, crossAttentionDim: 16, mlpDim: 24, depth: 1, maskTokenCount: 4,
                iouHeadDepth: 2, iouHeadHidden: 8), maskChannels: 4)
        try RandomCheckpoint.write(geometry, seed: 1, to: path)
        let small = try SamModel(path: path)
        #expect(small.geometry.imageSize == 64 && small.imageSizeSource == .metadata)
        let large = try SamModel(path: path, imageSize: 128)
        #expect(try small.fingerprint() != large.fingerprint())
        #expect(try small.fingerprint() == SamModel(path: path, imageSize: 64).fingerprint())
        // Of the size that TinyViTs were published with, a file is what its weights are, as it always was.
        let published = try SamModel(path: path, imageSize: 1024)
        #expect(try published.fingerprint() == published.checkpoint.fingerprint())

        // What a converted file says of itself is enough to be the same model.
        #expect(large.metadata == ["kirie.image_size": "128", "kirie.strides": "[2]"])
        let entries = try large.checkpoint.names.map {
            SafetensorsWriter.Entry(try large.checkpoint.stored($0), named: $0)
        }
        try SafetensorsWriter.write(entries, metadata: large.metadata, to: "\(folder)/large.safetensors")
        let again = try SamModel(path: "\(folder)/large.safetensors")
        #expect(again.geometry.imageSize == 128)
        #expect(try again.fingerprint() == large.fingerprint())
    }

    @Test func aViTsFingerprintIsThatOfItsWeights() throws {
        let folder = NSTemporaryDirectory() + "kirie-test-\(UInt64.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var random = RandomGeometry(seed: 3)
        var geometry = random.next()
        while !geometry.isViT { geometry = random.next() }
        try RandomCheckpoint.write(geometry, seed: 1, to: "\(folder)/vit.safetensors")
        let model = try SamModel(path: "\(folder)/vit.safetensors")
        #expect(try model.fingerprint() == model.checkpoint.fingerprint())
        #expect(model.metadata.isEmpty)
    }
}

extension SamGeometry {
    fileprivate var isViT: Bool { if case .vit = encoder { true } else { false } }
}
