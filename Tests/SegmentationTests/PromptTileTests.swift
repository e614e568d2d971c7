import Segmentation
import Testing

@Suite struct PromptTileTests {
    private func tile(_ prompt: Prompt, _ width: Int, _ height: Int) -> PromptTile? {
        PromptTile(around: prompt, width: width, height: height, modelSize: 2000)
    }

    @Test func theTileLiesAroundThePromptAndInThePicture() {
        let click = Prompt(points: [LabeledPoint(x: 6000, y: 400)])
        #expect(tile(click, 20000, 12000)?.box == PixelBox(x0: 5000, y0: 0, x1: 7000, y1: 2000))
        let corner = Prompt(points: [LabeledPoint(x: 19980, y: 11980)])
        #expect(tile(corner, 20000, 12000)?.box == PixelBox(x0: 18000, y0: 10000, x1: 20000, y1: 12000))
        let box = Prompt(box: BoundingBox(x0: 2000, y0: 2000, x1: 5000, y1: 4000))
        #expect(tile(box, 20000, 12000)?.box == PixelBox(x0: 500, y0: 0, x1: 6500, y1: 6000))
        // A picture that is narrow one way.
        #expect(tile(click, 20000, 600)?.box == PixelBox(x0: 5000, y0: 0, x1: 7000, y1: 600))
    }

    @Test func whatNearlyIsTheWholePictureIsNoTile() {
        let click = Prompt(points: [LabeledPoint(x: 1000, y: 1000)])
        #expect(tile(click, 2660, 2000) == nil && tile(click, 2680, 2000) != nil)
        #expect(tile(Prompt(box: BoundingBox(x0: 0, y0: 0, x1: 8000, y1: 400)), 20000, 12000) == nil)
        // A mask and words point at nothing.
        #expect(tile(Prompt(mask: LowResolutionLogits(side: 1, values: [1]), text: "dog"), 20000, 12000) == nil)
    }

    @Test func promptsMoveAndMasksTellWhetherTheyAreCut() throws {
        let prompt = Prompt(
            points: [LabeledPoint(x: 6000, y: 4400, label: .background)],
            box: BoundingBox(x0: 5800, y0: 4200, x1: 6200, y1: 4600))
        let tile = try #require(self.tile(prompt, 20000, 12000))
        #expect(tile.box == PixelBox(x0: 5000, y0: 3400, x1: 7000, y1: 5400))
        let moved = tile.prompt(prompt)
        #expect(moved.points == [LabeledPoint(x: 1000, y: 1000, label: .background)])
        #expect(moved.box == BoundingBox(x0: 800, y0: 800, x1: 1200, y1: 1200))
        func mask(_ x: Range<Int>, _ y: Range<Int>, _ tile: PromptTile) -> MaskCandidate {
            let (width, height) = (tile.box.width, tile.box.height)
            var pixels = [UInt8](repeating: 0, count: width * height)
            for row in y { for column in x { pixels[row * width + column] = 1 } }
            return MaskCandidate(
                RunLengthEncoding(Mask(width: width, height: height, pixels: pixels)), predictedIoU: 1,
                stabilityScore: 20, point: .zero, in: tile.box, width: 20000, height: 12000)
        }
        #expect(!tile.cutsOff(mask(20..<1980, 20..<1980, tile), width: 20000, height: 12000))
        #expect(!tile.cutsOff(mask(0..<0, 0..<0, tile), width: 20000, height: 12000))
        for (x, y) in [(0..<100, 180..<240), (1900..<2000, 180..<240), (180..<240, 0..<100), (180..<240, 1960..<2000)] {
            #expect(tile.cutsOff(mask(x, y, tile), width: 20000, height: 12000))
        }
        let next = try #require(tile.larger(width: 20000, height: 12000))
        #expect(next.box == PixelBox(x0: 4000, y0: 2400, x1: 8000, y1: 6400))
        #expect(next.larger(width: 20000, height: 12000)?.larger(width: 20000, height: 12000) == nil)
        // At the picture's own edges nothing is cut off.
        let corner = try #require(self.tile(Prompt(points: [LabeledPoint(x: 0, y: 0)]), 20000, 12000))
        #expect(!corner.cutsOff(mask(0..<100, 0..<100, corner), width: 20000, height: 12000))
        #expect(corner.cutsOff(mask(0..<2000, 0..<100, corner), width: 20000, height: 12000))
    }
}
