import Evaluation
import Imaging
import Segmentation
import Testing

@Suite struct RegionTests {
    /// The definition, point by point.
    private func farthest(_ region: Region) -> (x: Int, y: Int) {
        var best = (square: -1, x: 0, y: 0)
        for y in 0..<region.height {
            for x in 0..<region.width where region.pixels[y * region.width + x] != 0 {
                var nearest = Int.max
                for oy in -1...region.height {
                    for ox in -1...region.width {
                        let isInside =
                            (0..<region.height).contains(oy) && (0..<region.width).contains(ox)
                            && region.pixels[oy * region.width + ox] != 0
                        if !isInside { nearest = min(nearest, (x - ox) * (x - ox) + (y - oy) * (y - oy)) }
                    }
                }
                if nearest > best.square { best = (nearest, x, y) }
            }
        }
        return (region.left + best.x, region.top + best.y)
    }

    @Test func theInnermostPixelIsTheDefinedOne() {
        var state: UInt64 = 12
        for round in 0..<200 {
            let (width, height) = (1 + round % 13, 1 + round * 7 % 17)
            let pixels = (0..<width * height).map { _ in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return (state >> 33) % 8 == 0 ? UInt8(0) : 1
            }
            guard pixels.contains(1) else { continue }
            let region = Region(left: 3, top: 5, width: width, height: height, pixels: pixels)
            #expect(region.farthestInterior == farthest(region), "round \(round)")
        }
    }

    @Test func theLargestRegionIsEightConnectedAndTheFirstOfEquals() throws {
        let picture: [UInt8] = [
            1, 0, 0, 0, 1, 1,
            0, 1, 0, 0, 0, 0,
            0, 0, 0, 1, 0, 0,
            0, 0, 0, 0, 1, 0,
        ]
        let found = try #require(Region.largest(width: 6, height: 4) { picture[$0] == 1 })
        #expect(found.area == 2)
        #expect((found.region.left, found.region.top) == (0, 0))
        #expect(found.region.pixels == [1, 0, 0, 1])
        #expect(Region.largest(width: 6, height: 4) { _ in false } == nil)
    }

    @Test func correctionsGoWhereTheMaskIsWrong() throws {
        func mask(_ columns: Range<Int>) -> Mask {
            Mask(width: 20, height: 9, pixels: (0..<180).map { columns.contains($0 % 20) ? 1 : 0 })
        }
        let missed = try #require(ClickSession.correction(of: mask(0..<5), towards: mask(0..<16)))
        #expect(missed.label == .foreground && (5..<16).contains(Int(missed.x)) && missed.y == 4)
        let surplus = try #require(ClickSession.correction(of: mask(0..<16), towards: mask(0..<5)))
        #expect(surplus.label == .background && (5..<16).contains(Int(surplus.x)))
        #expect(ClickSession.correction(of: mask(0..<5), towards: mask(0..<5)) == nil)
        #expect(mask(0..<10).intersectionOverUnion(mask(5..<15)) == 1.0 / 3)
    }

    @Test func instancesAreLargeEnoughAndNotTooMany() {
        // 30 squares of 11 x 11 and one of 5 x 5.
        var labels = [UInt16](repeating: 0, count: 400 * 12)
        for label in 1...30 {
            for y in 0..<11 { for x in 0..<11 { labels[y * 400 + (label - 1) * 13 + x] = UInt16(label * 300) } }
        }
        for y in 0..<5 { for x in 394..<399 { labels[y * 400 + x] = 7 } }
        let instances = Instance.all(in: LabelMap(width: 400, height: 12, labels: labels))
        let expected = (0..<20).map { index -> UInt16 in UInt16(300 * (index * 30 / 20 + 1)) }
        #expect(instances.map(\.label) == expected)
        #expect(instances[0].centre == (5, 5))
        #expect(instances[0].box == BoundingBox(x0: 0, y0: 0, x1: 10, y1: 10))
    }
}
