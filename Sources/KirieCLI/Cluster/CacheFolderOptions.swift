import ArgumentParser
import Embeddings

/// A folder of embeddings below Redis.
struct CacheFolderOptions: ParsableArguments {
    @Option(
        name: .customLong("cache-dir"),
        help: ArgumentHelp(
            "A folder in which embeddings are kept, too, so that they survive Redis; several workers may share it, "
                + "on a shared file system as well.", valueName: "dir"))
    var path: String?

    @Option(
        name: .customLong("cache-dir-bytes"),
        help: ArgumentHelp(
            "What they may take there; those go that were not read for the longest time.", valueName: "n"))
    var bytes = 10_000_000_000

    func validate() throws {
        guard (1...1_000_000_000_000_000).contains(bytes) else {
            throw ValidationError("--cache-dir-bytes takes a number of bytes from 1 to 10^15.")
        }
        if path?.isEmpty ?? false { throw ValidationError("--cache-dir takes the path of a folder.") }
    }

    /// The same for other processes, which may have another working directory.
    func arguments(_ absolute: (String) throws -> String) rethrows -> [String] {
        try path.map { ["--cache-dir", try absolute($0), "--cache-dir-bytes", "\(bytes)"] } ?? []
    }

    /// The folder; nil where none is named.
    func open() throws -> EmbeddingFolder? { try path.map { try EmbeddingFolder($0, byteLimit: bytes) } }
}
