/// A checkpoint as torch.save writes it since PyTorch 1.6: a zip archive of stored entries.
///
/// ```text
/// <name>/data.pkl     the pickle: names, shapes, strides, and which storage each tensor is a view of
/// <name>/byteorder    "little"
/// <name>/data/<key>   the bytes of one storage
/// ```
///
/// A TorchScript program, as torch.jit.save writes it and OpenAI published CLIP, has `<name>/constants.pkl` and its code
/// beside these, and its modules instead of a state_dict in the pickle.
///
/// Tensors may be views of one storage, at an offset, with strides
/// (https://pytorch.org/docs/stable/notes/serialization.html).
enum TorchArchive {
    /// What a file that is not safetensors begins with.
    static func isZip(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.starts(with: [0x50, 0x4b, 0x03, 0x04]) || bytes.starts(with: [0x50, 0x4b, 0x05, 0x06])
    }

    /// Whether the file is a bare pickle, as programs other than torch.save write.
    static func isBarePickle(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count > 2 && bytes[0] == 0x80 && (1...5).contains(bytes[1])
    }

    /// Reads the names and places of the tensors.
    static func read(_ file: CheckpointFile, limits: PickleLimits) throws(CheckpointError) -> [StoredTensor] {
        let archive = try ZipArchive(file)
        let pickles = archive.entries.keys.filter { $0.hasSuffix("/data.pkl") && $0.split(separator: "/").count == 2 }
        guard let pickle = pickles.first, pickles.count == 1, let entry = archive.entries[pickle] else {
            throw CheckpointError(
                .unsupportedFormat, file: file.path, "is a zip archive without the one data.pkl that torch.save writes",
                remedy: "Save the checkpoint with torch.save(model.state_dict(), path)")
        }
        let root = pickle.dropLast("data.pkl".count)
        if let order = archive.entries["\(root)byteorder"], !file.bytes[order.data].elementsEqual("little".utf8) {
            throw CheckpointError(
                .unsupportedFormat, file: file.path, at: "record byteorder", "the numbers are not little-endian",
                remedy: "Save the checkpoint again on a little-endian machine")
        }
        let bytes = UnsafeRawBufferPointer(rebasing: file.bytes[entry.data])
        // What torch.jit.save writes is such an archive too, with code, which is left alone.
        let isProgram = archive.entries["\(root)constants.pkl"] != nil
        let (value, heap) = try PickleMachine.run(bytes, file: file.path, limits: limits, isProgram: isProgram)
        let state =
            isProgram
            ? try ProgramModules.tensors(below: value, heap: heap, file: file.path)
            : try StateDictionary.find(in: value, heap: heap, file: file.path)

        return try tensors(of: state, heap: heap, file: file) { storage throws(CheckpointError) in
            try region(of: storage, key: "\(root)data/\(storage.key)", in: archive, file: file)
        }
    }

    /// The tensors of a state_dict; `region` finds the bytes of a storage.
    static func tensors(
        of state: [(name: String, tensor: Int)], heap: PickleHeap, file: CheckpointFile,
        region: (PickledStorage) throws(CheckpointError) -> Range<Int>
    ) throws(CheckpointError) -> [StoredTensor] {
        var tensors: [StoredTensor] = []
        tensors.reserveCapacity(state.count)
        for (name, index) in state {
            let pickled = heap.tensors[index]
            let storage = heap.storages[pickled.storage]
            let region = try region(storage)
            tensors.append(
                try StoredTensor(
                    name: name, shape: pickled.shape, strides: pickled.strides, elementOffset: pickled.offset,
                    type: storage.type, in: region, of: file))
        }
        return tensors
    }

    /// The bytes of a storage, checked against the archive's record.
    private static func region(
        of storage: PickledStorage, key: String, in archive: ZipArchive, file: CheckpointFile
    ) throws(CheckpointError) -> Range<Int> {
        func corrupt(_ reason: String) -> CheckpointError {
            CheckpointError(
                .corrupt, file: file.path, at: "record \(CheckpointError.quoted(key))", reason,
                remedy: "Fetch or save the checkpoint again")
        }
        guard let entry = archive.entries[key] else {
            throw corrupt("is named by the pickle and not in the archive")
        }
        let (byteCount, overflow) = storage.count.multipliedReportingOverflow(by: storage.type.byteCount)
        guard !overflow, byteCount <= entry.data.count else {
            throw corrupt("has \(entry.data.count) bytes, and the pickle claims \(storage.count) elements")
        }
        return entry.data.lowerBound..<entry.data.lowerBound + byteCount
    }
}
