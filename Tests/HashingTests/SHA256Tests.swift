import Hashing
import Testing

@Suite struct SHA256Tests {
    private func digits(_ digest: SHA256.Digest) -> String {
        digest.bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// The examples of FIPS 180-4 (NIST, "SHA-256 Example Values").
    @Test(arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
    ])
    func publishedExamples(text: String, expected: String) {
        #expect(digits(SHA256.hash(text.utf8)) == expected)
    }

    @Test func piecesOfAnySizeGiveTheDigestOfTheWhole() {
        let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let whole = SHA256.hash(bytes)
        for size in [1, 63, 64, 65, 4096, 9_999] {
            var hash = SHA256()
            for start in stride(from: 0, to: bytes.count, by: size) {
                hash.update(bytes[start..<min(start + size, bytes.count)])
            }
            #expect(hash.finalize() == whole, "in pieces of \(size) bytes")
        }
    }

    @Test func aSequenceWithoutStorageIsHashedToo() {
        let lazily = (0..<300).lazy.map { UInt8(truncatingIfNeeded: $0) }
        #expect(SHA256.hash(lazily) == SHA256.hash(Array(lazily)))
    }
}
