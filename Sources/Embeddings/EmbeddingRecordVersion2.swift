import Segmentation
import Tensors

/// Writes and reads the form of several maps that is drawn at ``EmbeddingRecord``.
enum EmbeddingRecordVersion2 {
    static let maximumMaps = 64
    private static let fixedBytes = 192
    private static let entryBytes = 64
    private static let payloadBytesOffset = 128
    private static let payloadChecksumOffset = 136
    private static let checksumOffset = 144

    static func headerBytes(maps: Int) -> Int { fixedBytes + entryBytes * maps }

    private static func aligned(_ offset: Int) -> Int { (offset + 63) / 64 * 64 }

    // MARK: - Writing

    static func write(_ parts: EmbeddingRecordParts) throws(EmbeddingRecordError) -> RecordMemory {
        precondition((1...maximumMaps).contains(parts.maps.count), "\(parts.maps.count) feature maps in one record")
        precondition(Set(parts.maps.map(\.name)).count == parts.maps.count, "feature maps have different names")
        var end = 0
        let places = parts.maps.map { map in
            guard
                map.height <= EmbeddingPayload.maximumGrid, map.width <= EmbeddingPayload.maximumGrid,
                let count = EmbeddingPayload.byteCount(
                    parts.precision, channels: map.channels, area: map.height * map.width)
            else { preconditionFailure("features of shape \(map.tensor.shape) cannot be stored") }
            let start = aligned(end)
            end = start + count
            return start..<end
        }
        precondition(end <= EmbeddingPayload.maximumBytes, "feature maps of \(end) bytes cannot be stored")
        let headerBytes = headerBytes(maps: parts.maps.count)
        let memory = RecordMemory(byteCount: headerBytes + end)
        let header = UnsafeMutableRawBufferPointer(rebasing: memory.writable[..<headerBytes])
        let payload = UnsafeMutableRawBufferPointer(rebasing: memory.writable[headerBytes...])
        header.initializeMemory(as: UInt8.self, repeating: 0)
        var written = 0
        for (index, (map, place)) in zip(parts.maps, places).enumerated() {
            UnsafeMutableRawBufferPointer(rebasing: payload[written..<place.lowerBound])
                .initializeMemory(as: UInt8.self, repeating: 0)
            written = place.upperBound
            guard
                EmbeddingPayload.write(
                    map, as: parts.precision, to: UnsafeMutableRawBufferPointer(rebasing: payload[place]))
            else { throw .notFinite }
            let entry = fixedBytes + entryBytes * index
            header.store(bytes: map.name.utf8, at: entry)
            for (index, value) in [map.channels, map.height, map.width, Int(map.layout.rawValue)].enumerated() {
                header.store(value, at: entry + 32 + 4 * index)
            }
            header.store(long: UInt64(place.lowerBound), at: entry + 48)
            header.store(long: UInt64(place.count), at: entry + 56)
        }

        header.copyBytes(from: "KEMB".utf8)
        header.storeBytes(of: UInt16(2).littleEndian, toByteOffset: 4, as: UInt16.self)
        header[6] = parts.precision.code
        header[7] = parts.preprocessingVersion
        header[8] = parts.arithmetic?.code ?? 0
        header[9] = parts.preprocessing.resize.code
        header.storeBytes(of: UInt16(parts.maps.count).littleEndian, toByteOffset: 10, as: UInt16.self)
        header.store(parts.preprocessing.size, at: 12)
        for channel in 0..<3 {
            header.store(word: parts.preprocessing.mean[channel].bitPattern, at: 16 + 4 * channel)
            header.store(word: parts.preprocessing.deviation[channel].bitPattern, at: 28 + 4 * channel)
        }
        header.store(parts.frame, at: 40)
        header.store(word: parts.microseconds, at: 56)
        header.store(headerBytes, at: 60)
        header.store(bytes: parts.fingerprint, at: 64)
        header.store(bytes: parts.image.bytes, at: 96)
        header.store(long: UInt64(end), at: payloadBytesOffset)
        seal(memory.writable, headerBytes: headerBytes)
        return memory
    }

    /// Writes both checksums.
    static func seal(_ record: UnsafeMutableRawBufferPointer, headerBytes: Int) {
        let bytes = UnsafeRawBufferPointer(record)
        record.store(
            long: XXH64.hash(UnsafeRawBufferPointer(rebasing: bytes[headerBytes...])), at: payloadChecksumOffset)
        record.store(
            long: RecordHeader(bytes: bytes).checksum(of: headerBytes, standingAt: checksumOffset), at: checksumOffset)
    }

    // MARK: - Reading

    static func read(_ memory: RecordMemory) throws(EmbeddingRecordError) -> EmbeddingRecord {
        let bytes = memory.bytes
        guard bytes.count >= fixedBytes else { throw .truncatedHeader(bytes: bytes.count, needed: fixedBytes) }
        let header = RecordHeader(bytes: bytes)
        let count = Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 10, as: UInt16.self)))
        guard (1...maximumMaps).contains(count) else { throw .invalidField("feature maps", offset: 10, value: count) }
        let headerBytes = headerBytes(maps: count)
        guard header.word(at: 60) == UInt32(headerBytes) else {
            throw .invalidField("header bytes", offset: 60, value: Int(header.word(at: 60)))
        }
        guard bytes.count >= headerBytes else {
            throw .truncatedHeader(bytes: bytes.count, needed: headerBytes)
        }
        guard header.checksum(of: headerBytes, standingAt: checksumOffset) == header.long(at: checksumOffset) else {
            throw .headerChecksum
        }
        guard let precision = EmbeddingPrecision(code: bytes[6]) else { throw .unknownElementType(Int(bytes[6])) }
        guard bytes[8] <= 3 else { throw .invalidField("arithmetic", offset: 8, value: Int(bytes[8])) }
        let entries = try entries(header, count: count, headerBytes: headerBytes, precision: precision)
        let end = entries.last.map { $0.start + $0.byteCount } ?? headerBytes
        let payloadBytes = header.long(at: payloadBytesOffset)
        guard payloadBytes == UInt64(end - headerBytes) else {
            throw .invalidField("payload bytes", offset: payloadBytesOffset, value: Int(clamping: payloadBytes))
        }
        guard bytes.count == end else { throw .wrongLength(expected: end, found: bytes.count) }
        let preprocessing = try preprocessing(header)
        let frame = try header.frame(at: 40)
        guard
            XXH64.hash(UnsafeRawBufferPointer(rebasing: bytes[headerBytes...]))
                == header.long(at: payloadChecksumOffset)
        else { throw .payloadChecksum }
        return EmbeddingRecord(
            version: 2, precision: precision, arithmetic: EncoderArithmetic(code: bytes[8]),
            preprocessing: preprocessing, frame: frame, preprocessingVersion: bytes[7],
            fingerprint: Array(bytes[64..<96]), image: ImageDigest(bytes: bytes[96..<128]),
            encodeTime: .microseconds(Int64(header.word(at: 56))), entries: entries, memory: memory)
    }

    private static func preprocessing(_ header: RecordHeader) throws(EmbeddingRecordError) -> ImagePreprocessing {
        let code = header.bytes[9]
        guard let resize = ImagePreprocessing.Resize(code: code) else {
            throw .invalidField("way of resizing", offset: 9, value: Int(code))
        }
        let size = try header.field("image size", at: 12, upTo: ImageFrame.largestSide)
        var (mean, deviation) = (SIMD3<Float>(), SIMD3<Float>())
        for channel in 0..<3 {
            mean[channel] = Float(bitPattern: header.word(at: 16 + 4 * channel))
            deviation[channel] = Float(bitPattern: header.word(at: 28 + 4 * channel))
            guard mean[channel].isFinite else {
                throw .invalidField(
                    "mean colour", offset: 16 + 4 * channel, value: Int(header.word(at: 16 + 4 * channel)))
            }
            guard deviation[channel].isFinite, deviation[channel] != 0 else {
                throw .invalidField(
                    "deviation of colour", offset: 28 + 4 * channel, value: Int(header.word(at: 28 + 4 * channel)))
            }
        }
        return ImagePreprocessing(resize: resize, size: size, mean: mean, deviation: deviation)
    }

    /// The maps, each where it must be; the sum of their bytes is bounded before it is believed.
    private static func entries(
        _ header: RecordHeader, count: Int, headerBytes: Int, precision: EmbeddingPrecision
    ) throws(EmbeddingRecordError) -> [EmbeddingRecord.Entry] {
        var entries: [EmbeddingRecord.Entry] = []
        var end = 0
        for index in 0..<count {
            let at = fixedBytes + entryBytes * index
            let field = UnsafeRawBufferPointer(rebasing: header.bytes[at..<at + FeatureMap.longestName])
            let written = field.prefix { $0 != 0 }
            let name = String(decoding: written, as: UTF8.self)
            guard FeatureMap.isName(name), field[written.count...].allSatisfy({ $0 == 0 }),
                !entries.contains(where: { $0.name == name })
            else { throw .invalidName(offset: at) }
            let channels = try header.field("channels", at: at + 32, upTo: EmbeddingPayload.maximumChannels)
            let rows = try header.field("grid rows", at: at + 36, upTo: EmbeddingPayload.maximumGrid)
            let columns = try header.field("grid columns", at: at + 40, upTo: EmbeddingPayload.maximumGrid)
            let axes = header.word(at: at + 44)
            guard axes <= UInt32(UInt8.max), let layout = FeatureMap.Layout(rawValue: UInt8(axes)) else {
                throw .invalidField("axes", offset: at + 44, value: Int(axes))
            }
            let start = aligned(end)
            guard header.long(at: at + 48) == UInt64(start) else {
                throw .invalidField("place", offset: at + 48, value: Int(clamping: header.long(at: at + 48)))
            }
            guard let bytes = EmbeddingPayload.byteCount(precision, channels: channels, area: rows * columns),
                header.long(at: at + 56) == UInt64(bytes), start + bytes <= EmbeddingPayload.maximumBytes
            else { throw .invalidField("bytes", offset: at + 56, value: Int(clamping: header.long(at: at + 56))) }
            end = start + bytes
            entries.append(
                .init(
                    name: name, layout: layout, channels: channels, rows: rows, columns: columns,
                    start: headerBytes + start, byteCount: bytes))
        }
        return entries
    }
}

extension EncoderArithmetic {
    fileprivate var code: UInt8 {
        switch self {
        case .fp32: 1
        case .bf16: 2
        case .int8: 3
        }
    }

    fileprivate init?(code: UInt8) {
        guard let arithmetic = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = arithmetic
    }
}

extension ImagePreprocessing.Resize {
    fileprivate var code: UInt8 {
        switch self {
        case .longestSide: 1
        case .square: 2
        }
    }

    fileprivate init?(code: UInt8) {
        guard let resize = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = resize
    }
}
