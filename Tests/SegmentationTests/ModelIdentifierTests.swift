import Segmentation
import Testing

@Suite struct ModelIdentifierTests {
    static let fingerprint = (0..<32).map { UInt8($0) }
    static let start = "000102030405060708090a0b0c0d0e0f:2"

    @Test func tellsTheArithmetic() throws {
        let family = ModelIdentifier(fingerprint: Self.fingerprint)
        #expect(family.text == "\(Self.start):fp16")
        #expect(family.arithmetic == nil && family.family == family)
        #expect(
            family.variants.map(\.text)
                == ["\(Self.start):fp32:fp16", "\(Self.start):bf16:fp16", "\(Self.start):int8:fp16"])
        for arithmetic in EncoderArithmetic.allCases {
            for precision in EmbeddingPrecision.allCases {
                let model = ModelIdentifier(
                    fingerprint: Self.fingerprint, arithmetic: arithmetic, precision: precision)
                #expect(model.text == "\(Self.start):\(arithmetic.rawValue):\(precision.rawValue)")
                #expect(model.arithmetic == arithmetic)
                #expect(model.family.text == "\(Self.start):\(precision.rawValue)")
                #expect(model.variants.contains(model) && model.variants == model.family.variants)
                #expect(ModelIdentifier(model.text) == model)
            }
        }
    }

    @Test(arguments: ["other", "other:fp16", "a:b:c:d", "a:2:fp64:fp16", "a:2:bf16:fp64", ":::", "a:2:bf16:fp16:x"])
    func namesOfOthersAreTakenAsTheyAre(_ text: String) throws {
        let model = try #require(ModelIdentifier(text))
        #expect(model.arithmetic == nil && model.family == model && model.variants.isEmpty)
    }

    @Test func picturesAreBroughtToAModelByAValue() {
        let published = ImagePreprocessing.segmentAnything(size: 1024)
        #expect(
            published.frame(width: 1500, height: 1000)
                == ImageFrame(originalWidth: 1500, originalHeight: 1000, inputWidth: 1024, inputHeight: 683))
        #expect(
            published.frame(width: 1, height: 3000)
                == ImageFrame(originalWidth: 1, originalHeight: 3000, inputWidth: 1, inputHeight: 1024))
        let square = ImagePreprocessing(
            resize: .square, size: 512, mean: published.mean, deviation: published.deviation)
        let frame = square.frame(width: 2000, height: 1000)
        #expect(frame == ImageFrame(originalWidth: 2000, originalHeight: 1000, inputWidth: 512, inputHeight: 512))
        #expect(frame.apply(x: 1000, y: 250) == (256, 128))
        #expect("\(square)" != "\(published)" && square != published)
    }
}
