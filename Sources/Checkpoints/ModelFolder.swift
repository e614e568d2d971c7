import Glibc
import Platform

/// A folder that a library saved a model in, such as those of Hugging Face: `model.safetensors` beside files that say how the
/// model is to be used.
enum ModelFolder {
    /// What `save_pretrained` calls a model's weights, the better first.
    private static let wellKnown = [
        "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
        "adapter_model.safetensors", "adapter_model.bin",
    ]
    private static let extensions = [".safetensors", ".pth", ".pt", ".ckpt", ".bin"]
    /// Entries that are looked at.
    private static let entryLimit = 100_000

    /// The path itself, or that of the one checkpoint in the folder.
    static func checkpoint(at path: String) throws(CheckpointError) -> String {
        guard isFolder(path) else { return path }
        let folder = path.hasSuffix("/") ? String(path.dropLast()) : path
        func error(_ reason: String, _ remedy: String) -> CheckpointError {
            CheckpointError(.unsupportedFormat, file: path, reason, remedy: remedy)
        }
        guard let names = names(in: path) else {
            throw CheckpointError(
                .unreadable, file: path, "is a folder that cannot be read: \(CheckpointError.text(of: errno))",
                remedy: "Check the path and its permissions")
        }
        if let name = wellKnown.first(where: names.contains) { return "\(folder)/\(name)" }
        let candidates = names.filter { name in extensions.contains { name.hasSuffix($0) } }.sorted()
        guard let name = candidates.first else {
            throw error(
                "is a folder without a checkpoint: it has no model.safetensors, no index of shards, and no .pth, .pt, "
                    + ".ckpt or .bin file",
                "Give the folder that holds the weights, or their file")
        }
        guard candidates.count == 1 else {
            let names = candidates.prefix(4).map(CheckpointError.quoted).joined(separator: ", ")
            throw error(
                "is a folder with \(candidates.count) checkpoints: \(names)\(candidates.count > 4 ? ", …" : "")",
                "Give the path of the one that is meant")
        }
        return "\(folder)/\(name)"
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    private static func names(in path: String) -> Set<String>? {
        guard let directory = opendir(path) else { return nil }
        defer { closedir(directory) }
        var names: Set<String> = []
        while names.count < entryLimit, let entry = readdir(directory) {
            names.insert(
                withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                    tuple.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: tuple.pointee)) {
                        FileName.text(of: $0)
                    }
                })
        }
        return names
    }
}
