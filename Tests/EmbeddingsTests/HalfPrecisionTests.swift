import Embeddings
import Testing

@Suite struct HalfPrecisionTests {
    @Test func widensEveryHalfExactly() {
        let halves = (0...UInt16.max).map { $0.littleEndian }
        var numbers = [Float](repeating: 0, count: halves.count)
        halves.withUnsafeBytes { input in
            numbers.withUnsafeMutableBufferPointer { output in
                guard let from = input.baseAddress, let to = output.baseAddress else { return }
                HalfPrecision.widen(from, to: to, count: output.count)
            }
        }
        var wrong = 0
        for (index, number) in numbers.enumerated() {
            let expected = Float(Float16(bitPattern: UInt16(index)))
            if expected.isNaN ? !number.isNaN : number.bitPattern != expected.bitPattern { wrong += 1 }
        }
        #expect(wrong == 0)
    }

    @Test func narrowsAsTheHardwareDoesAndSaturates() {
        let seed: UInt64 = 20_260_301
        var random = SeededGenerator(seed: seed)
        var numbers: [Float] = [
            0, -0.0, 65504, -65504, 65519.996, 65520, 1e30, -1e30, .greatestFiniteMagnitude, .leastNonzeroMagnitude,
            .leastNormalMagnitude, 5.9604645e-8, 2.9802322e-8, 2.9802326e-8, 6.1035156e-5, 6.097555e-5, 1.00048828125,
            1.00146484375, 2049, 2051,
        ]
        // Each half, the middle to its neighbour, and what lies just beside the middle.
        for pattern in stride(from: UInt16(0), to: 0x7bff, by: 7) {
            let half = Float(Float16(bitPattern: pattern))
            let next = Float(Float16(bitPattern: pattern + 1))
            let middle = (half + next) / 2
            numbers += [half, middle, middle.nextUp, middle.nextDown, -middle, -middle.nextUp]
        }
        while numbers.count < 60_000 {
            let number = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
            if number.isFinite { numbers.append(number) }
        }
        var halves = [UInt16](repeating: 0, count: numbers.count)
        numbers.withUnsafeBufferPointer { input in
            halves.withUnsafeMutableBufferPointer { output in
                guard let from = input.baseAddress, let to = output.baseAddress else { return }
                HalfPrecision.narrow(from, to: to, count: output.count)
            }
        }
        var wrong: [Float] = []
        for (number, half) in zip(numbers, halves) {
            let limited = max(-65504, min(65504, number))
            if Float16(limited).bitPattern != UInt16(littleEndian: half) { wrong.append(number) }
        }
        #expect(wrong.isEmpty, "seed \(seed): \(wrong.prefix(5))")
    }

    // Made with the Python package xxhash: xxh64(bytes((7 * i + 3) % 256 for i in range(n))).
    @Test(
        arguments: [
            (0, 0xef46_db37_51d8_e999), (1, 0x1f25_c8d0_bc1f_4bb6), (3, 0x31d2_363f_52e5_64c9),
            (4, 0x9bb6_4b7d_66ee_9fda),
            (7, 0x9a7b_1499_59ce_60d8), (8, 0xdab9_9d95_c6f9_0092), (31, 0xa2aa_5f33_cc4a_6119),
            (32, 0x23c3_c17e_f790_fd97), (33, 0x50a7_cfc7_ba58_8784), (63, 0x5e3e_54b4_31c7_493c),
            (64, 0x0eb6_4b3e_f6ee_b01f), (100, 0xa61f_8d4c_170f_e531), (200, 0xa6cb_3c09_bc82_9b24),
        ] as [(Int, UInt64)])
    func hashesAsOthersDo(_ count: Int, _ expected: UInt64) {
        let bytes = (0..<count).map { UInt8(truncatingIfNeeded: 7 * $0 + 3) }
        #expect(bytes.withUnsafeBytes { XXH64.hash($0) } == expected)
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers for the same seed on every machine.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}
