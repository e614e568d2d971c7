import Foundation
import Segmentation
import Testing

@Suite("Run-length encoding is pycocotools'")
struct RunLengthEncodingTests {
    /// A mask and what pycocotools says of it; made by `ImagingTests/Fixtures/make_fixtures.py`.
    private struct Case: Decodable {
        let rows: [String]
        let compressed: String
        let counts: [Int]
        let area: Int
        let bbox: [Int]

        var mask: Mask {
            Mask(
                width: rows[0].utf8.count, height: rows.count,
                pixels: rows.flatMap { $0.utf8.map { $0 == 0x31 ? 1 : 0 } })
        }
    }

    private func cases() throws -> [Case] {
        let url = Bundle.module.bundleURL.appendingPathComponent("Fixtures/run-lengths.json")
        return try JSONDecoder().decode([Case].self, from: Data(contentsOf: url))
    }

    @Test("masks to strings, counts, areas and boxes, and back")
    func goldens() throws {
        let cases = try cases()
        #expect(cases.count >= 15)
        for (index, item) in cases.enumerated() {
            let encoding = RunLengthEncoding(item.mask)
            #expect(encoding.compressed == item.compressed, "case \(index)")
            #expect(encoding.counts.map(Int.init) == item.counts, "case \(index)")
            #expect(encoding.area == item.area && item.area == item.mask.area, "case \(index)")
            #expect(encoding.boundingBox == item.bbox, "case \(index)")
            #expect(encoding.mask == item.mask, "case \(index)")
            let (height, width) = (item.mask.height, item.mask.width)
            #expect(try RunLengthEncoding(compressed: item.compressed, height: height, width: width) == encoding)
            #expect(try RunLengthEncoding(counts: item.counts, height: height, width: width) == encoding)
        }
    }

    @Test("random masks of every size round 8 and 64 come back")
    func roundTrip() throws {
        let seed: UInt64 = 5
        print("run-length encoding: seed \(seed)")
        var random = SeededGenerator(seed: seed)
        for _ in 0..<400 {
            let (height, width) = (Int.random(in: 1...140, using: &random), Int.random(in: 1...40, using: &random))
            let run = Int.random(in: 1...90, using: &random)
            var value = UInt8.random(in: 0...1, using: &random)
            let pixels = (0..<(height * width)).map { _ -> UInt8 in
                if Int.random(in: 0..<run, using: &random) == 0 { value ^= 1 }
                return value
            }
            let mask = Mask(width: width, height: height, pixels: pixels)
            let encoding = RunLengthEncoding(mask)
            #expect(encoding.counts == plainCounts(mask))
            #expect(encoding.mask == mask)
            #expect(try RunLengthEncoding(compressed: encoding.compressed, height: height, width: width) == encoding)
        }
    }

    /// The counts pixel by pixel: what the 64-bit scan is held against.
    private func plainCounts(_ mask: Mask) -> [UInt32] {
        var (counts, value, run): ([UInt32], UInt8, UInt32) = ([], 0, 0)
        for x in 0..<mask.width {
            for y in 0..<mask.height {
                if mask.pixels[y * mask.width + x] != value {
                    counts.append(run)
                    (value, run) = (value ^ 1, 0)
                }
                run += 1
            }
        }
        return counts + [run]
    }

    @Test("empty runs are joined, so equal masks have equal encodings")
    func canonical() throws {
        let encoding = try RunLengthEncoding(counts: [0, 0, 2, 1, 0, 1, 2, 0], height: 3, width: 2)
        #expect(encoding.counts == [2, 2, 2])
        #expect(try RunLengthEncoding(counts: [0, 0, 0, 6], height: 3, width: 2).counts == [0, 6])
        #expect(try RunLengthEncoding(counts: [0, 4, 0, 2], height: 3, width: 2).counts == [0, 6])
        #expect(try RunLengthEncoding(counts: [], height: 0, width: 7).mask == Mask(width: 7, height: 0, pixels: []))
        #expect(RunLengthEncoding(Mask(width: 0, height: 0, pixels: [])).compressed == "0")
    }

    @Test("JSON is COCO's")
    func json() throws {
        let encoding = try RunLengthEncoding(counts: [1, 3, 2], height: 3, width: 2)
        let json = try JSONEncoder().encode(encoding)
        #expect(try JSONDecoder().decode(RunLengthEncoding.self, from: json) == encoding)
        let list = Data(#"{"size": [3, 2], "counts": [1, 3, 2]}"#.utf8)
        #expect(try JSONDecoder().decode(RunLengthEncoding.self, from: list) == encoding)
        for wrong in [
            #"{"size": [3], "counts": "132"}"#, #"{"size": [3, 2], "counts": [1, 3]}"#, #"{"size": [3, 2]}"#,
            #"{"size": [3, 2], "counts": "13\u00e9"}"#,
        ] {
            #expect(throws: DecodingError.self) {
                try JSONDecoder().decode(RunLengthEncoding.self, from: Data(wrong.utf8))
            }
        }
    }

    @Test("garbage is refused with the place")
    func garbage() {
        func refusal(_ string: String, _ height: Int = 3, _ width: Int = 2) -> RunLengthEncodingError? {
            #expect(throws: RunLengthEncodingError.self) {
                try RunLengthEncoding(compressed: string, height: height, width: width)
            }
        }
        #expect(refusal("13 2") == .invalidCharacter(byte: 32, offset: 2))
        #expect(refusal("13é") == .invalidCharacter(byte: 0xC3, offset: 2))
        #expect(refusal("1P") == .endsInsideNumber)
        #expect(refusal("oooooooooooo") == .numberTooLong(offset: 7))
        #expect(refusal("O") == .negativeCount(-1, index: 0))
        #expect(refusal("13") == .tooFewPixels(4, height: 3, width: 2))
        #expect(refusal("") == .tooFewPixels(0, height: 3, width: 2))
        #expect(refusal("133") == .tooManyPixels(index: 2, height: 3, width: 2))
        #expect(refusal("6", -1, 2) == .invalidSize(height: -1, width: 2))
        #expect(refusal("6", Int.max, 2) == .invalidSize(height: Int.max, width: 2))
        #expect(refusal("6", 1 << 20, 1 << 20) == .invalidSize(height: 1 << 20, width: 1 << 20))
        #expect(refusal("133")?.description.contains("size is [height, width]") == true)
    }

    @Test("40,000 mutated strings end in an encoding or an error")
    func mutations() throws {
        let seed: UInt64 = 77
        print("mutated run-length encodings: seed \(seed)")
        var random = SeededGenerator(seed: seed)
        let originals = try cases().map { (Array($0.compressed.utf8), $0.rows.count, $0.rows[0].utf8.count) }
        var accepted = 0
        for _ in 0..<40_000 {
            guard var (bytes, height, width) = originals.randomElement(using: &random) else { return }
            if bytes.count > 200 { bytes = Array(bytes.prefix(Int.random(in: 1...200, using: &random))) }
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let place = Int.random(in: 0...bytes.count, using: &random)
                switch Int.random(in: 0..<5, using: &random) {
                case 0 where place < bytes.count: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1 where place < bytes.count: bytes.remove(at: place)
                case 2: bytes.insert(UInt8.random(in: 48...111, using: &random), at: place)
                case 3: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
                default:
                    height = max(0, height + Int.random(in: -1...1, using: &random))
                    width = max(0, width + Int.random(in: -1...1, using: &random))
                }
            }
            do {
                let encoding = try RunLengthEncoding(
                    compressed: String(decoding: bytes, as: UTF8.self), height: height, width: width)
                accepted += 1
                #expect(encoding.counts.reduce(0) { $0 + Int($1) } == height * width)
                #expect(encoding.counts.dropFirst().allSatisfy { $0 > 0 } || height * width == 0)
                let mask = encoding.mask
                #expect(RunLengthEncoding(mask) == encoding && mask.area == encoding.area)
            } catch {
                #expect(!error.description.isEmpty)
            }
        }
        #expect(accepted > 100 && accepted < 39_000)
    }
}

/// SplitMix64: random numbers that a seed repeats.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
