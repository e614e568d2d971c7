import Glibc
import Platform

/// A connection to an HTTP server on this machine that is kept open: what a load is made with, no client for anything else.
///
/// Blocking: it belongs on a thread of its own. `@unchecked Sendable`: it is used by one thread at a time.
final class HTTPConnection: @unchecked Sendable {
    struct Answer {
        let status: Int
        let headers: [String: String]
        let body: [UInt8]
    }

    private let descriptor: Int32
    private var buffer: [UInt8] = []

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else {
            throw HTTPConnectionError(reason: "no socket: \(String(cString: strerror(errno)))")
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = UInt16(clamping: port).bigEndian
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else {
            throw HTTPConnectionError(reason: "no connection: \(String(cString: strerror(errno)))")
        }
        var one: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { close(descriptor) }

    func get(_ path: String) throws -> Answer { try send("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n", []) }

    func post(_ path: String, type: String, _ body: [UInt8]) throws -> Answer {
        try send(
            "POST \(path) HTTP/1.1\r\nHost: localhost\r\nContent-Type: \(type)\r\nContent-Length: \(body.count)\r\n\r\n",
            body)
    }

    private func send(_ head: String, _ body: [UInt8]) throws -> Answer {
        try write(Array(head.utf8) + (body.count < 65_536 ? body : []))
        if body.count >= 65_536 { try write(body) }
        return try answer()
    }

    private func write(_ bytes: [UInt8]) throws {
        var at = 0
        while at < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress.map { $0 + at }, bytes.count - at, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw HTTPConnectionError(reason: "the server closed the connection") }
            at += count
        }
    }

    private func fill() throws {
        var chunk = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor, &chunk, chunk.count, 0)
        guard count > 0 else { throw HTTPConnectionError(reason: "the server closed the connection") }
        buffer += chunk[..<count]
    }

    private func answer() throws -> Answer {
        let blankLine = Array("\r\n\r\n".utf8)
        var end = buffer.firstRange(of: blankLine)
        while end == nil {
            try fill()
            end = buffer.firstRange(of: blankLine)
        }
        let lines = String(decoding: buffer[..<(end?.lowerBound ?? 0)], as: UTF8.self).split(separator: "\r\n")
        buffer.removeFirst(end?.upperBound ?? 0)
        guard let first = lines.first, let status = first.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
        else {
            throw HTTPConnectionError(reason: "this is no HTTP")
        }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].filter { $0 != " " }
        }
        guard let length = headers["content-length"].flatMap({ Int($0) }) else {
            throw HTTPConnectionError(reason: "an answer without a length")
        }
        while buffer.count < length { try fill() }
        defer { buffer.removeFirst(length) }
        return Answer(status: status, headers: headers, body: Array(buffer[..<length]))
    }
}

/// A server that does not answer as it should.
struct HTTPConnectionError: ReportableError {
    let reason: String
    var report: ErrorReport { ErrorReport(.ours, "bench-http", reason) }
    var description: String { report.text }
}
