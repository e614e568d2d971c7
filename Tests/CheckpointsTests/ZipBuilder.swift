/// A zip archive of stored entries, made byte by byte so that tests can make it wrong.
struct ZipBuilder {
    var bytes: [UInt8] = []
    private var directory: [UInt8] = []
    private var count = 0

    /// Appends an entry.
    ///
    /// Its headers claim the data's own size and the directory its true place, unless told otherwise.
    mutating func add(
        _ name: String, _ data: [UInt8], method: UInt16 = 0, flags: UInt16 = 0, claimedSize: UInt32? = nil,
        offset: UInt32? = nil
    ) {
        let size = claimedSize ?? UInt32(data.count)
        let place = offset ?? UInt32(bytes.count)
        let name = Array(name.utf8)
        let common =
            Self.number(UInt16(20)) + Self.number(flags) + Self.number(method) + Self.number(UInt32(0))
            + Self.number(UInt32(0)) + Self.number(size) + Self.number(size) + Self.number(UInt16(name.count))
            + Self.number(UInt16(0))
        bytes += Self.number(UInt32(0x0403_4b50)) + common + name + data
        directory +=
            Self.number(UInt32(0x0201_4b50)) + Self.number(UInt16(20)) + common + [UInt8](repeating: 0, count: 10)
            + Self.number(place) + name
        count += 1
    }

    /// The archive; `entryCount`, `directorySize` and `directoryOffset` override what the end record says.
    func finished(
        entryCount: UInt16? = nil, directorySize: UInt32? = nil, directoryOffset: UInt32? = nil
    ) -> [UInt8] {
        let count = entryCount ?? UInt16(self.count)
        return bytes + directory + Self.number(UInt32(0x0605_4b50)) + Self.number(UInt32(0)) + Self.number(count)
            + Self.number(count) + Self.number(directorySize ?? UInt32(directory.count))
            + Self.number(directoryOffset ?? UInt32(bytes.count)) + Self.number(UInt16(0))
    }

    /// A checkpoint with this pickle and the storages `data/0`, `data/1`, ….
    static func checkpoint(pickle: [UInt8], storages: [[UInt8]] = []) -> [UInt8] {
        var zip = ZipBuilder()
        zip.add("a/data.pkl", pickle)
        for (index, storage) in storages.enumerated() { zip.add("a/data/\(index)", storage) }
        return zip.finished()
    }

    static func number<Number: FixedWidthInteger>(_ value: Number) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }
}

/// Pickle opcodes put together by hand.
enum Pickle {
    /// `PROTO 2`, the opcodes, `STOP`.
    static func program(_ parts: [UInt8]...) -> [UInt8] { [0x80, 2] + parts.flatMap(\.self) + [0x2e] }
    static func global(_ module: String, _ name: String) -> [UInt8] { Array("c\(module)\n\(name)\n".utf8) }
    static func text(_ text: String) -> [UInt8] { [0x8c, UInt8(text.utf8.count)] + Array(text.utf8) }
    static func integer(_ value: Int32) -> [UInt8] { [0x4a] + ZipBuilder.number(value) }
    static func long(_ value: Int) -> [UInt8] { [0x8a, 8] + ZipBuilder.number(value) }
    static func tuple(_ parts: [UInt8]...) -> [UInt8] { [0x28] + parts.flatMap(\.self) + [0x74] }
    static let emptyDictionary: [UInt8] = [0x7d]
    static let setItem: [UInt8] = [0x73]
    static let reduce: [UInt8] = [0x52]

    /// A tensor on storage `data/<key>` that claims `count` elements.
    static func tensor(
        key: String = "0", type: String = "FloatStorage", count: Int = 4, offset: Int = 0, shape: [Int] = [4],
        strides: [Int] = [1]
    ) -> [UInt8] {
        let storage = tuple(text("storage"), global("torch", type), text(key), text("cpu"), long(count)) + [0x51]
        let arguments = [
            [0x28], storage, long(offset), [0x28], shape.flatMap(long), [0x74], [0x28], strides.flatMap(long), [0x74],
            [0x89], global("collections", "OrderedDict"), [0x29, 0x52], [0x74],
        ]
        return global("torch._utils", "_rebuild_tensor_v2") + arguments.flatMap(\.self) + reduce
    }

    /// `{name: tensor}`.
    static func stateDictionary(_ tensor: [UInt8], name: String = "w") -> [UInt8] {
        program(emptyDictionary, text(name), tensor, setItem)
    }
}
