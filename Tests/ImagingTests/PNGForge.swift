/// Builds PNG files piece by piece, right or wrong, without libpng.
enum PNGForge {
    static let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    static let end = chunk("IEND", [])

    static func header(
        _ width: UInt32, _ height: UInt32, bits: UInt8 = 8, color: UInt8 = 2, compression: UInt8 = 0, filter: UInt8 = 0,
        interlace: UInt8 = 0
    ) -> [UInt8] {
        chunk("IHDR", bigEndian(width) + bigEndian(height) + [bits, color, compression, filter, interlace])
    }

    static func chunk(_ type: String, _ data: [UInt8], checksum: UInt32? = nil) -> [UInt8] {
        let body = Array(type.utf8) + data
        return bigEndian(UInt32(data.count)) + body + bigEndian(checksum ?? crc(body))
    }

    /// Scan lines as a zlib stream of stored blocks.
    static func pixels(_ raw: [UInt8]) -> [UInt8] {
        var stream: [UInt8] = [0x78, 0x01]
        var rest = raw[...]
        repeat {
            let block = rest.prefix(0xFFFF)
            rest = rest.dropFirst(block.count)
            let size = UInt16(block.count)
            stream += [rest.isEmpty ? 1 : 0, UInt8(size & 0xFF), UInt8(size >> 8)]
            stream += [UInt8(~size & 0xFF), UInt8(~size >> 8)] + block
        } while !rest.isEmpty
        var (a, b) = (UInt32(1), UInt32(0))
        for byte in raw {
            a = (a + UInt32(byte)) % 65521
            b = (b + a) % 65521
        }
        return chunk("IDAT", stream + bigEndian(b << 16 | a))
    }

    static func bigEndian(_ value: UInt32) -> [UInt8] {
        [UInt8(value >> 24), UInt8(value >> 16 & 0xFF), UInt8(value >> 8 & 0xFF), UInt8(value & 0xFF)]
    }

    static func crc(_ bytes: [UInt8]) -> UInt32 {
        ~bytes.reduce(~0) { value, byte in
            (0..<8).reduce(value ^ UInt32(byte)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1
            }
        }
    }

    /// The file with every chunk's checksum made right, as far as the lengths lead.
    static func withChecksums(_ file: [UInt8]) -> [UInt8] {
        var file = file
        var offset = 8
        while offset + 12 <= file.count {
            let length = file[offset..<(offset + 4)].reduce(0) { $0 << 8 | Int($1) }
            guard offset + 12 + length <= file.count else { break }
            let end = offset + 8 + length
            file.replaceSubrange(end..<(end + 4), with: bigEndian(crc(Array(file[(offset + 4)..<end]))))
            offset = end + 4
        }
        return file
    }
}
