import Foundation
import Imaging

/// The files that `Fixtures/make_fixtures.py` wrote, and the noise that it shares with the tests.
enum Fixtures {
    struct Pixels: Decodable {
        let width: Int
        let height: Int
        let fnv: String
    }

    static func path(_ name: String) -> String {
        Bundle.module.bundleURL.appendingPathComponent("Fixtures/\(name)").path
    }

    static func bytes(_ name: String) throws -> [UInt8] {
        try Array(Data(contentsOf: URL(fileURLWithPath: path(name))))
    }

    static func decode<Value: Decodable>(_ type: Value.Type, from name: String) throws -> Value {
        try JSONDecoder().decode(type, from: Data(contentsOf: URL(fileURLWithPath: path(name))))
    }

    /// The 64-bit FNV-1a hash in sixteen hexadecimal digits.
    static func hash(_ bytes: [UInt8]) -> String {
        let hash = bytes.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        return String(repeating: "0", count: hash.leadingZeroBitCount / 4) + String(hash, radix: 16)
    }

    /// The bytes of `noise(count, seed)` in the script.
    static func noise(_ count: Int, seed: Int) -> [UInt8] {
        (0..<count).map { index in
            var value = UInt64(index + seed * 1_000_003 + 1)
            value = (value ^ (value >> 15)) &* 0x9E37_79B9_7F4A_7C15
            value = (value ^ (value >> 29)) &* 0xBF58_476D_1CE4_E5B9
            return UInt8(value >> 56)
        }
    }

    /// A directory of the test's own, gone when `body` returns.
    static func withDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("kirie-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        return try body(directory.path)
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
