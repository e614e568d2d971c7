/// The chunks of a PNG file, found and checked before libpng sees a byte.
///
/// ```text
/// 89 50 4E 47 0D 0A 1A 0A                      signature
/// length (4) | type (4) | data (length) | CRC (4)   IHDR, …, IDAT, …, IEND; numbers big-endian
/// ```
///
/// W3C, "Portable Network Graphics (PNG) Specification (Third Edition)", <https://www.w3.org/TR/png-3/>, section 5.
struct PNGChunks {
    struct Chunk {
        let type: String
        /// Where the chunk's length field stands in the file.
        let offset: Int
        let data: Range<Int>
        /// Whether the file ends before the chunk does.
        var isCut = false

        var place: String { "\(type) chunk at byte \(offset)" }
        var whole: Range<Int> { offset..<(data.upperBound + 4) }
    }

    /// Every chunk from IHDR to IEND, in the order of the file.
    ///
    /// Where the end is missing, every chunk there is; the last may be an IDAT chunk whose data is cut short and that has
    /// no checksum.
    let chunks: [Chunk]
    /// What stands where the IEND chunk was to follow, after at least one IDAT chunk; nil for a file as it should be.
    ///
    /// Whether all pixels are there only decoding them tells. Where they are not, this is what is wrong with the file.
    let fault: ImageError?

    /// Walks the chunks from `start`; lengths are checked against the file, checksums are not.
    init(_ bytes: UnsafeRawBufferPointer, from start: Int, named source: String) throws(ImageError) {
        var chunks: [Chunk] = []
        var fault: ImageError?
        var offset = start
        var hasPixels = false
        while fault == nil {
            do throws(ImageError) {
                let chunk = try Self.chunk(in: bytes, at: offset, named: source)
                guard chunk.whole.upperBound <= bytes.count else {
                    if chunk.type == "IDAT" {
                        let data = chunk.data.lowerBound..<min(chunk.data.upperBound, bytes.count)
                        chunks.append(Chunk(type: chunk.type, offset: offset, data: data, isCut: true))
                        hasPixels = true
                    }
                    throw .truncated(
                        in: source, at: chunk.place,
                        "the chunk holds \(chunk.data.count) bytes, and the file ends after \(bytes.count)")
                }
                chunks.append(chunk)
                hasPixels = hasPixels || chunk.type == "IDAT"
                if chunk.type == "IEND" { break }
                offset = chunk.whole.upperBound
            } catch {
                guard hasPixels else { throw error }
                fault = error
            }
        }
        self.chunks = chunks
        self.fault = fault
    }

    /// What is to be said of a picture that was read though its end is missing.
    var note: ImageNote? {
        guard let fault else { return nil }
        let place = fault.place.map { "\($0): " } ?? ""
        return fault.code == .truncated
            ? ImageNote(.missingEnd, "\(place)the file ends before its IEND chunk; every pixel is there")
            : ImageNote(
                .strayBytes, "\(place)what follows the pixels is no chunk, and was left out; every pixel is there")
    }

    /// The chunk whose length field stands at `offset`; it may reach past the end of the file.
    static func chunk(in bytes: UnsafeRawBufferPointer, at offset: Int, named source: String) throws(ImageError)
        -> Chunk
    {
        guard bytes.count - offset >= 8 else {
            throw .truncated(in: source, at: "byte \(offset)", "the file ends where a chunk was to follow")
        }
        let length = Int(bytes.bigEndian32(at: offset))
        let type = bytes[(offset + 4)..<(offset + 8)]
        guard length <= 0x7FFF_FFFF, type.allSatisfy({ (0x41...0x5A).contains($0 & ~0x20) }) else {
            throw .corrupt(in: source, at: "byte \(offset)", "these bytes are not the head of a chunk")
        }
        let data = (offset + 8)..<(offset + 8 + length)
        return Chunk(type: String(decoding: type, as: UTF8.self), offset: offset, data: data)
    }

    /// Whether the checksum at the end of `chunk` is that of its type and data.
    static func checksumHolds(of chunk: Chunk, in bytes: UnsafeRawBufferPointer) -> Bool {
        if chunk.isCut { return true }
        let covered = UnsafeRawBufferPointer(rebasing: bytes[(chunk.offset + 4)..<chunk.data.upperBound])
        return CyclicRedundancyCheck.value(of: covered) == bytes.bigEndian32(at: chunk.data.upperBound)
    }

    /// A whole chunk with its length and checksum.
    static func encoded(type: String, data: [UInt8]) -> [UInt8] {
        let body = Array(type.utf8) + data
        let checksum = body.withUnsafeBytes { CyclicRedundancyCheck.value(of: $0) }
        return UInt32(data.count).bigEndianBytes + body + checksum.bigEndianBytes
    }
}

/// The CRC-32 of PNG's chunks (ISO 3309), a table of 256 entries.
enum CyclicRedundancyCheck {
    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1 }
    }

    static func value(of bytes: UnsafeRawBufferPointer) -> UInt32 {
        table.withUnsafeBufferPointer { table in
            ~bytes.reduce(~0) { value, byte in table[Int(UInt8(truncatingIfNeeded: value) ^ byte)] ^ (value >> 8) }
        }
    }
}

extension UnsafeRawBufferPointer {
    /// The big-endian number in the four bytes at `offset`, which must be there.
    func bigEndian32(at offset: Int) -> UInt32 {
        UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    /// The big-endian number in the two bytes at `offset`, which must be there.
    func bigEndian16(at offset: Int) -> UInt16 {
        UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
}

extension UInt32 {
    var bigEndianBytes: [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: self >> (24 - 8 * $0)) } }
}
