import Imaging
import Testing

@Suite("Resizing is Pillow's to the bit")
struct ResamplerTests {
    private struct Case: Decodable {
        let channels: Int
        let size: [Int]
        let target: [Int]
        let fnv: String
        let pixels: [UInt8]?
    }

    @Test("noise of many sizes, up and down", arguments: ["resizes.json", "resizes-bicubic.json"])
    func goldens(name: String) throws {
        let isBicubic = name == "resizes-bicubic.json"
        let cases = try Fixtures.decode([Case].self, from: name)
        #expect(cases.count >= 20)
        for item in cases {
            let (width, height) = (item.size[0], item.size[1])
            let noise = Fixtures.noise(width * height * item.channels, seed: width + height)
            let (targetWidth, targetHeight) = (item.target[0], item.target[1])
            let resized: [UInt8]
            if item.channels == 3 {
                let image = Image(width: width, height: height, pixels: noise)
                resized =
                    isBicubic
                    ? image.resizedBicubic(width: targetWidth, height: targetHeight).pixels
                    : image.resizedBilinear(width: targetWidth, height: targetHeight).pixels
            } else {
                let image = GrayImage(width: width, height: height, pixels: noise)
                resized =
                    isBicubic
                    ? image.resizedBicubic(width: targetWidth, height: targetHeight).pixels
                    : image.resizedBilinear(width: targetWidth, height: targetHeight).pixels
            }
            #expect(resized.count == targetWidth * targetHeight * item.channels)
            #expect(Fixtures.hash(resized) == item.fnv, "\(item.size) to \(item.target), \(item.channels) channels")
            if let pixels = item.pixels { #expect(resized == pixels, "\(item.size) to \(item.target)") }
        }
    }

    @Test("the same size changes nothing, and one colour stays one colour")
    func invariants() {
        let noise = Image(width: 31, height: 17, pixels: Fixtures.noise(31 * 17 * 3, seed: 1))
        #expect(noise.resizedBilinear(width: 31, height: 17) == noise)
        for level in [0, 1, 254, 255] as [UInt8] {
            let flat = GrayImage(width: 40, height: 30, pixels: [UInt8](repeating: level, count: 1200))
            let resized = flat.resizedBilinear(width: 23, height: 71)
            #expect(resized.pixels.allSatisfy { $0 == level })
            #expect(flat.resizedBicubic(width: 23, height: 71).pixels.allSatisfy { $0 == level })
        }
    }
}
