import Platform
public import Tensors

/// Named tensors: a `.safetensors` file, PyTorch's `.pth`/`.pt` as torch.save writes it, a folder that holds one of these as
/// Hugging Face's libraries save it, or an index and the shards that it names.
///
/// Files are mapped; opening it reads names and shapes only, and a tensor's bytes are touched when it is asked for.
/// The format is told by the content, not by the extension. Reading executes nothing: see ``PickleMachine``.
///
/// ```swift
/// let checkpoint = try Checkpoint(path: "sam_vit_b_01ec64.pth")
/// let weight = try checkpoint.tensor(named: "image_encoder.neck.0.weight", shape: [256, 768, 1, 1])
/// ```
public struct Checkpoint: Sendable {
    /// The formats that are read.
    public enum Format: String, Sendable, Hashable {
        /// `.safetensors`.
        case safetensors
        /// The zip archive with a pickle that torch.save writes, or what it wrote before version 1.6.
        case torch = "PyTorch"
    }

    /// The format of the file, or of all shards.
    public let format: Format
    /// The tensors in the order of the file, integer buffers included; of several files, one after the other.
    public let tensors: [StoredTensor]
    /// The strings of safetensors' `__metadata__`; empty for other formats.
    public let metadata: [String: String]
    /// The file that was opened: for a folder the one in it, for shards their index.
    public let path: String
    /// The files that hold the tensors.
    package let files: [CheckpointFile]
    /// The names under which tensors are found: those of the file, or others after ``renamed(_:)``.
    package let names: [String]
    private let places: [String: Int]

    /// The files' size in bytes.
    public var byteCount: Int { files.reduce(0) { $0 + $1.bytes.count } }
    /// The number of elements of all tensors that hold weights (not integers).
    public var parameterCount: Int { tensors.reduce(0) { $0 + ($1.elementType == nil ? 0 : $1.count) } }

    /// Opens and maps a file, the one checkpoint in a folder, or all shards of an index.
    ///
    /// - Throws: an error that names the file, the place in it, and what to do.
    public init(path: String) throws(CheckpointError) {
        let path = try ModelFolder.checkpoint(at: path)
        if ShardIndex.isIndex(path) {
            self = try ShardIndex(path: path).checkpoint()
        } else {
            try self.init(try CheckpointFile(path: path))
        }
    }

    /// Reads a checkpoint from memory.
    package init(
        bytes: some Collection<UInt8>, named name: String, limits: PickleLimits = PickleLimits()
    ) throws(CheckpointError) {
        try self.init(CheckpointFile(bytes: bytes, named: name), limits: limits)
    }

    /// Reads one file, which is no index.
    init(file: CheckpointFile) throws(CheckpointError) { try self.init(file) }

    private init(_ file: CheckpointFile, limits: PickleLimits = PickleLimits()) throws(CheckpointError) {
        if TorchArchive.isZip(file.bytes) {
            self.init(.torch, try TorchArchive.read(file, limits: limits), [:], file)
        } else if LegacyTorchFile.isOne(file.bytes) {
            self.init(.torch, try LegacyTorchFile.read(file, limits: limits), [:], file)
        } else if SafetensorsHeader.isPlausible(file.bytes) {
            let (tensors, metadata) = try SafetensorsHeader.read(file)
            self.init(.safetensors, tensors, metadata, file)
        } else {
            throw Self.unsupported(file)
        }
    }

    private init(_ format: Format, _ tensors: [StoredTensor], _ metadata: [String: String], _ file: CheckpointFile) {
        self.init(format: format, tensors: tensors, metadata: metadata, path: file.path, files: [file])
    }

    /// Puts together what one or several files hold; names are those of the tensors, each once.
    init(
        format: Format, tensors: [StoredTensor], metadata: [String: String], path: String, files: [CheckpointFile]
    ) {
        self.format = format
        self.tensors = tensors
        self.metadata = metadata
        self.path = path
        self.files = files
        self.names = tensors.map(\.name)
        self.places = Dictionary(zip(names, tensors.indices)) { first, _ in first }
    }

    private init(_ checkpoint: Checkpoint, names: [(name: String, place: Int)]) {
        self.format = checkpoint.format
        self.tensors = checkpoint.tensors
        self.metadata = checkpoint.metadata
        self.path = checkpoint.path
        self.files = checkpoint.files
        self.names = names.map(\.name)
        self.places = Dictionary(names.map { ($0.name, $0.place) }) { first, _ in first }
    }

    /// Whether a tensor of that name is there.
    public func contains(_ name: String) -> Bool { places[name] != nil }

    /// The tensor of that name as it is stored, or nil.
    public subscript(_ name: String) -> StoredTensor? { places[name].map { tensors[$0] } }

    /// The tensor of that name, in `Float`, row-major.
    ///
    /// Contiguous binary32 numbers are borrowed from the mapped file, everything else is converted into a copy.
    /// - Throws: `.missingTensor`, naming what is close; `.misshapenTensor`; `.elementType` for a buffer of integers.
    public func tensor(named name: String, shape: [Int]) throws(CheckpointError) -> Tensor {
        let stored = try stored(name)
        guard stored.shape == shape else {
            throw CheckpointError(
                .misshapenTensor, file: path, at: "tensor \(CheckpointError.quoted(stored.name))",
                "has the shape \(stored.shape) where \(shape) is expected",
                remedy: "The checkpoint is of another geometry or damaged: fetch or save it again")
        }
        return try stored.tensor()
    }

    /// The tensor of that name as it is stored.
    ///
    /// - Throws: `.missingTensor`, naming what is close.
    public func stored(_ name: String) throws(CheckpointError) -> StoredTensor {
        if let stored = self[name] { return stored }
        let close = NameDistance.closest(to: name, among: names, count: 3)
        throw CheckpointError(
            .missingTensor, file: path, at: "tensor \(CheckpointError.quoted(name))",
            "is missing"
                + (close.isEmpty
                    ? "" : "; close to it: \(close.map(CheckpointError.quoted).joined(separator: ", "))"),
            remedy: "Use a complete checkpoint of the model")
    }

    /// The same file, its tensors found under other names: `name` says under which, nil hides a tensor.
    ///
    /// ``tensors`` keep the names of the file.
    ///
    /// - Throws: `.extraTensor` where two tensors get the same name.
    package func renamed(_ name: (String) -> String?) throws(CheckpointError) -> Checkpoint {
        var renamed: [(name: String, place: Int)] = []
        var seen: Set<String> = []
        for (place, tensor) in tensors.enumerated() {
            guard let new = name(tensor.name) else { continue }
            guard seen.insert(new).inserted else {
                throw CheckpointError(
                    .extraTensor, file: path, at: "tensor \(CheckpointError.quoted(tensor.name))",
                    "stands for \(CheckpointError.quoted(new)), which is there already",
                    remedy: "Save the checkpoint in one layout")
            }
            renamed.append((new, place))
        }
        return Checkpoint(self, names: renamed)
    }

    private static func unsupported(_ file: CheckpointFile) -> CheckpointError {
        let bytes = file.bytes
        func error(_ reason: String, _ remedy: String) -> CheckpointError {
            CheckpointError(bytes.isEmpty ? .truncated : .unsupportedFormat, file: file.path, reason, remedy: remedy)
        }
        if bytes.isEmpty { return error("is empty", "Fetch or copy the checkpoint again") }
        if TorchArchive.isBarePickle(bytes) {
            return error(
                "is a bare pickle, not what torch.save writes",
                "If you trust the file, load it in PyTorch and save torch.save(model.state_dict(), path)")
        }
        let start = String(decoding: bytes.prefix(64), as: UTF8.self).lowercased()
        if start.hasPrefix("version https://git-lfs") {
            return error("is a Git LFS pointer, not the file itself", "Run git lfs pull")
        }
        if start.hasPrefix("<!doctype") || start.hasPrefix("<html") {
            return error("is a web page, not a checkpoint", "Check the address and fetch it again")
        }
        if start.hasPrefix("{") {
            return error(
                "is JSON, not a checkpoint",
                "Give a .safetensors, .pth or .pt file, the folder that holds it, or a …safetensors.index.json")
        }
        return error(
            "is neither safetensors nor a PyTorch checkpoint: it begins with \(Hexadecimal.text(of: bytes.prefix(8), separator: " "))",
            "Give a .safetensors, .pth or .pt file")
    }
}
