import Segmentation

/// Reads the little-endian fields of a header, each within its bounds.
///
/// Whoever makes one has checked that the header is there.
struct RecordHeader {
    let bytes: UnsafeRawBufferPointer

    /// A number of 4 bytes from 1 to `limit`.
    func field(_ name: String, at offset: Int, upTo limit: Int) throws(EmbeddingRecordError) -> Int {
        let value = Int(word(at: offset))
        guard (1...limit).contains(value) else { throw .invalidField(name, offset: offset, value: value) }
        return value
    }

    /// The picture's sizes, four numbers from `offset` on.
    func frame(at offset: Int) throws(EmbeddingRecordError) -> ImageFrame {
        let largest = ImageFrame.largestSide
        return ImageFrame(
            originalWidth: try field("original width", at: offset, upTo: largest),
            originalHeight: try field("original height", at: offset + 4, upTo: largest),
            inputWidth: try field("input width", at: offset + 8, upTo: largest),
            inputHeight: try field("input height", at: offset + 12, upTo: largest))
    }

    func word(at offset: Int) -> UInt32 {
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    func long(at offset: Int) -> UInt64 {
        UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// XXH64 of the first `count` bytes with the 8 at `offset`, where it stands, at zero.
    func checksum(of count: Int, standingAt offset: Int) -> UInt64 {
        var copy = Array(bytes[..<count])
        for index in offset..<offset + 8 { copy[index] = 0 }
        return copy.withUnsafeBytes { XXH64.hash($0) }
    }
}

/// Writes them.
extension UnsafeMutableRawBufferPointer {
    func store(_ value: Int, at offset: Int) { store(word: UInt32(value), at: offset) }

    func store(word: UInt32, at offset: Int) {
        storeBytes(of: word.littleEndian, toByteOffset: offset, as: UInt32.self)
    }

    func store(long: UInt64, at offset: Int) {
        storeBytes(of: long.littleEndian, toByteOffset: offset, as: UInt64.self)
    }

    func store(_ frame: ImageFrame, at offset: Int) {
        for (index, side) in [frame.originalWidth, frame.originalHeight, frame.inputWidth, frame.inputHeight]
            .enumerated()
        {
            store(side, at: offset + 4 * index)
        }
    }

    func store(bytes: some Collection<UInt8>, at offset: Int) {
        UnsafeMutableRawBufferPointer(rebasing: self[offset..<offset + bytes.count]).copyBytes(from: bytes)
    }
}
