import Glibc

/// Names for files that stand beside another one for a while: what is being written, or what has arrived of a download.
///
/// A name that the file system takes for the target is one that it takes for its companion too: the target's name is cut
/// where the two together would be longer than the directory allows (255 bytes on most file systems).
package enum TemporaryName {
    /// What most file systems allow, in bytes.
    private static let usualLimit = 255

    /// A name that nobody else has, in the directory of `target`; its ending tells what the file is, such as `partial`.
    package static func unique(beside target: String, ending: String) -> String {
        let number = UInt64.random(in: .min ... .max)
        return beside(target, suffix: ".\(String(number, radix: 36)).\(ending)")
    }

    /// The same name for the same target at each call, so that a later process finds the file.
    package static func lasting(beside target: String, ending: String) -> String {
        let (directory, name) = parts(of: target)
        let plain = "\(name).\(ending)"
        if plain.utf8.count <= limit(in: directory) { return directory + plain }
        // Of two long names that begin alike each has its own companion.
        return beside(target, suffix: ".\(String(hash(of: name), radix: 36)).\(ending)")
    }

    /// The name, cut so that it and what is to stand behind it take at most `limit` bytes; never inside a character.
    package static func cut(_ name: String, toFit limit: Int = usualLimit, before suffix: String) -> String {
        var short = name[...]
        while short.utf8.count + suffix.utf8.count > limit, !short.isEmpty { short.removeLast() }
        return String(short)
    }

    /// A number that tells names apart (64-bit FNV-1a): the same in every process.
    package static func hash(of name: String) -> UInt64 {
        name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }

    private static func beside(_ target: String, suffix: String) -> String {
        let (directory, name) = parts(of: target)
        return directory + cut(name, toFit: limit(in: directory), before: suffix) + suffix
    }

    /// The directory with its slash, empty for the working directory, and the name in it.
    private static func parts(of path: String) -> (directory: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return ("", path) }
        return (String(path[...slash]), String(path[path.index(after: slash)...]))
    }

    private static func limit(in directory: String) -> Int {
        let limit = pathconf(directory.isEmpty ? "." : directory, Int32(_PC_NAME_MAX))
        return limit > 0 ? limit : usualLimit
    }
}
