import Checkpoints
import Foundation
import Tensors
import Testing

/// Folders that hold a model, and models that were cut into several files.
@Suite struct ModelFolderTests {
    private static func tensor(_ seed: Int) -> Tensor {
        Tensor(shape: [2, 3], (0..<6).map { Float($0 * seed) })
    }

    private static func write(_ names: [String], to path: String) throws {
        try SafetensorsWriter.write(
            names.map { .init($0, tensor($0.utf8.count)) }, metadata: ["format": "pt"], to: path)
    }

    private static func index(_ map: [String: String], totalSize: Int? = nil) -> String {
        let entries = map.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\"\($0.value)\"" }.joined(separator: ",")
        let metadata = totalSize.map { "\"metadata\":{\"total_size\":\($0)}," } ?? ""
        return "{\(metadata)\"weight_map\":{\(entries)}}"
    }

    private static func write(_ text: String, to path: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    }

    private static func failure(
        at path: String, _ code: CheckpointError.Code, _ texts: String...,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
            try Checkpoint(path: path)
        }
        #expect(error?.code == code, "\(error as Any)", sourceLocation: sourceLocation)
        for text in texts {
            #expect(
                error?.description.contains(text) == true, "\(error as Any)", sourceLocation: sourceLocation)
        }
    }

    // MARK: - Folders

    @Test func aFolderIsReadByItsOneCheckpoint() throws {
        let folder = try TemporaryDirectory()
        try Self.write("{}", to: folder.file("config.json"))
        // The second one has the name that is known, and the first one does not count beside it.
        for file in ["weights.safetensors", "model.safetensors"] {
            try Self.write(["a"], to: folder.file(file))
            for path in [folder.path, folder.path + "/"] {
                let checkpoint = try Checkpoint(path: path)
                #expect(checkpoint.path == folder.file(file))
                #expect(try checkpoint.tensor(named: "a", shape: [2, 3]).elements == Self.tensor(1).elements)
            }
        }
    }

    @Test(arguments: ["pytorch_model.bin", "epoch=3.ckpt", "sam.pth", "sam.pt"])
    func aFolderMayHoldWhatPyTorchWrote(file: String) throws {
        let folder = try TemporaryDirectory()
        try Data(Fixtures.bytes("module.pth")).write(to: URL(fileURLWithPath: folder.file(file)))
        try Self.write("{}", to: folder.file("config.json"))
        #expect(try Checkpoint(path: folder.path).format == .torch)
    }

    @Test func aFolderWithoutOneCheckpointSaysWhatIsThere() throws {
        let folder = try TemporaryDirectory()
        Self.failure(at: folder.path, .unsupportedFormat, "folder without a checkpoint", "model.safetensors")
        try Self.write(["a"], to: folder.file("one.safetensors"))
        try Self.write(["a"], to: folder.file("two.safetensors"))
        Self.failure(
            at: folder.path, .unsupportedFormat, "2 checkpoints", "‘one.safetensors’, ‘two.safetensors’",
            "the one that is meant")
        Self.failure(at: folder.file("absent"), .unreadable, "cannot be opened")
    }

    @Test func whatIsNoFileKeepsNobodyWaiting() throws {
        let folder = try TemporaryDirectory()
        #expect(mkfifo(folder.file("pipe.pth"), 0o600) == 0)
        Self.failure(at: folder.file("pipe.pth"), .unreadable, "not a regular file")
        Self.failure(at: folder.path, .unreadable, "not a regular file")
        Self.failure(at: "/dev/zero", .unreadable, "not a regular file")
    }

    // MARK: - Shards

    private static let map = ["a": "1.safetensors", "bb": "2.safetensors", "ccc": "1.safetensors"]

    private static func sharded(in folder: TemporaryDirectory, totalSize: Int? = 72) throws -> String {
        try write(["a", "ccc"], to: folder.file("1.safetensors"))
        try write(["bb"], to: folder.file("2.safetensors"))
        let path = folder.file("model.safetensors.index.json")
        try write(index(map, totalSize: totalSize), to: path)
        return path
    }

    @Test func shardsAreOneModel() throws {
        let folder = try TemporaryDirectory()
        let index = try Self.sharded(in: folder)
        for path in [index, folder.path] {
            let checkpoint = try Checkpoint(path: path)
            #expect(checkpoint.path == index && checkpoint.format == .safetensors)
            #expect(checkpoint.tensors.map(\.name) == ["a", "ccc", "bb"])
            #expect(checkpoint.metadata == ["format": "pt"])
            for name in Self.map.keys {
                let found = try checkpoint.tensor(named: name, shape: [2, 3])
                #expect(found.elements == Self.tensor(name.utf8.count).elements)
            }
        }
    }

    @Test func theFingerprintCoversAllShardsAndNotHowTheyAreCut() throws {
        let folder = try TemporaryDirectory()
        let cache = FingerprintCache(directory: folder.file("cache"))
        let index = try Self.sharded(in: folder)
        try Self.write(["a", "bb", "ccc"], to: folder.file("whole.safetensors"))
        let whole = try Checkpoint(path: folder.file("whole.safetensors")).fingerprint()
        #expect(try Checkpoint(path: index).fingerprint() == whole)
        #expect(try Checkpoint(path: index).fingerprint(cache: cache) == whole)
        #expect(try Checkpoint(path: index).fingerprint(cache: cache) == whole, "from the cache")

        // Another shard in its place: neither the content nor what the cache knows is the same.
        try SafetensorsWriter.write(
            [.init("bb", Self.tensor(9))], metadata: ["format": "pt"], to: folder.file("2.safetensors"))
        let other = try Checkpoint(path: index)
        #expect(try other.fingerprint(cache: cache) != whole)
        #expect(try other.fingerprint(cache: cache) == other.fingerprint())
    }

    @Test(arguments: [
        "../1.safetensors", "/etc/passwd", "sub/1.safetensors", "..", ".", "", "a\\\\b", "1.safetensors\\u0000",
        "model.safetensors.index.json",
    ])
    func aShardLiesInTheIndexsOwnFolder(name: String) throws {
        let folder = try TemporaryDirectory()
        let path = try Self.sharded(in: folder)
        try Self.write(Self.index(["a": name]), to: path)
        Self.failure(at: path, .refused, "tensor ‘a’", "own folder")
    }

    @Test func indexAndShardsMustAgree() throws {
        let folder = try TemporaryDirectory()
        let path = try Self.sharded(in: folder, totalSize: 73)
        Self.failure(at: path, .truncated, "73 bytes", "take 72")
        try Self.write(Self.index(Self.map.merging(["d": "2.safetensors"]) { $1 }), to: path)
        Self.failure(at: path, .missingTensor, "2.safetensors", "tensor ‘d’")
        try Self.write(Self.index(["a": "1.safetensors", "bb": "2.safetensors"]), to: path)
        Self.failure(at: path, .extraTensor, "1.safetensors", "tensor ‘ccc’")
        try Self.write(Self.index(Self.map.merging(["d": "3.safetensors"]) { $1 }), to: path)
        Self.failure(at: path, .unreadable, "3.safetensors")
        try FileManager.default.removeItem(atPath: folder.file("2.safetensors"))
        try Data(Fixtures.bytes("module.pth")).write(to: URL(fileURLWithPath: folder.file("2.safetensors")))
        try Self.write(Self.index(Self.map), to: path)
        Self.failure(at: path, .missingTensor, "2.safetensors", "tensor ‘bb’")
    }

    @Test func shardsAreOfOneFormat() throws {
        let folder = try TemporaryDirectory()
        try Self.write(["a"], to: folder.file("1.safetensors"))
        let torch = try Checkpoint(bytes: Fixtures.bytes("module.pth"), named: "module.pth")
        try Data(Fixtures.bytes("module.pth")).write(to: URL(fileURLWithPath: folder.file("2.bin")))
        var map = ["a": "1.safetensors"]
        for tensor in torch.tensors { map[tensor.name] = "2.bin" }
        try Self.write(Self.index(map), to: folder.file("x.index.json"))
        Self.failure(at: folder.file("x.index.json"), .unsupportedFormat, "different formats")
    }

    @Test func anIndexThatIsNoneIsNamed() throws {
        let folder = try TemporaryDirectory()
        let path = folder.file("model.safetensors.index.json")
        for (text, code, reason) in [
            ("", CheckpointError.Code.corrupt, "JSON"), ("{}", .corrupt, "weight_map"),
            ("{\"weight_map\":{}}", .corrupt, "weight_map"), ("[]", .corrupt, "weight_map"),
            ("{\"weight_map\":{\"a\":1}}", .corrupt, "tensor ‘a’"),
            ("{\"weight_map\":{\"a\":\"x\",\"a\":\"x\"}}", .corrupt, "JSON"),
        ] {
            try Self.write(text, to: path)
            Self.failure(at: path, code, reason)
        }
        let many = Dictionary(uniqueKeysWithValues: (0..<1025).map { ("\($0)", "\($0).safetensors") })
        try Self.write(Self.index(many), to: path)
        Self.failure(at: path, .overLimit, "1025 files")
    }

    @Test(.timeLimit(.minutes(5))) func mutatedIndices() throws {
        var (generator, _) = FuzzTests.generator("index")
        let folder = try TemporaryDirectory()
        let path = try Self.sharded(in: folder)
        let seed = Array(Self.index(Self.map, totalSize: 72).utf8)
        var errors: [CheckpointError.Code: Int] = [:]
        var good = 0
        for _ in 0..<3000 {
            var bytes = seed
            FuzzTests.mutate(&bytes, in: nil, with: &generator)
            try Data(bytes).write(to: URL(fileURLWithPath: path))
            do throws(CheckpointError) {
                // Whatever the index says, what is read are its folder's own tensors.
                let checkpoint = try Checkpoint(path: path)
                #expect(checkpoint.tensors.map(\.name).sorted() == ["a", "bb", "ccc"])
                good += 1
            } catch {
                errors[error.code, default: 0] += 1
            }
        }
        print("fuzz: \(good) indices still read, refused: \(errors.map { "\($0.key) \($0.value)" }.sorted())")
        #expect(errors.count >= 3 && good > 10)
    }
}
