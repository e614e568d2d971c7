import NeuralNetworks
import SegmentAnything
import Tensors
import Testing

/// The image encoders in bf16 against themselves in fp32, on drawn weights.
@Suite(.enabled(if: Precision.bfloat16.isSupported, "this processor has no bf16 products"))
struct EncoderPrecisionTests {
    /// Odd widths and windows that reach over the edge; `wide` heads and planes that the fast kernels do not take.
    private static let tiny = TinyViT.Configuration(
        imageSize: 160, embedDims: [64, 64, 96, 160], depths: [2, 1, 2, 1], headCounts: [0, 2, 3, 5],
        windowSizes: [0, 7, 14, 7], strides: [2, 2, 1], hiddenDims: [128, 256, 192, 320], outChannels: 64)
    private static let odd = TinyViT.Configuration(
        imageSize: 100, embedDims: [24, 40, 48, 72], depths: [1, 1, 1, 1], headCounts: [0, 2, 3, 4],
        windowSizes: [0, 3, 5, 4], strides: [2, 2, 1], hiddenDims: [40, 80, 96, 100], outChannels: 32)
    private static let plain = ImageEncoderViT.Configuration(
        imageSize: 256, patchSize: 16, embedDim: 128, depth: 3, headCount: 2, mlpDim: 512, windowSize: 14,
        globalBlocks: [2], outChannels: 64)

    private func expectClose(side: Int, _ make: (Precision) throws -> any ImageEncoder) rethrows {
        let image = RandomWeights(seed: 1).tensor("input.image", shape: [3, side, side])
        let exact = try make(.float32).encode(image, pool: .inline).elements
        let encoder = try make(.bfloat16)
        let found = encoder.encode(image, pool: ThreadPool(threadCount: 2)).elements
        var (dot, a, b) = (0.0, 0.0, 0.0)
        for (x, y) in zip(exact, found) {
            dot += Double(x) * Double(y)
            a += Double(x) * Double(x)
            b += Double(y) * Double(y)
        }
        let cosine = dot / (a * b).squareRoot()
        #expect(cosine >= 0.999, "\(cosine)")
        #expect(encoder.encode(image, pool: .inline).elements == found, "one thread's bits are those of two")
    }

    private static let lite = EfficientNetLite.Configuration(
        imageSize: 192, stem: 32,
        blocks: [
            (32, false, 3, 1, 16), (96, true, 3, 2, 24), (144, true, 5, 2, 40), (240, true, 5, 1, 40),
            (240, true, 3, 2, 80), (480, true, 5, 2, 96), (576, true, 5, 1, 96),
        ].map { .init(hidden: $0, isWidened: $1, size: $2, stride: $3, outputs: $4) }, neckWidth: 64, outChannels: 64)

    @Test func efficientNetLite() throws {
        try expectClose(side: 192) { try EfficientNetLite(RandomWeights(), Self.lite, precision: $0) }
    }

    @Test func tinyViT() throws {
        try expectClose(side: 160) { try TinyViT(RandomWeights(), Self.tiny, precision: $0) }
    }

    @Test func tinyViTOfOddSizes() throws {
        try expectClose(side: 100) { try TinyViT(RandomWeights(), Self.odd, precision: $0) }
    }

    @Test func viT() throws {
        try expectClose(side: 256) { try ImageEncoderViT(RandomWeights(), Self.plain, precision: $0) }
    }
}
