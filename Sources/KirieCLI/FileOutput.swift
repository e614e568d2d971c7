import Checkpoints
import Glibc

/// Whole files, and standard output.
enum FileOutput {
    /// Writes beside the target and renames, so that the file is there whole or not at all.
    static func write(_ bytes: [UInt8], to path: String) throws {
        var file = try OutputFile(replacing: path)
        try file.write(bytes)
        try file.commit(isDurable: false)
    }

    /// Writes to standard output.
    ///
    /// - Throws: when the reader went away or the disk is full, so that a half-written answer is no success.
    static func print(_ bytes: [UInt8]) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw ClosedOutput(reason: String(cString: strerror(errno))) }
            rest = rest.dropFirst(count)
        }
    }
}

/// Standard output that takes no more.
struct ClosedOutput: Error, CustomStringConvertible {
    let reason: String
    var description: String { "standard output: cannot be written: \(reason)" }
}
