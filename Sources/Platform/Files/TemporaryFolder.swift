import Glibc

/// Folders that are made and removed again.
package enum TemporaryFolder {
    /// Makes a folder of a new name in /tmp, for its owner alone; nil where that cannot be.
    package static func make(_ prefix: String) -> String? {
        var template = Array("/tmp/\(prefix)-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { return nil }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Removes a folder and what is in it.
    package static func remove(_ folder: String) {
        guard let directory = opendir(folder) else { return }
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name == "." || name == ".." { continue }
            let path = "\(folder)/\(name)"
            if entry.pointee.d_type == UInt8(DT_DIR) { remove(path) } else { unlink(path) }
        }
        closedir(directory)
        rmdir(folder)
    }
}
