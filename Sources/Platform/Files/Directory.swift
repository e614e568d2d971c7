import Glibc

/// Folders.
package enum Directory {
    /// Makes a folder and those above it; one that is there stays.
    package static func make(_ path: String) throws(FileFault) {
        var status = stat()
        if path.isEmpty || stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR { return }
        if let slash = path.lastIndex(of: "/") { try make(String(path[..<slash])) }
        guard mkdir(path, 0o777) == 0 || errno == EEXIST else {
            throw FileFault(path: path, reason: .system(errno), work: .writing)
        }
    }
}
