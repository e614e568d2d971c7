import Checkpoints
import Glibc
import Platform

/// The files of one command, which appear together at its end or not at all.
///
/// Each is written whole beside its place; ``commit()`` renames them. A command that fails on its way, on standard
/// output too, leaves what was there before as it was.
final class StagedFiles {
    private var files: [(temporary: String, target: String)] = []

    deinit {
        for file in files { unlink(file.temporary) }
    }

    /// Refuses a path that cannot be written, before the seconds of work whose answer would be lost.
    static func check(_ path: String) throws {
        // Made and dropped: what can be said against the path is said here, under its own name.
        _ = try OutputFile(replacing: path)
        guard access(path, F_OK) != 0 || access(path, W_OK) == 0 else {
            throw CheckpointError(
                .unwritable, file: path, "is write-protected", remedy: "Give another output path or allow writing")
        }
    }

    /// Has a file written beside its place, under the path that `write` is given.
    func stage(_ path: String, write: (String) throws -> Void) throws {
        try Self.check(path)
        let target = (try? AtomicFile.target(of: path)) ?? path
        let temporary = TemporaryName.unique(beside: target, ending: "staged")
        files.append((temporary, target))
        try write(temporary)
    }

    /// Writes a file's bytes beside its place.
    func stage(_ bytes: [UInt8], to path: String) throws {
        try stage(path) { try AtomicFile.write(bytes, to: $0) }
    }

    /// Gives every file its name.
    func commit() throws {
        while let file = files.first {
            guard rename(file.temporary, file.target) == 0 else {
                throw CheckpointError(
                    .unwritable, file: file.target, "cannot take its name: \(String(cString: strerror(errno)))",
                    remedy: "Give another output path")
            }
            files.removeFirst()
        }
    }
}
