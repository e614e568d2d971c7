import HTTPTypes
import Hummingbird
import JSON
import NIOCore
import ServiceLifecycle
import Synchronization

/// Server-sent events, <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
struct EventStream: Sendable {
    /// One event.
    struct Event: Sendable {
        let name: String
        let data: [UInt8]
        /// Whether the stream ends with it.
        var isLast = false

        var bytes: ByteBuffer {
            // Data is JSON on one line.
            var buffer = ByteBuffer(string: "event: \(name)\ndata: ")
            buffer.writeBytes(data.map { $0 == 0x0A || $0 == 0x0D ? 0x20 : $0 })
            buffer.writeString("\n\n")
            return buffer
        }
    }

    /// How often a stream on which nothing happens says that it lives, so that proxies keep it.
    static let pulse: Duration = .seconds(15)
    /// A client that does not take an event for so long is let go.
    static let patience: Duration = .seconds(30)

    /// The open streams of a gateway.
    let streams: OpenStreams
    let connections: OpenConnections

    /// Answers with the events of `source`, until it ends, the client leaves or the gateway shuts down.
    func response(
        _ context: GatewayContext, _ source: @escaping @Sendable (AsyncStream<Event>.Continuation) async throws -> Void
    ) throws -> Response {
        guard let ticket = streams.open(for: context.caller.name + "\u{0}" + context.clientAddress) else {
            throw Problem(
                .serviceUnavailable, "too-many-streams", "\(OpenStreams.limit) event streams are open: come back later",
                retryAfter: .seconds(10))
        }
        let connections = connections
        let body = ResponseBody { writer in
            defer { ticket.close() }
            // Only the newest events are kept for a client that is slow.
            let (events, continuation) = AsyncStream.makeStream(of: Event.self, bufferingPolicy: .bufferingNewest(64))
            try await withThrowingTaskGroup(of: Void.self) { group in
                defer { group.cancelAll() }
                group.addTask {
                    await cancelWhenGracefulShutdown {
                        do { try await source(continuation) } catch is CancellationError {} catch {
                            continuation.yield(Self.failed(error, context))
                        }
                    }
                    continuation.finish()
                }
                group.addTask {
                    while !Task.isCancelled {
                        try await Task.sleep(for: Self.pulse)
                        continuation.yield(Event(name: "", data: []))
                    }
                }
                try await connections.watching(context.channel, onClose: { continuation.finish() }) {
                    try await writer.write(ByteBuffer(string: "retry: 2000\n\n"))
                    for await event in events {
                        try await writer.write(event.name.isEmpty ? ByteBuffer(string: ":\n\n") : event.bytes)
                        if event.isLast { break }
                    }
                }
            }
            try await writer.finish(nil)
        }
        return Response(
            status: .ok,
            headers: [
                .contentType: "text/event-stream", .cacheControl: "no-store",
                // nginx passes events on at once.
                .accelBuffering: "no",
            ], body: body)
    }

    /// The last event of a stream that broke.
    static func failed(_ error: any Error, _ context: GatewayContext) -> Event {
        let problem = Problem(of: error)
        return Event(
            name: "failed",
            data: JSONValue.object([
                ("status", .integer(Int(problem.status.code))), ("code", .string(problem.code)),
                ("detail", .string(problem.detail)), ("request_id", .string(context.requestIdentifier)),
            ]).bytes, isLast: true)
    }
}

/// Counts the open event streams.
final class OpenStreams: Sendable {
    /// So many may be open, and a quarter of them for one client.
    static let limit = 4096
    private static let share = 1024

    /// Guards the counts by client.
    private let counts = Mutex<[String: Int]>([:])

    /// How many there are.
    var count: Int { counts.withLock { $0.values.reduce(0, +) } }

    /// Counts one more; nil where there are too many.
    func open(for client: String) -> Ticket? {
        let fits = counts.withLock { counts in
            guard counts.values.reduce(0, +) < Self.limit, counts[client, default: 0] < Self.share else { return false }
            counts[client, default: 0] += 1
            return true
        }
        return fits ? Ticket(self, client) : nil
    }

    /// One open stream.
    final class Ticket: Sendable {
        private let streams: OpenStreams
        private let client: String
        private let isClosed = Mutex(false)

        fileprivate init(_ streams: OpenStreams, _ client: String) {
            self.streams = streams
            self.client = client
        }

        /// The stream has ended.
        func close() {
            let isNews = isClosed.withLock { closed in
                defer { closed = true }
                return !closed
            }
            guard isNews else { return }
            streams.counts.withLock { counts in
                let left = counts[client, default: 1] - 1
                counts[client] = left > 0 ? left : nil
            }
        }

        deinit { close() }
    }
}

extension HTTPField.Name {
    /// `X-Accel-Buffering`.
    static let accelBuffering = HTTPField.Name("X-Accel-Buffering") ?? .server
}
