/// Reads little-endian numbers and runs of bytes in order, and never past the end.
struct ByteCursor {
    let bytes: UnsafeRawBufferPointer
    private(set) var offset: Int

    init(_ bytes: UnsafeRawBufferPointer, at offset: Int = 0) {
        self.bytes = bytes
        self.offset = min(max(offset, 0), bytes.count)
    }

    var remaining: Int { bytes.count - offset }

    /// The next number, or nil at the end.
    mutating func next<Number: FixedWidthInteger & BitwiseCopyable>(_: Number.Type) -> Number? {
        guard remaining >= MemoryLayout<Number>.size else { return nil }
        let value = bytes.loadUnaligned(fromByteOffset: offset, as: Number.self)
        offset += MemoryLayout<Number>.size
        return Number(littleEndian: value)
    }

    /// The next `count` bytes, or nil where there are fewer.
    mutating func take(_ count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, count <= remaining else { return nil }
        defer { offset += count }
        return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    }

    /// The bytes up to the next line feed, which is taken and left out; nil where there is none within `limit` bytes.
    mutating func line(limit: Int) -> UnsafeRawBufferPointer? {
        let window = bytes[offset..<offset + min(limit + 1, remaining)]
        guard let end = window.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
        let line = UnsafeRawBufferPointer(rebasing: bytes[offset..<end])
        offset = end + 1
        return line
    }
}
