public import Platform

/// A mask as COCO's run-length encoding: the lengths of its runs, column after column, beginning with background.
///
/// The compressed string is the one that pycocotools writes and reads. Lin et al., "Microsoft COCO: Common Objects in
/// Context", 2014, <https://arxiv.org/abs/1405.0312>; the format is that of `maskApi.c`,
/// <https://github.com/cocodataset/cocoapi>.
///
/// An encoding is canonical: no run but the first is empty, so that equal masks have equal encodings. What is read is
/// brought into that form.
public struct RunLengthEncoding: Sendable, Hashable {
    /// Rows of the mask.
    public let height: Int
    /// Columns of the mask.
    public let width: Int
    /// The lengths of the runs in pixels, background and object in turn, down each column and on to the next.
    ///
    /// The first is 0 where the mask begins with the object. They add up to `height * width`.
    public let counts: [UInt32]

    /// Encodings of known size whose counts are canonical.
    init(height: Int, width: Int, canonicalCounts counts: [UInt32]) {
        self.height = height
        self.width = width
        self.counts = counts
    }

    /// A mask without any pixel on the object.
    package init(emptyHeight height: Int, width: Int) {
        self.init(height: height, width: width, canonicalCounts: [UInt32(height * width)])
    }

    /// Encodes a mask of one bit a pixel whose object lies in some columns and words of rows.
    ///
    /// - Parameters:
    ///   - height: rows of the mask.
    ///   - width: its columns.
    ///   - columns: those that are given.
    ///   - words: the rows that are given, in words of 64 from the mask's first row on.
    ///   - columnWords: column after column; bits beyond the height are 0.
    package init(height: Int, width: Int, columns: Range<Int>, words: Range<Int>, columnWords: [UInt64]) {
        self.init(
            height: height, width: width,
            canonicalCounts: ColumnBits.counts(
                height: height, width: width, columns: columns, words: words, bits: columnWords))
    }

    /// Reads uncompressed counts, as the JSON of a COCO annotation with `iscrowd` lists them.
    public init(counts: some Sequence<Int>, height: Int, width: Int) throws(RunLengthEncodingError) {
        var builder = try Builder(height: height, width: width)
        for count in counts { try builder.append(count) }
        self = try builder.finish()
    }

    /// Reads the compressed string of pycocotools.
    ///
    /// Each number is a run of characters of 6 bits, least significant first: 5 bits of a two's complement number, and
    /// a bit that says whether more follow; each character stands 48 higher. From the fourth number on, the
    /// difference to the number before the last is written.
    public init(compressed string: String, height: Int, width: Int) throws(RunLengthEncodingError) {
        try self.init(compressed: Array(string.utf8)[...], height: height, width: width)
    }

    /// Reads the compressed string from the bytes of its characters.
    init(compressed bytes: ArraySlice<UInt8>, height: Int, width: Int) throws(RunLengthEncodingError) {
        var builder = try Builder(height: height, width: width)
        if let counts = Self.canonicalCounts(bytes, total: height * width) {
            self.init(height: height, width: width, canonicalCounts: counts)
            return
        }
        var value: Int64 = 0
        var shift: Int64 = 0
        var index = 0
        var beforeLast: (Int64, Int64) = (0, 0)
        for place in bytes.indices {
            let byte = bytes[place]
            let offset = place - bytes.startIndex
            guard (48...111).contains(byte) else { throw .invalidCharacter(byte: byte, offset: offset) }
            let bits = Int64(byte) - 48
            // Counts fit 32 bits; seven characters hold 35 and leave room for the sign.
            guard shift <= 30 else { throw .numberTooLong(offset: offset) }
            value |= (bits & 0x1F) << shift
            shift += 5
            if bits & 0x20 != 0 { continue }
            if bits & 0x10 != 0 { value |= -1 << shift }
            if index > 2 { value += beforeLast.0 }
            try builder.append(Int(value))
            beforeLast = (beforeLast.1, value)
            index += 1
            (value, shift) = (0, 0)
        }
        guard shift == 0 else { throw .endsInsideNumber }
        self = try builder.finish()
    }

    /// The numbers of a compressed string that is canonical and adds up; nil for any other, of which ``Builder`` tells more.
    private static func canonicalCounts(_ bytes: ArraySlice<UInt8>, total: Int) -> [UInt32]? {
        // The last character of a number lacks the bit that says that more follow.
        let numbers = bytes.reduce(0) { $0 + ($1 < 80 ? 1 : 0) }
        var isCanonical = false
        let counts = [UInt32](unsafeUninitializedCapacity: numbers) { counts, count in
            bytes.withUnsafeBufferPointer { bytes in
                var (value, shift, sum) = (0, 0, 0)
                for byte in bytes {
                    let bits = Int(byte) - 48
                    guard bits & ~0x3F == 0, shift <= 30 else { return }
                    value |= (bits & 0x1F) << shift
                    shift += 5
                    if bits & 0x20 != 0 { continue }
                    if bits & 0x10 != 0 { value |= -1 << shift }
                    if count > 2 { value += Int(counts[count - 2]) }
                    guard value > 0 || value == 0 && count == 0, value <= total - sum else { return }
                    counts.initializeElement(at: count, to: UInt32(truncatingIfNeeded: value))
                    count += 1
                    sum += value
                    (value, shift) = (0, 0)
                }
                isCanonical = shift == 0 && sum == total && count > 0
            }
        }
        return isCanonical ? counts : nil
    }

    /// The compressed string, character for character what pycocotools' `encode` gives.
    public var compressed: String { String(decoding: compressedBytes, as: UTF8.self) }

    /// The characters of the compressed string.
    var compressedBytes: [UInt8] {
        // Numbers of 33 bits with their sign take seven characters at most.
        [UInt8](unsafeUninitializedCapacity: counts.count * 7) { bytes, count in
            counts.withUnsafeBufferPointer { counts in
                for index in counts.indices {
                    var value = Int64(counts[index])
                    if index > 2 { value -= Int64(counts[index - 2]) }
                    // All but the last five bits and their sign go into characters that say that more follow.
                    while value < -16 || value > 15 {
                        bytes.initializeElement(at: count, to: 48 + (UInt8(truncatingIfNeeded: value & 0x1F) | 0x20))
                        count += 1
                        value >>= 5
                    }
                    bytes.initializeElement(at: count, to: 48 + UInt8(truncatingIfNeeded: value & 0x1F))
                    count += 1
                }
            }
        }
    }

    /// The number of pixels on the object.
    public var area: Int {
        stride(from: 1, to: counts.count, by: 2).reduce(0) { $0 + Int(counts[$1]) }
    }

    /// The smallest rectangle around the object as `[x, y, width, height]`, all 0 where there is none.
    ///
    /// The same numbers as pycocotools' `toBbox`.
    public var boundingBox: [Int] {
        guard counts.count > 1 else { return [0, 0, 0, 0] }
        var (left, top, right, bottom) = (width, height, 0, 0)
        var position = 0
        // Runs come in the order of columns: no division finds the next.
        var (column, columnStart) = (0, 0)
        for index in stride(from: 1, to: counts.count, by: 2) {
            position += Int(counts[index - 1])
            while position >= columnStart + height { (column, columnStart) = (column + 1, columnStart + height) }
            let (firstColumn, firstRow) = (column, position - columnStart)
            position += Int(counts[index])
            while position > columnStart + height { (column, columnStart) = (column + 1, columnStart + height) }
            left = min(left, firstColumn)
            right = max(right, column)
            // A run that goes over a column's end touches the last row and the first.
            top = min(top, firstColumn == column ? firstRow : 0)
            bottom = max(bottom, firstColumn == column ? position - 1 - columnStart : height - 1)
        }
        return [left, top, right - left + 1, bottom - top + 1]
    }
}

extension RunLengthEncoding {
    /// Checks counts as they come and joins the runs on both sides of an empty one.
    private struct Builder {
        private let height: Int
        private let width: Int
        private let total: Int
        private var sum = 0
        private var index = 0
        private var counts: [UInt32] = []

        init(height: Int, width: Int) throws(RunLengthEncodingError) {
            let (total, overflow) = height.multipliedReportingOverflow(by: width)
            guard height >= 0, width >= 0, !overflow, total <= Int(UInt32.max) else {
                throw .invalidSize(height: height, width: width)
            }
            self.height = height
            self.width = width
            self.total = total
        }

        mutating func append(_ count: Int) throws(RunLengthEncodingError) {
            guard count >= 0 else { throw .negativeCount(count, index: index) }
            guard count <= total - sum else { throw .tooManyPixels(index: index, height: height, width: width) }
            sum += count
            let isObject = index % 2 == 1
            index += 1
            guard count > 0 else { return }
            if counts.isEmpty, isObject { counts.append(0) }
            // After an empty run, this one continues the last of its own kind.
            if !counts.isEmpty, (counts.count % 2 == 0) == isObject {
                counts[counts.count - 1] += UInt32(count)
            } else {
                counts.append(UInt32(count))
            }
        }

        func finish() throws(RunLengthEncodingError) -> RunLengthEncoding {
            guard sum == total else { throw .tooFewPixels(sum, height: height, width: width) }
            return RunLengthEncoding(height: height, width: width, canonicalCounts: counts.isEmpty ? [0] : counts)
        }
    }
}

/// Why a run-length encoding could not be read.
public enum RunLengthEncodingError: ReportableError, Sendable, Hashable {
    /// The size is negative, or has more pixels than 32-bit counts can address.
    case invalidSize(height: Int, width: Int)
    /// A byte that no compressed string holds, and where.
    case invalidCharacter(byte: UInt8, offset: Int)
    /// A number of more bits than any count takes; the offset is that of the character too many.
    case numberTooLong(offset: Int)
    /// The string ends where a number goes on.
    case endsInsideNumber
    /// A run of negative length.
    case negativeCount(Int, index: Int)
    /// The runs up to and with this one cover more pixels than the mask has.
    case tooManyPixels(index: Int, height: Int, width: Int)
    /// The runs cover fewer pixels than the mask has.
    case tooFewPixels(Int, height: Int, width: Int)
}

extension RunLengthEncodingError {
    /// One line for people, with what to do.
    public var description: String {
        let report = report
        return "\(report.place ?? ""): \(report.reason). \(report.remedy ?? "")."
    }

    /// What is wrong with the counts, and what to do.
    public var report: ErrorReport {
        let (what, remedy) =
            switch self {
            case .invalidSize(let height, let width):
                (
                    "a size of \(height) rows and \(width) columns",
                    "Give [height, width], both at least 0, with fewer than 2^32 pixels"
                )
            case .invalidCharacter(let byte, let offset):
                (
                    "byte \(byte) at offset \(offset) of the counts",
                    "Compressed counts hold only the characters 0 to o (48 to 111): give the string as it was written"
                )
            case .numberTooLong(let offset):
                ("a number too long at offset \(offset) of the counts", "Give the string as it was written")
            case .endsInsideNumber:
                ("the counts end inside a number", "The string was cut short: give it whole")
            case .negativeCount(let count, let index):
                ("count \(index) is \(count)", "Runs cannot be negative: give the counts as they were written")
            case .tooManyPixels(let index, let height, let width):
                (
                    "count \(index) goes past the \(height) x \(width) pixels of the mask",
                    "Check that size is [height, width] and belongs to these counts"
                )
            case .tooFewPixels(let sum, let height, let width):
                (
                    "the counts add up to \(sum), and the mask has \(height) x \(width) pixels",
                    "Check that size is [height, width] and belongs to these counts"
                )
            }
        return ErrorReport(.input, "run-length-encoding", at: "run-length encoding", what, remedy: remedy)
    }
}

extension RunLengthEncoding: Codable {
    private enum CodingKeys: String, CodingKey {
        case size, counts
    }

    /// Reads COCO's `{"size": [height, width], "counts": …}`, the counts compressed or a list of numbers.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let size = try container.decode([Int].self, forKey: .size)
        guard size.count == 2 else {
            throw DecodingError.dataCorruptedError(
                forKey: .size, in: container, debugDescription: "size holds \(size.count) numbers, not [height, width]")
        }
        do {
            if let string = try? container.decode(String.self, forKey: .counts) {
                try self.init(compressed: string, height: size[0], width: size[1])
            } else {
                let counts = try container.decode([Int].self, forKey: .counts)
                try self.init(counts: counts, height: size[0], width: size[1])
            }
        } catch let error as RunLengthEncodingError {
            throw DecodingError.dataCorruptedError(
                forKey: .counts, in: container, debugDescription: error.description)
        }
    }

    /// Writes COCO's `{"size": [height, width], "counts": "<compressed>"}`.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode([height, width], forKey: .size)
        try container.encode(compressed, forKey: .counts)
    }
}
