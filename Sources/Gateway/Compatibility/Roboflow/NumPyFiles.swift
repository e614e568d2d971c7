internal import CPNG
import HTTPTypes
import Platform

/// What an array of NumPy holds.
package enum NumPyType: String, Sendable {
    /// True or false, a byte each.
    case bool = "|b1"
    /// A signed byte.
    case int8 = "|i1"
    /// 32-bit floating point, little-endian.
    case float32 = "<f4"

    /// Bytes of one element.
    package var size: Int { self == .float32 ? 4 : 1 }
}

/// `.npy`: one array, <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
///
/// ```text
/// 0x93 "NUMPY"  1 0  bytes of the rest of the head (UInt16)  {'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), } spaces \n
/// ```
/// The head is filled with spaces up to a multiple of 64 bytes; the elements follow in C's order.
package enum NumPyFile {
    /// What stands before the elements.
    package static func head(_ type: NumPyType, shape: [Int]) -> [UInt8] {
        let extent = shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
        let text = "{'descr': '\(type.rawValue)', 'fortran_order': False, 'shape': (\(extent)), }"
        let length = (10 + text.utf8.count + 1 + 63) / 64 * 64 - 10
        return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(length & 0xFF), UInt8(length >> 8)] + Array(text.utf8)
            + Array(repeating: 0x20, count: length - text.utf8.count - 1) + [0x0A]
    }

    /// Floats as bytes.
    package static func bytes(_ numbers: [Float]) -> [UInt8] {
        numbers.withUnsafeBytes { Array($0) }
    }

    /// The numbers of an array of floating point elements, whatever its shape.
    ///
    /// - Throws: ``Problem`` that names `field`.
    static func floats(_ file: [UInt8], field: String) throws(Problem) -> [Float] {
        func fault(_ reason: String) -> Problem {
            Problem(.badRequest, "bad-npy", "\(field): \(reason)", field: field)
        }
        guard file.count >= 12, file.starts(with: [0x93] + Array("NUMPY".utf8)) else {
            throw fault("this is no .npy file")
        }
        let wide = file[6] >= 2
        let length = Int(file[8]) | Int(file[9]) << 8 | (wide ? Int(file[10]) << 16 | Int(file[11]) << 24 : 0)
        let start = (wide ? 12 : 10) + length
        guard start <= file.count else { throw fault("the head is cut off") }
        let head = String(decoding: file[(wide ? 12 : 10)..<start], as: UTF8.self)
        guard !head.contains("'fortran_order': True") else { throw fault("C's order is expected") }
        let size: Int
        if head.contains("'<f4'") {
            size = 4
        } else if head.contains("'<f8'") {
            size = 8
        } else {
            throw fault("elements of float32 or float64, little-endian, are expected")
        }
        let count = (file.count - start) / size
        let numbers = file.withUnsafeBytes { bytes in
            (0..<count).map { index in
                size == 4
                    ? Float(
                        bitPattern: UInt32(
                            littleEndian: bytes.loadUnaligned(fromByteOffset: start + index * 4, as: UInt32.self)))
                    : Float(
                        Double(
                            bitPattern: UInt64(
                                littleEndian: bytes.loadUnaligned(fromByteOffset: start + index * 8, as: UInt64.self))))
            }
        }
        guard numbers.allSatisfy(\.isFinite) else { throw fault("it holds what is no number") }
        return numbers
    }
}

/// `.npz`: arrays in a ZIP file, deflated, as `numpy.savez_compressed` writes them.
///
/// Elements are compressed as they come, so that no array need be in memory as a whole.
package struct NumPyArchive {
    private struct Entry {
        let name: String
        let checksum: UInt32
        let compressed: Int
        let size: Int
        let offset: Int
    }

    private var bytes: [UInt8] = []
    private var entries: [Entry] = []

    /// A file without arrays.
    package init() {}

    /// Adds an array; `write` hands over its elements, in as many pieces as it likes.
    package mutating func add(
        _ name: String, _ type: NumPyType, shape: [Int],
        _ write: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) throws {
        let deflater = try Deflater()
        try NumPyFile.head(type, shape: shape).withUnsafeBytes { try deflater.append($0) }
        try write { try deflater.append($0) }
        try deflater.finish()
        let entry = Entry(
            name: "\(name).npy", checksum: deflater.checksum, compressed: deflater.output.count, size: deflater.size,
            offset: bytes.count)
        guard entry.size < Int(UInt32.max), bytes.count + entry.compressed < Int(UInt32.max) else {
            throw Problem(.contentTooLarge, "too-large", "the arrays are too large for one file: ask for rle")
        }
        number(0x0403_4B50, 4)
        description(of: entry)
        bytes += Array(entry.name.utf8)
        bytes += deflater.output
        entries.append(entry)
    }

    /// The whole file.
    package consuming func finish() -> [UInt8] {
        let start = bytes.count
        for entry in entries {
            number(0x0201_4B50, 4)
            number(20, 2)
            description(of: entry)
            // No comment, first disk, no attributes.
            for bytes in [2, 2, 2, 4] { number(0, bytes) }
            number(entry.offset, 4)
            bytes += Array(entry.name.utf8)
        }
        let size = bytes.count - start
        number(0x0605_4B50, 4)
        number(0, 2)
        number(0, 2)
        number(entries.count, 2)
        number(entries.count, 2)
        number(size, 4)
        number(start, 4)
        number(0, 2)
        return bytes
    }

    /// What the two heads of an entry have in common, up to the length of the extra field.
    private mutating func description(of entry: Entry) {
        number(20, 2)
        number(0, 2)
        number(8, 2)
        // The first moment that DOS knows, so that equal answers are equal files.
        number(0, 2)
        number(0x21, 2)
        number(Int(entry.checksum), 4)
        number(entry.compressed, 4)
        number(entry.size, 4)
        number(entry.name.utf8.count, 2)
        number(0, 2)
    }

    private mutating func number(_ value: Int, _ count: Int) {
        for index in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * index))) }
    }
}

/// zlib's deflate without a head of its own.
private final class Deflater {
    private let stream: UnsafeMutablePointer<z_stream>
    private(set) var output: [UInt8] = []
    /// CRC-32 of what went in.
    private(set) var checksum: UInt32 = 0
    /// Bytes that went in.
    private(set) var size = 0

    init() throws {
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        // Masks are small at any level; the third is fast.
        let status = deflateInit2_(
            stream, 3, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard status == Z_OK else { throw DeflateError(status: status) }
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws {
        // zlib counts in 32 bits.
        for start in Swift.stride(from: 0, to: bytes.count, by: 1 << 24) {
            let piece = UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + (1 << 24), bytes.count)])
            let address = piece.bindMemory(to: UInt8.self).baseAddress
            checksum = UInt32(truncatingIfNeeded: crc32(uLong(checksum), address, uInt(piece.count)))
            size += piece.count
            stream.pointee.next_in = address.map { UnsafeMutablePointer(mutating: $0) }
            stream.pointee.avail_in = uInt(piece.count)
            try run(Z_NO_FLUSH)
        }
    }

    func finish() throws { try run(Z_FINISH) }

    private func run(_ flush: Int32) throws {
        var room = [UInt8](repeating: 0, count: 65_536)
        while true {
            let status = room.withUnsafeMutableBufferPointer { memory in
                stream.pointee.next_out = memory.baseAddress
                stream.pointee.avail_out = uInt(memory.count)
                return deflate(stream, flush)
            }
            output += room[..<(room.count - Int(stream.pointee.avail_out))]
            guard status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR else {
                throw DeflateError(status: status)
            }
            if stream.pointee.avail_out > 0 || status == Z_STREAM_END { return }
        }
    }
}

/// zlib has no memory, or is another than was compiled for.
struct DeflateError: ReportableError {
    let status: Int32
    var report: ErrorReport { ErrorReport(.ours, "deflate", "zlib says \(status)") }
    var description: String { report.text }
}
