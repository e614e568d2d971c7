import Glibc

/// Ports of this machine.
package enum LoopbackPort {
    /// A TCP port of 127.0.0.1 that was free a moment ago; nil where there is none.
    package static func free() -> Int? { bound(0) }

    /// Whether a TCP port of 127.0.0.1 was free a moment ago.
    package static func isFree(_ port: Int) -> Bool { bound(port) != nil }

    private static func bound(_ port: Int) -> Int? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(clamping: port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        // As servers do: connections that were closed a moment ago hold nobody up. Where the system chooses, it would hand out
        // a port that another process has just been told of.
        if port != 0 {
            var reuse: Int32 = 1
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &reuse, socklen_t(MemoryLayout<Int32>.size))
        }
        let status = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) | getsockname(descriptor, pointer, &length)
            }
        }
        return status == 0 ? Int(UInt16(bigEndian: address.sin_port)) : nil
    }
}
