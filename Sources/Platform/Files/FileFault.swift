import Glibc

/// Why a file could not be opened, read or written, before a room says it in its own words.
package struct FileFault: ReportableError, Sendable, Hashable {
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

    /// What was being done.
    package var work = Work.reading

    /// What is done with a file.
    package enum Work: Sendable, Hashable {
        /// It is opened or read.
        case reading
        /// It, or a directory, is made or written.
        case writing
    }

    /// A fault of those parts.
    package init(path: String, reason: Reason, work: Work = .reading) {
        self.path = path
        self.reason = reason
        self.work = work
    }

    /// What stood in the way, as a clause whose subject is the file.
    package var clause: String {
        switch reason {
        case .system(let code):
            "cannot be \(work == .reading ? "opened" : "written"): \(Self.text(of: code))"
        case .directory where work == .writing: "is a directory"
        case .special where work == .writing: "is there and not a regular file"
        case .directory: "is a directory, not a file"
        case .special(let kind): "is \(kind), not a regular file"
        }
    }

    /// What to do about it.
    package var remedy: String {
        if work == .writing { return writingRemedy }
        switch reason {
        case .system(ENOENT), .system(ENOTDIR): return "Check the path"
        case .system(EACCES), .system(EPERM): return "Give yourself the right to read it"
        case .system(ENAMETOOLONG): return "Give a shorter name"
        case .system: return "Check the file and the disk it is on"
        case .directory: return "Give the path of a file"
        case .special: return "Give the path of a regular file"
        }
    }

    private var writingRemedy: String {
        switch reason {
        case .system(ENAMETOOLONG): "Give a shorter name"
        case .system(ENOSPC), .system(EDQUOT), .system(EFBIG), .system(EIO): "Make room or give another output path"
        case .system: "Check that the directory is there and may be written to"
        case .directory, .special: "Give another output path"
        }
    }

    /// A file that is not there, one that cannot be read, or an output that cannot be written.
    package var report: ErrorReport {
        let (errorClass, code): (ErrorClass, String) =
            switch reason {
            case .system(ENOENT) where work == .reading: (.notFound, "file-not-found")
            case _ where work == .reading: (.input, "unreadable-file")
            default: (.ours, "unwritable-file")
            }
        return ErrorReport(errorClass, code, at: path, clause, remedy: remedy)
    }

    /// File, clause, remedy.
    package var description: String { "\(path): \(clause). \(remedy)." }

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
