import Embeddings
import Foundation
import Segmentation
import Tensors
import Testing

/// Records of several maps, and those that were written before there were any.
@Suite struct FeatureRecordTests {
    /// Files of the release that knew one map alone:
    /// `kirie encode landscape.jpg --model sam.pth --type fp16 -o version1-fp16.kemb`, on SegmentAnythingTests' nano model.
    @Test(arguments: EmbeddingPrecision.allCases)
    func recordsOfVersion1AreReadAndStillWritten(_ precision: EmbeddingPrecision) throws {
        func file(_ precision: EmbeddingPrecision) throws -> [UInt8] {
            let folder = try #require(Bundle.module.resourceURL).appendingPathComponent("Fixtures")
            return Array(
                try Data(contentsOf: folder.appendingPathComponent("version1-\(precision.rawValue).kemb")))
        }
        let bytes = try file(precision)
        let record = try EmbeddingRecord(copying: bytes)
        #expect(record.version == 1 && record.arithmetic == nil && record.precision == precision)
        #expect(record.preprocessing == .segmentAnything(size: 256))
        #expect(
            record.frame
                == ImageFrame(originalWidth: 301, originalHeight: 227, inputWidth: 256, inputHeight: 193))
        #expect(record.model.text == "a79be6556d6143cad2e5351029a1c5b3:2:\(precision.rawValue)")
        let maps = record.maps()
        #expect(maps.map(\.name) == ["image_embedding"] && maps[0].layout == .channelsFirst)
        #expect(maps[0].tensor.shape == [1, 32, 16, 16])

        let exact = try EmbeddingRecord(copying: file(.fp32)).maps()[0].tensor
        switch precision {
        case .fp32: break
        case .fp16: #expect(maps[0].tensor.elements == exact.elements.map { Float(Float16($0)) })
        case .int8:
            for (a, b) in zip(maps[0].tensor.elements, exact.elements) { #expect(abs(a - b) < 0.05) }
        }
        // Without an arithmetic to tell, this release writes what that one did, byte for byte.
        let again = try EmbeddingRecord(
            [FeatureMap("image_embedding", exact)], preprocessing: record.preprocessing, frame: record.frame,
            fingerprint: record.fingerprint, image: record.image, precision: precision, arithmetic: nil,
            encodeTime: record.encodeTime)
        #expect(again.withUnsafeBytes { Array($0) } == bytes)
    }

    @Test(arguments: EmbeddingPrecision.allCases)
    func severalMapsComeBackAsTheyWere(_ precision: EmbeddingPrecision) throws {
        let maps = Several.maps(seed: 1)
        let record = try Several.record(maps, precision: precision, arithmetic: .bf16)
        let read = try EmbeddingRecord(copying: record.withUnsafeBytes { Array($0) })
        #expect(read.version == 2 && read.arithmetic == .bf16 && read.precision == precision)
        #expect(read.preprocessing == Several.preprocessing && read.frame == Several.frame)
        #expect(read.image == Sample.image(1) && read.encodeTime == .milliseconds(7))
        #expect(read.key == record.key)
        #expect(read.model.text == "000102030405060708090a0b0c0d0e0f:2:bf16:\(precision.rawValue)")
        let back = read.maps()
        #expect(back.map(\.name) == maps.map(\.name) && back.map(\.layout) == maps.map(\.layout))
        for (before, after) in zip(maps, back) {
            #expect(before.tensor.shape == after.tensor.shape)
            let (a, b) = (before.tensor.elements, after.tensor.elements)
            switch precision {
            case .fp32: #expect(a == b)
            case .fp16: #expect(a.map { Float(Float16($0)) } == b)
            case .int8:
                // Each channel has a scale of its own, whichever axis runs fastest.
                for channel in 0..<before.channels {
                    let places = a.indices.filter {
                        channel
                            == (before.layout == .channelsLast
                                ? $0 % before.channels : $0 / (before.height * before.width))
                    }
                    let largest = places.map { abs(a[$0]) }.max() ?? 0
                    for index in places { #expect(abs(a[index] - b[index]) <= largest / 127 * 0.5001) }
                }
            }
        }
    }

    @Test func hasTheLayoutThatIsDrawn() throws {
        let record = try Several.record(Several.maps(seed: 2), precision: .fp16, arithmetic: .int8)
        let bytes = record.withUnsafeBytes { Array($0) }
        #expect(Array(bytes[0..<12]) == [0x4b, 0x45, 0x4d, 0x42, 2, 0, 1, 2, 3, 2, 3, 0])
        func word(_ offset: Int) -> Int { (0..<4).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) } }
        func number(_ offset: Int) -> Float { Float(bitPattern: UInt32(word(offset))) }
        #expect([12, 40, 44, 48, 52, 56, 60].map(word) == [512, 1500, 1000, 512, 512, 7000, 192 + 3 * 64])
        #expect([16, 20, 24, 28, 32, 36].map(number) == [1, 2, 3, 4, 5, 6])
        #expect(Array(bytes[64..<96]) == Sample.fingerprint)
        #expect(Array(bytes[96..<128]) == Sample.image(1).bytes)
        // 3 · 4 · 4, 5 · 2 · 2 and 7 · 1 · 1 halves, each from a multiple of 64.
        #expect([128, 132].map(word) == [192 + 14, 0])
        #expect(bytes[152..<192].allSatisfy { $0 == 0 })
        #expect(Array(bytes[192..<224]) == Array("stride_4".utf8) + [UInt8](repeating: 0, count: 24))
        #expect(stride(from: 224, to: 256, by: 4).map(word) == [3, 4, 4, 1, 0, 0, 96, 0])
        #expect(stride(from: 288, to: 320, by: 4).map(word) == [5, 2, 2, 2, 128, 0, 40, 0])
        #expect(stride(from: 352, to: 384, by: 4).map(word) == [7, 1, 1, 1, 192, 0, 14, 0])
        #expect(bytes.count == 384 + 192 + 14)
        #expect(bytes[(384 + 96)..<(384 + 128)].allSatisfy { $0 == 0 })
    }

    /// What earlier releases cannot read never stands under an identifier that they know.
    @Test func theIdentifierAndTheVersionGoTogether() throws {
        let features = Sample.features(channels: 2, grid: 3, seed: 3)
        let old = try Sample.record(features)
        #expect(old.version == 1 && old.model.arithmetic == nil)
        for arithmetic in EncoderArithmetic.allCases {
            let new = try Sample.record(features, arithmetic: arithmetic)
            #expect(new.version == 2 && new.model.arithmetic == arithmetic && new.model.family == old.model)
            #expect(new.maps()[0].tensor.elements == old.maps()[0].tensor.elements)
        }
        #expect(Set([nil] + EncoderArithmetic.allCases.map(Optional.some)).count == 4)
        let keys = try ([nil] + EncoderArithmetic.allCases.map(Optional.some)).map {
            try Sample.record(features, arithmetic: $0).key
        }
        #expect(Set(keys).count == 4, "no arithmetic answers for another")
        // Several maps need version 2 in any case.
        #expect(try Several.record(Several.maps(seed: 3), precision: .fp16, arithmetic: nil).version == 2)
    }

    @Test func namesWhatIsWrong() throws {
        let good = try Several.record(Several.maps(seed: 4), precision: .fp16, arithmetic: .fp32)
            .withUnsafeBytes { Array($0) }
        func change(_ offset: Int, _ bytes: [UInt8]) -> [UInt8] {
            var copy = good
            copy.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            return Several.sealed(copy)
        }
        var doubled = good
        doubled.replaceSubrange(256..<288, with: good[192..<224])
        let all = [UInt8](repeating: 255, count: 8)
        let cases: [([UInt8], EmbeddingRecordError)] = [
            (Array(good[..<191]), .truncatedHeader(bytes: 191, needed: 192)),
            (Array(good[..<200]), .truncatedHeader(bytes: 200, needed: 384)),
            (change(4, [3]), .unknownVersion(3)), (change(4, [255, 255]), .unknownVersion(65535)),
            (change(6, [9]), .unknownElementType(9)),
            (change(8, [4]), .invalidField("arithmetic", offset: 8, value: 4)),
            (change(9, [0]), .invalidField("way of resizing", offset: 9, value: 0)),
            (change(10, [0]), .invalidField("feature maps", offset: 10, value: 0)),
            (change(10, [65]), .invalidField("feature maps", offset: 10, value: 65)),
            (change(60, [0]), .invalidField("header bytes", offset: 60, value: 256)),
            (change(12, [0, 0]), .invalidField("image size", offset: 12, value: 0)),
            (change(16, [0, 0, 0x80, 0x7f]), .invalidField("mean colour", offset: 16, value: 0x7f80_0000)),
            (change(36, [0, 0, 0, 0]), .invalidField("deviation of colour", offset: 36, value: 0)),
            (change(48, [0, 0, 0, 0]), .invalidField("input width", offset: 48, value: 0)),
            (change(128, all), .invalidField("payload bytes", offset: 128, value: .max)),
            (change(192, [0]), .invalidName(offset: 192)), (change(192, [0x41]), .invalidName(offset: 192)),
            (change(210, [0x61]), .invalidName(offset: 192)), (Several.sealed(doubled), .invalidName(offset: 256)),
            (change(224, [0, 0, 0, 0]), .invalidField("channels", offset: 224, value: 0)),
            (change(228, Array(all[..<4])), .invalidField("grid rows", offset: 228, value: 4_294_967_295)),
            (change(236, [3]), .invalidField("axes", offset: 236, value: 3)),
            (change(237, [1]), .invalidField("axes", offset: 236, value: 257)),
            (change(304, all), .invalidField("place", offset: 304, value: .max)),
            (change(312, [41]), .invalidField("bytes", offset: 312, value: 41)),
            (Array(good.dropLast()), .wrongLength(expected: good.count, found: good.count - 1)),
            (good + [0], .wrongLength(expected: good.count, found: good.count + 1)),
        ]
        for (bytes, expected) in cases {
            #expect(throws: expected) { try EmbeddingRecord(copying: bytes) }
        }
        var damaged = good
        damaged[100] ^= 1
        #expect(throws: EmbeddingRecordError.headerChecksum) { try EmbeddingRecord(copying: damaged) }
        damaged = good
        damaged[good.count - 1] ^= 1
        #expect(throws: EmbeddingRecordError.payloadChecksum) { try EmbeddingRecord(copying: damaged) }
        #expect("\(EmbeddingRecordError.unknownVersion(9))".contains("version 9"))
    }

    /// Mutations whose checksums are made right again, so that every other check has to hold.
    @Test func survivesHostileBytes() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("feature record mutations: seed \(seed)")
        var random = SeededGenerator(seed: seed)
        let originals = try EmbeddingPrecision.allCases.map { precision in
            try Several.record(Several.maps(seed: 5), precision: precision, arithmetic: .fp32)
                .withUnsafeBytes { Array($0) }
        }
        var (refused, read) = (0, 0)
        for _ in 0..<24_000 {
            var bytes = originals[Int.random(in: 0..<3, using: &random)]
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                guard !bytes.isEmpty else { break }
                let place = Int.random(in: 0..<min(bytes.count, 400), using: &random)
                switch Int.random(in: 0..<7, using: &random) {
                case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: bytes[place] = [0, 1, 2, 127, 128, 255].randomElement(using: &random) ?? 0
                case 2: bytes.removeSubrange(place...)
                case 3: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
                case 4: bytes += bytes[place...]
                case 5:
                    let from = Int.random(in: 0..<bytes.count, using: &random)
                    for index in 0..<min(8, bytes.count - max(place, from)) {
                        bytes[place + index] = bytes[from + index]
                    }
                default: for index in place..<min(place + 8, bytes.count) { bytes[index] = 255 }
                }
            }
            if Bool.random(using: &random) { bytes = Several.sealed(bytes) }
            do throws(EmbeddingRecordError) {
                let record = try EmbeddingRecord(copying: bytes)
                read += 1
                let numbers = record.maps().reduce(0) { $0 + $1.tensor.elements.count }
                #expect(numbers < 4 * bytes.count)
            } catch {
                refused += 1
            }
        }
        #expect(refused > 12_000 && read > 100, "\(refused) refused, \(read) read")
    }
}

/// Features at three strides, as other families have them.
private enum Several {
    static let preprocessing = ImagePreprocessing(
        resize: .square, size: 512, mean: [1, 2, 3], deviation: [4, 5, 6])
    static let frame = preprocessing.frame(width: 1500, height: 1000)

    static func maps(seed: UInt64) -> [FeatureMap] {
        func features(_ shape: [Int], _ seed: UInt64) -> Tensor {
            var random = SeededGenerator(seed: seed)
            return Tensor(
                shape: shape,
                (0..<shape.reduce(1, *)).map { _ in Float(Int64(bitPattern: random.next()) >> 40) / Float(1 << 20) })
        }
        return [
            FeatureMap("stride_4", features([1, 3, 4, 4], seed)),
            FeatureMap("stride_8", features([1, 2, 2, 5], seed + 1), layout: .channelsLast),
            FeatureMap("image_embedding", features([1, 7, 1, 1], seed + 2)),
        ]
    }

    static func record(
        _ maps: [FeatureMap], precision: EmbeddingPrecision, arithmetic: EncoderArithmetic?
    ) throws -> EmbeddingRecord {
        try EmbeddingRecord(
            maps, preprocessing: preprocessing, frame: frame, fingerprint: Sample.fingerprint, image: Sample.image(1),
            precision: precision, arithmetic: arithmetic, encodeTime: .milliseconds(7))
    }

    /// The same bytes with checksums that are right.
    static func sealed(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.count >= 192 else { return bytes }
        var bytes = bytes
        let headerBytes = min(bytes.count, 192 + 64 * (Int(bytes[10]) | Int(bytes[11]) << 8))
        func write(_ hash: UInt64, at offset: Int) {
            for index in 0..<8 { bytes[offset + index] = UInt8(truncatingIfNeeded: hash >> (8 * UInt64(index))) }
        }
        write(Array(bytes[headerBytes...]).withUnsafeBytes { XXH64.hash($0) }, at: 136)
        write(0, at: 144)
        write(Array(bytes[..<headerBytes]).withUnsafeBytes { XXH64.hash($0) }, at: 144)
        return bytes
    }
}
