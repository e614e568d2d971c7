import Glibc
import Platform

/// A file that appears under its name complete or not at all, with errors that speak of checkpoints: see `AtomicFile`.
package struct OutputFile: ~Copyable {
    private var file: AtomicFile

    /// Opens a temporary file beside `path`, whose place it takes on ``commit(isDurable:)``.
    package init(replacing path: String) throws(CheckpointError) {
        do throws(FileFault) { file = try AtomicFile(replacing: path) } catch {
            guard case .system(let code) = error.reason else {
                throw CheckpointError(
                    .unwritable, file: path, "is there and not a regular file", remedy: "Give another output path")
            }
            throw CheckpointError(
                .unwritable, file: path, "cannot be written: \(CheckpointError.text(of: code))",
                remedy: code == ENAMETOOLONG
                    ? "Give a shorter name" : "Check that the directory is there and may be written to")
        }
    }

    /// Appends bytes.
    package mutating func write(_ bytes: [UInt8]) throws(CheckpointError) {
        do throws(FileFault) { try file.write(bytes) } catch { throw Self.unwritable("cannot be written", error) }
    }

    /// Appends bytes.
    package mutating func write(_ bytes: UnsafeRawBufferPointer) throws(CheckpointError) {
        do throws(FileFault) { try file.write(bytes) } catch { throw Self.unwritable("cannot be written", error) }
    }

    /// Gives the file its name; with `isDurable` the bytes are on the disk first.
    package consuming func commit(isDurable: Bool) throws(CheckpointError) {
        do throws(FileFault) { try file.commit(isDurable: isDurable) } catch {
            throw Self.unwritable("cannot be finished", error)
        }
    }

    private static func unwritable(_ what: String, _ fault: FileFault) -> CheckpointError {
        let why = if case .system(let code) = fault.reason { CheckpointError.text(of: code) } else { fault.clause }
        return CheckpointError(
            .unwritable, file: fault.path, "\(what): \(why); nothing was left behind",
            remedy: "Make room or give another output path")
    }

    /// Makes a directory and those above it.
    package static func makeDirectory(_ path: String) throws(CheckpointError) {
        do throws(FileFault) { try Directory.make(path) } catch {
            let why = if case .system(let code) = error.reason { CheckpointError.text(of: code) } else { error.clause }
            throw CheckpointError(
                .unwritable, file: error.path, "the directory cannot be made: \(why)", remedy: "Give another directory")
        }
    }
}
