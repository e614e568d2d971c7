import SegmentAnything
import Segmentation
import Tensors
import Testing

/// SAM-HQ beside the Segment Anything that it was made of; its masks are held in ``GoldenTests``.
@Suite struct HighQualityTests {
    /// Without its token a SAM-HQ is Segment Anything, of the same features.
    @Test(arguments: GoldenCase.highQuality) func withoutItsTokenItIsSegmentAnything(_ golden: GoldenCase) throws {
        let model = try golden.model()
        #expect(model.featureShapes.map(\.name) == ["image_embedding", "high_quality"])
        let plain = try #require(model.withoutHighQuality)
        let (corrected, uncorrected) = (try model.decoder(precision: .float32), try plain.decoder(precision: .float32))
        let images = (try golden.preparedImage(corrected), try golden.preparedImage(uncorrected))
        let reference = ReferenceMaskDecoder(
            CheckpointWeights(plain.checkpoint), imageSize: model.geometry.imageSize,
            maskChannels: model.geometry.maskChannels, configuration: uncorrectedConfiguration(model.geometry))
        for prompt in try golden.prompts() {
            let with = try corrected.decode(prompt, on: images.0, selection: .all, pool: .inline)
            let without = try uncorrected.decode(prompt, on: images.1, selection: .all, pool: .inline)
            let stages = try reference.stages(
                prompt, on: try golden.features(uncorrected), selection: .all)
            let expected = try #require(stages.last { $0.name == .logits }).values
            #expect(Difference(without.logits.flatMap(\.values), expected).largest < 5e-4)
            #expect(Difference(with.logits.flatMap(\.values), expected).largest > 0.01)
        }
        #expect(try GoldenCase.all[0].model().withoutHighQuality == nil)
    }

    private func uncorrectedConfiguration(_ geometry: SamGeometry) -> MaskDecoder.Configuration {
        var configuration = geometry.decoder
        configuration.isHighQuality = false
        return configuration
    }
}
