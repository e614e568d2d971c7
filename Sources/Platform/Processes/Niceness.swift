import CLinux
import Glibc

/// How far this process gives way to others: see nice(2).
package enum Niceness {
    /// Keeps threads as nice as whoever started the process wants them; to be called before there are any but the first.
    ///
    /// Dispatch gives each of its threads the niceness of a quality of service, 0 for most, and threads that are started
    /// from there inherit it. Only a process with `CAP_SYS_NICE` can be made less nice, which is to say that of root:
    /// there `nice kirie encoder` would do nothing. A process that was started nice gives the capability up.
    package static func keep() {
        guard getpriority(Int32(PRIO_PROCESS.rawValue), 0) > 0 else { return }
        var header = __user_cap_header_struct(version: UInt32(_LINUX_CAPABILITY_VERSION_3), pid: 0)
        // Version 3 has sets of 64 capabilities, in two halves.
        var sets = [__user_cap_data_struct](repeating: .init(), count: 2)
        guard capget(&header, &sets) == 0 else { return }
        let others = ~(UInt32(1) << UInt32(CAP_SYS_NICE))
        sets[0].effective &= others
        sets[0].permitted &= others
        capset(&header, &sets)
    }
}
