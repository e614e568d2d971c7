import Checkpoints
import Foundation
import Tensors
import Testing

@Suite struct FingerprintCacheTests {
    private func write(_ value: Float, to path: String) throws -> Fingerprint {
        try SafetensorsWriter.write([.init("w", Tensor(shape: [1], [value]))], to: path)
        return try Checkpoint(path: path).fingerprint()
    }

    private func entries(_ directory: TemporaryDirectory) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: directory.file("cache"))) ?? [])
            .map { directory.file("cache/\($0)") }
    }

    @Test func aKnownFileIsNotReadAgain() throws {
        let directory = try TemporaryDirectory()
        let cache = FingerprintCache(directory: directory.file("cache"))
        let path = directory.file("a.safetensors")
        let fingerprint = try write(1, to: path)
        #expect(try Checkpoint(path: path).fingerprint(cache: cache) == fingerprint)
        let entry = try #require(entries(directory).first)
        #expect(entries(directory).count == 1)
        // Another fingerprint in the entry comes back: the file was not read.
        let other = String(repeating: "5a", count: 32)
        try "kirie fingerprint 1\n\(other)\n".write(toFile: entry, atomically: false, encoding: .utf8)
        #expect(try Checkpoint(path: path).fingerprint(cache: cache).description == other)
        #expect(try Checkpoint(path: path).fingerprint() == fingerprint)
    }

    @Test func aChangedFileHasAnotherEntry() throws {
        let directory = try TemporaryDirectory()
        let cache = FingerprintCache(directory: directory.file("cache"))
        let path = directory.file("a.safetensors")
        for value: Float in [1, 2] {
            let fingerprint = try write(value, to: path)
            #expect(try Checkpoint(path: path).fingerprint(cache: cache) == fingerprint)
        }
    }

    @Test(arguments: ["", "kirie fingerprint 1\n", "kirie fingerprint 1\nxyz\n", "kirie fingerprint 9\n", "\u{fffd}"])
    func aDamagedEntryIsPassedOverAndMended(text: String) throws {
        let directory = try TemporaryDirectory()
        let cache = FingerprintCache(directory: directory.file("cache"))
        let path = directory.file("a.safetensors")
        let fingerprint = try write(1, to: path)
        _ = try Checkpoint(path: path).fingerprint(cache: cache)
        let entry = try #require(entries(directory).first)
        try text.write(toFile: entry, atomically: false, encoding: .utf8)
        #expect(try Checkpoint(path: path).fingerprint(cache: cache) == fingerprint)
        #expect(try String(contentsOfFile: entry, encoding: .utf8).contains(fingerprint.description))
    }

    @Test func anUnwritableCacheIsPassedOver() throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write([1], to: "file")
        let path = directory.file("a.safetensors")
        let fingerprint = try write(1, to: path)
        #expect(
            try Checkpoint(path: path).fingerprint(cache: FingerprintCache(directory: "\(file)/cache")) == fingerprint)
    }

    @Test func theUsersCacheIsWhereTheEnvironmentSays() {
        #expect(FingerprintCache(environment: ["XDG_CACHE_HOME": "/c", "HOME": "/h"])?.directory == "/c/kirie")
        #expect(FingerprintCache(environment: ["HOME": "/h"])?.directory == "/h/.cache/kirie")
        #expect(FingerprintCache(environment: ["XDG_CACHE_HOME": "relative"]) == nil)
    }
}
