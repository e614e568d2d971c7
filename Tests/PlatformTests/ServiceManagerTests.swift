import Foundation
import Glibc
import Platform
import Testing

/// sd_notify's protocol, with a socket of our own in the manager's place.
@Suite struct ServiceManagerTests {
    @Test(arguments: [false, true]) func reportsArrive(isAbstract: Bool) throws {
        let name = "kirie-notify-\(UInt64.random(in: .min ... .max))"
        let path = isAbstract ? "@" + name : "/tmp/" + name
        defer { unlink(path) }
        let receiver = try Receiver(path)
        let manager = ServiceManager { $0 == "NOTIFY_SOCKET" ? path : nil }
        #expect(manager.isThere && manager.watchdogTime == nil)
        #expect(manager.tell(.ready, .status("serving\nhere")))
        #expect(receiver.next() == "READY=1\nSTATUS=serving here")
        #expect(manager.tell(.alive) && manager.tell(.stopping))
        #expect(receiver.next() == "WATCHDOG=1" && receiver.next() == "STOPPING=1")
    }

    @Test func theWatchdogIsOneProcessAlone() {
        func time(_ microseconds: String, _ process: String?) -> Duration? {
            let variables = [
                "NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": microseconds, "WATCHDOG_PID": process,
            ]
            return ServiceManager(processIdentifier: 7) { variables[$0] ?? nil }.watchdogTime
        }
        #expect(time("3000000", nil) == .seconds(3) && time("3000000", "7") == .seconds(3))
        #expect(time("3000000", "8") == nil && time("0", "7") == nil && time("soon", "7") == nil)
    }

    @Test(arguments: [nil, "", "@", "relative", "/not/there", "/" + String(repeating: "x", count: 200)])
    func nobodyToTellIsNoFault(path: String?) {
        let manager = ServiceManager { $0 == "NOTIFY_SOCKET" ? path : nil }
        #expect(!manager.tell(.ready))
    }
}

/// The manager's end of the socket.
private struct Receiver: ~Copyable {
    private let descriptor: Int32

    init(_ path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        let bytes = path.hasPrefix("@") ? [0] + Array(path.utf8.dropFirst()) : Array(path.utf8)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        let status = withUnsafePointer(to: &name) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(2 + bytes.count)) }
        }
        try #require(status == 0, "bind: \(errno)")
    }

    deinit { close(descriptor) }

    /// The next datagram; a test's own report is there before it looks.
    func next() -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        return String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self)
    }
}
