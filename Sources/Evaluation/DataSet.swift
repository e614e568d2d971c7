import Glibc

/// Labelled pictures: `images/NAME.jpg` (or .png) beside `masks/NAME.png`.
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
        var pictures: [(String, String)] = []
        for file in try entries(of: "\(directory)/images") {
            guard let dot = file.lastIndex(of: "."), ["jpg", "jpeg", "png"].contains(file[dot...].dropFirst())
            else { continue }
            let labels = "\(directory)/masks/\(file[..<dot]).png"
            guard access(labels, R_OK) == 0 else {
                throw DataSetError(path: labels, reason: "is missing: every picture needs its label map")
            }
            pictures.append(("\(directory)/images/\(file)", labels))
        }
        return DataSet(name: name, pictures: pictures)
    }

    private static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Names in a directory, sorted, without hidden ones.
    private static func entries(of directory: String) throws(DataSetError) -> [String] {
        guard let handle = opendir(directory) else {
            throw DataSetError(path: directory, reason: "cannot be read: \(String(cString: strerror(errno)))")
        }
        defer { closedir(handle) }
        var names: [String] = []
        while let entry = readdir(handle) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }
}

/// A folder that is no data set.
package struct DataSetError: Error, Sendable, Hashable, CustomStringConvertible {
    package let path: String
    package let reason: String
    package var description: String { "\(path): \(reason)" }
}
