import Segmentation
import Testing
import TextMatching

@Suite struct TextSelectionTests {
    /// A rectangle in a picture of 100 by 100 pixels.
    private static func box(_ x: Int, _ y: Int, _ width: Int, _ height: Int) -> RunLengthEncoding {
        var pixels = [UInt8](repeating: 0, count: 10_000)
        for row in y..<y + height {
            for column in x..<x + width { pixels[row * 100 + column] = 1 }
        }
        return RunLengthEncoding(Mask(width: 100, height: 100, pixels: pixels))
    }

    private static func chosen(
        _ selection: TextSelection, _ scores: [[Float]], _ masks: [RunLengthEncoding], _ ious: [Float]? = nil
    ) -> [Int] {
        selection.choices(scores, among: masks, predictedIoU: ious ?? masks.map { _ in 1 }).map(\.candidate)
    }

    private static let apart = [box(0, 0, 20, 20), box(40, 0, 20, 20), box(0, 60, 20, 20)]

    @Test func bestTopAndAll() {
        let scores: [[Float]] = [[0.5, 0.9, 0.6]]
        #expect(Self.chosen(TextSelection(), scores, Self.apart) == [1])
        #expect(Self.chosen(TextSelection(count: .top(2)), scores, Self.apart) == [1, 2])
        #expect(Self.chosen(TextSelection(count: .all), scores, Self.apart) == [1, 2, 0])
        #expect(Self.chosen(TextSelection(count: .top(0)), scores, Self.apart) == [])
    }

    @Test func thresholds() {
        let scores: [[Float]] = [[0.2, 0.9, 0.6]]
        #expect(Self.chosen(TextSelection(count: .all, minimumScore: 0.7), scores, Self.apart) == [1])
        #expect(Self.chosen(TextSelection(count: .all, relativeScore: 0.6), scores, Self.apart) == [1, 2])
        #expect(Self.chosen(TextSelection(minimumScore: 0.95), scores, Self.apart) == [])
        #expect(Self.chosen(TextSelection(minimumScore: 0, relativeScore: 0), [[0, 0, 0]], Self.apart) == [])
    }

    @Test func aMaskThatItsModelTrustsComesFirst() {
        #expect(Self.chosen(TextSelection(), [[0.8, 0.9, 0]], Self.apart, [0.9, 0.5, 1]) == [0])
        // What is predicted above 1 counts as 1.
        #expect(Self.chosen(TextSelection(), [[0.8, 0.9, 0]], Self.apart, [1.2, 1, 1]) == [1])
    }

    @Test func aWholeStandsForItsPart() {
        let masks = [Self.box(10, 10, 10, 10), Self.box(5, 5, 60, 60)]
        #expect(Self.chosen(TextSelection(), [[0.9, 0.8]], masks) == [1])
        #expect(Self.chosen(TextSelection(count: .all), [[0.9, 0.8]], masks) == [1])
        // A picture's worth of something else does not.
        #expect(Self.chosen(TextSelection(), [[0.9, 0.3]], masks) == [0])
    }

    @Test func ofTwoMasksOfOneThingOneIsLeft() {
        let masks = [Self.box(0, 0, 40, 40), Self.box(2, 2, 40, 40), Self.box(60, 60, 20, 20)]
        #expect(Self.chosen(TextSelection(count: .all), [[0.8, 0.9, 0.7]], masks).sorted() == [1, 2])
    }

    @Test func severalTextsShareTheCandidatesOut() {
        let choices = TextSelection(count: .all).choices(
            [[0.9, 0.1, 0.3], [0.2, 0.8, 0.4]], among: Self.apart, predictedIoU: [1, 1, 1])
        #expect(choices.map(\.candidate) == [0, 1, 2])
        #expect(choices.map(\.text) == [0, 1, 1])
    }

    @Test func noneOfNothing() {
        #expect(Self.chosen(TextSelection(), [], Self.apart) == [])
        #expect(Self.chosen(TextSelection(), [[]], []) == [])
    }
}
