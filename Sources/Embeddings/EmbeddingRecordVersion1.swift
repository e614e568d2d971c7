import Segmentation
import Tensors

/// The first form of a record: one map of Segment Anything, prepared as published.
///
/// ```text
/// offset  bytes
///      0      4  "KEMB"
///      4      2  version: 1
///      6      1  element type: 1 fp16, 2 fp32, 3 int8 per channel
///      7      1  version of the preprocessing's code, see ModelIdentifier
///      8      4  channels C
///     12      4  grid rows R
///     16      4  grid columns W
///     20      4  width of the original picture, after EXIF orientation
///     24      4  height
///     28      4  width of the resized picture, before padding
///     32      4  height
///     36      4  how long the encoder took, in microseconds
///     40      8  bytes of payload
///     48      8  XXH64 of the payload, seed 0
///     56      8  XXH64 of the 128 bytes of the header with these 8 at zero, seed 0
///     64     32  SHA-256 of the weights
///     96     32  SHA-256 of the image file
///    128      …  payload: C * R * W numbers, row-major (C, R, W)
/// ```
/// The side of the encoder's picture is the longer one of the resized picture.
enum EmbeddingRecordVersion1 {
    static let headerBytes = 128
    private static let checksumOffset = 56

    /// Whether such a record says all of it.
    static func suffices(for parts: EmbeddingRecordParts) -> Bool {
        guard parts.arithmetic == nil, parts.maps.count == 1, let map = parts.maps.first else { return false }
        let side = max(parts.frame.inputWidth, parts.frame.inputHeight)
        return map.name == FeatureMap.imageEmbedding && map.layout == .channelsFirst
            && parts.preprocessing == .segmentAnything(size: side)
    }

    static func write(_ parts: EmbeddingRecordParts) throws(EmbeddingRecordError) -> RecordMemory {
        let map = parts.maps[0]
        guard
            let payloadBytes = EmbeddingPayload.byteCount(
                parts.precision, channels: map.channels, area: map.height * map.width)
        else { preconditionFailure("features of shape \(map.tensor.shape) cannot be stored") }
        let memory = RecordMemory(byteCount: headerBytes + payloadBytes)
        let payload = UnsafeMutableRawBufferPointer(rebasing: memory.writable[headerBytes...])
        guard EmbeddingPayload.write(map, as: parts.precision, to: payload) else { throw .notFinite }

        let header = UnsafeMutableRawBufferPointer(rebasing: memory.writable[..<headerBytes])
        header.copyBytes(from: "KEMB".utf8)
        header.storeBytes(of: UInt16(1).littleEndian, toByteOffset: 4, as: UInt16.self)
        header[6] = parts.precision.code
        header[7] = parts.preprocessingVersion
        for (index, extent) in [map.channels, map.height, map.width].enumerated() {
            header.store(extent, at: 8 + 4 * index)
        }
        header.store(parts.frame, at: 20)
        header.store(word: parts.microseconds, at: 36)
        header.store(long: UInt64(payloadBytes), at: 40)
        header.store(long: XXH64.hash(UnsafeRawBufferPointer(payload)), at: 48)
        header.store(bytes: parts.fingerprint, at: 64)
        header.store(bytes: parts.image.bytes, at: 96)
        let checksum = RecordHeader(bytes: UnsafeRawBufferPointer(header))
            .checksum(of: headerBytes, standingAt: checksumOffset)
        header.store(long: checksum, at: checksumOffset)
        return memory
    }

    static func read(_ memory: RecordMemory) throws(EmbeddingRecordError) -> EmbeddingRecord {
        let bytes = memory.bytes
        guard bytes.count >= headerBytes else {
            throw .truncatedHeader(bytes: bytes.count, needed: headerBytes)
        }
        guard let precision = EmbeddingPrecision(code: bytes[6]) else { throw .unknownElementType(Int(bytes[6])) }
        let header = RecordHeader(bytes: bytes)
        let channels = try header.field("channels", at: 8, upTo: EmbeddingPayload.maximumChannels)
        let rows = try header.field("grid rows", at: 12, upTo: EmbeddingPayload.maximumGrid)
        let columns = try header.field("grid columns", at: 16, upTo: EmbeddingPayload.maximumGrid)
        let frame = try header.frame(at: 20)
        let payloadBytes = header.long(at: 40)
        guard let expected = EmbeddingPayload.byteCount(precision, channels: channels, area: rows * columns),
            payloadBytes == UInt64(expected)
        else {
            throw .invalidField("payload bytes", offset: 40, value: Int(clamping: payloadBytes))
        }
        guard bytes.count == headerBytes + expected else {
            throw .wrongLength(expected: headerBytes + expected, found: bytes.count)
        }
        guard header.checksum(of: headerBytes, standingAt: checksumOffset) == header.long(at: checksumOffset) else {
            throw .headerChecksum
        }
        guard XXH64.hash(UnsafeRawBufferPointer(rebasing: bytes[headerBytes...])) == header.long(at: 48) else {
            throw .payloadChecksum
        }
        return EmbeddingRecord(
            version: 1, precision: precision, arithmetic: nil,
            preprocessing: .segmentAnything(size: max(frame.inputWidth, frame.inputHeight)), frame: frame,
            preprocessingVersion: bytes[7], fingerprint: Array(bytes[64..<96]),
            image: ImageDigest(bytes: bytes[96..<128]), encodeTime: .microseconds(Int64(header.word(at: 36))),
            entries: [
                .init(
                    name: FeatureMap.imageEmbedding, layout: .channelsFirst, channels: channels, rows: rows,
                    columns: columns, start: headerBytes, byteCount: expected)
            ], memory: memory)
    }
}
