import Imaging
import Segmentation
import Testing
import TextMatching

/// What is cut out around candidates, pixel by pixel.
@Suite struct CandidateCropTests {
    /// A picture whose pixels tell where they are.
    private static func picture(_ width: Int, _ height: Int) -> Image {
        Image(
            width: width, height: height,
            pixels: (0..<width * height).flatMap { [UInt8($0 % width), UInt8($0 / width), 200] })
    }

    private static func mask(_ width: Int, _ height: Int, where isOn: (Int, Int) -> Bool) throws -> RunLengthEncoding {
        var counts: [Int] = []
        var isObject = false
        var run = 0
        for position in 0..<width * height {
            if isOn(position / height, position % height) == isObject {
                run += 1
            } else {
                counts.append(run)
                (isObject, run) = (!isObject, 1)
            }
        }
        return try RunLengthEncoding(counts: counts + [run], height: height, width: width)
    }

    private static func pixel(_ image: Image, _ x: Int, _ y: Int) -> [UInt8] {
        Array(image.pixels[(y * image.width + x) * 3..<(y * image.width + x) * 3 + 3])
    }

    @Test func aTightSquareTouchesTheLongerSide() throws {
        let picture = Self.picture(30, 20)
        let mask = try Self.mask(30, 20) { x, y in (10..<18).contains(x) && (6..<10).contains(y) }
        let crop = CandidateCrop(margin: 0, surroundings: 1, background: [0, 0, 0])(mask, of: picture)
        #expect(crop.width == 8 && crop.height == 8)
        #expect(Self.pixel(crop, 0, 0) == [10, 4, 200])
        #expect(Self.pixel(crop, 7, 7) == [17, 11, 200])
    }

    @Test func surroundingsGiveWayToTheBackground() throws {
        let picture = Self.picture(30, 20)
        let mask = try Self.mask(30, 20) { x, y in (10..<18).contains(x) && (6..<10).contains(y) }
        for (surroundings, expected) in [(0.0, [100, 100, 100]), (0.5, [55, 52, 150])] as [(Double, [UInt8])] {
            let crop = CandidateCrop(margin: 0, surroundings: surroundings, background: [100, 100, 100])(
                mask, of: picture)
            #expect(Self.pixel(crop, 0, 0) == expected)
            #expect(Self.pixel(crop, 0, 2) == [10, 6, 200], "what is on the object stays")
            #expect(Self.pixel(crop, 7, 5) == [17, 9, 200])
            #expect(Self.pixel(crop, 7, 6) != [17, 10, 200])
        }
    }

    @Test func aSquareMovesIntoThePictureAndIsFilledUpWhereItCannot() throws {
        let picture = Self.picture(30, 10)
        let corner = try Self.mask(30, 10) { x, y in x < 2 && y < 4 }
        let moved = CandidateCrop(margin: 1, surroundings: 1, background: [9, 9, 9])(corner, of: picture)
        #expect(moved.width == 8)
        #expect(Self.pixel(moved, 0, 0) == [0, 0, 200])
        let wide = try Self.mask(30, 10) { x, y in (5..<25).contains(x) && y == 3 }
        let filled = CandidateCrop(margin: 0, surroundings: 1, background: [9, 9, 9])(wide, of: picture)
        #expect(filled.width == 20)
        #expect(Self.pixel(filled, 0, 0) == [9, 9, 9])
        #expect(Self.pixel(filled, 0, 5) == [5, 0, 200])
        #expect(Self.pixel(filled, 19, 14) == [24, 9, 200])
        #expect(Self.pixel(filled, 19, 15) == [9, 9, 9])
    }

    @Test(arguments: [0.0, 0.3, 1e300]) func oddMasksGiveAnAnswer(margin: Double) throws {
        let crop = CandidateCrop(margin: margin, surroundings: 0, background: [1, 2, 3])
        let empty = try RunLengthEncoding(counts: [12], height: 4, width: 3)
        #expect(crop(empty, of: Self.picture(3, 4)).width >= 1)
        let all = try RunLengthEncoding(counts: [0, 12], height: 4, width: 3)
        #expect(crop(all, of: Self.picture(3, 4)).width >= 4)
        let one = try RunLengthEncoding(counts: [0, 1], height: 1, width: 1)
        #expect(crop(one, of: Self.picture(1, 1)).pixels == [0, 0, 200])
    }
}
