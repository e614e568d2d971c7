import Glibc
import Imaging
package import Platform

/// Labelled pictures: `images/NAME.jpg` (or another ending, see `ImageDecoder`) beside `masks/NAME.png`.
package struct DataSet: Sendable {
    package let name: String
    /// The files of each picture and its label map, by name.
    package let pictures: [(image: String, labels: String)]

    /// Finds the sets below a directory: itself, or its folders, or the `heldout` folders in them.
    ///
    /// - Throws: ``DataSetError`` when there is none, or a picture has no label map.
    package static func all(below directory: String) throws(DataSetError) -> [DataSet] {
        if let whole = try set(at: directory, named: String(directory.split(separator: "/").last ?? "")) {
            return [whole]
        }
        var sets: [DataSet] = []
        for name in try entries(of: directory) {
            for folder in ["\(directory)/\(name)/heldout", "\(directory)/\(name)"] {
                if let found = try set(at: folder, named: name) {
                    sets.append(found)
                    break
                }
            }
        }
        guard !sets.isEmpty else {
            throw DataSetError(
                path: directory, reason: "holds no images/ beside masks/, and neither does a folder in it")
        }
        return sets
    }

    private static func set(at directory: String, named name: String) throws(DataSetError) -> DataSet? {
        guard isDirectory("\(directory)/images"), isDirectory("\(directory)/masks") else { return nil }
        // Label maps by the name without its ending, whatever the case of that is.
        let maps = Dictionary(
            try entries(of: "\(directory)/masks").compactMap { file in
                let (stem, ending) = parts(of: file)
                return ending.lowercased() == "png" ? (stem, file) : nil
            }, uniquingKeysWith: { first, _ in first })
        var pictures: [(String, String)] = []
        for file in try entries(of: "\(directory)/images") where PictureFinder.isPicture(file) {
            let stem = parts(of: file).stem
            guard let map = maps[stem] else {
                throw DataSetError(
                    path: "\(directory)/masks/\(stem).png", reason: "is missing: every picture needs its label map")
            }
            pictures.append(("\(directory)/images/\(file)", "\(directory)/masks/\(map)"))
        }
        guard !pictures.isEmpty else {
            throw DataSetError(
                path: "\(directory)/images",
                reason: "holds no pictures: files that end in \(PictureFinder.kinds) were looked for")
        }
        return DataSet(name: name, pictures: pictures)
    }

    private static func parts(of file: String) -> (stem: String, ending: String) {
        guard let dot = file.lastIndex(of: ".") else { return (file, "") }
        return (String(file[..<dot]), String(file[dot...].dropFirst()))
    }

    private static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Names in a directory, sorted, without hidden ones.
    private static func entries(of directory: String) throws(DataSetError) -> [String] {
        guard let names = PictureFinder.names(in: directory) else {
            throw DataSetError(path: directory, reason: "cannot be read: \(String(cString: strerror(errno)))")
        }
        return names
    }
}

/// A folder that is no data set.
package struct DataSetError: ReportableError, Sendable, Hashable {
    package let path: String
    package let reason: String
    package var report: ErrorReport { ErrorReport(.input, "data-set", at: path, reason) }

    /// The report in one line.
    package var description: String { report.text }
}
