import Glibc

/// File names between the system, for which they are bytes, and Swift, whose strings hold nothing but Unicode.
///
/// Most names are UTF-8, and their strings are what they seem. A byte that belongs to no UTF-8 sequence, such as the é of
/// a name in Latin-1, stands in the string as one scalar for private use, U+10FE80…U+10FEFF for bytes 80…FF, and is that
/// byte again where the string names a file. So every name can be read from the command line or a folder, be joined and
/// cut, and be opened, and no two names become one. A name that has such a scalar in its UTF-8 is taken for four bytes of
/// this kind, so that nothing is lost there either. In JSON such names are written with those scalars, which is UTF-8,
/// and may be given back so; on a terminal they are written as the bytes that they are.
package enum FileName {
    /// Where byte 0 would be.
    private static let base: UInt32 = 0x10FE00
    private static let scalars: ClosedRange<UInt32> = (base + 0x80)...(base + 0xFF)

    /// The string of a name.
    package static func text(of bytes: some Sequence<UInt8>) -> String {
        let bytes = Array(bytes)
        if let text = String(validating: bytes, as: UTF8.self), !text.unicodeScalars.contains(where: isByte) {
            return text
        }
        var text = String.UnicodeScalarView()
        var rest = bytes[...]
        while let first = rest.first {
            // The lengths of UTF-8 sequences; of anything else this finds none.
            let sequence = (1...4).lazy.compactMap { length -> (Int, Unicode.Scalar)? in
                guard length <= rest.count, let part = String(validating: rest.prefix(length), as: UTF8.self),
                    let scalar = part.unicodeScalars.first, part.unicodeScalars.count == 1
                else { return nil }
                return (length, scalar)
            }.first
            if let (length, scalar) = sequence, !isByte(scalar) {
                text.append(scalar)
                rest = rest.dropFirst(length)
            } else {
                if let scalar = Unicode.Scalar(base + UInt32(first)) { text.append(scalar) }
                rest = rest.dropFirst()
            }
        }
        return String(text)
    }

    /// The string of a name that C holds.
    package static func text(of name: UnsafePointer<CChar>) -> String {
        text(of: UnsafeBufferPointer(start: name, count: strlen(name)).lazy.map { UInt8(bitPattern: $0) })
    }

    /// The name's bytes.
    package static func bytes(of text: String) -> [UInt8] {
        guard text.unicodeScalars.contains(where: isByte) else { return Array(text.utf8) }
        return text.unicodeScalars.flatMap { scalar in
            isByte(scalar) ? [UInt8(scalar.value - base)] : Array(String(scalar).utf8)
        }
    }

    /// The arguments of the process, its own name first, as strings of names.
    package static var arguments: [String] {
        (0..<Int(CommandLine.argc)).compactMap { index in CommandLine.unsafeArgv[index].map { text(of: $0) } }
    }

    /// Calls `body` with the name as C takes it.
    package static func withBytes<Result>(of text: String, _ body: (UnsafePointer<CChar>) throws -> Result) rethrows
        -> Result
    {
        guard text.unicodeScalars.contains(where: isByte) else { return try text.withCString(body) }
        let name = bytes(of: text).map { CChar(bitPattern: $0) } + [0]
        return try name.withUnsafeBufferPointer { buffer in
            // An array that holds at least its end has an address.
            guard let start = buffer.baseAddress else { return try "".withCString(body) }
            return try body(start)
        }
    }

    private static func isByte(_ scalar: Unicode.Scalar) -> Bool { scalars.contains(scalar.value) }
}
