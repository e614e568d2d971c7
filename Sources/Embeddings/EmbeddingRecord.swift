public import Segmentation
public import Tensors

/// An image's embedding as it is stored: the value of an embedding key, and a file with the ending `kemb`.
///
/// Little-endian throughout; version 2, N named feature maps:
/// ```text
/// offset  bytes
///      0      4  "KEMB"
///      4      2  version: 2
///      6      1  element type: 1 fp16, 2 fp32, 3 int8 per channel
///      7      1  version of the preprocessing's code, see ModelIdentifier
///      8      1  arithmetic of the encoder: 0 not said, 1 fp32, 2 bf16, 3 int8
///      9      1  how the picture was resized: 1 longest side, 2 square
///     10      2  feature maps N, 1 to 64
///     12      4  side S of the encoder's picture
///     16     12  what was taken off red, green and blue (0 to 255), three fp32
///     28     12  what they were divided by, three fp32
///     40      4  width of the original picture, after EXIF orientation
///     44      4  height
///     48      4  width of the resized picture, before it was filled up
///     52      4  height
///     56      4  how long the encoder took, in microseconds
///     60      4  bytes of the header, H = 192 + 64 N
///     64     32  SHA-256 of the weights
///     96     32  SHA-256 of the image file
///    128      8  bytes of payload
///    136      8  XXH64 of the payload, seed 0
///    144      8  XXH64 of the H bytes of the header with these 8 at zero, seed 0
///    152     40  zeros
///    192   64 N  the feature maps:
///              0     32  name, of a-z 0-9 _ . and no other's, then zeros
///             32      4  channels C
///             36      4  rows R
///             40      4  columns W
///             44      4  axes: 1 (C, R, W), 2 (R, W, C)
///             48      8  where its numbers begin in the payload: the first multiple of 64 behind those before
///             56      8  their bytes
///      H      …  payload; between maps zeros
/// ```
/// fp16 rounds to nearest even, keeps denormals, and takes what is beyond ±65504 as ±65504. int8 begins with C scales
/// (fp32), padded with zeros to a multiple of 64 bytes, and goes on with the numbers as (C, R, W) whatever the axes are; a
/// number is `scale * q`, q from -127 to 127, scale the largest magnitude of the channel / 127.
///
/// The payload starts at a multiple of 64 bytes, so that a record in aligned memory is read in place. The checksum is
/// XXH64 (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>): it guards against damage, not against
/// malice, reads 2 MiB in about 0.2 ms where SHA-256 takes milliseconds, and every language has it.
///
/// **Version 1** (drawn at ``EmbeddingRecordVersion1``) holds one map, Segment Anything's, and cannot say the arithmetic.
/// It is read for ever, and written under identifiers that do not say the arithmetic either: those are what earlier releases
/// ask for, and so their decoders find only what they can read. Under an identifier that says it stands version 2.
public struct EmbeddingRecord: Sendable {
    /// One map in the payload.
    struct Entry: Sendable {
        let name: String
        let layout: FeatureMap.Layout
        let channels: Int
        let rows: Int
        let columns: Int
        /// From the beginning of the record.
        let start: Int
        let byteCount: Int

        var area: Int { rows * columns }
        var shape: [Int] {
            layout == .channelsFirst ? [1, channels, rows, columns] : [1, rows, columns, channels]
        }
    }

    /// What the bytes are: 1 or 2.
    public let version: Int
    /// How the numbers are written.
    public let precision: EmbeddingPrecision
    /// In what the encoder computed; nil where that is not said.
    public let arithmetic: EncoderArithmetic?
    /// How the picture was brought to the encoder.
    public let preprocessing: ImagePreprocessing
    /// The picture's sizes.
    public let frame: ImageFrame
    /// The version of the code that did so.
    public let preprocessingVersion: UInt8
    /// The SHA-256 of the weights, 32 bytes.
    public let fingerprint: [UInt8]
    /// The image.
    public let image: ImageDigest
    /// How long the encoder took; at most 71 minutes can be said.
    public let encodeTime: Duration

    /// The maps.
    let entries: [Entry]
    /// All bytes, header and payload.
    let memory: RecordMemory

    /// The number of bytes.
    public var byteCount: Int { memory.bytes.count }
    /// What made the embedding.
    public var model: ModelIdentifier {
        ModelIdentifier(
            fingerprint: fingerprint, preprocessing: preprocessingVersion, arithmetic: arithmetic,
            precision: precision)
    }
    /// The key that the record belongs under.
    public var key: EmbeddingKey { EmbeddingKey(image: image, model: model) }

    /// Calls `body` with the bytes as they are stored; the pointer is valid during the call only.
    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(memory) {} }
        return try body(memory.bytes)
    }

    /// The feature maps as numbers of `Float`, in their order.
    ///
    /// fp32 in aligned memory is not copied; the others cost a millisecond or less for 256 x 64 x 64.
    public func maps() -> [FeatureMap] {
        entries.map { FeatureMap($0.name, tensor($0), layout: $0.layout) }
    }

    private func tensor(_ entry: Entry) -> Tensor {
        let payload = UnsafeRawBufferPointer(rebasing: memory.bytes[entry.start..<entry.start + entry.byteCount])
        defer { withExtendedLifetime(memory) {} }
        #if _endian(little)
            if precision == .fp32, let start = payload.baseAddress,
                Int(bitPattern: start).isMultiple(of: MemoryLayout<Float>.alignment)
            {
                return Tensor(shape: entry.shape, borrowing: payload.bindMemory(to: Float.self), from: memory)
            }
        #endif
        return Tensor(shape: entry.shape) { numbers in
            EmbeddingPayload.read(
                payload, as: precision, channels: entry.channels, layout: entry.layout, into: numbers)
        }
    }
}

extension EmbeddingRecord {
    /// Reads a record, whoever wrote it, and verifies both checksums.
    ///
    /// - Parameters:
    ///   - bytes: memory that `owner` keeps valid and unchanged; it is not copied.
    ///   - owner: kept alive by the record.
    /// - Throws: ``EmbeddingRecordError``, which names a version that this program does not know.
    public init(
        borrowing bytes: UnsafeRawBufferPointer, from owner: any AnyObject & Sendable
    ) throws(EmbeddingRecordError) {
        try self.init(RecordMemory(borrowing: bytes, from: owner))
    }

    /// Reads a record from a copy of bytes.
    public init(copying bytes: some Collection<UInt8>) throws(EmbeddingRecordError) {
        let memory = RecordMemory(byteCount: bytes.count)
        memory.writable.copyBytes(from: bytes)
        try self.init(memory)
    }

    /// Writes an embedding.
    ///
    /// - Parameters:
    ///   - maps: 1 to 64, of different names.
    ///   - preprocessing: how the picture was brought to the encoder.
    ///   - frame: the picture's sizes, each from 1 to 16,777,216.
    ///   - fingerprint: the SHA-256 of the weights.
    ///   - image: the SHA-256 of the image file.
    ///   - precision: how to write the numbers.
    ///   - arithmetic: of the encoder; nil for a record under an identifier that does not say it.
    ///   - preprocessingVersion: that of the code that resized and normalized; part of the record's key.
    ///   - encodeTime: how long the encoder took, which a cache hit saves.
    /// - Throws: ``EmbeddingRecordError/notFinite`` where a number is infinite or none.
    /// - Precondition: maps, sizes and fingerprint are as said.
    public init(
        _ maps: [FeatureMap], preprocessing: ImagePreprocessing, frame: ImageFrame, fingerprint: [UInt8],
        image: ImageDigest, precision: EmbeddingPrecision = .fp16, arithmetic: EncoderArithmetic?,
        preprocessingVersion: UInt8 = ModelIdentifier.currentPreprocessing, encodeTime: Duration = .zero
    ) throws(EmbeddingRecordError) {
        precondition(fingerprint.count == 32, "a fingerprint has 32 bytes, not \(fingerprint.count)")
        let parts = EmbeddingRecordParts(
            maps: maps, preprocessing: preprocessing, frame: frame, fingerprint: fingerprint, image: image,
            precision: precision, arithmetic: arithmetic, preprocessingVersion: preprocessingVersion,
            microseconds: encodeTime.recordedMicroseconds)
        let isOfVersion1 = EmbeddingRecordVersion1.suffices(for: parts)
        let memory = isOfVersion1 ? try EmbeddingRecordVersion1.write(parts) : try EmbeddingRecordVersion2.write(parts)
        try self.init(memory)
    }

    init(_ memory: RecordMemory) throws(EmbeddingRecordError) {
        let bytes = memory.bytes
        guard bytes.count >= 8 else { throw .truncatedHeader(bytes: bytes.count, needed: 8) }
        guard bytes.prefix(4).elementsEqual("KEMB".utf8) else { throw .notARecord }
        switch Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self))) {
        case 1: self = try EmbeddingRecordVersion1.read(memory)
        case 2: self = try EmbeddingRecordVersion2.read(memory)
        case let version: throw .unknownVersion(version)
        }
    }
}

/// What a record is written from.
struct EmbeddingRecordParts {
    let maps: [FeatureMap]
    let preprocessing: ImagePreprocessing
    let frame: ImageFrame
    let fingerprint: [UInt8]
    let image: ImageDigest
    let precision: EmbeddingPrecision
    let arithmetic: EncoderArithmetic?
    let preprocessingVersion: UInt8
    let microseconds: UInt32
}

extension Duration {
    /// Whole microseconds, as many as a record can say.
    fileprivate var recordedMicroseconds: UInt32 {
        let (seconds, attoseconds) = components
        let microseconds = Double(seconds) * 1e6 + Double(attoseconds) / 1e12
        return UInt32(max(0, min(microseconds, Double(UInt32.max))))
    }
}

extension EmbeddingPrecision {
    var code: UInt8 {
        switch self {
        case .fp16: 1
        case .fp32: 2
        case .int8: 3
        }
    }

    init?(code: UInt8) {
        guard let precision = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = precision
    }
}
