import Glibc
package import JSON

/// The `config.json` that Hugging Face's libraries save beside a model's weights, or another such file: what tensors do not
/// tell.
package struct ModelConfiguration: Sendable {
    /// Bytes that it may have.
    private static let byteLimit = 1 << 20

    /// Where it lies.
    package let path: String
    /// An object.
    package let value: JSONValue

    /// Reads the one in a folder; nil where there is none.
    ///
    /// - Throws: `.unreadable`; `.overLimit` where it is larger than any; `.corrupt` where it is no JSON object.
    init?(_ name: String, in folder: String) throws(CheckpointError) {
        path = "\(folder)/\(name)"
        guard access(path, F_OK) == 0 else { return nil }
        let file = try CheckpointFile(path: path)
        func error(_ code: CheckpointError.Code, at place: String? = nil, _ reason: String) -> CheckpointError {
            CheckpointError(
                code, file: file.path, at: place, reason, remedy: "Take the \(name) that was saved with the weights")
        }
        guard file.bytes.count <= Self.byteLimit else {
            throw error(.overLimit, "has \(file.bytes.count) bytes, the limit is \(Self.byteLimit)")
        }
        do throws(JSONValue.Fault) {
            value = try JSONValue(file.bytes)
        } catch let fault {
            throw error(.corrupt, at: "byte \(fault.offset)", "the JSON \(fault.reason)")
        }
        guard value.members != nil else { throw error(.corrupt, "is no JSON object") }
    }
}

extension Checkpoint {
    /// The `config.json` that lies beside the file; nil where there is none, or the bytes are not a file's.
    ///
    /// - Parameter name: that of another file.
    /// - Returns: what it holds.
    /// - Throws: where it is there and cannot be read.
    package func configuration(named name: String = "config.json") throws(CheckpointError) -> ModelConfiguration? {
        guard files.contains(where: { $0.identity != nil }) else { return nil }
        let folder = path.lastIndex(of: "/").map { path[..<$0].isEmpty ? "/" : String(path[..<$0]) } ?? "."
        return try ModelConfiguration(name, in: folder)
    }
}
