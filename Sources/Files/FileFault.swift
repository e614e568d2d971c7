import Glibc

/// Why a file could not be opened, read or written, before a room says it in its own words.
package struct FileFault: Error, Sendable, Hashable {
    /// What stood in the way.
    package enum Reason: Sendable, Hashable {
        /// The system refused, with this `errno`.
        case system(Int32)
        /// It is a directory.
        case directory
        /// It is neither a file nor a directory: a pipe, a socket, a device.
        case special(String)
    }

    /// The path as it was given.
    package let path: String
    /// What stood in the way.
    package let reason: Reason

    /// What stood in the way, as a clause whose subject is the file.
    package var clause: String {
        switch reason {
        case .system(let code): "cannot be opened: \(Self.text(of: code))"
        case .directory: "is a directory, not a file"
        case .special(let kind): "is \(kind), not a regular file"
        }
    }

    /// What to do about it.
    package var remedy: String {
        switch reason {
        case .system(ENOENT), .system(ENOTDIR): "Check the path"
        case .system(EACCES), .system(EPERM): "Give yourself the right to read it"
        case .system(ENAMETOOLONG): "Give a shorter name"
        case .system: "Check the file and the disk it is on"
        case .directory: "Give the path of a file"
        case .special: "Give the path of a regular file"
        }
    }

    /// What the system calls an error.
    package static func text(of code: Int32) -> String {
        strerror(code).map { String(cString: $0) } ?? "error \(code)"
    }

    /// What a file that is no regular one is called; nil for a regular file and for a directory.
    package static func kind(of mode: UInt32) -> String? {
        switch mode & S_IFMT {
        case S_IFIFO: "a named pipe"
        case S_IFSOCK: "a socket"
        case S_IFCHR, S_IFBLK: "a device"
        case S_IFREG, S_IFDIR: nil
        default: "of no known kind"
        }
    }
}
