import Imaging
import Testing

@Suite("Mutated pictures end in pixels or in an error")
struct MutatedPictureTests {
    @Test(
        "16,000 mutations",
        arguments: [
            ["rgb8.png", "palette4i.png", "gray16i.png", "rgba16.png", "turned.png"],
            ["baseline420.jpg", "progressive444.jpg", "cmyk.jpg", "orientation6.jpg", "restarts.jpg"],
            ["lossy-alpha.webp", "lossless.webp", "animated.webp", "offset-frame.webp", "xmp8.webp"],
            [
                "palette4.tif", "gray12.tif", "rgb8-tiles.tif", "rgb8-planes.tif", "rgba16-associated.tif", "lzw.tif",
                "jpeg.tif", "group4.tif", "pages.tif", "packbits.tif", "rgb8-bigtiff.tif", "xmp-itxt-packed.png",
                "profile-packed.png",
            ],
        ])
    func mutations(names: [String]) throws {
        let seed: UInt64 = 20_260_501
        print("mutated pictures: seed \(seed), \(names)")
        var random = SeededGenerator(seed: seed)
        let originals = try names.map(Fixtures.bytes)
        let decoder = ImageDecoder(limit: PixelLimit(pixels: 1_000_000))
        var decoded = 0
        for _ in 0..<4000 {
            var bytes = originals.randomElement(using: &random) ?? []
            for _ in 0...Int.random(in: 0..<4, using: &random) { mutate(&bytes, &random) }
            if Bool.random(using: &random) { bytes = PNGForge.withChecksums(bytes) }
            do {
                let image = try decoder.decode(bytes)
                #expect(image.pixels.count == image.width * image.height * 3)
                decoded += 1
            } catch {
                #expect(!error.reason.isEmpty)
            }
        }
        // Both outcomes must have been met, or the mutations test nothing.
        #expect(decoded > 0 && decoded < 4000)
    }

    private func mutate(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
        guard bytes.count > 8 else { return }
        let place = Int.random(in: 2..<bytes.count, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[place] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF].randomElement(using: &random) ?? 0
        case 2: bytes.removeSubrange(place..<min(place + Int.random(in: 1..<9, using: &random), bytes.count))
        case 3: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
        case 4: bytes.removeSubrange(place...)
        default:
            let length = min(Int.random(in: 1..<40, using: &random), bytes.count - place)
            bytes.insert(
                contentsOf: bytes[place..<(place + length)], at: Int.random(in: 2..<bytes.count, using: &random))
        }
    }
}
