import Imaging
import Testing

@Suite("Decoding gives Pillow's pixels")
struct DecoderTests {
    @Test("every fixture, from its file and from memory")
    func fixtures() throws {
        let expected = try Fixtures.decode([String: Fixtures.Pixels].self, from: "expected.json")
        #expect(expected.count >= 50)
        for (name, pixels) in expected.sorted(by: { $0.key < $1.key }) {
            let image = try ImageDecoder().decode(file: Fixtures.path(name))
            #expect(image.width == pixels.width && image.height == pixels.height, "\(name)")
            #expect(Fixtures.hash(image.pixels) == pixels.fnv, "\(name)")
            let bytes = try Fixtures.bytes(name)
            #expect(try ImageDecoder().decode(bytes, named: name) == image, "\(name)")
            let header = try ImageDecoder().header(of: bytes)
            #expect(header.width == image.width && header.height == image.height, "\(name)")
            #expect(header.format == (name.hasSuffix(".png") ? .png : .jpeg), "\(name)")
            #expect(try ImageDecoder().read(bytes, named: name).notes.isEmpty, "\(name)")
        }
    }

    @Test("WebP, TIFF, and orientation wherever it may stand")
    func formats() throws {
        let expected = try Fixtures.decode([String: Fixtures.Pixels].self, from: "formats.json")
        #expect(expected.count >= 70)
        for (name, pixels) in expected.sorted(by: { $0.key < $1.key }) {
            let bytes = try Fixtures.bytes(name)
            let read = try ImageDecoder(levels: .full).read(bytes, named: name)
            #expect(read.image.width == pixels.width && read.image.height == pixels.height, "\(name)")
            #expect(Fixtures.hash(read.image.pixels) == pixels.fnv, "\(name)")
            let header = try ImageDecoder().header(of: bytes)
            #expect(header.width == pixels.width && header.height == pixels.height, "\(name)")
            let formats: [String: ImageHeader.Format] = ["webp": .webp, "tif": .tiff, "png": .png, "jpg": .jpeg]
            #expect(header.format == formats[String(name.split(separator: ".").last ?? "")], "\(name)")
            let hasMore = ["pages.tif", "animated.webp", "animated-lossy.webp"].contains(name)
            #expect(read.notes.map(\.code) == (hasMore ? [.firstOfSeveral] : []), "\(name)")
        }
    }

    @Test("a palette index past the palette's end is black")
    func shortPalette() throws {
        let file =
            PNGForge.signature + PNGForge.header(3, 1, color: 3) + PNGForge.chunk("PLTE", [9, 8, 7])
            + PNGForge.pixels([0, 0, 1, 200]) + PNGForge.end
        #expect(try ImageDecoder().decode(file).pixels == [9, 8, 7, 0, 0, 0, 0, 0, 0])
    }

    @Test("transparent pixels keep their colour")
    func transparency() throws {
        let file =
            PNGForge.signature + PNGForge.header(2, 1, color: 6)
            + PNGForge.pixels([0, 10, 20, 30, 0, 40, 50, 60, 128]) + PNGForge.end
        #expect(try ImageDecoder().decode(file).pixels == [10, 20, 30, 40, 50, 60])
    }

    @Test("16-bit samples give their upper byte")
    func sixteenBits() throws {
        let gray =
            PNGForge.signature + PNGForge.header(2, 1, bits: 16, color: 0)
            + PNGForge.pixels([0, 0x12, 0xFF, 0xFE, 0x01]) + PNGForge.end
        #expect(try ImageDecoder().decode(gray).pixels == [0x12, 0x12, 0x12, 0xFE, 0xFE, 0xFE])
        let color =
            PNGForge.signature + PNGForge.header(1, 1, bits: 16) + PNGForge.pixels([0, 1, 255, 128, 0, 255, 254])
            + PNGForge.end
        #expect(try ImageDecoder().decode(color).pixels == [1, 128, 255])
    }

    @Test("16-bit colour with alpha is within 1 of its upper byte, down to 1/256 opaque")
    func sixteenBitsWithAlpha() throws {
        let samples = Fixtures.noise(8 * 256, seed: 9)
        var row = samples
        for pixel in 0..<256 { row[8 * pixel + 6] = UInt8(pixel) }
        var file = PNGForge.signature + PNGForge.header(256, 1, bits: 16, color: 6)
        file += PNGForge.pixels([0] + row) + PNGForge.end
        let pixels = try ImageDecoder().decode(file).pixels
        for pixel in 1..<256 {
            for channel in 0..<3 {
                let upper = Int(row[8 * pixel + 2 * channel])
                #expect(abs(Int(pixels[3 * pixel + channel]) - upper) <= 1, "alpha \(pixel)/255")
            }
        }
    }

    @Test("bytes after the end of a picture are ignored")
    func trailingBytes() throws {
        for name in ["rgb8.png", "baseline420.jpg"] {
            let bytes = try Fixtures.bytes(name)
            #expect(try ImageDecoder().decode(bytes + [1, 2, 3]) == ImageDecoder().decode(bytes))
        }
    }

    @Test("a broken EXIF segment leaves the picture upright")
    func brokenExif() throws {
        let plain = try Fixtures.bytes("baseline444.jpg")
        let upright = try ImageDecoder().decode(plain)
        let tiff: [UInt8] = [0x4D, 0x4D, 0, 0x2A, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0]
        func withExif(_ tiff: [UInt8]) -> [UInt8] {
            let payload = Array("Exif\0\0".utf8) + tiff
            let length = UInt16(payload.count + 2)
            return plain.prefix(2) + [0xFF, 0xE1, UInt8(length >> 8), UInt8(length & 0xFF)] + payload
                + plain.dropFirst(2)
        }
        let turned = try ImageDecoder().decode(withExif(tiff))
        #expect(turned.width == upright.height && turned != upright)
        for length in 0..<tiff.count - 2 {
            #expect(try ImageDecoder().decode(withExif(Array(tiff.prefix(length)))) == upright, "cut at \(length)")
        }
        var farDirectory = tiff
        farDirectory.replaceSubrange(4..<8, with: [0xFF, 0xFF, 0xFF, 0xF0])
        var orientation9 = tiff
        orientation9[19] = 9
        var noOrder = tiff
        noOrder[0] = 0x50
        for broken in [farDirectory, orientation9, noOrder] {
            #expect(try ImageDecoder().decode(withExif(broken)) == upright)
        }
    }

    @Test("grey pictures come back level by level")
    func luminance() throws {
        let levels = (0...255).map { UInt8($0) }
        let gray = GrayImage(width: 16, height: 16, pixels: levels)
        #expect(try ImageDecoder().decode(PNGWriter.encode(gray)).luminance == gray)
        // Pillow: Image.new("RGB", (1, 1), (200, 30, 90)).convert("L").getpixel((0, 0)) is 88
        #expect(Image(width: 1, height: 1, pixels: [200, 30, 90]).luminance.pixels == [88])
    }
}
