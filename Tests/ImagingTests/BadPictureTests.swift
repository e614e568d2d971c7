import Foundation
import Imaging
import Testing

@Suite("Bad pictures are refused with the place and the remedy")
struct BadPictureTests {
    /// Decodes and returns the error; a picture that decodes fails the test.
    private func refusal(
        _ bytes: [UInt8], limit: PixelLimit = .standard, _ location: SourceLocation = #_sourceLocation
    ) -> ImageError? {
        let error = #expect(throws: ImageError.self, sourceLocation: location) {
            try ImageDecoder(limit: limit).decode(bytes, named: "bad.png")
        }
        if let error {
            #expect(error.source == "bad.png" && !error.remedy.isEmpty, sourceLocation: location)
            #expect(error.description.hasPrefix("bad.png"), sourceLocation: location)
        }
        return error
    }

    @Test("empty input and foreign formats")
    func foreign() {
        #expect(refusal([])?.code == .empty)
        let gif = refusal(Array("GIF89a......".utf8))
        #expect(gif?.code == .unsupported)
        #expect(gif?.description.contains("47 49 46 38") == true && gif?.description.contains("GIF") == true)
        #expect(gif?.remedy.contains("PNG") == true)
        #expect(refusal(Array("RIFF\u{1}\u{2}\u{3}\u{4}WEBPVP8 ".utf8))?.code == .truncated)
        #expect(refusal(Array("RIFF\u{20}\0\0\0AVI LIST".utf8))?.code == .unsupported)
        #expect(refusal(Array("II*".utf8))?.code == .truncated)
        #expect(refusal(Array("II*\0".utf8))?.code == .corrupt)
        #expect(refusal(Array("hello".utf8))?.code == .unsupported)
        #expect(refusal([0x89, 0x50, 0x4E])?.code == .truncated)
        #expect(refusal([0xFF, 0xD8])?.code == .truncated)
    }

    @Test(
        "a PNG or JPEG cut anywhere is truncated, and says so",
        arguments: [
            "rgb8.png", "palette4i.png", "baseline420.jpg", "progressive444.jpg", "gray.jpg",
        ])
    func cut(name: String) throws {
        let bytes = try Fixtures.bytes(name)
        let whole = try ImageDecoder().decode(bytes)
        var complete: [Int] = []
        for length in 8..<bytes.count {
            do throws(ImageError) {
                // Nothing but the end is missing, or there is no picture: half of one is none.
                let read = try ImageDecoder().read(Array(bytes.prefix(length)), named: "bad.png")
                #expect(read.image == whole, "\(name) cut to \(length)")
                #expect(read.notes.map(\.code) == [.missingEnd])
                complete.append(length)
            } catch {
                #expect(error.code == .truncated, "\(name) cut to \(length): \(error)")
                #expect(error.place != nil)
            }
        }
        #expect(complete.contains(bytes.count - 1) && complete.contains(bytes.count - 2))
        // 20 bytes of a PNG hold no pixel: the stream's checksum, the chunk's, and IEND.
        #expect((complete.first ?? 0) >= bytes.count - 24)
    }

    @Test(
        "a WebP or TIFF cut anywhere is refused",
        arguments: [
            "lossy.webp", "lossless-alpha.webp", "animated.webp",
            "rgb8.tif", "lzw.tif", "rgb8-bigtiff.tif", "jpeg.tif",
        ])
    func cutForeign(name: String) throws {
        let bytes = try Fixtures.bytes(name)
        let whole = try ImageDecoder().decode(bytes)
        for length in 4..<bytes.count {
            do throws(ImageError) {
                // TIFF keeps its pixels anywhere: what is cut off may be of no concern.
                let image = try ImageDecoder().decode(Array(bytes.prefix(length)))
                #expect(name.hasSuffix(".tif") && image == whole, "\(name) cut to \(length)")
            } catch {
                #expect([.truncated, .corrupt].contains(error.code), "\(name) cut to \(length): \(error)")
            }
        }
    }

    @Test("WebP and TIFF that claim too much are refused before memory is taken")
    func foreignBombs() throws {
        for name in ["lossy.webp", "lossless.webp", "animated.webp", "rgb8.tif", "rgb8-tiles.tif"] {
            let bytes = try Fixtures.bytes(name)
            let header = try ImageDecoder().header(of: bytes)
            let error = refusal(bytes, limit: PixelLimit(pixels: header.width * header.height - 1))
            #expect(error?.code == .tooLarge && error?.remedy.contains("--max-pixels") == true, "\(name)")
        }
        // The canvas of an extended WebP is 24 bits wide, a TIFF's sides are 32.
        var webp = try Fixtures.bytes("animated.webp")
        webp.replaceSubrange(24..<30, with: [UInt8](repeating: 0xFF, count: 6))
        #expect(refusal(webp)?.code == .tooLarge)
        var tiff = try Fixtures.bytes("rgb8.tif")
        for entry in [10, 22] { tiff.replaceSubrange((entry + 8)..<(entry + 12), with: [0x60, 0xEA, 0, 0]) }
        #expect(refusal(tiff)?.code == .tooLarge)
        // A tile of 16 gigapixels for a picture of 273.
        var tiles = try Fixtures.bytes("rgb8-tiles.tif")
        let entries = (0..<16).map { index in 10 + 12 * index }
        let entry = try #require(entries.first { place in tiles[place] == 0x42 && tiles[place + 1] == 1 })
        tiles.replaceSubrange((entry + 8)..<(entry + 12), with: [0, 0, 2, 0])
        tiles.replaceSubrange((entry + 20)..<(entry + 24), with: [0, 0, 2, 0])
        #expect([.tooLarge, .corrupt].contains(refusal(tiles)?.code))
    }

    @Test("what libraries are missing for is said")
    func missingLibraries() throws {
        let webp = try Fixtures.bytes("lossy.webp")
        #expect(WebPDecoder.Library(named: "libwebp.so.none") == nil)
        let error = webp.withUnsafeBytes { bytes in
            #expect(throws: ImageError.self) {
                try WebPDecoder(bytes, named: "a.webp", limit: .standard).decode(with: nil)
            }
        }
        #expect(error?.remedy.contains("apt-get install libwebp7") == true)
        let tiff = try Fixtures.bytes("rgb8.tif")
        #expect(TIFFLibrary(named: "libtiff.so.none") == nil)
        let other = tiff.withUnsafeBytes { bytes in
            #expect(throws: ImageError.self) {
                try TIFFDecoder(bytes, named: "a.tif", limit: .standard, library: nil)
            }
        }
        #expect(other?.remedy.contains("apt-get install libtiff6") == true)
    }

    @Test("kinds of TIFF that are not read are named")
    func foreignTIFF() throws {
        func changed(_ tag: Int, _ value: UInt8) throws -> [UInt8] {
            var bytes = try Fixtures.bytes("rgb8.tif")
            let entries = (0..<20).map { index in 10 + 12 * index }
            let entry = try #require(
                entries.first { place in Int(bytes[place]) | Int(bytes[place + 1]) << 8 == tag })
            bytes[entry + 8] = value
            return bytes
        }
        #expect(refusal(try changed(262, 8))?.reason.contains("of kind 8") == true)
        #expect(refusal(try changed(262, 6))?.code == .unsupported)
        #expect(refusal(try changed(277, 2)) != nil)
    }

    @Test("headers that claim too much are refused before memory is taken")
    func bombs() throws {
        let png = PNGForge.signature + PNGForge.header(60_000, 60_000) + PNGForge.pixels([0]) + PNGForge.end
        let error = refusal(png)
        #expect(error?.code == .tooLarge && error?.reason.contains("60000 x 60000") == true)
        #expect(error?.place == "IHDR chunk at byte 8")
        // No machine has this memory: asking for it would end the process.
        let wide = PNGForge.signature + PNGForge.header(0x7FFF_FFFF, 0x7FFF_FFFF) + PNGForge.end
        #expect(refusal(wide)?.code == .tooLarge)
        #expect(refusal(wide, limit: PixelLimit(pixels: Int.max))?.code == .unsupported)

        var jpeg = try Fixtures.bytes("progressive444.jpg")
        let frame = try #require(jpeg.indices.first { jpeg[$0] == 0xFF && jpeg[$0 + 1] == 0xC2 })
        jpeg.replaceSubrange((frame + 5)..<(frame + 9), with: [0xFF, 0xFF, 0xFF, 0xFF])
        let jpegError = refusal(jpeg)
        #expect(jpegError?.code == .tooLarge && jpegError?.place == "marker FF C2 at byte \(frame)")

        let small = try Fixtures.bytes("rgb8.png")
        #expect(refusal(small, limit: PixelLimit(pixels: 19 * 13 - 1))?.code == .tooLarge)
        #expect(try ImageDecoder(limit: PixelLimit(pixels: 19 * 13)).decode(small).width == 19)
    }

    @Test("a picture within the limit whose pixels are missing is an error, not a grey picture")
    func missingPixels() {
        let few = PNGForge.signature + PNGForge.header(500, 500) + PNGForge.pixels([0, 1, 2]) + PNGForge.end
        #expect(refusal(few)?.code == .corrupt)
        let none = PNGForge.signature + PNGForge.header(5, 5) + PNGForge.end
        #expect(refusal(none)?.reason.contains("IDAT") == true)
    }

    @Test("sizes of zero")
    func zeroSizes() throws {
        for (width, height) in [(0, 5), (5, 0), (0, 0)] as [(UInt32, UInt32)] {
            let png = PNGForge.signature + PNGForge.header(width, height) + PNGForge.pixels([0]) + PNGForge.end
            #expect(refusal(png)?.code == .corrupt)
        }
        var jpeg = try Fixtures.bytes("baseline420.jpg")
        let frame = try #require(jpeg.indices.first { jpeg[$0] == 0xFF && jpeg[$0 + 1] == 0xC0 })
        jpeg[frame + 5] = 0
        jpeg[frame + 6] = 0
        #expect(refusal(jpeg)?.reason.contains("no picture") == true)
    }

    @Test("headers that no PNG has")
    func headers() {
        let impossible: [[UInt8]] = [
            PNGForge.header(2, 2, bits: 3), PNGForge.header(2, 2, bits: 16, color: 3), PNGForge.header(2, 2, color: 5),
            PNGForge.header(2, 2, bits: 4, color: 2), PNGForge.header(2, 2, compression: 1),
            PNGForge.header(2, 2, filter: 1), PNGForge.header(2, 2, interlace: 2),
        ]
        for header in impossible {
            let error = refusal(PNGForge.signature + header + PNGForge.pixels([0]) + PNGForge.end)
            #expect(error?.code == .corrupt && error?.place == "IHDR chunk at byte 8")
        }
        #expect(refusal(PNGForge.signature + PNGForge.end)?.reason.contains("IHDR") == true)
        #expect(refusal(PNGForge.signature + PNGForge.chunk("IHDR", [1, 2, 3]))?.code == .corrupt)
    }

    @Test("damage is found and placed")
    func damage() throws {
        var png = try Fixtures.bytes("rgb8.png")
        let data = try #require(png.indices.first { Array(png[$0...].prefix(4)) == Array("IDAT".utf8) })
        png[data + 10] ^= 0x40
        let error = refusal(png)
        #expect(error?.code == .corrupt && error?.place == "IDAT chunk at byte \(data - 4)")

        var header = try Fixtures.bytes("rgb8.png")
        header[19] ^= 1
        #expect(refusal(header)?.reason.contains("checksum") == true)

        let noPalette =
            PNGForge.signature + PNGForge.header(2, 1, color: 3) + PNGForge.pixels([0, 0, 0]) + PNGForge.end
        #expect(refusal(noPalette)?.reason.contains("PLTE") == true)
        let unknown =
            PNGForge.signature + PNGForge.header(1, 1) + PNGForge.chunk("CgBI", [0, 0, 0, 0])
            + PNGForge.pixels([0, 1, 2, 3]) + PNGForge.end
        let critical = refusal(unknown)
        #expect(critical?.code == .unsupported && critical?.place == "CgBI chunk at byte 33")
        let apple = refusal(PNGForge.signature + PNGForge.chunk("CgBI", [0x50, 0, 0x20, 2]) + PNGForge.header(1, 1))
        #expect(apple?.code == .unsupported && apple?.place == "CgBI chunk at byte 8")
        #expect(apple?.reason.contains("Apple") == true && apple?.remedy.contains("pngcrush") == true)
        let critical2 = refusal(
            PNGForge.signature + PNGForge.header(1, 1) + PNGForge.chunk("ABCD", []) + PNGForge.pixels([0, 1, 2, 3])
                + PNGForge.end)
        #expect(critical2?.place == "ABCD chunk at byte 33")
        let notAChunk = PNGForge.signature + PNGForge.header(1, 1) + [UInt8](repeating: 0, count: 40)
        #expect(refusal(notAChunk)?.place == "byte 33")

        var jpeg = try Fixtures.bytes("baseline420.jpg")
        let table = try #require(jpeg.indices.first { jpeg[$0] == 0xFF && jpeg[$0 + 1] == 0xDB })
        // The table is taken for stray bytes, and then it is missing.
        jpeg[table] = 0x12
        #expect(refusal(jpeg)?.code == .corrupt)
        jpeg = try Fixtures.bytes("baseline420.jpg")
        let huffman = try #require(jpeg.indices.first { jpeg[$0] == 0xFF && jpeg[$0 + 1] == 0xC4 })
        jpeg.replaceSubrange((huffman + 5)..<(huffman + 21), with: [UInt8](repeating: 0xFF, count: 16))
        #expect(refusal(jpeg)?.code == .corrupt)
    }

    @Test("JPEG variants that are not decoded are named")
    func jpegVariants() throws {
        let bytes = try Fixtures.bytes("baseline444.jpg")
        let frame = try #require(bytes.indices.first { bytes[$0] == 0xFF && bytes[$0 + 1] == 0xC0 })
        for marker in [0xC3, 0xC9, 0xCB] as [UInt8] {
            var variant = bytes
            variant[frame + 1] = marker
            #expect(refusal(variant)?.code == .unsupported)
        }
        var twelveBits = bytes
        twelveBits[frame + 4] = 12
        #expect(refusal(twelveBits)?.reason == "samples of 12 bits")
    }

    @Test("files that cannot be read")
    func files() throws {
        try Fixtures.withDirectory { directory in
            func refusal(_ path: String) -> ImageError? {
                #expect(throws: ImageError.self) { try ImageDecoder().decode(file: path) }
            }
            let directoryError = refusal(directory)
            #expect(directoryError?.code == .unreadable && directoryError?.reason.contains("directory") == true)
            let missing = refusal("\(directory)/none.png")
            #expect(missing?.code == .unreadable && missing?.remedy == "Check the path")
            _ = FileManager.default.createFile(atPath: "\(directory)/empty.png", contents: Data())
            #expect(refusal("\(directory)/empty.png")?.code == .empty)
            _ = FileManager.default.createFile(
                atPath: "\(directory)/secret.png", contents: Data([1]), attributes: [.posixPermissions: 0])
            if getuid() == 0 {
                print("skipped: a file without the right to read it; the superuser may read all")
            } else {
                #expect(refusal("\(directory)/secret.png")?.code == .unreadable)
            }
            // A sparse file: large on paper, nothing on disk.
            _ = FileManager.default.createFile(atPath: "\(directory)/huge.png", contents: Data())
            #expect(truncate("\(directory)/huge.png", 1 << 31) == 0)
            #expect(refusal("\(directory)/huge.png")?.code == .tooLarge)
            // What is no file is not waited for.
            #expect(refusal("/dev/null")?.code == .unreadable)
            // Opens for everybody, and no byte of it can be read.
            #expect(refusal("/proc/self/mem")?.code == .unreadable)
        }
    }
}
