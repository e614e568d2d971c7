import Glibc

/// Opens the files that users name.
///
/// Opening never waits: a named pipe without a writer, or a device, would hold a plain `open` for as long as it likes, and
/// a signal could not end it.
package enum InputFile {
    /// A descriptor for reading, closed on exec, of a regular file or of a pipe that a shell laid (`<(…)`, `|`).
    ///
    /// - Throws: ``FileFault``: it cannot be opened, or is a directory, a named pipe, a socket or a device.
    package static func open(_ path: String) throws(FileFault) -> Int32 {
        let descriptor = Platform.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else { throw FileFault(path: path, reason: reason(path, errno)) }
        if let reason = refusal(of: descriptor) {
            close(descriptor)
            throw FileFault(path: path, reason: reason)
        }
        // What is read from here on may be waited for: a pipe that somebody writes to.
        let flags = fcntl(descriptor, F_GETFL)
        if flags >= 0 { _ = fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK) }
        return descriptor
    }

    /// What an open descriptor is that is not to be read; nil for one that is.
    private static func refusal(of descriptor: Int32) -> FileFault.Reason? {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return .system(errno) }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return nil
        case S_IFDIR: return .directory
        case S_IFIFO where isLaidByShell(descriptor): return nil
        default: return .special(FileFault.kind(of: status.st_mode) ?? "no regular file")
        }
    }

    /// A socket cannot be opened at all, and the system's word for that (no such device or address) says nothing.
    private static func reason(_ path: String, _ code: Int32) -> FileFault.Reason {
        var status = stat()
        guard code == ENXIO, stat(path, &status) == 0, let kind = FileFault.kind(of: status.st_mode) else {
            return .system(code)
        }
        return .special(kind)
    }

    /// A pipe without a name has no path but this (proc(5)).
    private static func isLaidByShell(_ descriptor: Int32) -> Bool {
        var target = [CChar](repeating: 0, count: 64)
        let count = readlink("/proc/self/fd/\(descriptor)", &target, target.count)
        return count > 0 && target.prefix(count).starts(with: "pipe:[".utf8.map { CChar(bitPattern: $0) })
    }
}
