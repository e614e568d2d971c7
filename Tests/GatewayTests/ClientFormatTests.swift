import Foundation
import Gateway
import Imaging
import Segmentation
import Testing

/// The formats of other clients, without a gateway around them; the clients themselves read them in Tests/Clients.
@Suite struct ClientFormatTests {
    // MARK: Label Studio's brush

    private func encoding(_ rows: [[UInt8]]) throws -> RunLengthEncoding {
        let (height, width) = (rows.count, rows[0].count)
        var counts: [Int] = [0]
        var last: UInt8 = 0
        for column in 0..<width {
            for row in 0..<height {
                if rows[row][column] != last { counts.append(0) }
                last = rows[row][column]
                counts[counts.count - 1] += 1
            }
        }
        return try RunLengthEncoding(counts: counts, height: height, width: width)
    }

    /// The vectors were written by `label_studio_sdk.converter.brush.mask2rle`.
    @Test(
        arguments: [
            ([[0, 1], [1, 0]], [0, 0, 0, 16, 57, 27, 252, 96, 19, 255, 198, 0]),
            (
                [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]],
                [0, 0, 0, 48, 57, 27, 254, 19, 0, 159, 255, 9, 128, 0]
            ),
            ([[1, 1, 1], [1, 1, 1]], [0, 0, 0, 24, 57, 27, 254, 23, 255, 0]),
        ] as [([[UInt8]], [UInt8])])
    func brushOfSmallMasks(_ rows: [[UInt8]], _ bytes: [UInt8]) throws {
        #expect(BrushEncoding.bytes(of: try encoding(rows)) == bytes)
    }

    @Test func brushOfARectangle() throws {
        let rows = (0..<480).map { y in
            (0..<640).map { x in UInt8((100...399).contains(x) && (50...299).contains(y) ? 1 : 0) }
        }
        let bytes = BrushEncoding.bytes(of: try encoding(rows))
        #expect(bytes.count == 1725)
        #expect(bytes.starts(with: [0, 18, 192, 0, 57, 27, 255, 255, 255, 0, 254, 177]))
    }

    // MARK: Label Studio's interfaces

    @Test func interfacesAreRead() throws {
        let configuration = try LabelConfiguration(
            """
            <?xml version="1.0"?><!DOCTYPE View><View><!-- <Image name="no" value="$no"/> -->
              <Image value='$photo' name="img"
                zoom="true" />
              <RectangleLabels name="box" toName="img" smart="true"><Label value="a &quot;b&quot; &amp; &#x5207;"/>
              </RectangleLabels><![CDATA[<BrushLabels name="x" toName="img"/>]]>
              <PolygonLabels name="poly" toName="other,img"><Label value="c" alias="d"></Label><Label value="e"/></PolygonLabels>
            </View>
            """)
        #expect(configuration.image?.name == "img")
        #expect(configuration.image?.key == "photo")
        let polygon = configuration.control(["RectangleLabels", "PolygonLabels"], for: "img")
        #expect(polygon?.name == "PolygonLabels")
        #expect(polygon?.labels == ["d", "e"])
        #expect(configuration.control(["RectangleLabels"], for: "img")?.labels == ["a \"b\" & 切"])
        #expect(configuration.control(["BrushLabels"], for: "img") == nil)
        #expect(configuration.control(["PolygonLabels"], for: "nothing") == nil)
    }

    @Test(arguments: [
        "<View", "<View a", "<View a='", "<View></Image>", "<>", "<Label value=\"a\"/>", "</View>", "<View a=b/>",
        "<View \"/>",
    ])
    func brokenInterfacesAreRefused(_ text: String) {
        #expect(throws: (any Error).self) { try LabelConfiguration(text) }
    }

    @Test func interfacesOfNothingButOpenTagsAreRefused() {
        for sign in ["<", "<a>", "<Label>"] {
            #expect(throws: (any Error).self) { try LabelConfiguration(String(repeating: sign, count: 100_000)) }
        }
    }

    @Test(arguments: ["", "text", "<!-- <Image", "<View><Image name=\"i\"/>", "<![CDATA["])
    func whatCanBeReadOfAnInterfaceIsRead(_ text: String) throws { _ = try LabelConfiguration(text) }

    // MARK: Outlines

    private func mask(_ rows: [String]) -> GrayImage {
        GrayImage(
            width: rows[0].count, height: rows.count,
            pixels: rows.flatMap { $0.utf8.map { $0 == UInt8(ascii: "#") ? 1 : 0 } })
    }

    @Test func whatLiesInAHoleHasNoOutlineOfItsOwn() {
        let rows = [
            "#######..#",
            "#.....#...",
            "#.###.#...",
            "#.#.#.#...",
            "#.###.#...",
            "#.....#...",
            "#######...",
        ]
        let outlines = OuterContours.of(mask(rows))
        let first = [
            PixelVertex(x: 0, y: 0), PixelVertex(x: 6, y: 0), PixelVertex(x: 6, y: 6), PixelVertex(x: 0, y: 6),
        ]
        #expect(Set(outlines.map { Set($0) }) == [Set(first), [PixelVertex(x: 9, y: 0)]])
        // A gap opens the hole: then both are outside.
        var open = rows
        open[3] = "#.#.#....."
        #expect(OuterContours.of(mask(open)).count == 3)
        #expect(OuterContours.of(mask(["...", "..."])).isEmpty)
    }

    // MARK: NumPy's files

    @Test func headsAreNumPysOwn() {
        // numpy.save of numpy.zeros((1, 256, 64, 64), "f4") begins so.
        let head = NumPyFile.head(.float32, shape: [1, 256, 64, 64])
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 256, 64, 64), }"
        #expect(head.count == 128)
        #expect(head.prefix(10).elementsEqual([0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0, 0x76, 0]))
        #expect(
            String(decoding: head.dropFirst(10), as: UTF8.self)
                == text + String(repeating: " ", count: 117 - text.count) + "\n")
        #expect(String(decoding: NumPyFile.head(.bool, shape: [3]), as: UTF8.self).contains("'shape': (3,), }"))
        for count in 0..<40 { #expect(NumPyFile.head(.int8, shape: Array(repeating: 7, count: count)).count % 64 == 0) }
    }

    @Test func archivesSayWhatIsInThem() throws {
        var archive = NumPyArchive()
        let elements = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 / 1000) }
        try archive.add("masks", .bool, shape: [1, 100, 1000]) { write in
            for piece in [elements[..<3], elements[3...]] { try Array(piece).withUnsafeBytes { try write($0) } }
        }
        try archive.add("empty", .float32, shape: [0]) { _ in }
        let file = archive.finish()
        func number(_ at: Int, _ count: Int) -> Int { (0..<count).reduce(0) { $0 | Int(file[at + $1]) << (8 * $1) } }
        // The end of the central directory, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.16.
        let end = file.count - 22
        #expect(number(end, 4) == 0x0605_4B50)
        #expect(number(end + 10, 2) == 2)
        let directory = number(end + 16, 4)
        #expect(directory + number(end + 12, 4) == end)
        #expect(number(directory, 4) == 0x0201_4B50)
        #expect(number(directory + 10, 2) == 8)
        let whole = NumPyFile.head(.bool, shape: [1, 100, 1000]) + elements
        #expect(number(directory + 16, 4) == Int(Self.checksum(whole)))
        #expect(number(directory + 24, 4) == whole.count)
        #expect(number(directory + 20, 4) < 2000)
        let local = number(directory + 42, 4)
        #expect(local == 0)
        #expect(number(local, 4) == 0x0403_4B50)
        #expect(file[(local + 30)..<(local + 39)].elementsEqual("masks.npy".utf8))
        let next = local + 30 + 9 + number(directory + 20, 4)
        #expect(number(next, 4) == 0x0403_4B50)
        #expect(number(directory + 46 + 9 + 42, 4) == next)
    }

    /// CRC-32 bit by bit.
    private static func checksum(_ bytes: [UInt8]) -> UInt32 {
        var rest: UInt32 = 0xFFFF_FFFF
        for byte in bytes {
            rest ^= UInt32(byte)
            for _ in 0..<8 { rest = rest >> 1 ^ (rest & 1 == 1 ? 0xEDB8_8320 : 0) }
        }
        return ~rest
    }
}
