/// A checkpoint as torch.save wrote it before PyTorch 1.6, and still does with `_use_new_zipfile_serialization=False`.
///
/// ```text
/// pickle   a magic number
/// pickle   1001, the version
/// pickle   {"little_endian": True, …}
/// pickle   what was saved: names, shapes, strides, and which storage each tensor is a view of
/// pickle   the storages' keys, in order
/// then for each key:   elements (u64) · the elements
/// ```
///
/// with nothing between them (torch/serialization.py of <https://github.com/pytorch/pytorch>, `_legacy_save`). How wide a storage's
/// elements are stands in the pickle alone.
enum LegacyTorchFile {
    /// 0x1950a86a20f9469cfc6c, as a pickle has it: LONG1, 10 bytes, the number, STOP.
    private static let magic: [UInt8] = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e]
    private static let version = 1001

    /// Whether a file begins with the magic number.
    static func isOne(_ bytes: UnsafeRawBufferPointer) -> Bool { end(ofMagic: bytes) != nil }

    /// Where the first pickle ends; from protocol 4 on it has a FRAME of 9 bytes before the number.
    private static func end(ofMagic bytes: UnsafeRawBufferPointer) -> Int? {
        guard bytes.count > 2, bytes[0] == 0x80 else { return nil }
        for start in [2, 11] where bytes.count >= start + magic.count {
            if start == 11, bytes[2] != 0x95 { continue }
            if bytes[start..<start + magic.count].elementsEqual(magic) { return start + magic.count }
        }
        return nil
    }

    /// Reads the names and places of the tensors.
    static func read(_ file: CheckpointFile, limits: PickleLimits) throws(CheckpointError) -> [StoredTensor] {
        guard var offset = end(ofMagic: file.bytes) else { return [] }
        func next(_ record: String) throws(CheckpointError) -> (root: PickleValue, heap: PickleHeap) {
            try PickleMachine.run(next: &offset, of: file.bytes, record: record, file: file.path, limits: limits)
        }
        guard case .integer(version) = try next("version").root else {
            throw unsupported(file, "version", "is of another version than \(version)")
        }
        let system = try next("system")
        guard case .dictionary(let index) = system.root,
            system.heap.dictionaries[index].contains(where: isLittleEndian)
        else { throw unsupported(file, "system", "does not say that its numbers are little-endian") }
        let saved = try next("pickle")
        let state = try StateDictionary.find(in: saved.root, heap: saved.heap, file: file.path)
        let keys = try keys(try next("keys"), file: file)
        let regions = try regions(of: keys, heap: saved.heap, from: offset, file: file)
        return try TorchArchive.tensors(of: state, heap: saved.heap, file: file) { storage throws(CheckpointError) in
            guard let region = regions[storage.key] else {
                throw corrupt(file, storage.key, "is named by the pickle and not in the file")
            }
            return region
        }
    }

    private static func isLittleEndian(key: PickleValue, value: PickleValue) -> Bool {
        if case .string("little_endian") = key, case .bool(true) = value { true } else { false }
    }

    private static func keys(
        _ pickle: (root: PickleValue, heap: PickleHeap), file: CheckpointFile
    ) throws(CheckpointError) -> [String] {
        guard case .list(let index) = pickle.root else { throw unsupported(file, "keys", "has no list of storages") }
        var keys: [String] = []
        for value in pickle.heap.sequences[index] {
            guard case .string(let key) = value else { throw unsupported(file, "keys", "has \(value.kind) among them") }
            keys.append(key)
        }
        return keys
    }

    /// Where each storage lies, whose elements the pickle tells the width of.
    private static func regions(
        of keys: [String], heap: PickleHeap, from start: Int, file: CheckpointFile
    ) throws(CheckpointError) -> [String: Range<Int>] {
        let storages = Dictionary(grouping: heap.storages, by: \.key)
        var cursor = ByteCursor(file.bytes, at: start)
        var regions: [String: Range<Int>] = [:]
        for key in keys {
            guard let named = storages[key], let storage = named.first else {
                throw corrupt(file, key, "is in the file and not named by the pickle, so that its size is not known")
            }
            guard named.allSatisfy({ $0.type == storage.type && $0.count == storage.count }) else {
                throw corrupt(file, key, "has two types or sizes")
            }
            guard regions[key] == nil else { throw corrupt(file, key, "is there twice") }
            guard let count = cursor.next(UInt64.self) else { throw truncated(file, key, at: cursor.offset) }
            guard count == storage.count else {
                throw corrupt(file, key, "has \(count) elements, and the pickle claims \(storage.count)")
            }
            let (byteCount, overflow) = storage.count.multipliedReportingOverflow(by: storage.type.byteCount)
            let offset = cursor.offset
            guard !overflow, cursor.take(byteCount) != nil else { throw truncated(file, key, at: offset) }
            regions[key] = offset..<offset + byteCount
        }
        return regions
    }

    private static func corrupt(_ file: CheckpointFile, _ key: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .corrupt, file: file.path, at: "storage \(CheckpointError.quoted(key))", reason,
            remedy: "Fetch or save the checkpoint again")
    }

    private static func truncated(_ file: CheckpointFile, _ key: String, at offset: Int) -> CheckpointError {
        CheckpointError(
            .truncated, file: file.path, at: "byte \(offset)",
            "storage \(CheckpointError.quoted(key)) goes beyond the end of the file",
            remedy: "The file was probably cut off: fetch or copy it again")
    }

    private static func unsupported(_ file: CheckpointFile, _ place: String, _ reason: String) -> CheckpointError {
        CheckpointError(
            .unsupportedFormat, file: file.path, at: place, reason,
            remedy: "Load it in PyTorch and save torch.save(model.state_dict(), path)")
    }
}
