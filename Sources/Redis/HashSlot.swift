/// The slot of a key in a Redis Cluster: CRC16 of the key, or of the part between its first `{` and the next `}` where
/// that part is not empty, modulo 16384.
///
/// Source: Redis Cluster Specification, "Hash tags",
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>.
public enum HashSlot {
    /// The number of slots.
    public static let count = 16384

    /// The slot of a key, from 0 to 16383.
    public static func of(_ key: String) -> Int {
        var key = key
        return key.withUTF8 { of(UnsafeRawBufferPointer($0)) }
    }

    /// The slot of a key of any bytes.
    public static func of(_ key: UnsafeRawBufferPointer) -> Int {
        var part = key[...]
        if let open = key.firstIndex(of: UInt8(ascii: "{")) {
            let rest = key[(open + 1)...]
            if let close = rest.firstIndex(of: UInt8(ascii: "}")), close > open + 1 { part = rest[..<close] }
        }
        return Int(crc16(part)) % count
    }

    /// CRC-16/XMODEM: polynomial 0x1021, most significant bit first, from 0.
    private static func crc16(_ bytes: some Sequence<UInt8>) -> UInt16 {
        var crc: UInt16 = 0
        for byte in bytes { crc = (crc << 8) ^ table[Int(UInt8(truncatingIfNeeded: crc >> 8) ^ byte)] }
        return crc
    }

    private static let table: [UInt16] = (0..<256).map { index in
        (0..<8).reduce(UInt16(index) << 8) { crc, _ in crc & 0x8000 == 0 ? crc << 1 : crc << 1 ^ 0x1021 }
    }
}
