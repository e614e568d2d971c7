import Embeddings
import Segmentation
import Tensors
import Testing

@Suite struct EmbeddingRecordTests {
    @Test(arguments: EmbeddingPrecision.allCases)
    func comesBackAsItWas(_ precision: EmbeddingPrecision) throws {
        let features = Sample.features(channels: 6, grid: 5, seed: 1)
        let record = try Sample.record(features, precision: precision)
        let bytes = record.withUnsafeBytes { Array($0) }
        let read = try EmbeddingRecord(copying: bytes)
        #expect(read.precision == precision)
        #expect(read.version == 1 && read.arithmetic == nil)
        #expect(read.preprocessing == .segmentAnything(size: 1024))
        #expect(read.frame == Sample.frame)
        #expect(read.fingerprint == Sample.fingerprint)
        #expect(read.image == Sample.image(1))
        #expect(read.encodeTime == .milliseconds(1234))
        #expect(read.key == record.key)
        #expect(read.model.text == "000102030405060708090a0b0c0d0e0f:2:\(precision.rawValue)")
        let (before, after) = (features.elements, read.maps()[0].tensor.elements)
        #expect(record.maps()[0].tensor.elements == after)
        #expect(read.maps()[0].tensor.shape == [1, 6, 5, 5])
        switch precision {
        case .fp32: #expect(before == after)
        case .fp16: #expect(before.map { Float(Float16($0)) } == after)
        case .int8:
            for channel in 0..<6 {
                let range = channel * 25..<channel * 25 + 25
                let largest = before[range].map(abs).max() ?? 0
                for index in range { #expect(abs(before[index] - after[index]) <= largest / 127 * 0.5001) }
            }
        }
        // What came back is a fixed point: stored again it does not change.
        let again = try Sample.record(read.maps()[0].tensor, precision: precision)
        if precision != .int8 { #expect(again.withUnsafeBytes { Array($0) } == bytes) }
    }

    @Test func hasTheLayoutThatIsDrawn() throws {
        let record = try Sample.record(Sample.features(channels: 2, grid: 3, seed: 2), precision: .int8)
        let bytes = record.withUnsafeBytes { Array($0) }
        #expect(bytes.count == 128 + 64 + 18)
        #expect(Array(bytes[0..<8]) == [0x4b, 0x45, 0x4d, 0x42, 1, 0, 3, 2])
        func number(_ offset: Int) -> Int { (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) } }
        #expect(
            [8, 12, 16, 20, 24, 28, 32, 36, 40, 44].map(number) == [2, 3, 3, 1500, 1000, 1024, 683, 1_234_000, 82, 0])
        #expect(Array(bytes[64..<96]) == Sample.fingerprint)
        #expect(Array(bytes[96..<128]) == Sample.image(1).bytes)
        record.withUnsafeBytes { #expect(Int(bitPattern: $0.baseAddress).isMultiple(of: 64)) }
    }

    @Test func keepsFlatAndTinyChannels() throws {
        let tensor = Tensor(shape: [3, 1, 2], [0, -0.0, 1e-38, -.leastNonzeroMagnitude, 70000, -3e38])
        let int8 = try Sample.record(tensor, precision: .int8).maps()[0].tensor.elements
        #expect(int8[0...3].allSatisfy { $0 == 0 })
        #expect(int8[5] == -3e38 || abs(int8[5] + 3e38) < 1e32)
        #expect(try Sample.record(tensor, precision: .fp16).maps()[0].tensor.elements[4...] == [65504, -65504])
        for bad in [Float.nan, .infinity, -.infinity] {
            for precision in EmbeddingPrecision.allCases {
                #expect(throws: EmbeddingRecordError.notFinite) {
                    try Sample.record(Tensor(shape: [1, 1, 2], [1, bad]), precision: precision)
                }
            }
        }
    }

    @Test func namesWhatIsWrong() throws {
        let good = try Sample.record(Sample.features(channels: 2, grid: 2, seed: 3), precision: .fp16)
            .withUnsafeBytes { Array($0) }
        func change(_ offset: Int, _ bytes: [UInt8]) -> [UInt8] {
            var copy = good
            copy.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            return copy
        }
        let cases: [([UInt8], EmbeddingRecordError)] = [
            ([], .truncatedHeader(bytes: 0, needed: 8)),
            (Array(good[..<127]), .truncatedHeader(bytes: 127, needed: 128)),
            (change(0, [0x50]), .notARecord), (change(4, [3]), .unknownVersion(3)),
            (change(6, [9]), .unknownElementType(9)),
            (change(8, [0]), .invalidField("channels", offset: 8, value: 0)),
            (change(8, [255, 255, 255, 255]), .invalidField("channels", offset: 8, value: 4_294_967_295)),
            (change(12, [1, 4]), .invalidField("grid rows", offset: 12, value: 1025)),
            (change(20, [0, 0]), .invalidField("original width", offset: 20, value: 0)),
            (change(40, [17]), .invalidField("payload bytes", offset: 40, value: 17)),
            (change(40, Array(repeating: 255, count: 8)), .invalidField("payload bytes", offset: 40, value: .max)),
            (Array(good.dropLast()), .wrongLength(expected: 144, found: 143)),
            (good + [0], .wrongLength(expected: 144, found: 145)), (change(100, [1]), .headerChecksum),
            (change(36, [9]), .headerChecksum), (change(143, [good[143] ^ 1]), .payloadChecksum),
        ]
        for (bytes, expected) in cases {
            #expect(throws: expected) { try EmbeddingRecord(copying: bytes) }
        }
    }

    @Test func survivesHostileBytes() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("embedding record mutations: seed \(seed)")
        var random = SeededGenerator(seed: seed)
        let originals = try EmbeddingPrecision.allCases.map { precision in
            try Sample.record(Sample.features(channels: 3, grid: 2, seed: 4), precision: precision)
                .withUnsafeBytes { Array($0) }
        }
        var refused = 0
        for _ in 0..<24_000 {
            var bytes = originals[Int.random(in: 0..<3, using: &random)]
            let before = bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                guard !bytes.isEmpty else { break }
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<6, using: &random) {
                case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: bytes[place] = [0, 1, 127, 128, 255].randomElement(using: &random) ?? 0
                case 2: bytes.removeSubrange(place...)
                case 3: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
                case 4: bytes += bytes[place...]
                default: for index in place..<min(place + 8, bytes.count) { bytes[index] = 255 }
                }
            }
            do throws(EmbeddingRecordError) {
                let record = try EmbeddingRecord(copying: bytes)
                // Only a mutation that changed nothing may pass.
                #expect(bytes == before)
                _ = record.maps()[0].tensor
            } catch {
                refused += 1
            }
        }
        #expect(refused > 20_000)
    }

    @Test func keysReadBack() throws {
        let key = try Sample.record(Sample.features(channels: 1, grid: 1, seed: 5)).key
        #expect(EmbeddingKey("\(key)") == key)
        #expect("\(key)".hasPrefix(key.image.hexadecimal + ":"))
        #expect(ImageDigest(key.image.hexadecimal.uppercased()) == key.image)
        for bad in ["", ":", key.image.hexadecimal, "\(key.image):", "x\(key)", "\(key) ", "\(key.image):a/b"] {
            #expect(EmbeddingKey(bad) == nil)
        }
        #expect(ModelIdentifier(String(repeating: "a", count: 65)) == nil)
        let digest = ImageDigest("deadbeef" + String(repeating: "0", count: 56))
        #expect(digest?.partition(among: 16) == 0xdead_beef % 16)
        #expect(digest?.partition(among: 7) == 0xdead_beef % 7)
    }

    /// The figures are printed and decide nothing.
    @Test func tellsWhatItCosts() throws {
        let features = Sample.features(channels: 256, grid: 64, seed: 6)
        let clock = ContinuousClock()
        for precision in EmbeddingPrecision.allCases {
            var times: [Duration] = []
            var reads: [Duration] = []
            var checks: [Duration] = []
            for _ in 0..<3 {
                let began = clock.now
                let record = try Sample.record(features, precision: precision)
                let written = clock.now
                let read = try record.withUnsafeBytes { bytes in
                    try EmbeddingRecord(borrowing: bytes, from: Keeper(record))
                }
                let checked = clock.now
                _ = read.maps()[0].tensor
                times.append(written - began)
                checks.append(checked - written)
                reads.append(clock.now - checked)
            }
            let shown = [times, checks, reads].map { "\($0.min() ?? .zero)" }
            print("\(precision.rawValue) 256 x 64 x 64: write \(shown[0]), verify \(shown[1]), read \(shown[2])")
        }
    }
}

/// Keeps a record's memory alive.
final class Keeper: Sendable {
    let record: EmbeddingRecord
    init(_ record: EmbeddingRecord) { self.record = record }
}

/// Embeddings that tests store.
enum Sample {
    static let frame = ImageFrame(
        originalWidth: 1500, originalHeight: 1000, inputWidth: 1024, inputHeight: 683)
    static let fingerprint = (0..<32).map { UInt8($0) }

    static func image(_ number: Int) -> ImageDigest {
        Array("image \(number)".utf8).withUnsafeBytes { ImageDigest(ofFile: $0) }
    }

    static func features(channels: Int, grid: Int, seed: UInt64) -> Tensor {
        var random = SeededGenerator(seed: seed)
        let numbers = (0..<channels * grid * grid).map { _ in
            Float(Int64(bitPattern: random.next()) >> 40) / Float(1 << 20)
        }
        return Tensor(shape: [1, channels, grid, grid], numbers)
    }

    static func record(
        _ features: Tensor, image number: Int = 1, precision: EmbeddingPrecision = .fp16,
        arithmetic: EncoderArithmetic? = nil
    ) throws -> EmbeddingRecord {
        try EmbeddingRecord(
            [
                FeatureMap(
                    "image_embedding",
                    features.shape.count == 3 ? features.reshaped(to: [1] + features.shape) : features)
            ],
            preprocessing: .segmentAnything(size: 1024), frame: frame, fingerprint: fingerprint, image: image(number),
            precision: precision, arithmetic: arithmetic, encodeTime: .milliseconds(1234))
    }
}
