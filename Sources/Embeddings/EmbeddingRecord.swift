public import Segmentation
public import Tensors

/// An image embedding as it is stored: the value of an embedding key, and a file with the ending `kemb`.
///
/// Little-endian throughout.
/// ```
/// offset  bytes
///      0      4  "KEMB"
///      4      2  version: 1
///      6      1  element type: 1 fp16, 2 fp32, 3 int8 per channel
///      7      1  preprocessing version, see ModelIdentifier
///      8      4  channels C
///     12      4  grid rows R
///     16      4  grid columns S
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
///    128      …  payload: C * R * S numbers, row-major (C, R, S)
/// ```
/// fp16 rounds to nearest even, keeps denormals, and takes what is beyond ±65504 as ±65504. int8 begins with C scales
/// (fp32), padded with zeros to a multiple of 64 bytes; a number is `scale * q`, q from -127 to 127, scale the largest
/// magnitude of the channel / 127.
///
/// The payload starts at a multiple of 64 bytes, so that a record in aligned memory is read in place. The checksum is
/// XXH64 (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>): it guards against damage, not against
/// malice, reads 2 MiB in about 0.2 ms where SHA-256 takes milliseconds, and every language has it.
public struct EmbeddingRecord: Sendable {
    /// What a picture's coordinates need: its size, and its size after it was resized and before it was padded.
    public struct Frame: Sendable, Hashable {
        /// Columns of the original picture.
        public var originalWidth: Int
        /// Rows of the original picture.
        public var originalHeight: Int
        /// Columns of the resized picture.
        public var inputWidth: Int
        /// Rows of the resized picture.
        public var inputHeight: Int

        /// Sizes in pixels.
        public init(originalWidth: Int, originalHeight: Int, inputWidth: Int, inputHeight: Int) {
            self.originalWidth = originalWidth
            self.originalHeight = originalHeight
            self.inputWidth = inputWidth
            self.inputHeight = inputHeight
        }
    }

    /// Bytes before the payload.
    public static let headerBytes = 128
    /// The version that is written.
    public static let version = 1

    /// How the numbers are written.
    public let precision: EmbeddingPrecision
    /// (1, C, R, S).
    public let shape: [Int]
    /// The picture's sizes.
    public let frame: Frame
    /// The version of the preprocessing.
    public let preprocessing: UInt8
    /// The SHA-256 of the weights, 32 bytes.
    public let fingerprint: [UInt8]
    /// The image.
    public let image: ImageDigest
    /// How long the encoder took; at most 71 minutes can be said.
    public let encodeTime: Duration

    /// All bytes, header and payload.
    let memory: RecordMemory

    /// The number of bytes.
    public var byteCount: Int { memory.bytes.count }
    /// What made the embedding.
    public var model: ModelIdentifier {
        ModelIdentifier(fingerprint: fingerprint, preprocessing: preprocessing, precision: precision)
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
}

extension EmbeddingRecord {
    /// Writes an embedding.
    ///
    /// - Parameters:
    ///   - features: (1, C, R, S) or (C, R, S).
    ///   - frame: the picture's sizes, each from 1 to 16,777,216.
    ///   - fingerprint: the SHA-256 of the weights.
    ///   - image: the SHA-256 of the image file.
    ///   - precision: how to write the numbers.
    ///   - encodeTime: how long the encoder took, which a cache hit saves.
    /// - Throws: ``EmbeddingRecordError/notFinite`` where a number is infinite or none.
    /// - Precondition: shape, sizes and fingerprint are as said.
    public init(
        _ features: Tensor, frame: Frame, fingerprint: [UInt8], image: ImageDigest,
        precision: EmbeddingPrecision = .fp16, preprocessing: UInt8 = ModelIdentifier.currentPreprocessing,
        encodeTime: Duration = .zero
    ) throws(EmbeddingRecordError) {
        let shape = features.shape.count == 3 ? [1] + features.shape : features.shape
        precondition(shape.count == 4 && shape[0] == 1, "an embedding has shape (1, C, R, S), not \(features.shape)")
        precondition(fingerprint.count == 32, "a fingerprint has 32 bytes, not \(fingerprint.count)")
        guard let payloadBytes = EmbeddingPayload.byteCount(precision, channels: shape[1], area: shape[2] * shape[3])
        else { preconditionFailure("an embedding of shape \(shape) cannot be stored") }

        let memory = RecordMemory(byteCount: Self.headerBytes + payloadBytes)
        let payload = UnsafeMutableRawBufferPointer(rebasing: memory.writable[Self.headerBytes...])
        let isFinite = features.withUnsafeBufferPointer { numbers in
            EmbeddingPayload.write(numbers, channels: shape[1], as: precision, to: payload)
        }
        guard isFinite else { throw .notFinite }

        let (seconds, attoseconds) = encodeTime.components
        let microseconds = Double(seconds) * 1e6 + Double(attoseconds) / 1e12
        let fields: [(offset: Int, value: Int)] = [
            (8, shape[1]), (12, shape[2]), (16, shape[3]), (20, frame.originalWidth), (24, frame.originalHeight),
            (28, frame.inputWidth), (32, frame.inputHeight), (36, Int(max(0, min(microseconds, Double(UInt32.max))))),
        ]
        let header = UnsafeMutableRawBufferPointer(rebasing: memory.writable[..<Self.headerBytes])
        header.copyBytes(from: "KEMB".utf8)
        header.storeBytes(of: UInt16(Self.version).littleEndian, toByteOffset: 4, as: UInt16.self)
        header[6] = precision.code
        header[7] = preprocessing
        for field in fields {
            header.storeBytes(of: UInt32(field.value).littleEndian, toByteOffset: field.offset, as: UInt32.self)
        }
        header.storeBytes(of: UInt64(payloadBytes).littleEndian, toByteOffset: 40, as: UInt64.self)
        header.storeBytes(
            of: XXH64.hash(UnsafeRawBufferPointer(payload)).littleEndian, toByteOffset: 48, as: UInt64.self)
        UnsafeMutableRawBufferPointer(rebasing: header[64..<96]).copyBytes(from: fingerprint)
        UnsafeMutableRawBufferPointer(rebasing: header[96..<128]).copyBytes(from: image.bytes)
        header.storeBytes(
            of: Self.headerChecksum(UnsafeRawBufferPointer(header)).littleEndian, toByteOffset: 56, as: UInt64.self)

        try self.init(memory)
    }

    /// Reads a record, whoever wrote it, and verifies both checksums.
    ///
    /// - Parameters:
    ///   - bytes: memory that `owner` keeps valid and unchanged; it is not copied.
    ///   - owner: kept alive by the record.
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

    private init(_ memory: RecordMemory) throws(EmbeddingRecordError) {
        let bytes = memory.bytes
        guard bytes.count >= Self.headerBytes else { throw .truncatedHeader(bytes: bytes.count) }
        guard bytes.prefix(4).elementsEqual("KEMB".utf8) else { throw .notARecord }
        let version = Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self)))
        guard version == Self.version else { throw .unknownVersion(version) }
        guard let precision = EmbeddingPrecision(code: bytes[6]) else { throw .unknownElementType(Int(bytes[6])) }

        func field(_ name: String, at offset: Int, upTo limit: Int) throws(EmbeddingRecordError) -> Int {
            let value = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
            guard (1...limit).contains(value) else { throw .invalidField(name, offset: offset, value: value) }
            return value
        }
        let channels = try field("channels", at: 8, upTo: EmbeddingPayload.maximumChannels)
        let rows = try field("grid rows", at: 12, upTo: EmbeddingPayload.maximumGrid)
        let columns = try field("grid columns", at: 16, upTo: EmbeddingPayload.maximumGrid)
        frame = Frame(
            originalWidth: try field("original width", at: 20, upTo: 1 << 24),
            originalHeight: try field("original height", at: 24, upTo: 1 << 24),
            inputWidth: try field("input width", at: 28, upTo: 1 << 24),
            inputHeight: try field("input height", at: 32, upTo: 1 << 24))
        let payloadBytes = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 40, as: UInt64.self))
        guard let expected = EmbeddingPayload.byteCount(precision, channels: channels, area: rows * columns),
            payloadBytes == UInt64(expected)
        else {
            throw .invalidField("payload bytes", offset: 40, value: Int(clamping: payloadBytes))
        }
        guard bytes.count == Self.headerBytes + expected else {
            throw .wrongLength(expected: Self.headerBytes + expected, found: bytes.count)
        }
        func checksum(at offset: Int) -> UInt64 {
            UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        }
        guard Self.headerChecksum(bytes) == checksum(at: 56) else { throw .headerChecksum }
        let payload = UnsafeRawBufferPointer(rebasing: bytes[Self.headerBytes...])
        guard XXH64.hash(payload) == checksum(at: 48) else { throw .payloadChecksum }

        self.precision = precision
        shape = [1, channels, rows, columns]
        preprocessing = bytes[7]
        fingerprint = Array(bytes[64..<96])
        image = ImageDigest(bytes: bytes[96..<128])
        let microseconds = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 36, as: UInt32.self))
        encodeTime = .microseconds(Int64(microseconds))
        self.memory = memory
    }

    /// The embedding as (1, C, R, S) of `Float`.
    ///
    /// fp32 in aligned memory is not copied; the others cost a millisecond or less for 256 x 64 x 64.
    public func tensor() -> Tensor {
        let payload = UnsafeRawBufferPointer(rebasing: memory.bytes[Self.headerBytes...])
        defer { withExtendedLifetime(memory) {} }
        #if _endian(little)
            if precision == .fp32, let start = payload.baseAddress,
                Int(bitPattern: start).isMultiple(of: MemoryLayout<Float>.alignment)
            {
                return Tensor(shape: shape, borrowing: payload.bindMemory(to: Float.self), from: memory)
            }
        #endif
        return Tensor(shape: shape) { numbers in
            EmbeddingPayload.read(payload, as: precision, channels: shape[1], into: numbers)
        }
    }

    private static func headerChecksum(_ header: UnsafeRawBufferPointer) -> UInt64 {
        var copy = Array(header[..<headerBytes])
        for index in 56..<64 { copy[index] = 0 }
        return copy.withUnsafeBytes { XXH64.hash($0) }
    }
}

extension EmbeddingPrecision {
    fileprivate var code: UInt8 {
        switch self {
        case .fp16: 1
        case .fp32: 2
        case .int8: 3
        }
    }

    fileprivate init?(code: UInt8) {
        guard let precision = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = precision
    }
}
