import ArgumentParser
import Clients
import Imaging
import Terminals

extension PictureSearch {
    /// The pictures that were named on a command line, and those below the folders that were.
    func pictures(named paths: [String]) async throws -> [String] {
        var pictures: [String] = []
        for path in paths {
            guard isFolder(path) else {
                // Whatever is wrong with it is told in its place.
                pictures.append(path)
                continue
            }
            let found = self.pictures(of: path)
            for note in found.notes + found.faults { Terminal.complain("kirie: \(note)") }
            guard !found.paths.isEmpty else {
                throw ValidationError(
                    "\(path): there are no pictures: files that end in \(PictureFinder.kinds) were looked for")
            }
            pictures += found.paths
        }
        return pictures
    }
}
