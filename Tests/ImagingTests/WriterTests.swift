import Foundation
import Imaging
import Testing

@Suite("Pictures are written whole or not at all")
struct WriterTests {
    @Test("what is written reads back", arguments: [(1, 1), (7, 3), (64, 65), (200, 1)])
    func roundTrip(width: Int, height: Int) throws {
        let image = Image(width: width, height: height, pixels: Fixtures.noise(width * height * 3, seed: 4))
        #expect(try ImageDecoder().decode(PNGWriter.encode(image)) == image)
        let gray = GrayImage(width: width, height: height, pixels: Fixtures.noise(width * height, seed: 5))
        #expect(try ImageDecoder().decode(PNGWriter.encode(gray)).luminance == gray)
        let mask = GrayImage(width: width, height: height, pixels: gray.pixels.map { $0 & 1 })
        let read = try ImageDecoder().decode(PNGWriter.encode(mask: mask)).luminance
        #expect(read.pixels == mask.pixels.map { $0 * 255 })
    }

    @Test("a file takes the place of an older one, through a link too")
    func replaces() throws {
        try Fixtures.withDirectory { directory in
            let image = Image(width: 2, height: 2, pixels: Fixtures.noise(12, seed: 1))
            let path = "\(directory)/out.png"
            try PNGWriter.write(image, to: path)
            try PNGWriter.write(mask: GrayImage(width: 1, height: 1, pixels: [1]), to: path)
            #expect(try ImageDecoder().decode(file: path).width == 1)
            let link = "\(directory)/link.png"
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
            try PNGWriter.write(image, to: link)
            #expect(try ImageDecoder().decode(file: path) == image)
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == path)
            let files = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(files.count == 2)
        }
    }

    @Test("an output that cannot be written leaves nothing behind")
    func unwritable() throws {
        try Fixtures.withDirectory { directory in
            let image = GrayImage(width: 1, height: 1, pixels: [7])
            let missing = #expect(throws: ImageError.self) { try PNGWriter.write(image, to: "\(directory)/no/out.png") }
            #expect(missing?.code == .unwritable && missing?.remedy == "Create the directory first")
            let place = #expect(throws: ImageError.self) { try PNGWriter.write(image, to: directory) }
            #expect(place?.code == .unwritable && place?.remedy.contains("not of a directory") == true)
            // /dev/full takes nothing: the error of a full disk.
            let full = #expect(throws: ImageError.self) { try PNGWriter.write(image, to: "/dev/full") }
            #expect(full?.code == .unwritable && full?.remedy == "Make room on the disk")
            let left = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(left.isEmpty)
        }
    }

    @Test("an empty picture is refused")
    func empty() {
        let error = #expect(throws: ImageError.self) {
            try PNGWriter.encode(GrayImage(width: 0, height: 4, pixels: []), named: "out.png")
        }
        #expect(error?.source == "out.png")
    }
}
