import Glibc
import Hashing
import Platform

/// Fingerprints of files that were read before, one small file each, found by device, inode, size and time of
/// change.
///
/// A cache is a convenience: what cannot be read, is damaged or cannot be written is passed over in silence.
public struct FingerprintCache: Sendable {
    /// The directory; made when the first fingerprint is stored.
    public let directory: String

    /// A cache in that directory.
    public init(directory: String) {
        self.directory = directory
    }

    /// The user's cache, `$XDG_CACHE_HOME/kirie` or `~/.cache/kirie`; nil where neither variable is set.
    public init?(environment: [String: String]) {
        if let cache = environment["XDG_CACHE_HOME"], cache.hasPrefix("/") {
            directory = "\(cache)/kirie"
        } else if let home = environment["HOME"], home.hasPrefix("/") {
            directory = "\(home)/.cache/kirie"
        } else {
            return nil
        }
    }

    private static let heading = "kirie fingerprint 1"

    /// One file's identity is the name; those of several files make one by their hash.
    private func path(of identities: [CheckpointFile.Identity]) -> String {
        let names = identities.map { "\($0.device)-\($0.inode)-\($0.size)-\($0.modified)" }
        let name =
            names.count == 1
            ? names[0]
            : "\(names.count)-files-"
                + Hexadecimal.text(of: SHA256.hash(names.joined(separator: " ").utf8).bytes)
        return "\(directory)/\(name).fingerprint"
    }

    func fingerprint(of identities: [CheckpointFile.Identity]) -> Fingerprint? {
        let descriptor = open(path(of: identities), O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return nil }
        let lines = String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
        guard lines.count == 2, lines[0] == Self.heading else { return nil }
        return Fingerprint(hexadecimal: lines[1])
    }

    func store(_ fingerprint: Fingerprint, of identities: [CheckpointFile.Identity]) {
        do throws(CheckpointError) {
            try OutputFile.makeDirectory(directory)
            var output = try OutputFile(replacing: path(of: identities))
            try output.write(Array("\(Self.heading)\n\(fingerprint)\n".utf8))
            try output.commit(isDurable: false)
        } catch {}
    }
}
