import CHiredis
import Glibc
import Platform
import Synchronization

/// One socket and the thread of its own that reads it.
///
/// Who sends writes: a caller puts its bytes into the queue and, unless somebody is writing already, hands over all
/// that is queued with a `send` that never waits. So a lone command costs one system call on the caller's thread, and
/// commands that come while another is being written leave together. What the socket does not take is left to the
/// thread, which otherwise sleeps in `poll` until answers come. None of Swift's cooperative threads ever waits here.
///
/// ```text
///  callers ──▶ queue ──▶ send ─────────▶ socket ──▶ redis-server
///                 │       (rest: thread)    │
///     resume ◀── match ◀── hiredis reader ◀─┘  thread
/// ```
/// With TLS a ``TLSSession`` stands before the socket in both directions.
final class RedisChannel: Sendable {
    /// What the socket was opened for.
    enum Role: Sendable {
        /// Every answer belongs to a command.
        case commands
        /// Answers that belong to no command go to `receive`; `close` is the last call.
        case subscription(receive: @Sendable (RedisValue) -> Void, close: @Sendable (RedisError) -> Void)
    }

    private struct Unwritten: Sendable {
        var segments: [CommandEncoding.Segment]
        var index = 0
        var offset = 0

        var byteCount: Int {
            segments[min(index, segments.count)...].reduce(-offset) { $0 + $1.withBytes(\.count) }
        }
    }

    private struct State: Sendable {
        var queue = CommandQueue()
        var output = CommandEncoding()
        /// Somebody is handing bytes over: a caller, or the thread while ``unwritten`` holds what the socket refused.
        var isWriting = false
        var unwritten: Unwritten?
        var pendingBytes = 0
        var closing: RedisError?
        var isClosed = false
    }

    let server: String
    let endpoint: RedisURL.Endpoint
    private let tls: RedisTLS?
    private let role: Role
    private let tick: Duration
    private let maximumPendingBytes: Int
    /// Guards everything that callers and the thread share.
    private let state = Mutex(State())
    private let descriptor = Atomic<Int32>(-1)
    private let bell: (read: Int32, write: Int32)
    /// Set once before the first command, where there is TLS.
    private let session = Mutex<TLSSession?>(nil)
    /// The session; nil without TLS, for which no lock is taken.
    private var secured: TLSSession? { tls == nil ? nil : session.withLock { $0 } }
    /// Whether the server has said anything yet.
    private let hasHeard = Atomic<Bool>(false)

    init(to url: RedisURL, role: Role, configuration: RedisConfiguration) {
        server = url.description
        endpoint = url.endpoint
        tls = url.tls
        self.role = role
        maximumPendingBytes = configuration.maximumPendingBytes
        tick = max(.milliseconds(10), min(.seconds(1), configuration.commandTimeout / 4))
        bell = Descriptors.pipe(isNonblocking: true) ?? (read: -1, write: -1)
    }

    deinit {
        let socket = descriptor.load(ordering: .relaxed)
        if socket >= 0 { Glibc.close(socket) }
        for end in [bell.read, bell.write] where end >= 0 { Glibc.close(end) }
    }

    // MARK: callers

    /// Connects on the channel's thread and leaves it reading.
    func open(timeout: Duration) async throws(RedisError) {
        let result: Result<Void, RedisError> = await withUnsafeContinuation { continuation in
            let started = BackgroundThread.start { [self] in
                switch connect(timeout: timeout) {
                case .failure(let error): continuation.resume(returning: .failure(error))
                case .success(let socket):
                    descriptor.store(socket, ordering: .relaxed)
                    continuation.resume(returning: .success(()))
                    run(socket)
                }
            }
            if !started {
                continuation.resume(
                    returning: .failure(.cannotConnect(server: server, reason: "the system has no thread left")))
            }
        }
        try result.get()
    }

    /// Sends one command and waits for its answer.
    func send(_ command: RedisCommand, timeout: Duration) async throws(RedisError) -> RedisValue {
        let encoding = CommandEncoding(command)
        let result = await withUnsafeContinuation { continuation in
            submit(encoding, name: command.name, expected: 1, timeout: timeout, waiter: .one(continuation))
        }
        return try result.get()
    }

    /// Sends commands as one write and waits for all their answers.
    func send(_ commands: [RedisCommand], timeout: Duration) async throws(RedisError) -> [RedisValue] {
        guard let first = commands.first else { return [] }
        let encoding = CommandEncoding(commands)
        let name = commands.count == 1 ? first.name : "\(first.name) and \(commands.count - 1) more"
        let result = await withUnsafeContinuation { continuation in
            submit(encoding, name: name, expected: commands.count, timeout: timeout, waiter: .all(continuation))
        }
        return try result.get()
    }

    /// Sends a command whose answers go to the subscription.
    func post(_ command: RedisCommand) {
        submit(CommandEncoding(command), entry: nil)
    }

    /// Ends the thread; whatever waits fails with `error`.
    func close(_ error: RedisError) {
        state.withLock { if $0.closing == nil { $0.closing = error } }
        ring()
    }

    var isClosed: Bool { state.withLock { $0.isClosed || $0.closing != nil } }

    /// The address that the socket is connected to, as numbers; nil for a Unix socket and before there is one.
    var peer: String? {
        var address = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let found = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                getpeername(descriptor.load(ordering: .relaxed), pointer, &length) == 0
                    && [AF_INET, AF_INET6].contains(Int32(pointer.pointee.sa_family))
                    && getnameinfo(pointer, length, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST) == 0
            }
        }
        guard found else { return nil }
        return String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private func submit(
        _ encoding: CommandEncoding, name: String, expected: Int, timeout: Duration, waiter: CommandQueue.Waiter
    ) {
        let deadline = Monotonic.now &+ Monotonic.nanoseconds(timeout)
        submit(
            encoding,
            entry: CommandQueue.Entry(
                name: name, expected: expected, deadline: deadline, timeout: timeout, waiter: waiter))
    }

    private func submit(_ encoding: CommandEncoding, entry: CommandQueue.Entry?) {
        let (refusal, mine): (RedisError?, Bool) = state.withLock { state in
            if state.isClosed || state.closing != nil {
                let reason = state.closing ?? .closed
                switch reason {
                case .closed, .cancelled, .notTrusted: return (reason, false)
                default:
                    let why = "closed before: \(reason.shortReason)"
                    return (.connectionLost(server: server, mayHaveRun: false, reason: why), false)
                }
            }
            guard state.pendingBytes < maximumPendingBytes else {
                return (.overloaded(server: server, pendingBytes: state.pendingBytes), false)
            }
            if let entry {
                state.queue.append(
                    entry, byteCount: encoding.byteCount, firstCommandEnd: encoding.firstCommandEnd)
            }
            state.pendingBytes += encoding.byteCount
            state.output.append(encoding)
            guard !state.isWriting else { return (nil, false) }
            state.isWriting = true
            return (nil, true)
        }
        if let refusal { entry?.waiter.fail(refusal) }
        if mine { handOver() }
    }

    /// Hands over what is queued until nothing is left or the socket is full; the caller has set `isWriting`.
    private func handOver() {
        while true {
            let next: Unwritten? = state.withLock { state in
                if let rest = state.unwritten {
                    state.unwritten = nil
                    return rest
                }
                guard state.output.byteCount > 0, !state.isClosed else {
                    state.isWriting = false
                    return nil
                }
                let bytes = state.output.byteCount
                let segments = state.output.finished()
                state.output = CommandEncoding()
                state.queue.handedOver += UInt64(bytes)
                return Unwritten(segments: segments)
            }
            guard var next else { return }
            let before = next.byteCount
            let isComplete = write(&next)
            let rest = isComplete ? 0 : next.byteCount
            state.withLock { state in
                state.pendingBytes -= before - rest
                if !isComplete {
                    // `handedOver` must not count what is certainly still here when the connection breaks.
                    state.unwritten = next
                }
            }
            if !isComplete {
                ring()
                return
            }
        }
    }

    /// Returns false when the socket takes no more for now, or never again: the thread sees to both.
    private func write(_ unwritten: inout Unwritten) -> Bool {
        let socket = descriptor.load(ordering: .relaxed)
        if let secured { return Self.write(&unwritten, secured, socket) }
        while unwritten.index < unwritten.segments.count {
            let isLast = unwritten.index == unwritten.segments.count - 1
            let flags = Int32(MSG_NOSIGNAL | MSG_DONTWAIT | (isLast ? 0 : MSG_MORE))
            let offset = unwritten.offset
            let (sent, left) = unwritten.segments[unwritten.index].withBytes { bytes in
                let left = bytes.count - offset
                return (Glibc.send(socket, bytes.baseAddress.map { $0 + offset }, left, flags), left)
            }
            if sent < 0 {
                if errno == EINTR { continue }
                return false
            }
            if sent == left {
                unwritten.index += 1
                unwritten.offset = 0
            } else {
                unwritten.offset += sent
            }
        }
        return true
    }

    /// The same through TLS; what is encrypted counts as handed over, although it may still be in memory.
    private static func write(_ unwritten: inout Unwritten, _ session: TLSSession, _ socket: Int32) -> Bool {
        while true {
            var waiting = 0
            while unwritten.index < unwritten.segments.count, waiting < TLSSession.flushFrom {
                let offset = unwritten.offset
                let (sealed, taken, left) = unwritten.segments[unwritten.index].withBytes { bytes in
                    let part = UnsafeRawBufferPointer(rebasing: bytes[offset...].prefix(TLSSession.flushFrom))
                    return (session.seal(part), part.count, bytes.count - offset)
                }
                guard let sealed else {
                    // The thread hears of it as of any other end.
                    shutdown(socket, Int32(SHUT_RDWR))
                    return false
                }
                waiting = sealed
                if taken == left {
                    unwritten.index += 1
                    unwritten.offset = 0
                } else {
                    unwritten.offset += taken
                }
            }
            guard session.flush(to: socket) else { return false }
            if unwritten.index >= unwritten.segments.count { return true }
        }
    }

    private func ring() {
        var byte: UInt8 = 1
        _ = Glibc.write(bell.write, &byte, 1)
    }

    // MARK: the thread

    private func connect(timeout: Duration) -> Result<Int32, RedisError> {
        guard bell.read >= 0 else {
            return .failure(.cannotConnect(server: server, reason: "no file descriptor is left (ulimit -n)"))
        }
        let deadline = Monotonic.now &+ Monotonic.nanoseconds(timeout)
        var limit = timeval(duration: timeout)
        if limit.tv_sec == 0, limit.tv_usec == 0 { limit.tv_usec = 1000 }
        let made =
            switch endpoint {
            case .tcp(let host, let port): redisConnectWithTimeout(host, Int32(port), limit)
            case .unixSocket(let path): redisConnectUnixWithTimeout(path, limit)
            case .sentinels: preconditionFailure("whoever dials asks the sentinels first")
            }
        guard let context = made else {
            return .failure(.cannotConnect(server: server, reason: "out of memory"))
        }
        guard context.pointee.err == 0 else {
            let reason = withUnsafeBytes(of: context.pointee.errstr) { text in
                String(decoding: text.prefix { $0 != 0 }, as: UTF8.self)
            }
            redisFree(context)
            return .failure(.cannotConnect(server: server, reason: reason))
        }
        if case .tcp = endpoint { redisEnableKeepAlive(context) }
        let socket = redisFreeKeepFd(context)
        _ = fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK)
        _ = fcntl(socket, F_SETFD, FD_CLOEXEC)
        guard let tls, case .tcp(let host, _) = endpoint else { return .success(socket) }
        do throws(TLSRefusal) {
            let made = try TLSSession(tls, host: host)
            try made.begin(on: socket, until: deadline)
            session.withLock { $0 = made }
            return .success(socket)
        } catch {
            Glibc.close(socket)
            return .failure(error.error(of: server))
        }
    }

    private func run(_ socket: Int32) {
        guard let reader = redisReaderCreate() else {
            return finish(.connectionLost(server: server, mayHaveRun: true, reason: "out of memory"))
        }
        // The parser keeps its buffer between answers, so that 2 MiB values do not grow a new one each.
        reader.pointee.maxbuf = 4 << 20
        defer { redisReaderFree(reader) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 * 1024, alignment: 64)
        defer { buffer.deallocate() }

        while true {
            let (closing, isBlocked, oldest) = state.withLock { state in
                (state.closing, state.unwritten != nil, state.queue.oldest?.deadline)
            }
            if let closing { return finish(closing) }
            var descriptors = [
                pollfd(fd: socket, events: Int16(POLLIN) | (isBlocked ? Int16(POLLOUT) : 0), revents: 0),
                pollfd(fd: bell.read, events: Int16(POLLIN), revents: 0),
            ]
            _ = poll(&descriptors, 2, milliseconds(until: oldest))
            if descriptors[1].revents != 0 {
                while Glibc.read(bell.read, buffer.baseAddress, 4096) > 0 {}
            }
            if descriptors[0].revents & Int16(POLLOUT) != 0, isBlocked { handOver() }
            if descriptors[0].revents & ~Int16(POLLOUT) != 0 {
                if let failure = receive(socket, reader, buffer) { return finish(failure) }
            }
            if let late = state.withLock({ $0.queue.oldest }), late.deadline < Monotonic.now {
                return finish(.timedOut(server: server, command: late.name, after: late.timeout))
            }
        }
    }

    private func milliseconds(until deadline: UInt64?) -> Int32 {
        guard let deadline else { return Int32(Monotonic.nanoseconds(tick) / 1_000_000) }
        let now = Monotonic.now
        guard deadline > now else { return 0 }
        return Int32(min((deadline - now) / 1_000_000 + 1, 60_000))
    }

    /// Reads once and hands out every answer that is complete.
    private func receive(
        _ socket: Int32, _ reader: UnsafeMutablePointer<redisReader>, _ buffer: UnsafeMutableRawBufferPointer
    ) -> RedisError? {
        let count = recv(socket, buffer.baseAddress, buffer.count, 0)
        if count < 0 {
            if errno == EAGAIN || errno == EINTR { return nil }
            return ended(String(cString: strerror(errno)))
        }
        guard count > 0 else { return ended() }
        guard let session = secured else {
            if hasHeard.exchange(true, ordering: .relaxed) == false, Self.isTLS(buffer, count) {
                return .protocolViolation(server: server, reason: "it speaks TLS: write rediss:// for it")
            }
            return take(UnsafeRawBufferPointer(rebasing: buffer[..<count]), reader)
        }
        let cipher = [UInt8](buffer[..<count])
        var failure: RedisError?
        let opening = cipher.withUnsafeBytes { bytes in
            session.open(bytes, into: buffer) { plain in
                hasHeard.store(true, ordering: .relaxed)
                failure = take(plain, reader)
                return failure == nil
            }
        }
        // What the other side made necessary, such as new keys.
        if failure == nil, case .more = opening { _ = session.flush(to: socket) }
        switch opening {
        case .more: return failure
        case .ended: return failure ?? ended()
        case .failed(let refusal):
            // Who has answered once has taken us: from then on it is the connection that broke.
            return hasHeard.load(ordering: .relaxed)
                ? failure ?? .connectionLost(server: server, mayHaveRun: true, reason: refusal.reason)
                : refusal.error(of: server)
        }
    }

    private func ended(_ cause: String = "the server closed it") -> RedisError {
        var reason = cause
        if !hasHeard.load(ordering: .relaxed), case .tcp = endpoint {
            // A server that was spoken to in another way than it expects may be gone before its word of it is read.
            if tls == nil {
                reason += "; it said nothing at all: is this the port for TLS (rediss://)?"
            } else if tls?.certificate == nil {
                reason += "; it said nothing at all: does it want a client certificate (--redis-cert)?"
            }
        }
        return .connectionLost(server: server, mayHaveRun: true, reason: reason)
    }

    /// Whether bytes begin as an alert or a handshake of TLS: what a server says who expected that and got Redis's protocol.
    private static func isTLS(_ buffer: UnsafeMutableRawBufferPointer, _ count: Int) -> Bool {
        count >= 2 && (buffer[0] == 0x15 || buffer[0] == 0x16) && buffer[1] == 3
    }

    /// Feeds the parser and hands out every answer that is complete.
    private func take(
        _ bytes: UnsafeRawBufferPointer, _ reader: UnsafeMutablePointer<redisReader>
    ) -> RedisError? {
        guard let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self),
            redisReaderFeed(reader, start, bytes.count) == REDIS_OK
        else { return violation(reader) }

        var replies: [RedisValue] = []
        while true {
            var raw: UnsafeMutableRawPointer?
            guard redisReaderGetReply(reader, &raw) == REDIS_OK else {
                // What came before the nonsense was asked for and is right.
                _ = deliver(replies)
                return violation(reader)
            }
            guard let raw else { break }
            replies.append(RedisValue(consuming: raw.assumingMemoryBound(to: redisReply.self)))
        }
        return deliver(replies)
            ? nil : .protocolViolation(server: server, reason: "an answer came that nobody had asked for")
    }

    private func deliver(_ replies: [RedisValue]) -> Bool {
        guard !replies.isEmpty else { return true }
        var completions: [CommandQueue.Completion] = []
        completions.reserveCapacity(replies.count)
        let strays: [RedisValue] = state.withLock { state in
            var strays: [RedisValue] = []
            for reply in replies {
                if !state.queue.receive(reply, completing: &completions) { strays.append(reply) }
            }
            return strays
        }
        for completion in completions { completion.resume() }
        guard case .subscription(let receive, _) = role else { return strays.isEmpty }
        for stray in strays { receive(stray) }
        return true
    }

    private func violation(_ reader: UnsafeMutablePointer<redisReader>) -> RedisError {
        let text = withUnsafeBytes(of: reader.pointee.errstr) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return .protocolViolation(server: server, reason: text)
    }

    private func finish(_ cause: RedisError) {
        let left = state.withLock { state in
            state.isClosed = true
            if state.closing == nil { state.closing = cause }
            if let rest = state.unwritten { state.queue.handedOver -= UInt64(rest.byteCount) }
            state.unwritten = nil
            state.output = CommandEncoding()
            return state.queue.drain()
        }
        let socket = descriptor.load(ordering: .relaxed)
        if socket >= 0 { shutdown(socket, Int32(SHUT_RDWR)) }
        for (index, item) in left.enumerated() {
            switch cause {
            case .connectionLost(let server, _, let reason):
                item.entry.waiter.fail(
                    .connectionLost(server: server, mayHaveRun: item.mayHaveRun, reason: reason))
            case .timedOut where index > 0:
                let reason = "an earlier command had no answer in time"
                item.entry.waiter.fail(
                    .connectionLost(server: server, mayHaveRun: item.mayHaveRun, reason: reason))
            default: item.entry.waiter.fail(cause)
            }
        }
        if case .subscription(_, let close) = role { close(cause) }
    }
}
