import JSON

/// An index of the files that a model was cut into, as Hugging Face's libraries write it.
///
/// `model.safetensors.index.json` is
///
/// ```json
/// {"metadata": {"total_size": 1234}, "weight_map": {"a tensor's name": "model-00001-of-00002.safetensors"}}
/// ```
///
/// The index is outside input like any other: a shard lies in the index's own folder, holds the tensors that the index says
/// it holds and no others, and all of them together are no smaller than the index says.
struct ShardIndex {
    /// Bytes that an index may have.
    static let byteLimit = 64 << 20
    /// Files that a model may be cut into.
    static let shardLimit = 1024

    private let file: CheckpointFile
    private let folder: String
    /// The names of each shard's tensors.
    private let shards: [String: Set<String>]
    private let totalSize: Int?

    /// Whether a file is an index by its name.
    static func isIndex(_ path: String) -> Bool { path.hasSuffix(".index.json") }

    /// Reads an index.
    init(path: String) throws(CheckpointError) {
        try self.init(try CheckpointFile(path: path))
    }

    init(_ file: CheckpointFile) throws(CheckpointError) {
        func error(_ code: CheckpointError.Code, at place: String? = nil, _ reason: String) -> CheckpointError {
            CheckpointError(code, file: file.path, at: place, reason, remedy: "Fetch or save the model again")
        }
        guard file.bytes.count <= Self.byteLimit else {
            throw error(.overLimit, "the index has \(file.bytes.count) bytes, the limit is \(Self.byteLimit)")
        }
        let document: JSONValue
        do throws(JSONValue.Fault) {
            document = try JSONValue(file.bytes)
        } catch {
            throw CheckpointError(
                .corrupt, file: file.path, at: "byte \(error.offset)", "the index's JSON \(error.reason)",
                remedy: "Fetch or save the model again")
        }
        guard let map = document["weight_map"]?.members, !map.isEmpty else {
            throw error(.corrupt, "is no index of shards: it lacks a weight_map, an object of files by tensor")
        }
        var shards: [String: Set<String>] = [:]
        for (name, value) in map {
            let place = "weight_map, tensor \(CheckpointError.quoted(name))"
            guard let shard = value.string else { throw error(.corrupt, at: place, "is not the name of a file") }
            guard Self.isFileName(shard) else {
                throw error(
                    .refused, at: place,
                    "lies in \(CheckpointError.quoted(shard)), which is no name of a file in the index's own folder")
            }
            // That no name comes twice is the JSON's own rule.
            shards[shard, default: []].insert(name)
        }
        guard shards.count <= Self.shardLimit else {
            throw error(.overLimit, "names \(shards.count) files, the limit is \(Self.shardLimit)")
        }
        self.file = file
        self.shards = shards
        totalSize = document["metadata"]?["total_size"]?.integer
        folder = file.path.lastIndex(of: "/").map { String(file.path[...$0]) } ?? ""
    }

    /// Whether a text names a file in a folder, and nothing in another one.
    private static func isFileName(_ text: String) -> Bool {
        (1...255).contains(text.utf8.count) && text != "." && text != ".." && !text.hasSuffix(".index.json")
            && text.utf8.allSatisfy { $0 >= 0x20 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "\\") }
    }

    /// Opens every shard and puts their tensors together.
    func checkpoint() throws(CheckpointError) -> Checkpoint {
        var tensors: [StoredTensor] = []
        var metadata: [String: String] = [:]
        var files: [CheckpointFile] = []
        var formats: Set<Checkpoint.Format> = []
        for (shard, expected) in shards.sorted(by: { $0.key < $1.key }) {
            let checkpoint = try Checkpoint(file: try CheckpointFile(path: folder + shard))
            if let missing = expected.sorted().first(where: { !checkpoint.contains($0) }) {
                throw CheckpointError(
                    .missingTensor, file: checkpoint.path, at: "tensor \(CheckpointError.quoted(missing))",
                    "is missing, and \(file.path) says that it is here", remedy: "Fetch or save the model again")
            }
            if let extra = checkpoint.tensors.first(where: { !expected.contains($0.name) }) {
                throw CheckpointError(
                    .extraTensor, file: checkpoint.path, at: "tensor \(CheckpointError.quoted(extra.name))",
                    "is here, and \(file.path) does not say so", remedy: "Fetch or save the model again")
            }
            tensors += checkpoint.tensors
            metadata.merge(checkpoint.metadata) { first, _ in first }
            files += checkpoint.files
            formats.insert(checkpoint.format)
        }
        guard let format = formats.first, formats.count == 1 else {
            throw CheckpointError(
                .unsupportedFormat, file: file.path, "names files of different formats",
                remedy: "Save the model in one format")
        }
        let byteCount = tensors.reduce(0) { $0 + $1.byteCount }
        if let totalSize, byteCount < totalSize {
            throw CheckpointError(
                .truncated, file: file.path,
                "says that the tensors take \(totalSize) bytes, and those of all shards take \(byteCount)",
                remedy: "Fetch or save the model again")
        }
        return Checkpoint(format: format, tensors: tensors, metadata: metadata, path: file.path, files: files)
    }
}
