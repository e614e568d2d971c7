import Glibc
import JSON

/// The published models that can be fetched by name, as `weights/manifest.json` lists them.
public struct ModelCatalog: Sendable {
    /// One published checkpoint.
    public struct Model: Sendable, Hashable {
        /// The short name, such as `vit_b`.
        public let name: String
        /// What it is, in a line.
        public let description: String
        /// The name of the file once it is fetched, or of the folder with its files.
        public let file: String
        /// What is fetched.
        public let parts: [Part]
        /// The licence's SPDX identifier.
        public let licence: String

        /// The size of all files as far as it is known.
        public var bytes: Int { parts.reduce(0) { $0 + ($1.bytes ?? 0) } }
    }

    /// One published file.
    public struct Part: Sendable, Hashable {
        /// The file's path once it is fetched, in the folder of all models.
        public let file: String
        /// Where it is published.
        public let address: String
        /// The file's size; nil where it is not published.
        public let bytes: Int?
        /// The file's SHA-256, 64 hexadecimal digits; nil where none is published, so that the first fetch pins it.
        public let sha256: String?
    }

    /// The models in the order of the manifest.
    public let models: [Model]
    private let path: String

    /// Reads a manifest: `{"models": [{"name", "description", "file", "address", "bytes", "sha256", "licence"}]}`.
    ///
    /// A model of several files has `"folder"` and `"files": [{"file", "address", "bytes", "sha256"}]` instead of the four
    /// members of one file. `bytes` and `sha256` may be missing where they are not published.
    public init(manifest path: String) throws(CheckpointError) {
        func corrupt(_ place: String?, _ reason: String) -> CheckpointError {
            CheckpointError(
                .corrupt, file: path, at: place, reason, remedy: "Restore weights/manifest.json of the distribution")
        }
        let file = try CheckpointFile(path: path)
        guard file.bytes.count <= 1 << 20 else { throw corrupt(nil, "has more than 1 MiB") }
        let document: JSONValue
        do throws(JSONValue.Fault) {
            document = try JSONValue(file.bytes)
        } catch {
            throw corrupt("byte \(error.offset)", "the JSON \(error.reason)")
        }
        guard let list = document["models"]?.elements else { throw corrupt(nil, "lacks the list of models") }
        var models: [Model] = []
        for (index, entry) in list.enumerated() {
            guard let name = entry["name"]?.string, let description = entry["description"]?.string,
                let licence = entry["licence"]?.string,
                let file = entry["file"]?.string ?? entry["folder"]?.string
            else { throw corrupt("model \(index)", "lacks one of its members") }
            let folder = entry["folder"]?.string
            let parts = (folder == nil ? [entry] : entry["files"]?.elements ?? []).map { Part($0, in: folder) }
            guard Part.isName(file), !parts.isEmpty, !parts.contains(nil),
                Set(parts.map { $0?.file }).count == parts.count
            else {
                throw corrupt("model \(CheckpointError.quoted(name))", "has an unusable file, size, hash or address")
            }
            models.append(
                Model(
                    name: name, description: description, file: file, parts: parts.compactMap(\.self),
                    licence: licence))
        }
        self.models = models
        self.path = path
    }

    /// The model of that name, or whose file has that name.
    public func model(named name: String) throws(CheckpointError) -> Model {
        if let model = models.first(where: { $0.name == name || $0.file == name }) { return model }
        throw CheckpointError(
            .unknownModel, file: path, "lists no model \(CheckpointError.quoted(name))",
            remedy: "Choose one of \(models.map(\.name).joined(separator: ", "))")
    }

    /// Where the manifest of an installed or built Kirie lies, or nil where there is none.
    ///
    /// Looked for in this order: the directory `KIRIE_WEIGHTS`; `weights/` in the executable's directory or one above
    /// it (the source tree around `.build`); `share/kirie/weights/` beside the executable's directory. `executable` is
    /// the path of the running program; links are followed.
    public static func manifest(environment: [String: String], executable: String) -> String? {
        if let directory = environment["KIRIE_WEIGHTS"] {
            return existing("\(directory)/manifest.json")
        }
        guard let resolved = realpath(executable, nil) else { return nil }
        defer { free(resolved) }
        var directory = Substring(String(cString: resolved))
        while let slash = directory.lastIndex(of: "/") {
            directory = directory[..<slash]
            if let found = existing("\(directory)/weights/manifest.json")
                ?? existing("\(directory)/share/kirie/weights/manifest.json")
            {
                return found
            }
        }
        return nil
    }

    private static func existing(_ path: String) -> String? { access(path, R_OK) == 0 ? path : nil }

    /// Where fetched models live: `$KIRIE_MODELS`, else `$XDG_DATA_HOME/kirie/models`, else
    /// `~/.local/share/kirie/models`; nil where none of the variables is set.
    public static func directory(environment: [String: String]) -> String? {
        if let directory = environment["KIRIE_MODELS"], !directory.isEmpty { return directory }
        if let data = environment["XDG_DATA_HOME"], data.hasPrefix("/") { return "\(data)/kirie/models" }
        if let home = environment["HOME"], home.hasPrefix("/") { return "\(home)/.local/share/kirie/models" }
        return nil
    }
}

extension ModelCatalog.Part {
    /// Reads a file's members; nil where one of them is unusable.
    fileprivate init?(_ entry: JSONValue, in folder: String?) {
        guard let file = entry["file"]?.string, Self.isName(file), let address = entry["address"]?.string,
            address.hasPrefix("https://") || address.hasPrefix("http://")
        else { return nil }
        if let bytes = entry["bytes"] { guard let size = bytes.integer, size > 0 else { return nil } }
        if let sha256 = entry["sha256"] {
            guard let text = sha256.string, Fingerprint(hexadecimal: text) != nil else { return nil }
        }
        self.init(
            file: folder.map { "\($0)/\(file)" } ?? file, address: address, bytes: entry["bytes"]?.integer,
            sha256: entry["sha256"]?.string?.lowercased())
    }

    /// Whether that may name a file or a folder.
    fileprivate static func isName(_ name: String) -> Bool {
        !name.isEmpty && !name.hasPrefix(".") && !name.contains("/") && !name.utf8.contains(0)
    }
}
