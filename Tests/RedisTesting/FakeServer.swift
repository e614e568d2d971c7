import Glibc
import Platform
public import Redis

/// A listener on a Unix socket that says what it is told to and understands nothing.
public final class FakeServer: Sendable {
    /// What it does with every connection, in order.
    public enum Step: Sendable {
        /// Waits for something to come.
        case read
        /// Writes bytes.
        case write(String)
        /// Keeps the connection open and silent until the other side closes.
        case hang
    }

    /// What a login sends back when nothing is wrong, for a client without user, password and database.
    public static let welcome = "*0\r\n+OK\r\n+PONG\r\n"

    /// Where it listens.
    public let url: RedisURL
    private let directory: String
    private let listener: Int32

    /// Listens, and closes each connection after the last step.
    public init(_ steps: [Step]) throws {
        var template = Array("/tmp/kirie-fake-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw RedisServerProcess.Failure(description: "no folder in /tmp") }
        directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let path = "\(directory)/socket"
        url = RedisURL(.unixSocket(path: path))
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let socket = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard status == 0, listen(socket, 16) == 0 else {
            throw RedisServerProcess.Failure(description: "no socket can be made in \(directory)")
        }
        listener = socket
        _ = BackgroundThread.start {
            while true {
                let connection = accept(socket, nil, nil)
                guard connection >= 0 else { return }
                Self.serve(connection, steps)
                close(connection)
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        TemporaryFolder.remove(directory)
    }

    private static func serve(_ connection: Int32, _ steps: [Step]) {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        for step in steps {
            switch step {
            case .read: guard recv(connection, &buffer, buffer.count, 0) > 0 else { return }
            case .write(let text):
                _ = Array(text.utf8).withUnsafeBytes {
                    send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                }
            case .hang: while recv(connection, &buffer, buffer.count, 0) > 0 {}
            }
        }
    }
}
