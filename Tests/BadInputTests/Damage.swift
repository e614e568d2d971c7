/// What can happen to a file's bytes on their way, and what it is called.
struct Damage {
    let what: String
    let bytes: [UInt8]

    init(_ what: String, _ bytes: [UInt8]) { (self.what, self.bytes) = (what, bytes) }

    /// A PNG and a JPEG that are whole become pictures that nobody can read.
    static func pictures(png: [UInt8], jpeg: [UInt8]) -> [Damage] {
        func changed(_ place: Int) -> [UInt8] {
            var bytes = png
            bytes[place] ^= 0x55
            return bytes
        }
        /// A header that claims so many pixels a side; its checksum is right, so that the claim itself is looked at.
        func bomb(_ side: UInt16) -> [UInt8] {
            let length = [0, 0, UInt8(side >> 8), UInt8(side & 0xFF)]
            var bytes = png
            bytes.replaceSubrange(16..<24, with: length + length)
            let checksum = crc32(bytes[12..<29])
            bytes.replaceSubrange(29..<33, with: (0..<4).map { UInt8(truncatingIfNeeded: checksum >> (24 - 8 * $0)) })
            return bytes
        }
        var corrupt = png
        for index in stride(from: 60, to: png.count - 60, by: 97) { corrupt[index] ^= 0x55 }
        return [
            Damage("cut off", Array(png.prefix(png.count / 2))), Damage("only its head", Array(png.prefix(40))),
            Damage("a damaged chunk", changed(png.count - 30)), Damage("a damaged signature", changed(1)),
            Damage("a damaged head", changed(25)), Damage("damaged all over", corrupt),
            Damage("a bomb of 60,000 pixels a side", bomb(60_000)), Damage("a bomb of 65,535", bomb(.max)),
            Damage("text", Array("this is no picture".utf8)), Damage("zeros", [UInt8](repeating: 0, count: 5000)),
            Damage("the start of a JPEG", Array(jpeg.prefix(300))), Damage("a cut JPEG", Array(jpeg.prefix(2000))),
        ]
    }

    /// A record of an embedding that is whole becomes one that nobody may believe.
    static func records(_ good: [UInt8]) -> [Damage] {
        func flipped(_ place: Int) -> [UInt8] {
            var bytes = good
            bytes[place] ^= 0x10
            return bytes
        }
        return [
            Damage("header", flipped(20)), Damage("payload", flipped(9000)),
            Damage("near its end", flipped(good.count - 5)), Damage("last byte", flipped(good.count - 1)),
            Damage("cut off", Array(good.prefix(4000))), Damage("only its head", Array(good.prefix(100))),
            Damage("too long", good + [0]), Damage("empty", []), Damage("text", Array("hello".utf8)),
        ]
    }

    /// The checksum of a PNG's chunk, bit by bit (ISO 3309).
    private static func crc32(_ bytes: some Collection<UInt8>) -> UInt32 {
        ~bytes.reduce(UInt32.max) { sum, byte in
            (0..<8).reduce(sum ^ UInt32(byte)) { sum, _ in sum & 1 == 1 ? sum >> 1 ^ 0xEDB8_8320 : sum >> 1 }
        }
    }
}
