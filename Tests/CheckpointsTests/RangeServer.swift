import Glibc
import Synchronization

/// An HTTP server on a loopback port of its own, with the manners and the faults of real ones.
final class RangeServer: Sendable {
    /// What the server does with a request.
    enum Behaviour: Sendable {
        /// Serves ranges.
        case ranges
        /// Serves ranges, and cuts every answer after so many bytes.
        case cutting(after: Int)
        /// Sends the whole file whatever is asked for, the first answer cut after so many bytes.
        case ignoringRanges(firstCutAfter: Int)
        /// Answers with this status and a page.
        case status(Int)
        /// Sends the client to another path.
        case redirect(to: String)
    }

    struct Request: Sendable, Equatable {
        let path: String
        let range: String?
    }

    let port: UInt16
    private let socket: Int32
    private let files: [String: (content: [UInt8], behaviour: Behaviour)]
    private let log = Mutex<[Request]>([])

    init?(_ files: [String: (content: [UInt8], behaviour: Behaviour)]) {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, length) == 0 && listen(socket, 16) == 0 && getsockname(socket, $0, &length) == 0
            }
        }
        guard bound else { return nil }
        self.socket = socket
        self.port = UInt16(bigEndian: address.sin_port)
        self.files = files
        start()
    }

    var requests: [Request] { log.withLock { $0 } }

    func address(_ path: String) -> String { "http://127.0.0.1:\(port)\(path)" }

    /// Ends the accepting thread, which closes the socket: closed here, its number could be another server's by then.
    func stop() {
        shutdown(socket, Int32(SHUT_RDWR))
    }

    private func start() {
        var thread = pthread_t()
        let context = Unmanaged.passRetained(self).toOpaque()
        pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<RangeServer>.fromOpaque(context).takeRetainedValue().serve() }
                return nil
            }, context)
        pthread_detach(thread)
    }

    private func serve() {
        defer { close(socket) }
        while true {
            let connection = accept(socket, nil, nil)
            guard connection >= 0 else { return }
            answer(connection)
            shutdown(connection, Int32(SHUT_RDWR))
            close(connection)
        }
    }

    private func answer(_ connection: Int32) {
        var text = ""
        var buffer = [UInt8](repeating: 0, count: 4096)
        while !text.contains("\r\n\r\n") {
            let count = recv(connection, &buffer, buffer.count, 0)
            guard count > 0 else { return }
            text += String(decoding: buffer[..<count], as: UTF8.self)
        }
        let lines = text.split(separator: "\r\n")
        let path = lines.first?.split(separator: " ").dropFirst().first.map(String.init) ?? ""
        let range = lines.first { $0.lowercased().hasPrefix("range: ") }.map { String($0.dropFirst(7)) }
        let isFirst = log.withLock { log in
            defer { log.append(Request(path: path, range: range)) }
            return !log.contains { $0.path == path }
        }
        guard let (content, behaviour) = files[path] else { return send(connection, 404, Array("no".utf8)) }
        let start = range.flatMap { $0.split(separator: "=").last?.split(separator: "-").first }.flatMap { Int($0) }
        switch behaviour {
        case .status(let status): send(connection, status, Array("a page".utf8))
        case .redirect(let target): send(connection, 302, [], header: "Location: \(target)\r\n")
        case .ignoringRanges(let cut): send(connection, 200, content, cutAfter: isFirst ? cut : .max)
        case .ranges: sendRange(connection, content, from: start, cutAfter: .max)
        case .cutting(let cut): sendRange(connection, content, from: start, cutAfter: cut)
        }
    }

    private func sendRange(_ connection: Int32, _ content: [UInt8], from start: Int?, cutAfter cut: Int) {
        guard let start else { return send(connection, 200, content, cutAfter: cut) }
        guard start < content.count else { return send(connection, 416, []) }
        let header = "Content-Range: bytes \(start)-\(content.count - 1)/\(content.count)\r\n"
        send(connection, 206, Array(content[start...]), header: header, cutAfter: cut)
    }

    private func send(
        _ connection: Int32, _ status: Int, _ body: [UInt8], header: String = "", cutAfter cut: Int = .max
    ) {
        let head = "HTTP/1.1 \(status) x\r\nContent-Length: \(body.count)\r\n\(header)Connection: close\r\n\r\n"
        let bytes = Array(head.utf8) + body.prefix(cut)
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(connection, $0.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return }
            done += count
        }
    }
}
