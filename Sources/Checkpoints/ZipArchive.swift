/// The table of contents of a zip archive with stored (uncompressed) entries, as torch.save writes it, ZIP64
/// included (APPNOTE.TXT 6.3, sections 4.3 and 4.5: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT).
///
/// ```text
/// | local header, name, extra, data | … | central directory | [ZIP64 end record, locator] | end record |
/// ```
///
/// Every number is checked against the file before it is used, entries must not overlap, and nothing is inflated.
/// Checksums are not verified: torch.save can be told to leave them out.
struct ZipArchive {
    /// One stored entry.
    struct Entry {
        /// The entry's bytes in the file.
        let data: Range<Int>
    }

    /// The entries by their names.
    private(set) var entries: [String: Entry] = [:]
    private let file: CheckpointFile

    /// Entries that an archive may have.
    static let entryLimit = 1 << 18

    /// Reads the table of contents.
    init(_ file: CheckpointFile) throws(CheckpointError) {
        self.file = file
        let directory = try Self.locateDirectory(in: file)
        var cursor = ByteCursor(file.bytes, at: directory.offset)
        var spans: [Range<Int>] = []
        for index in 0..<directory.entryCount {
            let record = try CentralRecord(&cursor, end: directory.end, file: file, index: index)
            if record.name.hasSuffix("/") && record.size == 0 { continue }
            // The code of a TorchScript program is compressed; nobody reads it here.
            if record.method != 0, record.name.contains("/code/") { continue }
            let (span, data) = try Self.locate(record, before: directory.offset, in: file)
            spans.append(span)
            guard entries.updateValue(Entry(data: data), forKey: record.name) == nil else {
                throw Self.corrupt(file, "entry \(CheckpointError.quoted(record.name))", "is there twice")
            }
        }
        spans.sort { $0.lowerBound < $1.lowerBound }
        for (before, after) in zip(spans, spans.dropFirst()) where before.upperBound > after.lowerBound {
            throw Self.corrupt(file, "byte \(after.lowerBound)", "two entries of the zip archive overlap")
        }
    }

    private static func corrupt(_ file: CheckpointFile, _ place: String, _ reason: String) -> CheckpointError {
        CheckpointError(.corrupt, file: file.path, at: place, reason, remedy: "Fetch or save the checkpoint again")
    }

    /// Where the central directory lies: the last records of the file say so.
    private static func locateDirectory(
        in file: CheckpointFile
    ) throws(CheckpointError) -> (offset: Int, end: Int, entryCount: Int) {
        let bytes = file.bytes
        let recordSize = 22
        let earliest = max(bytes.count - recordSize - 0xffff, 0)
        var position = bytes.count - recordSize
        while position >= earliest {
            if bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self).littleEndian == 0x0605_4b50 { break }
            position -= 1
        }
        guard position >= earliest else {
            throw CheckpointError(
                .truncated, file: file.path, at: "byte \(bytes.count)", "the zip archive has no end record",
                remedy: "The file was probably cut off: fetch or copy it again")
        }
        var cursor = ByteCursor(bytes, at: position + 4)
        guard let disk = cursor.next(UInt16.self), let directoryDisk = cursor.next(UInt16.self),
            let here = cursor.next(UInt16.self), let total = cursor.next(UInt16.self),
            let size = cursor.next(UInt32.self), let offset = cursor.next(UInt32.self)
        else { throw corrupt(file, "byte \(position)", "the zip archive's end record is cut off") }
        var (count64, size64, offset64) = (UInt64(total), UInt64(size), UInt64(offset))
        var limit = position
        if let locator = locator64(before: position, in: bytes) {
            guard let record = UInt64(exactly: locator).flatMap(Int.init(exactly:)), record <= position - 20 - 56,
                bytes.loadUnaligned(fromByteOffset: record, as: UInt32.self).littleEndian == 0x0606_4b50
            else { throw corrupt(file, "byte \(position - 20)", "the ZIP64 locator points to no end record") }
            var cursor = ByteCursor(bytes, at: record + 24)
            guard cursor.next(UInt64.self) != nil, let total = cursor.next(UInt64.self),
                let size = cursor.next(UInt64.self), let offset = cursor.next(UInt64.self)
            else { throw corrupt(file, "byte \(record)", "the ZIP64 end record is cut off") }
            (count64, size64, offset64) = (total, size, offset)
            limit = record
        } else if disk != 0 || directoryDisk != 0 || here != total {
            throw corrupt(file, "byte \(position)", "the zip archive is one part of several")
        }
        let (end, overflow) = offset64.addingReportingOverflow(size64)
        guard !overflow, end <= UInt64(limit) else {
            throw corrupt(
                file, "byte \(position)",
                "the zip archive's directory claims \(size64) bytes at \(offset64), beyond its end record")
        }
        guard count64 <= UInt64(entryLimit), count64 * 46 <= size64 else {
            throw CheckpointError(
                .overLimit, file: file.path, at: "byte \(position)",
                "the zip archive claims \(count64) entries in \(size64) bytes; the limit is \(entryLimit)",
                remedy: "Fetch or save the checkpoint again")
        }
        return (Int(offset64), Int(end), Int(count64))
    }

    /// The offset that a ZIP64 locator right before the end record gives, or nil where there is no locator.
    private static func locator64(before position: Int, in bytes: UnsafeRawBufferPointer) -> UInt64? {
        guard position >= 20 else { return nil }
        var cursor = ByteCursor(bytes, at: position - 20)
        guard cursor.next(UInt32.self) == 0x0706_4b50, cursor.next(UInt32.self) != nil else { return nil }
        return cursor.next(UInt64.self)
    }

    /// Follows a central record to its local header, and returns the span of both header and data, and the data.
    private static func locate(
        _ record: CentralRecord, before directory: Int, in file: CheckpointFile
    ) throws(CheckpointError) -> (span: Range<Int>, data: Range<Int>) {
        let place = "entry \(CheckpointError.quoted(record.name))"
        guard record.flags & 0x2041 == 0 else { throw corrupt(file, place, "is encrypted") }
        guard record.method == 0, record.storedSize == record.size else {
            throw CheckpointError(
                .unsupportedFormat, file: file.path, at: place,
                "is compressed (method \(record.method)); torch.save stores its entries uncompressed",
                remedy: "Save the checkpoint with torch.save, or store the zip archive without compression")
        }
        guard let offset = Int(exactly: record.offset), offset <= directory - 30 else {
            throw corrupt(file, place, "claims to start at byte \(record.offset), beyond the archive's data")
        }
        // Not through the mapping: a page for each of several hundred headers would stay resident for nothing.
        var header = [UInt8](repeating: 0, count: 30 + record.nameLength)
        guard offset + header.count <= directory else { throw corrupt(file, place, "has a header that is cut off") }
        var failure: CheckpointError?
        header.withUnsafeMutableBytes { buffer in
            do throws(CheckpointError) { try file.read(at: offset, into: buffer) } catch { failure = error }
        }
        if let failure { throw failure }
        let extra = Int(header[28]) | Int(header[29]) << 8
        guard header[..<4].elementsEqual([0x50, 0x4b, 0x03, 0x04]),
            Int(header[26]) | Int(header[27]) << 8 == record.nameLength,
            header[30...].elementsEqual(record.name.utf8)
        else { throw corrupt(file, place, "has a local header that says otherwise than the archive's directory") }
        let start = offset + header.count + extra
        guard start <= directory, let size = Int(exactly: record.size), size <= directory - start else {
            throw corrupt(file, place, "claims \(record.size) bytes, more than the archive has")
        }
        return (offset..<start + size, start..<start + size)
    }
}

/// One record of the central directory (APPNOTE 4.3.12), its ZIP64 extra field (4.5.3) taken in.
private struct CentralRecord {
    let flags: UInt16
    let method: UInt16
    let storedSize: UInt64
    let size: UInt64
    let offset: UInt64
    let name: String
    let nameLength: Int

    init(_ cursor: inout ByteCursor, end: Int, file: CheckpointFile, index: Int) throws(CheckpointError) {
        let place = "byte \(cursor.offset)"
        func corrupt(_ reason: String) -> CheckpointError {
            CheckpointError(
                .corrupt, file: file.path, at: place, "record \(index) of the zip archive's directory \(reason)",
                remedy: "Fetch or save the checkpoint again")
        }
        guard end - cursor.offset >= 46, let fixed = cursor.take(46) else { throw corrupt("is cut off") }
        func number<Number: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: Number.Type) -> Number {
            Number(littleEndian: fixed.loadUnaligned(fromByteOffset: offset, as: Number.self))
        }
        guard number(0, UInt32.self) == 0x0201_4b50 else { throw corrupt("lacks its signature") }
        let nameLength = Int(number(28, UInt16.self))
        let variable = nameLength + Int(number(30, UInt16.self)) + Int(number(32, UInt16.self))
        guard end - cursor.offset >= variable, let tail = cursor.take(variable) else { throw corrupt("is cut off") }
        guard (1...1024).contains(nameLength), let name = String(validating: tail[..<nameLength], as: UTF8.self) else {
            throw corrupt("has a name that is empty, too long or not UTF-8")
        }
        var sizes = (
            full: UInt64(number(24, UInt32.self)), stored: UInt64(number(20, UInt32.self)),
            offset: UInt64(number(42, UInt32.self))
        )
        let unset = UInt64(UInt32.max)
        if sizes.full == unset || sizes.stored == unset || sizes.offset == unset {
            let extra = tail[nameLength..<nameLength + Int(number(30, UInt16.self))]
            guard var field = Self.field64(in: UnsafeRawBufferPointer(rebasing: extra)) else {
                throw corrupt("lacks its ZIP64 field")
            }
            if sizes.full == unset { sizes.full = field.next(UInt64.self) ?? .max }
            if sizes.stored == unset { sizes.stored = field.next(UInt64.self) ?? .max }
            if sizes.offset == unset { sizes.offset = field.next(UInt64.self) ?? .max }
        }
        self.flags = number(8, UInt16.self)
        self.method = number(10, UInt16.self)
        self.size = sizes.full
        self.storedSize = sizes.stored
        self.offset = sizes.offset
        self.name = name
        self.nameLength = nameLength
    }

    private static func field64(in extra: UnsafeRawBufferPointer) -> ByteCursor? {
        var cursor = ByteCursor(extra)
        while let kind = cursor.next(UInt16.self), let length = cursor.next(UInt16.self),
            let field = cursor.take(Int(length))
        {
            if kind == 1 { return ByteCursor(field) }
        }
        return nil
    }
}
