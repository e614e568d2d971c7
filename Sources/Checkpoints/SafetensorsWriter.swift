import JSON
public import Tensors

/// Writes `.safetensors`: streamed to a temporary file beside the target, which takes the target's name at the end,
/// so that a failure (no room, no permission) leaves nothing behind.
///
/// ```swift
/// try SafetensorsWriter.write([.init("image_embedding", embedding)], to: "photo.safetensors")
/// ```
public enum SafetensorsWriter {
    /// One tensor of the file.
    public struct Entry: Sendable {
        /// The name; each once in a file, and not `__metadata__`.
        public let name: String
        /// The extent of every axis, outermost first.
        public let shape: [Int]
        /// How the numbers are to be written.
        public let type: StoredElementType
        fileprivate let source: Source

        fileprivate enum Source: Sendable {
            case tensor(@Sendable () throws(CheckpointError) -> Tensor)
            case stored(StoredTensor)
        }

        /// A tensor that is there.
        public init(_ name: String, _ tensor: Tensor, as type: ElementType = .float32) {
            self.init(name, shape: tensor.shape, as: type) { () throws(CheckpointError) in tensor }
        }

        /// A tensor that is made when its turn comes, so that only one at a time takes memory; what `tensor` makes must
        /// have the shape that was announced.
        public init(
            _ name: String, shape: [Int], as type: ElementType = .float32,
            tensor: @escaping @Sendable () throws(CheckpointError) -> Tensor
        ) {
            self.name = name
            self.shape = shape
            self.type = StoredElementType(type)
            self.source = .tensor(tensor)
        }

        /// A tensor of another checkpoint, under its own name unless another is given; it is converted where it holds
        /// weights and another type is asked for, and buffers of integers are copied as they are.
        public init(_ stored: StoredTensor, named name: String? = nil, as type: ElementType? = nil) {
            self.name = name ?? stored.name
            self.shape = stored.shape
            self.type =
                stored.elementType == nil ? stored.storedType : type.map(StoredElementType.init) ?? stored.storedType
            self.source = .stored(stored)
        }

        fileprivate var byteCount: Int { shape.reduce(type.byteCount, *) }
    }

    /// Writes a file.
    ///
    /// - Parameters:
    ///   - entries: each name once. In the file, wider types come first and names are in order, so that every tensor is
    ///     aligned to its elements.
    ///   - metadata: strings for `__metadata__`.
    ///   - path: the file, which is replaced where there is one.
    /// - Throws: `.unwritable`; `.elementType` where a number does not fit the type that was asked for; what an entry
    ///   that makes its tensor throws.
    public static func write(
        _ entries: [Entry], metadata: [String: String] = [:], to path: String
    ) throws(CheckpointError) {
        let entries = entries.sorted {
            $0.type.byteCount == $1.type.byteCount
                ? $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) : $0.type.byteCount > $1.type.byteCount
        }
        precondition(Set(entries.map(\.name)).count == entries.count, "a tensor's name comes twice")
        var output = try OutputFile(replacing: path)
        try output.write(header(of: entries, metadata: metadata))
        for entry in entries {
            switch entry.source {
            case .tensor(let make):
                let tensor = try make()
                precondition(tensor.shape == entry.shape, "\(entry.name) has another shape than was announced")
                try write(tensor, of: entry, to: &output, path: path)
            case .stored(let stored):
                try write(stored, of: entry, to: &output, path: path)
                stored.releasePages()
            }
        }
        try output.commit(isDurable: true)
    }

    /// Elements that are converted at a time.
    private static let step = 1 << 18

    private static func write(
        _ tensor: Tensor, of entry: Entry, to output: inout OutputFile, path: String
    ) throws(CheckpointError) {
        guard let type = entry.type.elementType else { return }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: step * 4, alignment: 64)
        defer { buffer.deallocate() }
        for start in stride(from: 0, to: tensor.count, by: step) {
            let count = min(step, tensor.count - start)
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(count * type.byteCount)])
            let fits = tensor.withUnsafeBufferPointer { elements in
                guard let target = piece.baseAddress else { return true }
                let run = UnsafeBufferPointer(rebasing: elements[start..<start + count])
                return ElementConversion.narrow(run, to: type, at: target)
            }
            guard fits else { throw overflow(entry, path: path) }
            try output.write(UnsafeRawBufferPointer(piece))
        }
    }

    private static func write(
        _ stored: StoredTensor, of entry: Entry, to output: inout OutputFile, path: String
    ) throws(CheckpointError) {
        guard stored.storedType != entry.type, let to = entry.type.elementType else {
            try stored.withPieces(ofBytes: step * 4) { (piece) throws(CheckpointError) in try output.write(piece) }
            return
        }
        let floats = UnsafeMutableBufferPointer<Float>.allocate(capacity: step)
        let narrowed = UnsafeMutableRawBufferPointer.allocate(byteCount: step * 4, alignment: 64)
        defer {
            floats.deallocate()
            narrowed.deallocate()
        }
        let width = stored.storedType.byteCount
        try stored.withPieces(ofBytes: step * width) { (piece) throws(CheckpointError) in
            let run = UnsafeMutableBufferPointer(rebasing: floats[..<(piece.count / width)])
            guard let target = narrowed.baseAddress else { return }
            guard stored.read(piece, to: run), ElementConversion.narrow(UnsafeBufferPointer(run), to: to, at: target)
            else {
                throw overflow(entry, path: path)
            }
            try output.write(UnsafeRawBufferPointer(rebasing: narrowed[..<(run.count * to.byteCount)]))
        }
    }

    private static func overflow(_ entry: Entry, path: String) -> CheckpointError {
        CheckpointError(
            .elementType, file: path, at: "tensor \(CheckpointError.quoted(entry.name))",
            "holds a number that is too large for \(entry.type.rawValue)",
            remedy: "Write it as F32")
    }

    /// The length and the JSON, padded with spaces to a multiple of 64 bytes.
    private static func header(of entries: [Entry], metadata: [String: String]) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            if !metadata.isEmpty {
                writer.member("__metadata__") { writer in
                    writer.object { writer in
                        for (name, value) in metadata.sorted(by: { $0.key < $1.key }) {
                            writer.member(name) { $0.string(value) }
                        }
                    }
                }
            }
            var offset = 0
            for entry in entries {
                let end = offset + entry.byteCount
                writer.member(entry.name) { writer in
                    writer.object { writer in
                        writer.member("dtype") { $0.string(entry.type.rawValue) }
                        writer.member("shape") { $0.array(entry.shape) { $1.integer($0) } }
                        writer.member("data_offsets") { $0.array([offset, end]) { $1.integer($0) } }
                    }
                }
                offset = end
            }
        }
        var text = writer.bytes
        while (text.count + 8) % 64 != 0 { text.append(0x20) }
        return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text
    }
}
