import Foundation
import Imaging
import Testing

@Suite("What is odd about a picture and costs no pixel is read, and said")
struct NoteTests {
    /// Expects the same picture of stray bytes, and the note; nil where the decoder need not notice.
    private func stray(
        _ bytes: [UInt8], same original: [UInt8], _ code: ImageNote.Code?, _ location: SourceLocation = #_sourceLocation
    )
        throws
    {
        let read = try ImageDecoder().read(bytes)
        #expect(try read.image == ImageDecoder().decode(original), sourceLocation: location)
        if let code { #expect(read.notes.map(\.code) == [code], sourceLocation: location) }
    }

    @Test(
        "stray bytes before a JPEG's end, however many",
        arguments: ["baseline420.jpg", "gray.jpg", "cmyk.jpg", "progressive444.jpg", "restarts.jpg"])
    func beforeTheEnd(name: String) throws {
        let bytes = try Fixtures.bytes(name)
        let end: [UInt8] = [0xFF, 0xD9]
        try #require(bytes.suffix(2).elementsEqual(end))
        let picture = Array(bytes.dropLast(2))
        // What the decoder reads ahead it does not miss.
        try stray(picture + [0, 0, 0, 0] + end, same: bytes, nil)
        for extra in [[UInt8](repeating: 0x12, count: 102), [UInt8](repeating: 7, count: 500)] {
            try stray(picture + extra + end, same: bytes, .strayBytes)
        }
    }

    @Test("stray bytes among a JPEG's segments, and behind each scan of a progressive one")
    func amongSegments() throws {
        for name in ["baseline420.jpg", "progressive444.jpg"] {
            let bytes = try Fixtures.bytes(name)
            let places = bytes.indices.dropLast().filter {
                bytes[$0] == 0xFF && [0xDB, 0xC4, 0xC0, 0xC2, 0xDA, 0xD9].contains(bytes[$0 + 1])
            }
            #expect(places.count > 4)
            let extra = (1...24).map { UInt8($0) }
            for place in places {
                try stray(bytes[..<place] + extra + bytes[place...], same: bytes, .strayBytes)
            }
            var all = bytes
            for place in places.reversed() { all.insert(contentsOf: extra, at: place) }
            try stray(all, same: bytes, .strayBytes)
        }
    }

    @Test("metadata that libjpeg does not know")
    func oddMetadata() throws {
        let bytes = try Fixtures.bytes("baseline444.jpg")
        let version = try #require(bytes.indices.first { bytes[$0...].starts(with: Array("JFIF\0".utf8)) }) + 5
        var odd = bytes
        odd[version] = 3
        try stray(odd, same: bytes, .oddMetadata)
        let ycck = try Fixtures.bytes("ycck.jpg")
        let adobe = try #require(ycck.indices.first { ycck[$0...].starts(with: Array("Adobe".utf8)) }) + 11
        #expect(ycck[adobe] == 2)
        odd = ycck
        odd[adobe] = 9
        try stray(odd, same: ycck, .oddMetadata)
    }

    @Test("a PNG without its end, or with something else there")
    func endOfPNG() throws {
        for name in ["rgb8.png", "palette4i.png", "gray16.png"] {
            let bytes = try Fixtures.bytes(name)
            let withoutEnd = Array(bytes.dropLast(12))
            try stray(withoutEnd, same: bytes, .missingEnd)
            try stray(withoutEnd + [0, 0, 0], same: bytes, .missingEnd)
            try stray(withoutEnd + [UInt8](repeating: 0, count: 40), same: bytes, .strayBytes)
            try stray(withoutEnd + PNGForge.chunk("tEXt", [0x41, 0, 0x42]).dropLast(3), same: bytes, .missingEnd)
            // Without the last pixels it is no picture.
            #expect(throws: ImageError.self) { try ImageDecoder().decode(Array(bytes.dropLast(12 + 4 + 4 + 6))) }
        }
    }
}

@Suite("Levels of samples with more than 8 bits")
struct LevelTests {
    private func gray(_ samples: [UInt16]) -> [UInt8] {
        PNGForge.signature + PNGForge.header(UInt32(samples.count), 1, bits: 16, color: 0)
            + PNGForge.pixels([0] + samples.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }) + PNGForge.end
    }

    private func levels(_ samples: [UInt16], _ levels: Levels) throws -> ([UInt8], [ImageNote.Code]) {
        let read = try ImageDecoder(levels: levels).read(gray(samples))
        return (read.image.luminance.pixels, read.notes.map(\.code))
    }

    @Test("12 bits in 16 are seen, and that is said")
    func emptyUpperBits() throws {
        let samples: [UInt16] = [0, 16, 2048, 4080]
        #expect(try levels(samples, .auto) == ([0, 1, 128, 255], [.emptyUpperBits]))
        #expect(try levels(samples, .full) == ([0, 0, 8, 15], []))
        #expect(try levels(samples, .window(low: 16, high: 4080)) == ([0, 0, 128, 255], []))
        // Bytes in pairs of bytes, and nothing at all.
        #expect(try levels([0, 7, 255], .auto) == ([0, 7, 255], [.emptyUpperBits]))
        #expect(try levels([0, 0], .auto) == ([0, 0], []))
        // A dark photograph of 16 bits stays as dark as it is.
        #expect(try levels([0, 16384], .auto) == ([0, 64], []))
        #expect(try levels([0, 16383], .auto) == ([0, 255], [.emptyUpperBits]))
    }

    @Test("colour, alpha and TIFF alike")
    func kinds() throws {
        let color =
            PNGForge.signature + PNGForge.header(1, 1, bits: 16) + PNGForge.pixels([0, 0, 255, 8, 0, 15, 240])
            + PNGForge.end
        let read = try ImageDecoder().read(color)
        #expect(read.image.pixels == [15, 128, 255] && read.notes.map(\.code) == [.emptyUpperBits])
        let tiff = try ImageDecoder(levels: .window(low: 0, high: 4095)).read(Fixtures.bytes("gray12.tif"))
        let full = try ImageDecoder(levels: .full).read(Fixtures.bytes("gray12.tif"))
        #expect(zip(tiff.image.pixels, full.image.pixels).allSatisfy { abs(Int($0) - Int($1)) <= 1 })
        #expect(try ImageDecoder(levels: .window(low: 3, high: 4)).read(Fixtures.bytes("rgb8.png")).notes.isEmpty)
    }

    @Test("what is no window")
    func parsing() {
        #expect(Levels("auto") == .auto && Levels("full") == .full)
        #expect(Levels("10,4095") == .window(low: 10, high: 4095))
        for text in ["", "10", "10,10", "20,10", "-1,5", "0,65536", "0,1,2", "a,b", "0x1,5"] {
            #expect(Levels(text) == nil, "\(text)")
        }
    }
}
