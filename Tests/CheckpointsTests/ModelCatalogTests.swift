import Checkpoints
import Foundation
import Hashing
import Synchronization
import Testing

/// The manifest, and downloads from a real server on the loopback interface.
@Suite struct ModelCatalogTests {
    private let content = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }

    private func catalog(
        _ address: String, in directory: TemporaryDirectory, bytes: Int? = nil, sha256: String? = nil
    ) throws -> ModelCatalog {
        let digest = SHA256.hash(content).bytes.map { String(format: "%02x", $0) }.joined()
        let manifest = """
            {"models": [{"name": "tiny", "description": "a test", "file": "tiny.pth", "address": "\(address)",
              "bytes": \(bytes ?? content.count), "sha256": "\(sha256 ?? digest)", "licence": "CC0-1.0"}]}
            """
        return try ModelCatalog(manifest: directory.write(Array(manifest.utf8), to: "manifest.json"))
    }

    /// Fetches through a server with that behaviour; returns what was thrown and what the server was asked.
    private func fetch(
        _ behaviour: RangeServer.Behaviour, in directory: TemporaryDirectory, bytes: Int? = nil, sha256: String? = nil
    ) throws -> (error: CheckpointError?, requests: [RangeServer.Request]) {
        let server = try #require(RangeServer(["/tiny": (content, behaviour), "/there": (content, .ranges)]))
        defer { server.stop() }
        let catalog = try catalog(server.address("/tiny"), in: directory, bytes: bytes, sha256: sha256)
        do throws(CheckpointError) {
            let path = try catalog.model(named: "tiny").fetch(into: directory.file("models"))
            #expect(path == directory.file("models/tiny.pth"))
            return (nil, server.requests)
        } catch {
            return (error, server.requests)
        }
    }

    private func files(_ directory: TemporaryDirectory) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: directory.file("models"))) ?? []).sorted()
    }

    private func expectFetched(_ directory: TemporaryDirectory, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(files(directory) == ["tiny.pth"], sourceLocation: sourceLocation)
        let data = try? Data(contentsOf: URL(fileURLWithPath: directory.file("models/tiny.pth")))
        #expect(data.map(Array.init) == content, sourceLocation: sourceLocation)
    }

    @Test func aFetchedModelIsNotFetchedAgain() throws {
        let directory = try TemporaryDirectory()
        let (error, requests) = try fetch(.ranges, in: directory)
        #expect(error == nil)
        #expect(requests == [.init(path: "/tiny", range: nil)])
        expectFetched(directory)
        let again = try fetch(.status(500), in: directory)
        #expect(again.error == nil && again.requests.isEmpty)
    }

    @Test func aCutConnectionIsResumedWhereItStopped() throws {
        let directory = try TemporaryDirectory()
        let (error, requests) = try fetch(.cutting(after: 100_000), in: directory)
        #expect(error == nil, "\(String(describing: error))")
        #expect(requests.map(\.range) == [nil, "bytes=100000-", "bytes=200000-"])
        expectFetched(directory)
    }

    @Test func theNextCallGoesOnFromWhatIsThere() throws {
        let directory = try TemporaryDirectory()
        try FileManager.default.createDirectory(
            atPath: directory.file("models"), withIntermediateDirectories: true)
        _ = try directory.write(Array(content[..<123_456]), to: "models/tiny.pth.part")
        let (error, requests) = try fetch(.ranges, in: directory)
        #expect(error == nil)
        #expect(requests.map(\.range) == ["bytes=123456-"])
        expectFetched(directory)
    }

    @Test func aConnectionThatBringsNothingKeepsWhatIsThere() throws {
        let directory = try TemporaryDirectory()
        let (error, requests) = try fetch(.cutting(after: 0), in: directory)
        #expect(error?.code == .download)
        #expect(error?.reason.contains("stopped at 0 of 300000 bytes") == true)
        #expect(requests.count == 1)
        #expect(files(directory) == ["tiny.pth.part"])
    }

    @Test func aServerWithoutRangesIsReadFromTheStart() throws {
        let directory = try TemporaryDirectory()
        let (error, requests) = try fetch(.ignoringRanges(firstCutAfter: 100_000), in: directory)
        #expect(error == nil)
        #expect(requests.map(\.range) == [nil, "bytes=100000-"])
        expectFetched(directory)
    }

    @Test func redirectionsAreFollowed() throws {
        let directory = try TemporaryDirectory()
        let (error, requests) = try fetch(.redirect(to: "/there"), in: directory)
        #expect(error == nil)
        #expect(requests.map(\.path) == ["/tiny", "/there"])
        expectFetched(directory)
    }

    @Test func aWrongHashKeepsNothing() throws {
        let directory = try TemporaryDirectory()
        let wanted = String(repeating: "ab", count: 32)
        let (error, _) = try fetch(.ranges, in: directory, sha256: wanted)
        #expect(error?.code == .hashMismatch)
        #expect(error?.reason.contains(wanted) == true)
        let found = SHA256.hash(content).bytes.map { String(format: "%02x", $0) }.joined()
        #expect(error?.reason.contains(found) == true)
        #expect(files(directory).isEmpty)
    }

    @Test func moreThanThePublishedSizeKeepsNothing() throws {
        let directory = try TemporaryDirectory()
        let (error, _) = try fetch(.ranges, in: directory, bytes: 250_000)
        #expect(error?.code == .hashMismatch)
        #expect(files(directory).isEmpty)
    }

    @Test func lessThanThePublishedSizeIsAnError() throws {
        let directory = try TemporaryDirectory()
        let (error, _) = try fetch(.ranges, in: directory, bytes: 350_000)
        #expect(error?.code == .download)
        #expect(error?.reason.contains("has 300000 bytes where 350000 are published") == true)
        #expect(!files(directory).contains("tiny.pth"))
    }

    @Test(arguments: [404, 403, 503]) func aRefusalNamesItsStatus(status: Int) throws {
        let directory = try TemporaryDirectory()
        let (error, _) = try fetch(.status(status), in: directory)
        #expect(error?.code == .download)
        #expect(error?.reason.contains("\(status)") == true)
        #expect(error?.file.hasPrefix("http://127.0.0.1") == true)
        #expect(!files(directory).contains("tiny.pth"))
    }

    @Test func aServerThatIsNotThereIsAnError() throws {
        let directory = try TemporaryDirectory()
        let server = try #require(RangeServer([:]))
        let address = server.address("/tiny")
        server.stop()
        let error = #expect(throws: CheckpointError.self) {
            try catalog(address, in: directory).models[0].fetch(into: directory.file("models"))
        }
        #expect(error?.code == .download)
    }

    @Test func progressRisesToTheFilesSize() throws {
        let directory = try TemporaryDirectory()
        let server = try #require(RangeServer(["/tiny": (content, .cutting(after: 150_000))]))
        defer { server.stop() }
        let seen = Mutex<[ModelCatalog.Model.Progress]>([])
        _ = try catalog(server.address("/tiny"), in: directory).models[0].fetch(into: directory.path) { _, progress in
            seen.withLock { $0.append(progress) }
        }
        let received = seen.withLock { $0 }.compactMap { if case .received(let bytes) = $0 { bytes } else { nil } }
        #expect(received == received.sorted())
        #expect(received.last == content.count)
        #expect(seen.withLock { $0 }.last == .verified(bytes: content.count))
    }

    @Test func anUnwritableDirectoryIsAnError() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write([1], to: "file")
        let error = #expect(throws: CheckpointError.self) {
            try catalog("http://127.0.0.1:1/", in: directory).models[0].fetch(into: "\(path)/models")
        }
        #expect(error?.code == .unwritable)
    }

    // MARK: - Several files, and hashes that nobody published

    /// A model of two files in a folder, of which the second has neither size nor hash.
    private func folderCatalog(_ server: RangeServer, in directory: TemporaryDirectory) throws -> ModelCatalog {
        let digest = SHA256.hash(content).bytes.map { String(format: "%02x", $0) }.joined()
        let manifest = """
            {"models": [{"name": "clip", "description": "a test", "folder": "clip", "licence": "CC0-1.0", "files": [
              {"file": "model", "address": "\(server.address("/tiny"))", "bytes": \(content.count), "sha256": "\(digest)"},
              {"file": "words", "address": "\(server.address("/words"))"}]}]}
            """
        return try ModelCatalog(manifest: directory.write(Array(manifest.utf8), to: "manifest.json"))
    }

    @Test func whatHasNoPublishedHashIsPinnedByTheFirstFetch() throws {
        let directory = try TemporaryDirectory()
        let models = directory.file("models")
        let words = Array("the words".utf8)
        let digest = SHA256.hash(words).bytes.map { String(format: "%02x", $0) }.joined()
        func fetch(words: [UInt8], _ behaviour: RangeServer.Behaviour = .ranges) throws -> (
            pins: [String], error: CheckpointError?
        ) {
            let server = try #require(RangeServer(["/tiny": (content, .ranges), "/words": (words, behaviour)]))
            defer { server.stop() }
            var pins: [String] = []
            let model = try folderCatalog(server, in: directory).model(named: "clip")
            do throws(CheckpointError) {
                let path = try model.fetch(into: models) { part, progress in
                    if case .pinned(let sha256) = progress { pins.append("\(part.file) \(sha256)") }
                }
                #expect(path == "\(models)/clip")
                #expect(model.isThere(in: models))
                return (pins, nil)
            } catch {
                return (pins, error)
            }
        }
        // A fetch that is cut off pins nothing.
        let cut = try fetch(words: words, .cutting(after: 3))
        #expect(cut.error?.code == .download && cut.pins.isEmpty)
        #expect(!FileManager.default.fileExists(atPath: "\(models)/clip/words.sha256"))
        // The first that arrives is pinned, and said to be; the same again is nothing new.
        let first = try fetch(words: words)
        #expect(first.error == nil && first.pins == ["clip/words \(digest)"])
        let record = try String(contentsOfFile: "\(models)/clip/words.sha256", encoding: .utf8)
        #expect(record == "\(digest)  words\n")
        let second = try fetch(words: Array("other".utf8))
        #expect(second.error == nil && second.pins.isEmpty, "what is there is kept")
        // Another content later is refused, whatever its size.
        try FileManager.default.removeItem(atPath: "\(models)/clip/words")
        let changed = try fetch(words: Array("other words".utf8))
        #expect(changed.error?.code == .hashMismatch)
        #expect(changed.error?.description.contains("\(digest) was pinned by the first fetch") == true)
        #expect(!FileManager.default.fileExists(atPath: "\(models)/clip/words"))
        #expect(try fetch(words: words).error == nil)
        // A record that is none is not overwritten.
        try Data("?".utf8).write(to: URL(fileURLWithPath: "\(models)/clip/words.sha256"))
        #expect(try fetch(words: words).error?.code == .corrupt)
    }

    // MARK: - The manifest

    @Test func theShippedManifestListsThePublishedModels() throws {
        let path = try #require(ModelCatalog.manifest(environment: [:], executable: #filePath))
        let catalog = try ModelCatalog(manifest: path)
        #expect(
            catalog.models.map(\.name) == [
                "vit_b", "vit_l", "vit_h", "mobile", "sam2.1_tiny", "sam2.1_small", "sam2.1_base_plus", "sam2.1_large",
                "edgetam", "hq_vit_b", "hq_vit_l", "hq_vit_h", "hq_vit_tiny", "clip_b32",
            ])
        #expect(try catalog.model(named: "clip_b32").parts.map(\.file).contains("clip_b32/model.safetensors"))
        // Where a hash is published it is listed, with the size; others are pinned by the first fetch.
        let unpinned = catalog.models.filter { $0.parts.contains { $0.sha256 == nil || $0.bytes == nil } }
        #expect(
            unpinned.allSatisfy { model in ["sam2.1_", "hq_", "edgetam"].contains { model.name.hasPrefix($0) } })
        #expect(try catalog.model(named: "sam_vit_b_01ec64.pth").name == "vit_b")
        #expect(try catalog.model(named: "vit_l").bytes == 1_249_524_607)
        let error = #expect(throws: CheckpointError.self) { try catalog.model(named: "vit_x") }
        #expect(error?.remedy.contains("vit_b, vit_l, vit_h, mobile, sam2.1_tiny") == true)
    }

    @Test(arguments: [
        "{}", "[", #"{"models": [{"name": "a"}]}"#,
        #"{"models": [{"name":"a","description":"","folder":"a","files":[],"licence":""}]}"#,
        #"{"models": [{"name":"a","description":"","folder":"a","files":[{"file":"../b","address":"http://x"}],"licence":""}]}"#,
        #"{"models": [{"name":"a","description":"","file":"a","address":"http://x","bytes":0,"licence":""}]}"#,
        #"{"models": [{"name":"a","description":"","file":"a","address":"http://x","sha256":"00","licence":""}]}"#,
        #"{"models": [{"name":"a","description":"","file":"../a","address":"https://x","bytes":1,"sha256":"00","licence":""}]}"#,
    ])
    func aDamagedManifestIsAnError(text: String) throws {
        let directory = try TemporaryDirectory()
        let error = #expect(throws: CheckpointError.self) {
            try ModelCatalog(manifest: directory.write(Array(text.utf8), to: "manifest.json"))
        }
        #expect(error?.code == .corrupt)
    }

    @Test func theManifestIsFoundBesideTheProgram() throws {
        let directory = try TemporaryDirectory()
        for path in ["tree/weights", "tree/.build/release", "usr/bin", "usr/share/kirie/weights", "own"] {
            try FileManager.default.createDirectory(
                atPath: directory.file(path), withIntermediateDirectories: true)
        }
        for path in ["tree/weights", "usr/share/kirie/weights", "own"] {
            _ = try directory.write(Array("{}".utf8), to: "\(path)/manifest.json")
        }
        for path in ["tree/.build/release/kirie", "usr/bin/kirie"] { _ = try directory.write([1], to: path) }
        func found(_ executable: String, _ environment: [String: String] = [:]) -> String? {
            ModelCatalog.manifest(environment: environment, executable: directory.file(executable))
        }
        #expect(found("tree/.build/release/kirie")?.hasSuffix("/tree/weights/manifest.json") == true)
        #expect(found("usr/bin/kirie")?.hasSuffix("/usr/share/kirie/weights/manifest.json") == true)
        #expect(
            found("usr/bin/kirie", ["KIRIE_WEIGHTS": directory.file("own")])?.hasSuffix("/own/manifest.json") == true)
    }

    @Test func modelsLiveWhereTheEnvironmentSays() {
        func directory(_ environment: [String: String]) -> String? { ModelCatalog.directory(environment: environment) }
        #expect(directory(["KIRIE_MODELS": "/m", "HOME": "/h"]) == "/m")
        #expect(directory(["XDG_DATA_HOME": "/d", "HOME": "/h"]) == "/d/kirie/models")
        #expect(directory(["HOME": "/h"]) == "/h/.local/share/kirie/models")
        #expect(directory([:]) == nil)
    }
}
