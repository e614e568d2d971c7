package import Glibc

// The system's calls that take a path, for paths as `FileName` has them. Swift prefers them to those of C, whose strings
// would be the UTF-8 of the scalars that stand for bytes: who imports this room opens every file by its own name.

/// `open(2)`.
package func open(_ path: String, _ flags: Int32) -> Int32 { FileName.withBytes(of: path) { Glibc.open($0, flags) } }

/// `open(2)` of a file that may have to be made.
package func open(_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32 {
    FileName.withBytes(of: path) { Glibc.open($0, flags, mode) }
}

/// `stat(2)`.
package func stat(_ path: String, _ status: UnsafeMutablePointer<stat>) -> Int32 {
    // By another call that does the same: with its module before it, the name is that of the type.
    FileName.withBytes(of: path) { fstatat(AT_FDCWD, $0, status, 0) }
}

/// `access(2)`.
package func access(_ path: String, _ mode: Int32) -> Int32 { FileName.withBytes(of: path) { Glibc.access($0, mode) } }

/// `unlink(2)`.
@discardableResult
package func unlink(_ path: String) -> Int32 { FileName.withBytes(of: path) { Glibc.unlink($0) } }

/// `mkdir(2)`.
package func mkdir(_ path: String, _ mode: mode_t) -> Int32 { FileName.withBytes(of: path) { Glibc.mkdir($0, mode) } }

/// `rename(2)`.
package func rename(_ old: String, _ new: String) -> Int32 {
    FileName.withBytes(of: old) { old in FileName.withBytes(of: new) { new in Glibc.rename(old, new) } }
}

/// `opendir(3)`.
package func opendir(_ path: String) -> OpaquePointer? { FileName.withBytes(of: path) { Glibc.opendir($0) } }

/// `realpath(3)`: nil where there is no such file.
package func resolvedPath(_ path: String) -> String? {
    FileName.withBytes(of: path) { path in
        guard let real = Glibc.realpath(path, nil) else { return nil }
        defer { free(real) }
        return FileName.text(of: real)
    }
}
