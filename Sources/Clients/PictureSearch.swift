import Glibc
package import Imaging
import Platform

/// Looks for pictures outside the cooperative pool.
package actor PictureSearch {
    private let thread = BlockingExecutor()
    package nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private var finder = PictureFinder()

    /// A search that has found nothing yet.
    package init() {}

    /// Whether a path leads to a folder.
    package func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Those of the paths that were not found before.
    package func named(_ paths: [String]) -> [String] { paths.flatMap { finder.picture(at: $0).paths } }

    /// The pictures that a folder, a pattern or a path leads to.
    package func pictures(of source: String) -> PictureFinder.Findings {
        var status = stat()
        var sources = [source]
        if stat(source, &status) != 0, source.contains(where: { "*?[{~".contains($0) }) {
            var matches = glob_t()
            defer { globfree(&matches) }
            guard FileName.withBytes(of: source, { glob($0, GLOB_TILDE | GLOB_BRACE, nil, &matches) }) == 0 else {
                return .init()
            }
            sources = (0..<Int(matches.gl_pathc)).compactMap { matches.gl_pathv[$0].map { FileName.text(of: $0) } }
        }
        var all = PictureFinder.Findings()
        for path in sources {
            if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
                do throws(ImageError) { all.append(try finder.pictures(below: path)) } catch {
                    all.faults.append("\(error)")
                }
            } else {
                all.append(finder.picture(at: path))
            }
        }
        return all
    }
}
