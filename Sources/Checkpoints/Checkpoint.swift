public import Tensors

/// A file of named tensors: `.safetensors`, or PyTorch's `.pth`/`.pt` as torch.save writes it.
///
/// The file is mapped; opening it reads names and shapes only, and a tensor's bytes are touched when it is asked for.
/// The format is told by the content, not by the extension. Reading executes nothing: see ``PickleMachine``.
///
///     let checkpoint = try Checkpoint(path: "sam_vit_b_01ec64.pth")
///     let weight = try checkpoint.tensor(named: "image_encoder.neck.0.weight", shape: [256, 768, 1, 1])
public struct Checkpoint: Sendable {
    /// The formats that are read.
    public enum Format: String, Sendable, Hashable {
        /// `.safetensors`.
        case safetensors
        /// The zip archive with a pickle that torch.save writes.
        case torch = "PyTorch"
    }

    /// The file's format.
    public let format: Format
    /// The tensors in the order of the file, integer buffers included.
    public let tensors: [StoredTensor]
    /// The strings of safetensors' `__metadata__`; empty for other formats.
    public let metadata: [String: String]
    /// The file.
    package let file: CheckpointFile
    /// The names under which tensors are found: those of the file, or others after ``renamed(_:)``.
    package let names: [String]
    private let places: [String: Int]

    /// The path as it was given.
    public var path: String { file.path }
    /// The file's size in bytes.
    public var byteCount: Int { file.bytes.count }
    /// The number of elements of all tensors that hold weights (not integers).
    public var parameterCount: Int { tensors.reduce(0) { $0 + ($1.elementType == nil ? 0 : $1.count) } }

    /// Opens and maps a file.
    ///
    /// - Throws: an error that names the file, the place in it, and what to do.
    public init(path: String) throws(CheckpointError) {
        try self.init(try CheckpointFile(path: path))
    }

    /// Reads a checkpoint from memory.
    package init(
        bytes: some Collection<UInt8>, named name: String, limits: PickleLimits = PickleLimits()
    ) throws(CheckpointError) {
        try self.init(CheckpointFile(bytes: bytes, named: name), limits: limits)
    }

    private init(_ file: CheckpointFile, limits: PickleLimits = PickleLimits()) throws(CheckpointError) {
        if TorchArchive.isZip(file.bytes) {
            self.init(.torch, try TorchArchive.read(file, limits: limits), [:], file)
        } else if SafetensorsHeader.isPlausible(file.bytes) {
            let (tensors, metadata) = try SafetensorsHeader.read(file)
            self.init(.safetensors, tensors, metadata, file)
        } else {
            throw Self.unsupported(file)
        }
    }

    private init(_ format: Format, _ tensors: [StoredTensor], _ metadata: [String: String], _ file: CheckpointFile) {
        self.format = format
        self.tensors = tensors
        self.metadata = metadata
        self.file = file
        self.names = tensors.map(\.name)
        self.places = Dictionary(zip(names, tensors.indices)) { first, _ in first }
    }

    private init(_ checkpoint: Checkpoint, names: [(name: String, place: Int)]) {
        self.format = checkpoint.format
        self.tensors = checkpoint.tensors
        self.metadata = checkpoint.metadata
        self.file = checkpoint.file
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

    /// The same file, its tensors found under other names.
    ///
    /// ``tensors`` keep the names of the file.
    ///
    /// - Parameter name: the name under which each tensor is to be found; nil hides it.
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
                "is a bare pickle, as PyTorch wrote before version 1.6",
                "If you trust the file, load it in PyTorch and save it again with torch.save")
        }
        let start = String(decoding: bytes.prefix(64), as: UTF8.self).lowercased()
        if start.hasPrefix("version https://git-lfs") {
            return error("is a Git LFS pointer, not the file itself", "Run git lfs pull")
        }
        if start.hasPrefix("<!doctype") || start.hasPrefix("<html") {
            return error("is a web page, not a checkpoint", "Check the address and fetch it again")
        }
        return error(
            "is neither safetensors nor a PyTorch checkpoint: it begins with \(hexadecimal(bytes.prefix(8)))",
            "Give a .safetensors, .pth or .pt file")
    }

    private static func hexadecimal(_ bytes: Slice<UnsafeRawBufferPointer>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
    }
}
