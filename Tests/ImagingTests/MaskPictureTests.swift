import Foundation
import Imaging
import Testing

@Suite("Masks and label maps from files")
struct MaskPictureTests {
    private let shape: [UInt8] = [0, 1, 1, 0, 0, 1, 0, 0]

    /// A picture of 8 columns and one row whose samples are 0 and `inside`, packed into `bits`.
    private func picture(bits: UInt8, color: UInt8, _ samples: [Int]) -> [UInt8] {
        var row: [UInt8] = [0]
        if bits == 16 {
            row += samples.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
        } else {
            for start in stride(from: 0, to: samples.count * Int(bits), by: 8) {
                let perByte = 8 / Int(bits)
                row.append(
                    samples[(start / Int(bits))..<(start / Int(bits) + perByte)]
                        .reduce(0) { $0 << (bits == 8 ? 0 : bits) | UInt8($1) })
            }
        }
        let palette = color == 3 ? PNGForge.chunk("PLTE", (0..<48).map { UInt8(200 - $0) }) : []
        return PNGForge.signature + PNGForge.header(UInt32(samples.count), 1, bits: bits, color: color) + palette
            + PNGForge.pixels(row) + PNGForge.end
    }

    @Test("two values are a mask, whatever they are")
    func twoValues() throws {
        let cases: [(UInt8, UInt8, Int, Int)] = [
            (8, 0, 0, 1), (8, 0, 0, 255), (8, 0, 0, 37), (8, 0, 100, 200), (1, 0, 0, 1), (2, 0, 0, 1), (4, 0, 0, 9),
            (16, 0, 0, 1), (16, 0, 0, 256), (16, 0, 0, 65535), (8, 3, 0, 1), (4, 3, 0, 2), (1, 3, 0, 1), (8, 3, 3, 7),
        ]
        for (bits, color, outside, inside) in cases {
            let file = picture(bits: bits, color: color, shape.map { $0 == 0 ? outside : inside })
            let mask = try MaskPicture(file)
            #expect(
                mask.levels.pixels == shape.map { $0 * 255 },
                "\(bits) bits, colour type \(color), \(outside), \(inside)")
            #expect(!mask.isSoft && mask.notes.isEmpty)
        }
        // Black and dark red, as VOC's palette has its first object.
        let rgb =
            PNGForge.signature + PNGForge.header(2, 1) + PNGForge.pixels([0, 0, 0, 0, 128, 0, 0]) + PNGForge.end
        #expect(try MaskPicture(rgb).levels.pixels == [0, 255])
    }

    @Test("an empty mask and one of everything are said")
    func single() throws {
        let empty = try MaskPicture(picture(bits: 8, color: 0, [Int](repeating: 0, count: 8)))
        #expect(empty.notes.map(\.code) == [.emptyMask] && empty.levels.pixels.allSatisfy { $0 == 0 })
        let whole = try MaskPicture(picture(bits: 1, color: 0, [Int](repeating: 1, count: 8)))
        #expect(whole.notes.map(\.code) == [.wholeMask] && whole.levels.pixels.allSatisfy { $0 == 255 })
    }

    @Test("more values are a soft mask by their own white; labels are told from one")
    func soft() throws {
        let soft = try MaskPicture(picture(bits: 8, color: 0, [0, 60, 128, 200, 255, 0, 0, 0]))
        #expect(soft.isSoft && soft.levels.pixels == [0, 60, 128, 200, 255, 0, 0, 0] && soft.notes.isEmpty)
        let deep = try MaskPicture(picture(bits: 16, color: 0, [0, 32768, 65535, 0, 0, 0, 0, 0]))
        #expect(deep.levels.pixels.prefix(3) == [0, 128, 255])
        let labels = try MaskPicture(picture(bits: 8, color: 0, [0, 1, 2, 3, 0, 0, 0, 0]))
        #expect(labels.notes.map(\.code) == [.emptyMask])
        let error = #expect(throws: ImageError.self) {
            try MaskPicture(picture(bits: 8, color: 3, [0, 1, 2, 3, 0, 0, 0, 0]), named: "labels.png")
        }
        #expect(error?.code == .unsupported && error?.description.contains("one object") == true)
    }

    @Test("label maps have the numbers of their file, in any depth and format")
    func labelMaps() throws {
        try Fixtures.withDirectory { directory in
            func labels(_ bytes: [UInt8], _ name: String = "map.png") throws -> [UInt16] {
                let path = "\(directory)/\(name)"
                try Data(bytes).write(to: URL(fileURLWithPath: path))
                return try LabelMap(file: path).labels
            }
            #expect(try labels(picture(bits: 1, color: 0, [0, 1, 1, 0, 0, 0, 0, 1])) == [0, 1, 1, 0, 0, 0, 0, 1])
            #expect(try labels(picture(bits: 2, color: 0, [0, 1, 2, 3, 0, 0, 0, 1])) == [0, 1, 2, 3, 0, 0, 0, 1])
            #expect(try labels(picture(bits: 4, color: 0, [0, 15, 7, 3, 0, 0, 0, 1])) == [0, 15, 7, 3, 0, 0, 0, 1])
            #expect(try labels(picture(bits: 4, color: 3, [0, 15, 7, 3, 0, 0, 0, 1])) == [0, 15, 7, 3, 0, 0, 0, 1])
            #expect(try labels(picture(bits: 1, color: 3, [0, 1, 1, 0, 0, 0, 0, 1])) == [0, 1, 1, 0, 0, 0, 0, 1])
            #expect(try labels(picture(bits: 8, color: 3, [0, 200, 7, 3])) == [0, 200, 7, 3])
            #expect(try labels(picture(bits: 16, color: 0, [0, 300, 65535])) == [0, 300, 65535])
            let tiff = try labels(try Fixtures.bytes("palette4.tif"), "map.tif")
            #expect(tiff.count == 21 * 13 && (tiff.max() ?? 0) == 15)
            let error = #expect(throws: ImageError.self) { try labels(try Fixtures.bytes("rgb8.png")) }
            #expect(error?.reason.contains("colours") == true)
        }
    }
}
