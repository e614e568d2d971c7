import Glibc

/// Whoever started this process and wants to know how it is: systemd, by the protocol of sd_notify(3).
///
/// Each report is one datagram to the socket that `NOTIFY_SOCKET` names; where it names none, or nobody listens there,
/// nothing is said and nothing goes wrong.
package struct ServiceManager: Sendable {
    /// What there is to say, in the protocol's own words.
    package enum Report: Sendable, Hashable {
        /// The service does what it is for.
        case ready
        /// It is still alive; to be said well within ``ServiceManager/watchdogTime``.
        case alive
        /// It will end by itself.
        case stopping
        /// How it is, for people.
        case status(String)

        var text: String {
            switch self {
            case .ready: "READY=1"
            case .alive: "WATCHDOG=1"
            case .stopping: "STOPPING=1"
            case .status(let line): "STATUS=" + line.replacing("\n", with: " ")
            }
        }
    }

    /// After how long a silence the manager takes the process for dead and kills it; nil where it does not.
    package let watchdogTime: Duration?
    private let address: [UInt8]?

    /// The manager that the environment names, if any.
    ///
    /// - Parameters:
    ///   - processIdentifier: this process's; a manager's watchdog may be meant for another one (`WATCHDOG_PID`).
    ///   - variable: a variable of the environment by its name.
    package init(
        processIdentifier: Int32 = getpid(), environment variable: (String) -> String? = { Environment[$0] }
    ) {
        let path = variable("NOTIFY_SOCKET").map { Array($0.utf8) } ?? []
        // A path, or a name in the abstract name space, which is written with an @ for the zero byte.
        let isAddress = path.count > 1 && path.count < Self.longestPath && (path[0] == 0x2F || path[0] == 0x40)
        address = isAddress ? (path[0] == 0x40 ? [0] + path.dropFirst() : path) : nil
        let isMeant = variable("WATCHDOG_PID").map { Int32($0) == processIdentifier } ?? true
        let time = variable("WATCHDOG_USEC").flatMap { Int64($0) } ?? 0
        watchdogTime = isAddress && isMeant && time > 0 ? .microseconds(time) : nil
    }

    /// Whether anybody is told.
    package var isThere: Bool { address != nil }

    /// Tells the manager.
    ///
    /// - Returns: whether it was handed over.
    @discardableResult package func tell(_ reports: Report...) -> Bool {
        guard let address else { return false }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: address) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.size - Self.longestPath + address.count)
        let message = Array(reports.map(\.text).joined(separator: "\n").utf8)
        // A manager that does not read must not hold its service up.
        let flags = Int32(MSG_NOSIGNAL | MSG_DONTWAIT)
        let sent = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                sendto(descriptor, message, message.count, flags, pointer, length)
            }
        }
        return sent == message.count
    }

    private static let longestPath = MemoryLayout.size(ofValue: sockaddr_un().sun_path)
}
