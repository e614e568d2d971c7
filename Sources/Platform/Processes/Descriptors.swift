import CLinux
import Glibc

/// File descriptors, and who inherits them.
///
/// Every descriptor is marked close-on-exec by the call that makes it, never by a second one: between the two another
/// thread may start a program. What libraries make without the mark is closed in the child, see
/// ``closeAllButStandard(_:)``.
package enum Descriptors {
    /// Makes a pipe; nil where the system has no descriptor left, with `errno` set.
    package static func pipe(isNonblocking: Bool = false) -> (read: Int32, write: Int32)? {
        var ends: (Int32, Int32) = (-1, -1)
        let status = withUnsafeMutablePointer(to: &ends) {
            $0.withMemoryRebound(to: Int32.self, capacity: 2) {
                pipe2($0, O_CLOEXEC | (isNonblocking ? O_NONBLOCK : 0))
            }
        }
        return status == 0 ? (read: ends.0, write: ends.1) : nil
    }

    /// Lets this process have as many descriptors as the system allows it: a server's connections are one each.
    package static func raiseLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// Has a child close everything beyond standard error, after the actions that were added before.
    ///
    /// However many there are: the system is asked for a range (close_range(2), else the child's own /proc/self/fd), so
    /// no number is too high, such as 1024 would be.
    static func closeAllButStandard(_ actions: inout posix_spawn_file_actions_t) {
        posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1)
    }
}
