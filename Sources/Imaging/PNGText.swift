import CPNG

/// A keyword and its text, from a tEXt, zTXt or iTXt chunk.
///
/// W3C, "Portable Network Graphics (PNG) Specification (Third Edition)", <https://www.w3.org/TR/png-3/>, section 11.3.3.
struct PNGText {
    /// The most bytes that a text is unpacked to: metadata of a megabyte has no orientation worth waiting for.
    private static let limit = 1 << 20

    let keyword: String
    let text: [UInt8]

    /// Nil for a chunk that holds no text, or none that can be unpacked.
    init?(type: String, data: UnsafeRawBufferPointer) {
        var rest = Array(data.prefix(Self.limit))[...]
        func field() -> [UInt8]? {
            guard let end = rest.firstIndex(of: 0) else { return nil }
            defer { rest = rest[(end + 1)...] }
            return Array(rest[..<end])
        }
        guard ["tEXt", "zTXt", "iTXt"].contains(type), let keyword = field() else { return nil }
        self.keyword = String(decoding: keyword, as: UTF8.self)
        var isPacked = type == "zTXt"
        if type != "tEXt" {
            if type == "iTXt" {
                guard let flag = rest.popFirst() else { return nil }
                isPacked = flag != 0
            }
            // There is one method, deflate.
            guard let method = rest.popFirst(), method == 0 || !isPacked else { return nil }
            if type == "iTXt" {
                // The language and the translated keyword.
                guard field() != nil, field() != nil else { return nil }
            }
        }
        guard isPacked else {
            text = Array(rest)
            return
        }
        guard let unpacked = Self.unpacked(rest) else { return nil }
        text = unpacked
    }

    private static func unpacked(_ packed: ArraySlice<UInt8>) -> [UInt8]? {
        let text = [UInt8](unsafeUninitializedCapacity: limit) { buffer, initialized in
            var count = uLongf(limit)
            let status = packed.withUnsafeBufferPointer {
                uncompress(buffer.baseAddress, &count, $0.baseAddress, uLong($0.count))
            }
            if status == Z_OK { initialized = min(Int(count), limit) }
        }
        return text.isEmpty ? nil : text
    }
}
