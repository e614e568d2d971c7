import CTLS
import Glibc
import Synchronization

/// TLS of one socket, by OpenSSL, between two buffers in memory: the socket stays the channel's.
///
/// ```text
///   plain text ──▶ seal ──▶ SSL ──▶ outgoing ──▶ flush ──▶ socket
///   plain text ◀── open ◀── SSL ◀── incoming ◀──────────── socket
/// ```
/// OpenSSL allows one thread at a time in a session, so that who writes and who reads take turns; neither ever waits for
/// the other side within its turn. By buffers and not on the socket itself, because OpenSSL writes to sockets in a way
/// that raises SIGPIPE, and would have to be called again with the very same bytes where a socket is full.
final class TLSSession: Sendable {
    /// What became of bytes that came in.
    enum Opening: Sendable {
        /// Everything that was complete is out.
        case more
        /// The other side has said that it ends.
        case ended
        /// It is not to be gone on with.
        case failed(TLSRefusal)
    }

    /// Pointers into OpenSSL; only touched under the lock.
    private struct State: @unchecked Sendable {
        let ssl: OpaquePointer
        let incoming: OpaquePointer
        let outgoing: OpaquePointer
        /// What the socket did not take.
        var unsent: [UInt8] = []
        var sentOfUnsent = 0
        var hasHeard = false
    }

    private let settings: RedisTLS
    private let host: String
    /// Guards the session.
    private let state: Mutex<State>

    /// A session that has not begun; reads the files.
    ///
    /// - Parameters:
    ///   - settings: what is demanded and shown.
    ///   - host: the name or the numeric address that the socket leads to.
    /// - Throws: what is wrong with a file.
    init(_ settings: RedisTLS, host: String) throws(TLSRefusal) {
        self.settings = settings
        self.host = host
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_client_method()) else { throw Self.outOfMemory }
        defer { SSL_CTX_free(context) }
        SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, TLSFailures.keepCertificate)
        // A key with a passphrase would have it asked for on the terminal.
        SSL_CTX_set_default_passwd_cb(context) { _, _, _, _ in -1 }
        try TLSFiles.load(settings, into: context)

        guard let ssl = SSL_new(context), let incoming = BIO_new(BIO_s_mem()), let outgoing = BIO_new(BIO_s_mem())
        else { throw Self.outOfMemory }
        SSL_set_bio(ssl, incoming, outgoing)
        SSL_set_connect_state(ssl)
        state = Mutex(State(ssl: ssl, incoming: incoming, outgoing: outgoing))
        let name = settings.serverName ?? host
        let isNumeric = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1
        if !isNumeric {
            SSL_set_hostflags(ssl, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
            guard SSL_set1_host(ssl, name) == 1 else { throw Self.outOfMemory }
            _ = name.withCString { text in
                SSL_ctrl(
                    ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, Int(TLSEXT_NAMETYPE_host_name),
                    UnsafeMutableRawPointer(mutating: text))
            }
        }
        ERR_clear_error()
    }

    deinit {
        state.withLock { state in
            X509_free(TLSFailures.keptCertificate(state.ssl))
            SSL_free(state.ssl)
        }
    }

    private static var outOfMemory: TLSRefusal {
        TLSRefusal(reason: "out of memory", remedy: "free some", mayPass: true)
    }

    // MARK: the handshake

    /// Shakes hands on a socket that may block or not, at most until a moment of ``Monotonic``.
    func begin(on socket: Int32, until deadline: UInt64) throws(TLSRefusal) {
        var buffer = [UInt8](repeating: 0, count: 16 * 1024)
        while true {
            let isDone = try step()
            while !flush(to: socket) { try wait(socket, Int16(POLLOUT), deadline) }
            if isDone { return }
            try wait(socket, Int16(POLLIN), deadline)
            let count = recv(socket, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if count > 0 {
                state.withLock { state in
                    _ = BIO_write(state.incoming, buffer, Int32(count))
                    state.hasHeard = true
                }
            } else if count == 0 || (errno != EAGAIN && errno != EINTR) {
                throw TLSRefusal(
                    reason: "it ended the connection within the TLS handshake", remedy: "look into its log",
                    mayPass: true)
            }
        }
    }

    private func step() throws(TLSRefusal) -> Bool {
        let result: Result<Bool, TLSRefusal> = state.withLock { state in
            ERR_clear_error()
            let status = SSL_do_handshake(state.ssl)
            if status == 1 { return .success(true) }
            if SSL_get_error(state.ssl, status) == SSL_ERROR_WANT_READ { return .success(false) }
            return .failure(TLSFailures.refusal(state.ssl, settings, host: host))
        }
        return try result.get()
    }

    private func wait(_ socket: Int32, _ events: Int16, _ deadline: UInt64) throws(TLSRefusal) {
        let now = Monotonic.now
        var descriptor = pollfd(fd: socket, events: events, revents: 0)
        let left = deadline > now ? Int32(min((deadline - now) / 1_000_000 + 1, 60_000)) : 0
        if poll(&descriptor, 1, left) == 0, Monotonic.now >= deadline {
            let hasHeard = state.withLock(\.hasHeard)
            throw TLSRefusal(
                reason: hasHeard
                    ? "the TLS handshake took too long"
                    : "no answer in TLS in time; is this the port without TLS (redis://), or no Redis?",
                remedy: "", mayPass: true)
        }
    }

    // MARK: writing

    /// Bytes that wait in memory for the socket, from which on they are to be flushed.
    static let flushFrom = 64 * 1024

    /// Encrypts bytes for the next ``flush(to:)``; returns how many ciphertext bytes wait, or nil where the session is over.
    func seal(_ bytes: UnsafeRawBufferPointer) -> Int? {
        state.withLock { state in
            guard !bytes.isEmpty else { return Int(BIO_ctrl_pending(state.outgoing)) }
            ERR_clear_error()
            guard SSL_write(state.ssl, bytes.baseAddress, Int32(clamping: bytes.count)) == bytes.count else {
                return nil
            }
            return Int(BIO_ctrl_pending(state.outgoing))
        }
    }

    /// Gives the socket what waits; returns false where it takes no more for now, or never again.
    func flush(to socket: Int32) -> Bool {
        state.withLock { state in
            while true {
                if state.sentOfUnsent == state.unsent.count {
                    let waiting = min(Int(BIO_ctrl_pending(state.outgoing)), 4 * Self.flushFrom)
                    state.sentOfUnsent = 0
                    guard waiting > 0 else {
                        state.unsent.removeAll(keepingCapacity: true)
                        return true
                    }
                    let outgoing = state.outgoing
                    state.unsent = [UInt8](unsafeUninitializedCapacity: waiting) { buffer, count in
                        count = max(0, Int(BIO_read(outgoing, buffer.baseAddress, Int32(waiting))))
                    }
                }
                let first = state.sentOfUnsent
                let sent = state.unsent.withUnsafeBytes { bytes in
                    send(
                        socket, bytes.baseAddress.map { $0 + first }, bytes.count - first,
                        Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
                }
                if sent < 0 {
                    if errno == EINTR { continue }
                    return false
                }
                state.sentOfUnsent += sent
            }
        }
    }

    // MARK: reading

    /// Decrypts bytes from the socket and calls `body` with each stretch of plain text, which is to be taken at once.
    func open(
        _ bytes: UnsafeRawBufferPointer, into buffer: UnsafeMutableRawBufferPointer,
        _ body: (UnsafeRawBufferPointer) -> Bool
    ) -> Opening {
        var isFirst = true
        while true {
            let (count, end): (Int, Opening?) = state.withLock { state in
                ERR_clear_error()
                if isFirst, BIO_write(state.incoming, bytes.baseAddress, Int32(clamping: bytes.count)) != bytes.count {
                    return (0, .failed(Self.outOfMemory))
                }
                let count = SSL_read(state.ssl, buffer.baseAddress, Int32(clamping: buffer.count))
                if count > 0 { return (Int(count), nil) }
                switch SSL_get_error(state.ssl, count) {
                case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return (0, .more)
                case SSL_ERROR_ZERO_RETURN: return (0, .ended)
                default: return (0, .failed(TLSFailures.refusal(state.ssl, settings, host: host)))
                }
            }
            isFirst = false
            if let end { return end }
            guard body(UnsafeRawBufferPointer(rebasing: buffer[..<count])) else { return .more }
        }
    }
}
